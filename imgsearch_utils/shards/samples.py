"""What shards hold, one sample after another: tar files, Parquet files, and Hugging Face datasets
saved to disk.
"""

import itertools
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from imgsearch_utils.images.decoding import SUFFIXES

ROWS = 16  # of a Parquet file that are held at once
BUFFER = 1 << 20  # bytes of a Parquet file's column that are read at once
MOST = 200_000_000  # bytes of a picture
# what no column of a labels.csv may be called beside its first
TAKEN = ("file_label", "image", "group", "side")
# Arrow's types of bytes, alone or in what Hugging Face calls an image
PICTURES = re.compile("(large_)?binary$|struct<(.*, )?bytes: ")
#: the bytes of a picture, or why it is set aside; its name (perhaps empty); and what is said of it
Sample = tuple[bytes | str | None, str, dict[str, Any]]


def samples_of(shard: Path) -> Iterator[Sample]:
    """The samples of one shard; a ValueError of one line where it cannot be read."""
    try:
        yield from KINDS[shard.suffix](shard)
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise ValueError(f"{shard}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def _of_tar(shard: Path) -> Iterator[Sample]:
    """Members that follow one another and are named alike up to the first dot are one sample."""
    with tarfile.open(shard, "r|*") as file:  # as a stream: a compressed one is read once
        members = (
            (member.name, file.extractfile(member).read(MOST + 1))
            for member in file
            if member.isfile()
        )
        for key, sample in itertools.groupby(
            members, lambda member: re.match("(?:.*/)?[^./]*", member[0], re.DOTALL)[0]
        ):
            yield _of_members(key, sample)


def _of_members(key: str, members: Iterable[tuple[str, bytes]]) -> Sample:
    picture, picture_name, said, broken = None, key, {}, ""
    for name, content in members:
        kind = name[len(key) + 1 :]
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in SUFFIXES:
            picture, picture_name = content, name
        elif suffix == ".json":
            try:
                said |= json.loads(content)
            except (ValueError, TypeError, RecursionError):
                broken = "what is said of it is no JSON object"
        elif kind in ("txt", "cls", "text", "caption"):
            said[kind] = content.decode("utf-8", "replace").strip()
    return broken or picture, picture_name, said


def _of_parquet(shard: Path) -> Iterator[Sample]:
    with parquet.ParquetFile(shard, pre_buffer=False, buffer_size=BUFFER) as file:
        yield from _of_batches(file.schema_arrow, file.iter_batches(ROWS))


def _of_arrow(shard: Path) -> Iterator[Sample]:
    of_a_split = (shard.parent.parent / "dataset_dict.json").is_file()
    more = {"split": shard.parent.name} if of_a_split else {}
    with pa.memory_map(str(shard)) as file, pa.ipc.open_stream(file) as reader:
        for picture, name, said in _of_batches(reader.schema, reader):
            yield picture, name, said | more


def _of_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[Sample]:
    pictures = pictures_column(schema)
    if not pictures:
        raise ValueError(f"no column holds pictures: {', '.join(schema.names)}")
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = stored.get("info", {}).get("features", {})
    classes = {
        name: dict(enumerate(each["names"]))
        for name, each in features.items()
        if isinstance(each, dict) and "names" in each
    }
    for batch in batches:
        for at in range(batch.num_rows):
            [row] = batch.slice(at, 1).to_pylist()  # the other pictures stay where they are
            picture = row.pop(pictures)
            content, path = (
                (picture["bytes"], picture.get("path"))
                if isinstance(picture, dict)
                else (picture, "")
            )
            class_names = {
                name: classes[name].get(row[name], "") for name in classes if name in row
            }
            yield content, PurePosixPath(path or "").name, row | class_names


KINDS = {".tar": _of_tar, ".parquet": _of_parquet, ".arrow": _of_arrow}


def schema_of(shard: Path) -> pa.Schema:
    """The columns of a Parquet file."""
    try:
        return parquet.read_schema(shard)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{shard}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def pictures_column(schema: pa.Schema) -> str:
    """The name of the first column that holds the bytes of files; empty where there is none."""
    columns = (field.name for field in schema if PICTURES.match(str(field.type)))
    return next(columns, "")


def cells_of(said: dict[str, Any]) -> dict[str, str]:
    """What one cell can hold, as text; a name that labels.csv keeps for itself gets a line below
    it.
    """
    return {
        f"{name}_" if name in TAKEN else str(name): " ".join(str(value).split())
        for name, value in said.items()
        if isinstance(value, str | int | float | bool) and value == value
    }

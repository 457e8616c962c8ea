"""What shards hold, one sample after another: tar files, Parquet files, and Hugging Face datasets
saved to disk.
"""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from imgsearch_utils.images.listed_names import plain_cells
from imgsearch_utils.shards.tar_members import Members
from imgsearch_utils.study import listed, nearest
from imgsearch_utils.workspace.account import added, grouped

BUFFER = 1 << 20  # bytes of a Parquet file's column that are read at once
MOST = 200_000_000  # bytes of a picture
MOST_SAID = 10_000_000  # bytes of what is said of a picture
LONGEST_CELL = 10_000  # letters of a cell of labels.csv
# a shard becomes at most so many bytes, and so many times its own: more is no shard of pictures
FREE, TIMES = 256_000_000, 100
# what no column of a labels.csv may be called beside its first
TAKEN = ("file_label", "image", "group", "side")
# Arrow's types of bytes, alone or in what Hugging Face calls an image
PICTURES = re.compile("(large_)?binary$|struct<(.*, )?bytes: ")
#: the bytes of a picture; its name (perhaps empty); and what is said of it, which may become more
#: until the last sample of its shard
Sample = tuple[bytes | None, str, dict[str, Any]]


@dataclass
class Shard:
    """A shard that is read, and what was left out of it so far.

    column : of a Parquet file, or the suffix of a tar's members, that holds the pictures; empty
        where there is one alone
    seen : members, without those that say something of a picture, or rows
    left_out : what is no picture: reason -> (how many, the first)
    notes : for the account
    """

    path: Path
    column: str = ""
    seen: int = 0
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    bytes_read: int = 0

    @property
    def most_bytes(self) -> int:
        return FREE + TIMES * self.path.stat().st_size

    def leave_out(self, name: str, reason: str) -> None:
        self.left_out = added(self.left_out, grouped([(name, reason)]))

    def count(self, n_bytes: int) -> None:
        """Count what was read of it; a ValueError where it is too much for a shard of its size."""
        self.bytes_read += n_bytes
        if self.bytes_read > self.most_bytes:
            raise ValueError(
                f"it holds more than {self.most_bytes // 1_000_000:,} MB in "
                f"{self.path.stat().st_size:,} bytes, which is no shard of pictures"
            )


def samples_of(shard: Shard) -> Iterator[Sample]:
    """The samples of one shard; a ValueError of one line where it cannot be read."""
    try:
        for content, name, said in KINDS[shard.path.suffix](shard):
            shard.count(len(content or b""))
            yield content, name, said
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise ValueError(
            f"{shard.path}: cannot be read: {' '.join(str(error).split())[:300]}"
        ) from None


def _of_tar(shard: Shard) -> Iterator[Sample]:
    """Each picture is a sample; ``Members`` knows which are, and what is said of which."""
    # twice as a stream: names first, for what is said of a picture may stand before or after it
    with tarfile.open(shard.path, "r|*") as file:
        names = [member.name for member in file if member.isfile()]
    members = Members(names, shard.column)
    shard.notes += members.notes
    said: dict[str, dict[str, Any]] = {name: {} for name in members.pictures}
    with tarfile.open(shard.path, "r|*") as file:
        for member in file:
            name = member.name
            shard.seen += not member.isdir()
            if not member.isfile():
                if not member.isdir():
                    shard.leave_out(name, "a link or a device")
            elif why := members.left_out.get(name):
                shard.leave_out(name, why)
            elif name in said:
                yield file.extractfile(member).read(MOST + 1), name, said[name]
            else:
                content = file.extractfile(member).read(MOST_SAID + 1)
                shard.count(len(content))
                column, of = members.said_of[name]
                cells, why = _said(content, column)
                if why:
                    shard.leave_out(name, why)
                shard.seen -= not why
                for picture in of if not why else ():
                    said[picture] |= cells


def _said(content: bytes, column: str) -> tuple[dict[str, Any], str]:
    """What a member says, by column, or why it says nothing that can be read.

    column : of a text; empty for a JSON object, which has its own
    """
    if len(content) > MOST_SAID:
        return {}, f"what is said of a picture, larger than {MOST_SAID:,} bytes"
    if column:
        return {column: content.decode("utf-8", "replace").strip()}, ""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    return (
        (said, "") if isinstance(said, dict) else ({}, "what is said of a picture, no JSON object")
    )


def _of_parquet(shard: Shard) -> Iterator[Sample]:
    # a row at a time: few bytes may become many large values
    with parquet.ParquetFile(shard.path, pre_buffer=False, buffer_size=BUFFER) as file:
        yield from _of_batches(shard, file.schema_arrow, file.iter_batches(1))


def _of_arrow(shard: Shard) -> Iterator[Sample]:
    of_a_split = (shard.path.parent.parent / "dataset_dict.json").is_file()
    more = {"split": shard.path.parent.name} if of_a_split else {}
    with pa.memory_map(str(shard.path)) as file, pa.ipc.open_stream(file) as reader:
        for picture, name, said in _of_batches(shard, reader.schema, reader):
            yield picture, name, said | more


def _of_batches(
    shard: Shard, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterator[Sample]:
    pictures = pictures_column(schema, shard.column)
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
            shard.seen += 1
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
            yield content, _inside(path or ""), row | class_names


def _inside(path: str) -> str:
    """A stored path with its folders, where it stays inside; else its last part."""
    parts = PurePosixPath(path).parts
    leads_out = path.startswith("/") or ".." in parts or "\\" in path
    return PurePosixPath(path).name if leads_out or not parts else PurePosixPath(path).as_posix()


KINDS = {".tar": _of_tar, ".parquet": _of_parquet, ".arrow": _of_arrow}


def schema_of(shard: Path) -> pa.Schema:
    """The columns of a Parquet file."""
    try:
        return parquet.read_schema(shard)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{shard}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def pictures_column(schema: pa.Schema, column: str = "") -> str:
    """The name of the column that holds the bytes of files; empty where there is none.

    column : the one that is wanted

    Raises
    ------
    ValueError
        where several do, and none is wanted
    """
    columns = [each.name for each in schema if PICTURES.match(str(each.type))]
    if column:
        return column if column in columns else ""
    if len(columns) > 1:
        raise ValueError(
            f"several columns hold files ({listed(columns)}), and nothing is guessed: name the one "
            f"of the pictures, --column {columns[0]}"
        )
    return next(iter(columns), "")


def wanted_column(schema: pa.Schema, column: str) -> None:
    """A ValueError with the nearest name where a wanted column is not there."""
    if column and column not in schema.names:
        raise ValueError(f"no column is called {column!r}. {nearest(column, schema.names)}")


def cells_of(said: dict[str, Any]) -> dict[str, str]:
    """What one cell can hold, as text; a name that labels.csv keeps for itself gets a line below
    it. A longer text than a table can hold is cut.
    """
    return {
        f"{name}_" if name in TAKEN else name: value[:LONGEST_CELL]
        for name, value in plain_cells(said).items()
    }


def unread_of(said: dict[str, Any]) -> set[str]:
    """The names of what no cell can hold whole: lists, objects, long texts."""
    return {
        str(name)
        for name, value in said.items()
        if isinstance(value, list | dict | tuple | bytes)
        or (isinstance(value, str) and len(value) > LONGEST_CELL)
    }

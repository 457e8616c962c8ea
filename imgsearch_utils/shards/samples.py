"""What shards hold, one sample after another: tar files, Parquet files, and Hugging Face datasets
saved to disk.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from imgsearch_utils.images.decoding import SUFFIXES
from imgsearch_utils.workspace import read_json

ROWS = 256  # of a shard that are held at once
MOST = 200_000_000  # bytes of a picture
# what no column of a labels.csv may be called beside its first
TAKEN = ("file_label", "image", "group", "side")
#: the bytes of a picture, or why it is set aside; its name (perhaps empty); and what is said of it
Sample = tuple[bytes | str | None, str, dict[str, Any]]


def samples_of(shard: Path) -> Iterator[Sample]:
    """The samples of one shard; a ValueError of one line where it cannot be read."""
    kinds = {".tar": _of_tar, ".parquet": _of_parquet, ".arrow": _of_arrow}
    try:
        yield from kinds[shard.suffix](shard)
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise ValueError(f"{shard}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def _of_tar(shard):
    with tarfile.open(shard, "r|*") as file:  # as a stream: a compressed one is read once
        key, picture, name, said, broken = None, None, "", {}, ""
        for member in file:
            if not member.isfile():
                continue
            folder, _, base = member.name.rpartition("/")
            stem, _, kind = base.partition(".")
            now = f"{folder}/{stem}".lstrip("/") if not member.name.startswith("/") else member.name
            if key is not None and now != key:
                yield broken or picture, name, said
                picture, name, said, broken = None, "", {}, ""
            key, suffix = now, PurePosixPath(base).suffix.lower()
            content = file.extractfile(member).read(MOST + 1)
            if suffix in SUFFIXES:
                picture, name = content, member.name
            elif suffix == ".json":
                try:
                    said |= json.loads(content)
                except (ValueError, TypeError, RecursionError):
                    broken = "what is said of it is no JSON object"
            elif kind in ("txt", "cls", "text", "caption"):
                said[kind] = content.decode("utf-8", "replace").strip()
            name = name or now
        if key is not None:
            yield broken or picture, name, said


def _of_parquet(shard):
    from pyarrow import parquet

    with parquet.ParquetFile(shard) as file:
        yield from _of_batches(file.iter_batches(ROWS), file.schema_arrow, {})


def _of_arrow(shard):
    import pyarrow as pa

    about = shard.parent / "dataset_info.json"
    features = read_json(about, "features")["features"] if about.is_file() else {}
    with pa.memory_map(str(shard)) as file, pa.ipc.open_stream(file) as reader:
        split = (
            {"split": shard.parent.name}
            if (shard.parent.parent / "dataset_dict.json").is_file()
            else {}
        )
        pieces = (
            batch.slice(at, ROWS) for batch in reader for at in range(0, batch.num_rows, ROWS)
        )
        yield from _of_batches(pieces, reader.schema, features, split)


def _of_batches(batches, schema, features, more=()):
    stored = (schema.metadata or {}).get(b"huggingface")
    features = features or (
        json.loads(stored).get("info", {}).get("features", {}) if stored else {}
    )
    names = {
        name: each["names"]
        for name, each in features.items()
        if isinstance(each, dict) and each.get("_type") == "ClassLabel" and "names" in each
    }
    pictures = pictures_column(schema)
    if not pictures:
        raise ValueError(f"no column holds pictures: {', '.join(schema.names)}")
    for batch in batches:
        for row in batch.to_pylist():
            picture = row.pop(pictures)
            content, path = (
                (picture.get("bytes"), picture.get("path"))
                if isinstance(picture, dict)
                else (picture, "")
            )
            for name in names.keys() & row.keys():
                label = row[name]
                row[name] = (
                    names[name][label]
                    if label is not None and 0 <= label < len(names[name])
                    else ""
                )
            yield content, PurePosixPath(path or "").name, row | dict(more)


def schema_of(shard: Path):
    """The columns of a Parquet file."""
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.read_schema(shard)
    except (OSError, ArrowInvalid) as error:
        raise ValueError(f"{shard}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def pictures_column(schema) -> str:
    """The name of the first column that holds the bytes of files; empty where there is none."""
    import pyarrow as pa

    def holds(kind):
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    for field in schema:
        if holds(field.type):
            return field.name
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return field.name
    return ""


def cells_of(said: dict[str, Any]) -> dict[str, str]:
    """What one cell can hold, as text; a name that labels.csv keeps for itself gets a line below
    it.
    """
    return {
        f"{name}_" if name in TAKEN else str(name): " ".join(str(value).split())
        for name, value in said.items()
        if isinstance(value, str | int | float | bool) and value == value
    }

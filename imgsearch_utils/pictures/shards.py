"""Pictures that come in shards, unpacked into a folder with a labels.csv; vectors in Parquet, into a .npy file."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from imgsearch_utils.pictures.decoding import SUFFIXES
from imgsearch_utils.workspace import digest, read_json, write_json, written_whole

ROWS = 256  # of a shard that are held at once
MOST = 200_000_000  # bytes of a picture
VECTORS = "vectors.json"  # says of a folder of vectors where they come from
BEGIN = 1 << 20  # bytes by which, and by its size, a shard is known again
LONGEST = 200  # bytes of a file's name
TAKEN = ("file_label", "image", "group", "side")  # what no column of a labels.csv may be called beside its first
FORMATS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
NAMES = ("file_label", "image", "image_path", "path", "name", "key", "id", "url")  # what a vector may be named by

#: the bytes of a picture, or why it is set aside; its name (perhaps empty); and what is said of it
Sample = tuple[bytes | str | None, str, dict[str, Any]]


@dataclass
class Unpacked:
    """What ``unpack`` made: `images` in all, `columns` of labels.csv, and `set_aside`, by shard and place: why."""

    images: int
    columns: list[str]
    set_aside: dict[str, str]
    vectors: bool = False


def unpack(source: Path, folder: Path, progress: Callable = iter) -> Unpacked:
    """Write the pictures of shards below ``folder/images``, and what is said of them to ``folder/labels.csv``.

    Shards are tar files as webdataset and img2dataset write them (members of one name before the first dot are one
    sample: a picture, and ``.json``, ``.txt``, ``.cls``), Parquet files with a column of pictures, or a Hugging Face
    dataset saved to disk. What was unpacked completely is not unpacked again, so a stopped run goes on, and further
    shards are added. Parquet files without pictures, with a column of vectors, become ``folder/vectors.npy``.

    source : a shard, or a folder of shards of one kind; for Hugging Face perhaps with a folder for each split
    progress : wraps the shards, e.g. ``tqdm``

    Raises
    ------
    ValueError
        one line: no shards, shards of several kinds, a shard that cannot be read, another one of the same name that
        was unpacked before, nothing that is a picture or vector.
    """
    shards = _shards(Path(source))
    folder = Path(folder)
    if (folder / "labels.csv").is_file() and not (folder / ".shards").is_dir():
        raise ValueError(f"{folder} holds a labels.csv already, which was not unpacked; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    of_vectors = shards[0].suffix == ".parquet" and not _pictures_column(_schema(shards[0]))
    marker, now = folder / ".shards" / VECTORS, {"source": str(Path(source).resolve())} if of_vectors else {}
    there = read_json(marker, "source") if marker.is_file() else {}
    if (folder / "labels.csv").is_file() and there != now:
        raise ValueError(f"{folder} holds {'vectors' if there else 'pictures'} that were unpacked from elsewhere; "
                         "choose another folder")
    if of_vectors:
        write_json(marker, now)
        return _unpack_vectors(shards, folder, progress)
    aside = {}
    for shard in progress(shards):
        aside |= _unpack_shard(shard, Path(source), folder)
    parts = sorted((folder / ".shards").glob("*.csv"))  # of this source, and of those before
    done = Unpacked(*_joined(parts, folder), aside)
    if not done.images:
        first = "".join(f"; first: {place}: {why}" for place, why in list(aside.items())[:1])
        raise ValueError(f"{source}: no picture that can be used in {len(shards)} shard(s){first}")
    return done


def _joined(parts, folder):
    """Write labels.csv of the shards' own, a row at a time; returns how many rows, and its columns but the first."""
    columns, n = {"file_label": None}, 0
    for part in parts:
        with part.open(encoding="utf-8", newline="") as file:
            columns |= dict.fromkeys(next(csv.reader(file)))
    with written_whole(folder / "labels.csv") as partial, partial.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, list(columns), restval="", lineterminator="\n")
        table.writeheader()
        for part in parts:
            with part.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    table.writerow(row)
                    n += 1
    return n, list(columns)[1:]


def _shards(source):
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    found = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    by_kind = {kind: [path for path in found if path.suffix == kind] for kind in (".tar", ".parquet", ".arrow")}
    if by_kind[".tar"]:  # img2dataset writes a table of each shard beside it
        by_kind[".parquet"] = [path for path in by_kind[".parquet"] if path.with_suffix(".tar") not in found]
    kinds = [paths for paths in by_kind.values() if paths]
    if len(kinds) != 1:
        raise ValueError(f"{source}: {'more than one kind of' if kinds else 'no'} shards (.tar, .parquet, or a Hugging "
                         "Face dataset saved to disk, .arrow); name a file, or a folder of one kind")
    return kinds[0]


def _unpack_shard(shard, source, folder):
    """Unpack one shard where that was not done; returns what is set aside, by shard and name: why."""
    inside = shard.relative_to(source).with_suffix("") if shard != source else Path(shard.stem)
    file = folder / ".shards" / f"{inside.as_posix().replace('/', '%')}.json"
    now = {"size": shard.stat().st_size, "begins": digest(shard, BEGIN)}
    if file.is_file():
        before = read_json(file, "size", "begins", "source", "set_aside")
        if now.items() <= before.items():
            return before["set_aside"]
        if before["source"] != str(shard.resolve()):
            raise ValueError(f"{shard}: {folder} holds the pictures of another shard of this name "
                             f"({before['source']}); choose another folder")
    rows, aside, place = {}, {}, folder / "images" / inside
    for number, (content, name, said) in enumerate(_samples(shard)):
        target, why = _target(content, name, number)
        if why:
            aside[f"{inside}: {name or number}"] = why
            continue
        path = place / target
        label = path.relative_to(folder / "images").as_posix()
        if label in rows:
            raise ValueError(f"{shard}: {name!r} stands more than once in it")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows[label] = {"file_label": label, **_columns(said)}
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_labels(pd.DataFrame(rows.values(), dtype=object) if rows else pd.DataFrame({"file_label": []}),
                  file.with_suffix(".csv"))
    write_json(file, {**now, "source": str(shard.resolve()), "set_aside": aside})  # last: it says that this is done
    return aside


def _target(content, name, number):
    """The path of a picture below its shard's folder, and why it is set aside."""
    if not content or isinstance(content, str):
        return None, content or "no picture in it"
    if len(content) > MOST:
        return None, f"larger than {MOST:,} bytes"
    path = PurePosixPath(name or f"{number:08}")
    if path.is_absolute() or ".." in path.parts or any(ord(letter) < 32 for letter in name) or "\\" in name:
        return None, "a name that leads out of its folder"
    if any(len(part.encode("utf-8", "replace")) > LONGEST for part in path.parts):
        return None, "a name too long for a file"
    if path.suffix.lower() not in SUFFIXES:
        try:
            with Image.open(io.BytesIO(content)) as picture:
                path = path.with_name(path.name + FORMATS[picture.format])
        except (OSError, KeyError, ValueError, Image.DecompressionBombError):
            return None, f"no picture of a kind that is read here ({', '.join(sorted(SUFFIXES))})"
    return path, ""


def _columns(said):
    """What one cell can hold, as text; a name that labels.csv keeps for itself gets a line below it."""
    return {f"{name}_" if name in TAKEN else str(name): " ".join(str(value).split())
            for name, value in said.items() if isinstance(value, str | int | float | bool) and value == value}


def _samples(shard) -> Iterator[Sample]:
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


def _schema(shard):
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.read_schema(shard)
    except (OSError, ArrowInvalid) as error:
        raise ValueError(f"{shard}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def _of_parquet(shard):
    from pyarrow import parquet

    with parquet.ParquetFile(shard) as file:
        yield from _of_batches(file.iter_batches(ROWS), file.schema_arrow, {})


def _of_arrow(shard):
    import pyarrow as pa

    about = shard.parent / "dataset_info.json"
    features = read_json(about, "features")["features"] if about.is_file() else {}
    with pa.memory_map(str(shard)) as file, pa.ipc.open_stream(file) as reader:
        split = {"split": shard.parent.name} if (shard.parent.parent / "dataset_dict.json").is_file() else {}
        pieces = (batch.slice(at, ROWS) for batch in reader for at in range(0, batch.num_rows, ROWS))
        yield from _of_batches(pieces, reader.schema, features, split)


def _of_batches(batches, schema, features, more=()):
    stored = (schema.metadata or {}).get(b"huggingface")
    features = features or (json.loads(stored).get("info", {}).get("features", {}) if stored else {})
    names = {name: each["names"] for name, each in features.items()
             if isinstance(each, dict) and each.get("_type") == "ClassLabel" and "names" in each}
    pictures = _pictures_column(schema)
    if not pictures:
        raise ValueError(f"no column holds pictures: {', '.join(schema.names)}")
    for batch in batches:
        for row in batch.to_pylist():
            picture = row.pop(pictures)
            content, path = (picture.get("bytes"), picture.get("path")) if isinstance(picture, dict) else (picture, "")
            for name in names.keys() & row.keys():
                label = row[name]
                row[name] = names[name][label] if label is not None and 0 <= label < len(names[name]) else ""
            yield content, PurePosixPath(path or "").name, row | dict(more)


def _pictures_column(schema):
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


def _unpack_vectors(shards, folder, progress):
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema(shards[0])
    listed = [field.name for field in schema if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
              or pa.types.is_large_list(field.type)]
    if not listed:
        raise ValueError(f"{shards[0]}: no column holds pictures or vectors: {', '.join(schema.names)}")
    vectors, rows = listed[0], sum(parquet.read_metadata(shard).num_rows for shard in shards)
    named, tables, out, at = next((name for name in NAMES if name in schema.names), ""), [], None, 0
    with written_whole(folder / "vectors.npy") as partial:
        for shard in progress(shards):
            with parquet.ParquetFile(shard) as file:
                for batch in file.iter_batches(4096):
                    try:
                        values = np.array(batch.column(vectors).to_pylist(), np.float32)
                    except (ValueError, TypeError, KeyError):
                        raise ValueError(f"{shard}: the column {vectors!r} does not hold one number of numbers in each "
                                         "row") from None
                    if values.ndim != 2 or out is not None and values.shape[1] != out.shape[1]:
                        raise ValueError(f"{shard}: the column {vectors!r} does not hold one number of numbers in each "
                                         "row")
                    if out is None:
                        out = np.lib.format.open_memmap(partial, "w+", np.float32, (rows, values.shape[1]))
                    out[at : at + len(values)] = values
                    said = batch.drop_columns([name for name in schema.names if name in listed]).to_pandas()
                    label = said.pop(named).astype(str) if named else [f"{n:09}" for n in range(at, at + len(values))]
                    cells = [_columns(row) for row in said.to_dict("records")]
                    tables.append(pd.DataFrame(cells, dtype=object).assign(file_label=list(label)))
                    at += len(values)
        if out is None:
            raise ValueError(f"{shards[0]}: no rows")
        out.flush()
        del out
    table = pd.concat(tables).fillna("")
    table = table[["file_label", *table.columns.drop("file_label")]]
    twice = table.file_label[table.file_label.duplicated()]
    if len(twice):
        (folder / "vectors.npy").unlink()
        raise ValueError(f"{named}: {twice.iloc[0]!r} stands more than once; the names of vectors must differ")
    _write_labels(table, folder / "labels.csv")
    return Unpacked(len(table), list(table.columns[1:]), {}, vectors=True)


def _write_labels(table, file):
    with written_whole(file) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")

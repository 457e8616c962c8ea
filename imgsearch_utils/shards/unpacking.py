"""Pictures that come in shards, unpacked into a folder with a labels.csv; vectors in Parquet, into
a .npy file.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd
from PIL import Image

from imgsearch_utils.images.decoding import SUFFIXES
from imgsearch_utils.shards.samples import (
    KINDS,
    MOST,
    cells_of,
    pictures_column,
    samples_of,
    schema_of,
)
from imgsearch_utils.shards.vector_shards import unpack_vectors
from imgsearch_utils.workspace import atomic_path, digest, read_json, write_json
from imgsearch_utils.workspace.tables import write_table

VECTORS = "vectors.json"  # says of a folder of vectors where they come from
BEGIN = 1 << 20  # bytes by which, and by its size, a shard is known again
LONGEST = 200  # bytes of a file's name
FORMATS = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
}


@dataclass
class Unpacked:
    """What ``unpack`` made: `images` in all, `columns` of labels.csv, and `set_aside`, by shard and
    place: why.
    """

    images: int
    columns: list[str]
    set_aside: dict[str, str]
    vectors: bool = False


def unpack(source: Path, folder: Path, progress: Callable = iter) -> Unpacked:
    """Write the pictures of shards below ``folder/images``, and what is said of them to
    ``folder/labels.csv``.

    Shards are tar files as webdataset and img2dataset write them (members of one name before the
    first dot are one sample: a picture, and ``.json``, ``.txt``, ``.cls``), Parquet files with a
    column of pictures, or a Hugging Face dataset saved to disk. What was unpacked completely is not
    unpacked again, so a stopped run goes on, and further shards are added. Parquet files without
    pictures, with a column of vectors, become ``folder/vectors.npy``.

    source : a shard, or a folder of shards of one kind; for Hugging Face perhaps with a folder for
        each split
    progress : wraps the shards, e.g. ``tqdm``

    Raises
    ------
    ValueError one line: no shards, shards of several kinds, a shard that cannot be read, another
        one of the same name that was unpacked before, nothing that is a picture or vector.
    """
    source, folder = Path(source), Path(folder)
    shards = _shards(source)
    if (folder / "labels.csv").is_file() and not (folder / ".shards").is_dir():
        raise ValueError(
            f"{folder} holds a labels.csv already, which was not unpacked; choose another folder"
        )
    of_vectors = shards[0].suffix == ".parquet" and not pictures_column(schema_of(shards[0]))
    marker, now = folder / ".shards" / VECTORS, str(source.resolve()) if of_vectors else ""
    earlier_source = read_json(marker, "source")["source"] if marker.is_file() else ""
    if (folder / "labels.csv").is_file() and earlier_source != now:
        raise ValueError(
            f"{folder} holds {'vectors' if earlier_source else 'pictures'} that were unpacked from "
            "elsewhere; choose another folder"
        )
    marker.parent.mkdir(parents=True, exist_ok=True)
    if of_vectors:
        write_json(marker, {"source": now})
        table = unpack_vectors(shards, folder / "vectors.npy", progress)
        write_table(table, folder / "labels.csv")
        return Unpacked(len(table), list(table.columns[1:]), {}, vectors=True)
    aside = {}
    for shard in progress(shards):
        aside |= _unpack_shard(shard, source, folder)
    parts = sorted(marker.parent.glob("*.csv"))  # of this source, and of those before
    done = Unpacked(*_joined(parts, folder / "labels.csv"), aside)
    if not done.images:
        first = "".join(f"; first: {place}: {why}" for place, why in list(aside.items())[:1])
        raise ValueError(f"{source}: no picture that can be used in {len(shards)} shard(s){first}")
    return done


def _joined(parts: list[Path], file: Path) -> tuple[int, list[str]]:
    """Write labels.csv of the shards' own, one after the other; returns how many rows, and its
    columns but the first.
    """
    read = partial(pd.read_csv, dtype=str, keep_default_na=False)
    columns, n = list(dict.fromkeys(name for part in parts for name in read(part, nrows=0))), 0
    with atomic_path(file) as beside, beside.open("w", encoding="utf-8", newline="") as out:
        for part in parts:
            table = read(part).reindex(columns=columns, fill_value="")
            write_table(table, out, header=part == parts[0])
            n += len(table)
    return n, columns[1:]


def _shards(source: Path) -> list[Path]:
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    files = sorted(path for path in [source, *source.rglob("*")] if path.is_file())
    # beside its shards img2dataset writes a table of each, `datasets` what was computed of them
    shards = [
        path
        for path in files
        if path.suffix in KINDS
        and not (path.suffix == ".parquet" and path.with_suffix(".tar") in files)
        and not path.match("cache-*.arrow")
    ]
    kinds = {path.suffix for path in shards}
    if len(kinds) != 1:
        raise ValueError(
            f"{source}: {'more than one kind of' if kinds else 'no'} shards (.tar, .parquet, or "
            "a Hugging Face dataset saved to disk, .arrow); name a file, or a folder of one kind"
        )
    return shards


def _unpack_shard(shard: Path, source: Path, folder: Path) -> dict[str, str]:
    """Unpack one shard where that was not done; returns what is set aside, by shard and name:
    why.
    """
    inside = shard.relative_to(source).with_suffix("") if shard != source else Path(shard.stem)
    file = folder / ".shards" / f"{inside.as_posix().replace('/', '%')}.json"
    now = {"size": shard.stat().st_size, "begins": digest(shard, BEGIN)}
    if file.is_file():
        before = read_json(file, "size", "begins", "source", "set_aside")
        if now.items() <= before.items():
            return before["set_aside"]
        if before["source"] != str(shard.resolve()):
            raise ValueError(
                f"{shard}: {folder} holds the pictures of another shard of this name "
                f"({before['source']}); choose another folder"
            )
    rows, aside = {}, {}
    for number, (content, name, labels) in enumerate(samples_of(shard)):
        target, why = _target(content, name, number)
        if why:
            aside[f"{inside}: {name or number}"] = why
            continue
        label = (inside / target).as_posix()
        if label in rows:
            raise ValueError(f"{shard}: {name!r} stands more than once in it")
        path = folder / "images" / label
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows[label] = {"file_label": label, **cells_of(labels)}
    table = pd.DataFrame(list(rows.values()) or {"file_label": []}, dtype=object)
    write_table(table.fillna(""), file.with_suffix(".csv"))
    # last: it says that this is done
    write_json(file, {**now, "source": str(shard.resolve()), "set_aside": aside})
    return aside


def _target(content, name, number):
    """The path of a picture below its shard's folder, and why it is set aside."""
    if not content or isinstance(content, str):
        return None, content or "no picture in it"
    if len(content) > MOST:
        return None, f"larger than {MOST:,} bytes"
    path = PurePosixPath(name or f"{number:08}")
    leads_out = path.is_absolute() or ".." in path.parts or "\\" in name
    if leads_out or any(ord(letter) < 32 for letter in name):
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

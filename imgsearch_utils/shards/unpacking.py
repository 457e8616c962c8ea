"""Pictures that come in shards, unpacked into a folder with a labels.csv; vectors in Parquet, into
a .npy file.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path, PurePosixPath

import pandas as pd
from PIL import Image

from imgsearch_utils.images.column_reading import kind_of
from imgsearch_utils.images.decoding import SUFFIXES, reads_heif, why_not_decoded
from imgsearch_utils.images.folder_levels import NO_SPLIT, read_levels, side_in
from imgsearch_utils.shards.samples import (
    KINDS,
    LONGEST_CELL,
    MOST,
    Shard,
    cells_of,
    pictures_column,
    samples_of,
    schema_of,
    unread_of,
    wanted_column,
)
from imgsearch_utils.shards.vector_shards import unpack_vectors
from imgsearch_utils.study import listed
from imgsearch_utils.workspace import digest, read_json, write_json
from imgsearch_utils.workspace.account import Account, added
from imgsearch_utils.workspace.tables import write_table

VECTORS = "vectors.json"  # says of a folder of vectors where they come from
ACCOUNT = "account.json"
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
    "AVIF": ".avif",
    "JPEG2000": ".jp2",
    "HEIF": ".heic",
    "PPM": ".ppm",
}


@dataclass
class Unpacked:
    """What ``unpack`` made: `images` in all, `columns` of labels.csv, `set_aside`, by shard and
    place: why, and the account of all that was seen.
    """

    images: int
    columns: list[str]
    set_aside: dict[str, str]
    account: Account
    vectors: bool = False


def unpack(source: Path, folder: Path, progress: Callable = iter, column: str = "") -> Unpacked:
    """Write the pictures of shards below ``folder/images``, and what is said of them to
    ``folder/labels.csv``.

    Shards are tar files as webdataset and img2dataset write them (members of one name before the
    first dot are one sample: a picture, and ``.json``, ``.txt``, ``.cls``), Parquet files with a
    column of pictures, or a Hugging Face dataset saved to disk. Folders inside of shards become
    columns, and a split that the shards are called by one too. What was unpacked completely is not
    unpacked again, so a stopped run goes on, and further shards are added. Parquet files without
    pictures, with a column of vectors, become ``folder/vectors.npy``.

    source : a shard, or a folder of shards of one kind; for Hugging Face perhaps with a folder for
        each split
    progress : wraps the shards, e.g. ``tqdm``
    column : that holds the pictures, or the vectors, where there are several; of a tar what follows
        the first dot of the pictures' names

    Raises
    ------
    ValueError one line: no shards, shards of several kinds, a shard that cannot be read or becomes
        far larger than it is, another one of the same name that was unpacked before, nothing that
        is a picture or vector, several columns that may be meant.
    """
    source, folder = Path(source), Path(folder)
    shards, others = _shards(source)
    if (folder / "labels.csv").is_file() and not (folder / ".shards").is_dir():
        raise ValueError(
            f"{folder} holds a labels.csv already, which was not unpacked; choose another folder"
        )
    of_vectors = shards[0].suffix == ".parquet" and _holds_vectors(shards[0], column)
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
        done = _unpack_vectors(shards, folder, progress, column)
    else:
        done = _unpack_pictures(shards, source, folder, progress, column)
    if others:
        kinds = sorted({path.suffix or "no suffix" for path in others})
        note = f"{len(others):,} files beside the shards were not read ({listed(kinds)})"
        done.account = done.account.noted(note)
    done.account.write(folder / ACCOUNT)
    return done


def _unpack_vectors(shards, folder, progress, column) -> Unpacked:
    table, notes = unpack_vectors(shards, folder / "vectors.npy", progress, column)
    sides = {number: _side(shard.with_suffix("")) for number, shard in enumerate(shards)}
    table = _with_split(table, table.pop("shard"), sides)
    write_table(table, folder / "labels.csv")
    columns = list(table.columns[1:])
    kinds = {name: kind_of(table[name].astype(str)) for name in columns}
    account = Account("rows", len(table), len(table), notes=tuple(notes), columns=kinds)
    return Unpacked(len(table), columns, {}, account, vectors=True)


def _unpack_pictures(shards, source, folder, progress, column) -> Unpacked:
    for shard in progress(shards):
        _unpack_shard(Shard(shard, column), source, folder)
    # of this source, and of those before
    parts = sorted((folder / ".shards").glob("*.csv"))
    parts = [part for part in parts if part.with_suffix(".json").is_file()]
    about = [read_json(part.with_suffix(".json"), *SHARD_KEYS) for part in parts]
    aside = {place: why for each in about for place, why in each["set_aside"].items()}
    table, notes = _joined(parts, [each["inside"] for each in about])
    account = Account(
        "rows" if shards[0].suffix != ".tar" else "files in shards",
        sum(each["seen"] for each in about),
        len(table),
        reduce(added, [{r: (n, f) for r, (n, f) in each["left_out"].items()} for each in about]),
        notes=tuple(dict.fromkeys([note for each in about for note in each["notes"]] + notes)),
        columns={name: kind_of(table[name]) for name in table.columns[1:]},
    )
    if not len(table):
        first = "".join(f"; first: {place}: {why}" for place, why in list(aside.items())[:1])
        first = first or "; ".join(["", *account.lines()[1:3]])
        raise ValueError(f"{source}: no picture that can be used in {len(shards)} shard(s){first}")
    write_table(table, folder / "labels.csv")
    return Unpacked(len(table), list(table.columns[1:]), aside, account)


def _holds_vectors(shard: Path, column: str) -> bool:
    """Whether a Parquet file is one of vectors; ValueError where nobody can know which column is
    meant.
    """
    schema = schema_of(shard)
    try:
        wanted_column(schema, column)
        return not pictures_column(schema, column)
    except ValueError as error:
        raise ValueError(f"{shard}: {error}") from None


def _joined(parts: list[Path], shards: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The shards' tables, one after the other, with the folders inside of shards and a split that
    the shards are called by as columns.
    """
    read = partial(pd.read_csv, dtype=str, keep_default_na=False)
    tables = [read(part) for part in parts]
    table = pd.concat(tables, ignore_index=True).fillna("")
    shard_of = pd.Series([shard for shard, each in zip(shards, tables) for _ in range(len(each))])
    inner = [
        PurePosixPath(label).relative_to(shard).parts[:-1]
        for label, shard in zip(table.file_label, shard_of)
    ]
    notes = []
    try:
        levels = read_levels(inner, chosen=True)
    except ValueError:  # a split or classes: as columns, `new` asks
        levels = read_levels(inner, NO_SPLIT, chosen=True)
    for number, names in enumerate(levels.classes.values(), 1):
        known = any(table[column].tolist() == names for column in table)  # as the label says
        if len({*names}) > 1 and not known:
            name = "folder" if len(levels.classes) == 1 else f"folder_{number}"
            table[name if name not in table else f"{name}_in_shard"] = names
            notes.append(f"the folders inside of shards are the column {name}")
    if levels.sides and "split" not in table:
        table["split"] = levels.sides
        notes += levels.notes[:1]
    return _with_split(table, shard_of, {shard: _side(Path(shard)) for shard in shards}), notes


def _side(shard: Path) -> str:
    """The word of a split in a shard's name, or else in the folder of it."""
    for part in (shard.name, shard.parent.name):
        if side_in(part)[0]:
            return next(word for word in _words(part) if side_in(word)[0])
    return ""


def _words(name: str) -> list[str]:
    return "".join(letter if letter.isalpha() else " " for letter in name.lower()).split()


def _with_split(table: pd.DataFrame, shard_of: pd.Series, side_of: dict) -> pd.DataFrame:
    """The table with the split that the shards' names say, where each says one and train is not
    alone.
    """
    said = {side_in(side)[0] for side in side_of.values()}
    if "split" in table or "" in said or "train" not in said or len(said) < 2:
        return table
    return table.assign(split=[side_of[shard] for shard in shard_of])


def _shards(source: Path) -> tuple[list[Path], list[Path]]:
    """The shards of a source, and the other files that lie there."""
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    files = sorted(path for path in [source, *source.rglob("*")] if path.is_file())
    # beside its shards img2dataset writes a table of each, `datasets` what was computed of them
    shards = [
        path
        for path in files
        if path.suffix in KINDS
        and not path.name.startswith(".")
        and not (path.suffix == ".parquet" and path.with_suffix(".tar") in files)
        and not path.match("cache-*.arrow")
    ]
    kinds = {path.suffix for path in shards}
    if len(kinds) != 1:
        raise ValueError(
            f"{source}: {'more than one kind of' if kinds else 'no'} shards (.tar, .parquet, or "
            "a Hugging Face dataset saved to disk, .arrow); name a file, or a folder of one kind"
        )
    return shards, [path for path in files if path not in {*shards}]


SHARD_KEYS = (
    "size",
    "begins",
    "source",
    "column",
    "inside",
    "set_aside",
    "seen",
    "left_out",
    "notes",
)


def _unpack_shard(shard: Shard, source: Path, folder: Path) -> None:
    """Unpack one shard where that was not done."""
    path = shard.path
    inside = path.relative_to(source).with_suffix("") if path != source else Path(path.stem)
    file = folder / ".shards" / f"{inside.as_posix().replace('/', '%')}.json"
    now = {"size": path.stat().st_size, "begins": digest(path, BEGIN), "column": shard.column}
    if file.is_file():
        before = read_json(file, "source")
        if now.items() <= before.items() and {*SHARD_KEYS} <= {*before}:
            return
        if before["source"] != str(path.resolve()):
            raise ValueError(
                f"{path}: {folder} holds the pictures of another shard of this name "
                f"({before['source']}); choose another folder"
            )
    used, said_of, aside, unread = _Names(), {}, {}, set()
    for number, (content, name, said) in enumerate(samples_of(shard)):
        target, why = _target(content, name, number)
        if why:
            aside[f"{inside}: {name or number}"] = why
            shard.leave_out(name or str(number), why)
            continue
        label = (inside / used.free(target, number)).as_posix()
        picture = folder / "images" / label
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(content)
        said_of[label] = said
    for said in said_of.values():
        unread |= unread_of(said)
    rows = [{"file_label": label, **cells_of(said)} for label, said in said_of.items()]
    write_table(
        pd.DataFrame(rows or {"file_label": []}, dtype=object).fillna(""), file.with_suffix(".csv")
    )
    if unread:
        shard.notes.append(
            f"not in labels.csv, or cut after {LONGEST_CELL:,} letters, as no cell holds it: "
            f"{listed(sorted(unread))}"
        )
    if used.renamed:
        number, first = used.renamed
        shard.notes.append(
            f"{number:,} pictures of a name that is taken got a number; first: {first}"
        )
    # last: it says that this is done
    about = {
        **now,
        "source": str(path.resolve()),
        "inside": inside.as_posix(),
        "set_aside": aside,
        "seen": shard.seen,
        "left_out": shard.left_out,
        "notes": shard.notes,
    }
    write_json(file, about)


@dataclass
class _Names:
    """The names that a shard's pictures have on disk: none twice, and none a folder of others."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    renamed: tuple[int, str] | None = None

    def free(self, path: PurePosixPath, number: int) -> PurePosixPath:
        """The path itself, or where it is taken one with the number of its sample."""
        wanted = path
        if any(parent.as_posix() in self.files for parent in path.parents):
            path = PurePosixPath(f"{path.stem}-{number:08}{path.suffix}")
        while path.as_posix() in self.files | self.folders:
            path = path.with_name(f"{path.stem}-{number:08}{path.suffix}")
        if path != wanted:
            count, first = self.renamed or (0, f"{wanted.as_posix()!r} is {path.as_posix()!r}")
            self.renamed = count + 1, first
        self.files.add(path.as_posix())
        self.folders |= {parent.as_posix() for parent in path.parents}
        return path


def _target(content, name, number):
    """The path of a picture below its shard's folder, and why it is set aside."""
    if not content:
        return None, "no picture in it"
    if len(content) > MOST:
        return None, f"larger than {MOST:,} bytes"
    path = PurePosixPath(name or f"{number:08}")
    leads_out = path.is_absolute() or ".." in path.parts or "\\" in name
    if leads_out or any(ord(letter) < 32 for letter in name):
        return None, "a name that leads out of its folder"
    if any(len(part.encode("utf-8", "replace")) > LONGEST for part in path.parts):
        return None, "a name too long for a file"
    if why_not_decoded(path.suffix):
        reads_heif()
        try:
            with Image.open(io.BytesIO(content)) as picture:
                path = path.with_name(path.name + FORMATS[picture.format])
        except (OSError, KeyError, ValueError, Image.DecompressionBombError):
            return None, f"no picture of a kind that is read here ({', '.join(sorted(SUFFIXES))})"
    return path, ""

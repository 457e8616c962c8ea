"""Image collections: what pictures a study has, and where they are."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

from imgsearch_utils.images.decoding import SUFFIXES, open_image, why_no_file
from imgsearch_utils.study import ImageSettings, listed, nearest
from imgsearch_utils.workspace import DRAWN, Run
from imgsearch_utils.workspace.registry import Registry
from imgsearch_utils.workspace.tables import read_user_csv

RESERVED = ("image", "group", "side")  # columns of the package's own tables
SPLIT = "split"  # a column of labels.csv that says which side an image stands on
#: what the sides are called in data sets that come with a split, as folders or in a column -> here
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "dev": "dev",
    "test": "test",
    "testing": "test",
}
#: image sources that are no folders -> what draws them: (folder, per_class, seed, progress)
SOURCES = Registry("image source", wings="sources")


@dataclass(frozen=True)
class Collection:
    """The pictures (or only the vectors) of one data set.

    images : one row an image: `image` (its name) and the class columns, coarse to fine
    folder : where the pictures are; None for a study that has vectors only
    vectors : the .npy file of such a study, in the order of `images`
    set_aside : `image`, `reason` of pictures that cannot take part
    split : image -> side, where the data come with a split; empty where not
    """

    images: pd.DataFrame
    class_columns: list[str]
    folder: Path | None
    vectors: Path | None
    set_aside: pd.DataFrame
    split: dict[str, str] = field(default_factory=dict)

    @property
    def class_column(self) -> str | None:
        """The coarsest class: pairs across it are grade 0 without asking."""
        return self.class_columns[0] if self.class_columns else None

    def path(self, image: str) -> Path:
        """Where a picture is; refuses names that leave the collection's folder."""
        path = Path(os.path.realpath(self.folder / image))  # resolve() dies of a loop of links
        if not path.is_relative_to(os.path.realpath(self.folder)):
            raise ValueError(
                f"{image!r} leads out of the data folder {self.folder}; move the picture inside"
            )
        return path


def thumbnails(collection: Collection, names: Iterable[str], side: int = 160) -> list[Image.Image]:
    """Square thumbnails, `side` pixels; a grey tile stands for a picture that is not there."""
    tiles = []
    for name in names:
        tile = Image.new("RGB", (side, side), "#e8e8e8")
        try:
            if collection.folder is None:
                raise ValueError("this study has vectors only")
            picture = open_image(collection.path(name))
            picture.thumbnail((side, side))
            tile.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        except ValueError:
            ImageDraw.Draw(tile).text(
                (side // 2, side // 2), "no picture", fill="#888888", anchor="mm"
            )
        tiles.append(tile)
    return tiles


def read_labels(path: Path) -> pd.DataFrame:
    """Read `file_label` + one column per level of class, as ``tables.read_user_csv`` does.

    Returns
    -------
    `image` and the classes as text, without blanks around them

    Raises
    ------
    ValueError one line with what was expected and got: no CSV, a column absent or with a name that
        is taken, an image listed twice.
    """
    table = read_user_csv(path).reset_index(drop=True)
    if "file_label" not in table:
        raise ValueError(f"{path}: expected a column file_label, got {listed(table)}")
    if reserved := [name for name in table if name in RESERVED]:
        raise ValueError(
            f"{path}: the column {reserved[0]!r} is one of {', '.join(RESERVED)}; rename it"
        )
    if "" in table:
        raise ValueError(f"{path}: a column has no name; name it, or remove it")
    twice = table.file_label[table.file_label.duplicated()]
    if len(twice):
        raise ValueError(
            f"{path}: {twice.iloc[0]!r} is listed more than once; keep one row per image"
        )
    classes = table.drop(columns="file_label").apply(lambda column: column.str.strip())
    return pd.concat([table.file_label.rename("image"), classes], axis=1)


def read_collection(folder: Path, settings: ImageSettings) -> Collection:
    """Read a folder of class folders, a folder with labels.csv, or vectors with labels.csv.

    A split that the data come with is kept: folders called train, val and test above those of the
    classes (or by other common names: ``SPLITS``), or a column `split` in labels.csv with these
    values.

    Pictures may lie in the folder itself or below its `all_images` or `images`. Pictures that are
    listed but absent or without a class, links to folders or out of the folder, what is no file,
    and names that no CSV can hold, are set aside.

    Raises
    ------
    ValueError for a folder without pictures, a missing class column, fewer than two images, a name
        that leads out of the folder, pictures beside class folders.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder; place the pictures there, or name another in images.source"
            + (f". {settings.obtain}" if settings.obtain else "")
        )
    pictures, vectors = _places(folder, settings)
    reasons: dict[str, str] = {}
    split: dict[str, str] = {}
    if os.path.lexists(folder / "labels.csv"):
        table, split = _given_split(read_labels(folder / "labels.csv"), folder / "labels.csv")
    elif vectors:
        raise ValueError(f"{folder}: vectors need a labels.csv with a file_label for each row")
    else:
        table, split, reasons = _scan(pictures, settings.class_columns != ())
    if vectors and not vectors.is_file():
        raise ValueError(f"{vectors}: no such file (images.vectors)")
    columns = list(
        settings.class_columns if settings.class_columns is not None else table.columns[1:]
    )
    for column in columns:
        if column not in table.columns[1:]:
            raise ValueError(
                f"{folder}: no class column {column!r}. {nearest(column, table.columns[1:])}"
            )
    pictures_folder = pictures if pictures != folder or not vectors else None
    collection = Collection(
        table[["image", *columns]].reset_index(drop=True),
        columns,
        pictures_folder,
        vectors,
        pd.DataFrame(columns=["image", "reason"], dtype=str),
        split,
    )
    if not vectors:
        collection = _without_unusable(collection, reasons)
    if len(collection.images) < 2:
        first = "".join(
            f"; set aside: {name!r}: {reason}"
            for name, reason in collection.set_aside.head(1).itertuples(index=False)
        )
        raise ValueError(
            f"{folder}: {len(collection.images)} usable picture(s) found; a study needs at least "
            "two "
            f"({', '.join(SUFFIXES)}){first}"
        )
    return collection


def _places(folder: Path, settings: ImageSettings) -> tuple[Path, Path | None]:
    """Where a data set's pictures are, or would be, and its vectors where it comes with some."""
    pictures = next(
        (folder / name for name in ("all_images", "images") if (folder / name).is_dir()), folder
    )
    return pictures, folder / settings.vectors if settings.vectors else None


def known_collection(run: Run, names: list[str]) -> Collection:
    """Where the pictures are of a run whose images are known, as those of its database; nothing is
    scanned.

    It has no classes: those stand beside the database (``label_conditions``).
    """
    if run.study.images.source == DRAWN:  # they may not be drawn yet
        return open_collection(run)
    pictures, vectors = _places(run.data, run.study.images)
    pictures_folder = pictures if pictures != run.data or not vectors else None
    nothing = pd.DataFrame(columns=["image", "reason"], dtype=str)
    return Collection(
        pd.DataFrame({"image": names}, dtype=object), [], pictures_folder, vectors, nothing
    )


def _without_unusable(collection: Collection, reasons: dict[str, str]) -> Collection:
    """The collection without the pictures that cannot take part.

    reasons : of those that are known already, by name
    """
    reasons, images = dict(reasons), collection.images
    blank = (images[collection.class_columns] == "").any(axis=1)
    for name, classless in zip(images.image, blank):
        if why := why_no_file(collection.path(name)):
            absent = not os.path.lexists(collection.folder / name)
            reasons[name] = "listed in labels.csv but not in the folder" if absent else why
        elif classless:
            reasons[name] = "without a class in labels.csv"
        elif re.search("[\r\ud800-\udfff]", name):
            reasons[name] = (
                "a name with a carriage return or bytes that are not UTF-8; rename the file"
            )
    images = images[~images.image.isin(list(reasons))].reset_index(drop=True).astype(str)
    aside = pd.DataFrame(
        {
            "image": [name.encode("utf-8", "backslashreplace").decode() for name in reasons],
            "reason": list(reasons.values()),
        },
        dtype=str,
    )
    return replace(collection, images=images, set_aside=aside)


def open_collection(run: Run, progress: Callable = iter) -> Collection:
    """The run's collection; the houses of the embedded study are drawn when they are not there yet.

    progress : wraps the houses that are drawn, e.g. ``tqdm``
    """
    if run.study.images.source == DRAWN:
        draw = SOURCES.find(DRAWN)
        draw(run.data, run.study.images.per_class or 150, run.study.seed, progress)
    return read_collection(run.data, run.study.images)


def _found(pictures: Path) -> tuple[list[Path], dict[str, str]]:
    """Picture files below a folder, relative to it, and why others are set aside; no link to a
    folder is followed.
    """
    files, reasons, inside = [], {}, os.path.realpath(pictures)

    def not_listed(error: OSError) -> None:
        reasons[os.path.relpath(error.filename, pictures)] = (
            f"a folder that cannot be read: {error.strerror}"
        )

    def leaves(
        path: Path,
    ) -> bool:  # what is no link itself lies inside, for no link is followed on the way to it
        return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside)

    for root, folders, names in os.walk(pictures, onerror=not_listed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(root).relative_to(pictures)
        for path in [below / name for name in folders if (Path(root) / name).is_symlink()]:
            leads = "out of" if leaves(pictures / path) else "inside"
            reasons[path.as_posix()] = (
                f"a link to a folder, which leads {leads} the data folder and is not followed; "
                "put the folder itself here"
            )
        for path in [
            below / name
            for name in names
            if Path(name).suffix.lower() in SUFFIXES and name[0] != "."
        ]:
            if leaves(pictures / path):
                reasons[path.as_posix()] = (
                    "a link that leads out of the data folder; put the picture itself here"
                )
            elif why := why_no_file(pictures / path):
                reasons[path.as_posix()] = why
            else:
                files.append(path)
    return sorted(files), reasons


def splits_of(values: Iterable[str], where: Path) -> list[str]:
    """The side that each value names; empty where they are no split: no train, or no other side.

    Raises
    ------
    ValueError
        where something else stands beside two sides, so that nobody can know what is meant.
    """
    values = list(values)
    sides = [SPLITS.get(value.strip().lower(), "") for value in values]
    given_splits = set(sides) - {""}
    if "train" not in given_splits or len(given_splits) == 1:
        return []
    if not all(sides):
        odd = values[sides.index("")]
        raise ValueError(
            f"{where}: {odd!r} stands beside {' and '.join(sorted(given_splits))}; for a split "
            "that is "
            "kept, each "
            f"is one of {', '.join(SPLITS)}; for classes, rename those"
        )
    return sides


def _given_split(table: pd.DataFrame, where: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """A table of labels without its column `split`, and what that said; as it is where the column
    is a class.
    """
    if SPLIT not in table or not (sides := splits_of(table[SPLIT], where)):
        return table, {}
    return table.drop(columns=SPLIT), dict(zip(table.image, sides))


def _scan(
    pictures: Path, with_classes: bool
) -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """Pictures below a folder; their folders are the classes, coarse to fine, a missing finer one
    like the coarser.

    Also the split, where the folders above all others are one, and what is set aside, name ->
    reason."""
    files, reasons = _found(pictures)
    table = pd.DataFrame({"image": [path.as_posix() for path in files]}, dtype=object)
    tops = [path.parts[0] for path in files if len(path.parts) > 1]
    sides = splits_of(tops, pictures) if len(tops) == len(files) else []
    if sides:
        files = [Path(*path.parts[1:]) for path in files]
    depths = [len(path.parts) - 1 for path in files]
    if with_classes and any(depths):
        if loose := [path.name for path, depth in zip(files, depths) if not depth]:
            raise ValueError(
                f"{pictures}: {loose[0]!r} and {len(loose) - 1} more pictures lie beside class "
                "folders; "
                "move them into one, or write class_columns: [] for a study without classes"
            )
        for n in range(max(depths)):
            level = "class" if max(depths) == 1 else f"level_{n + 1}"
            table[level] = [path.parts[min(n, depth - 1)] for path, depth in zip(files, depths)]
    return table, dict(zip(table.image, sides)), reasons

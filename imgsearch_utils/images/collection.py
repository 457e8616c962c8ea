"""Image collections: what pictures a study has, and where they are."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

from imgsearch_utils.images import column_reading
from imgsearch_utils.images.decoding import SUFFIXES, open_image, why_no_file
from imgsearch_utils.images.folder_levels import (
    BY_FOLDERS,
    NO_SPLIT,
    Levels,
    read_levels,
    refuse_doubts,
)
from imgsearch_utils.images.listed_names import (
    RESERVED,
    find_listed,
    label_tables,
    nearest_file,
    read_tables,
)
from imgsearch_utils.images.picture_scan import PLACES, Scan, scan_pictures
from imgsearch_utils.study import ImageSettings, nearest
from imgsearch_utils.workspace import DRAWN, Run
from imgsearch_utils.workspace.account import Account, added, grouped
from imgsearch_utils.workspace.registry import Registry

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
    account : what was seen in the folder, what is taken, and how folders and columns were read
    labels : `image` and all that is said of it, beside the classes
    """

    images: pd.DataFrame
    class_columns: list[str]
    folder: Path | None
    vectors: Path | None
    set_aside: pd.DataFrame
    split: dict[str, str] = field(default_factory=dict)
    account: Account = Account("files", 0, 0)
    labels: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"image": []}, dtype=object))

    @property
    def class_column(self) -> str | None:
        """The coarsest class: pairs across it are grade 0 without asking."""
        return self.class_columns[0] if self.class_columns else None

    def account_of(self, images: Iterable[str], reason: Callable[[str], str]) -> Account:
        """The account where of the pictures some alone are taken.

        reason : why another one is left out, by name
        """
        taken = self.images.image.isin([*images])
        left_out = [(name, reason(name)) for name in self.images.image[~taken]]
        return self.account.without(left_out, class_counts(self.images[taken], self.class_columns))

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


def read_collection(folder: Path, settings: ImageSettings) -> Collection:
    """Read a folder of class folders, a folder with labels.csv, or vectors with labels.csv.

    A split that the data come with is kept: folders called train, val and test (or by other common
    names: ``folder_levels.SPLITS``), or a column `split` of labels.csv with these values.

    Pictures may lie in the folder itself or below its `all_images` or `images`. Pictures that are
    listed but absent or without a class, links to folders or out of the folder, what is no file,
    and names that no CSV can hold, are set aside. All that is seen is in the collection's account.

    Raises
    ------
    ValueError for a folder without pictures, a missing class column, fewer than two images, a name
        that leads out of the folder, pictures beside class folders; and where folders or columns
        may be classes or not, and `settings` do not say.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder; place the pictures there, or name another in images.source"
            + (f". {settings.obtain}" if settings.obtain else "")
        )
    pictures, vectors = _places(folder, settings)
    if vectors:
        return _of_vectors(folder, settings, pictures, vectors)
    tables = label_tables(folder)
    scan = scan_pictures(folder, pictures, {*tables})
    read = _read_listed if tables else _read_folders
    collection, scan = read(folder, settings, pictures, scan)
    collection = _without_unusable(collection, scan)
    if len(collection.images) < 2:
        first = "".join(
            f"; set aside: {name!r}: {reason}"
            for name, reason in collection.set_aside.head(1).itertuples(index=False)
        )
        left_out = "; ".join(line for line in collection.account.lines()[1:4] if not first)
        raise ValueError(
            f"{folder}: {len(collection.images)} usable picture(s) found; a study needs at least "
            f"two ({', '.join(sorted(SUFFIXES))}){first}" + (f"; {left_out}" if left_out else "")
        )
    return collection


def _of_vectors(folder: Path, settings: ImageSettings, pictures: Path, vectors: Path) -> Collection:
    """Vectors with a labels.csv in their order; pictures may lie beside them."""
    if not os.path.lexists(folder / "labels.csv"):
        raise ValueError(f"{folder}: vectors need a labels.csv with a file_label for each row")
    if not vectors.is_file():
        raise ValueError(f"{vectors}: no such file (images.vectors)")
    read = column_reading.read_columns(
        read_tables(folder, [folder / "labels.csv"]), settings, folder / "labels.csv"
    )
    account = Account(
        "rows",
        len(read.table),
        len(read.table),
        classes=class_counts(read.table, read.classes),
        notes=read.notes,
        columns=read.kinds,
    )
    return Collection(
        read.table[["image", *read.classes]],
        read.classes,
        pictures if pictures != folder else None,
        vectors,
        pd.DataFrame(columns=["image", "reason"], dtype=str),
        dict(zip(read.table.image, read.sides)),
        account,
        read.table,
    )


def _read_listed(
    folder: Path, settings: ImageSettings, pictures: Path, scan: Scan
) -> tuple[Collection, Scan]:
    """What the tables list, by the names of the pictures; pictures that no table lists are left
    out.
    """
    tables = label_tables(folder)
    where = ", ".join(path.relative_to(folder).as_posix() for path in tables)
    table = read_tables(folder, tables)
    files = [path.as_posix() for path in scan.files]
    meant = find_listed(table.image.tolist(), [*files, *scan.reasons], folder / where)
    _leave_out_unlisted(scan, table.image.tolist(), files, meant, folder / where)
    table["image"] = [meant.get(name, name) for name in table.image]
    read = column_reading.read_columns(table, settings, folder / where)
    notes, split = list(read.notes), dict(zip(read.table.image, read.sides))
    meant_files = {*table.image}
    listed = [name for name in files if name in meant_files]
    folders = [Path(name).parts[:-1] for name in listed]
    if not split and any(folders) and settings.split in (None, BY_FOLDERS):
        levels = _levels(pictures, folders, settings, True)
        split = dict(zip(listed, levels.sides))
        notes += levels.notes[:1] if split else []
    if any(folders) and not read.classes:
        notes.append(f"the folders were not taken for classes, as {where} says what is known")
    if respelt := [(name, file) for name, file in meant.items() if name != file]:
        notes.append(
            f"{len(respelt):,} names of {where} are written otherwise than their pictures; first: "
            f"{respelt[0][0]!r} is {respelt[0][1]!r}"
        )
    return _collection(read.table, read.classes, pictures, split, notes, read.kinds), scan


def _leave_out_unlisted(
    scan: Scan, names: list[str], files: list[str], meant: dict[str, str], where: Path
) -> None:
    """Account for names that mean no picture, and for pictures that no name means.

    Raises
    ------
    ValueError
        where no name means a picture, and the first is nearly one
    """
    absent = [name for name in names if name not in meant]
    close = nearest_file(absent[0], files) if absent else ""
    if close and not meant and not any(map(os.path.isabs, names)):
        raise ValueError(
            f"{where}: none of its {len(absent):,} names is one of a picture in the folder; the "
            f"first is {absent[0]!r}{close}; correct the names"
        )
    scan.seen += len(absent)
    scan.reasons |= dict.fromkeys(absent, f"listed in {where.name} but not in the folder")
    if close:
        scan.notes.append(f"{absent[0]!r} is listed in {where.name}, not in the folder{close}")
    listed = {*meant.values()}
    for name in files:
        if name not in listed:
            scan.leave_out(f"in the folder, but not listed in {where.name}", name)


def _levels(
    pictures: Path, folders: list[tuple[str, ...]], settings: ImageSettings, chosen: bool
) -> Levels:
    try:
        return read_levels(folders, settings.split, chosen)
    except ValueError as error:
        raise ValueError(f"{pictures}: {error}") from None


def _read_folders(
    folder: Path, settings: ImageSettings, pictures: Path, scan: Scan
) -> tuple[Collection, Scan]:
    """Pictures whose folders are a split, or classes from coarse to fine."""
    folders = [path.parts[:-1] for path in scan.files]
    levels = _levels(pictures, folders, settings, settings.class_columns is not None)
    table = pd.DataFrame(
        {"image": [path.as_posix() for path in scan.files], **levels.classes}, dtype=object
    )
    columns = list(levels.classes)
    if settings.class_columns is not None:
        columns = _chosen(settings, columns, folder)
    loose = [path.as_posix() for path, above in zip(scan.files, folders) if not above]
    if columns and loose:
        raise ValueError(
            f"{pictures}: {loose[0]!r} and {len(loose) - 1} more pictures lie beside class "
            "folders; move them into one, or write class_columns: [] for a study without classes "
            "(--flat)"
        )
    refuse_doubts(pictures, levels.doubts if columns else [], levels.classes)
    notes = list(levels.notes)
    if columns:
        why = "was chosen" if settings.class_columns else "their names say something"
        notes.append(
            f"folders were taken for classes ({', '.join(columns)}), as {why}; --flat takes none"
        )
    elif any(folders) and not levels.sides:
        notes.append("the folders are no classes, as was chosen")
    split = dict(zip(table.image, levels.sides))
    return _collection(table, columns, pictures, split, notes, {}), scan


def _chosen(settings: ImageSettings, columns: list[str], folder: Path) -> list[str]:
    for column in settings.class_columns:
        if column not in columns:
            raise ValueError(f"{folder}: no class column {column!r}. {nearest(column, columns)}")
    return list(settings.class_columns)


def _collection(table, columns, pictures, split, notes, kinds) -> Collection:
    """All that is listed, before what cannot take part is set aside; its account is not drawn up
    yet.
    """
    return Collection(
        table[["image", *columns]].reset_index(drop=True),
        columns,
        pictures,
        None,
        pd.DataFrame(columns=["image", "reason"], dtype=str),
        split,
        Account("files", 0, 0, notes=tuple(notes), columns=kinds),
        table,
    )


def class_counts(table: pd.DataFrame, columns: list[str]) -> dict[str, dict[str, int]]:
    """How many images there are of each class, by column."""
    return {
        column: {str(name): int(n) for name, n in table[column].value_counts().items()}
        for column in columns
    }


def _places(folder: Path, settings: ImageSettings) -> tuple[Path, Path | None]:
    """Where a data set's pictures are, or would be, and its vectors where it comes with some."""
    pictures = next((folder / name for name in PLACES if (folder / name).is_dir()), folder)
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


def _without_unusable(collection: Collection, scan: Scan) -> Collection:
    """The collection without the pictures that cannot take part, and its account."""
    reasons, images = dict(scan.reasons), collection.images
    blank = (images[collection.class_columns] == "").any(axis=1)
    for name, classless in zip(images.image, blank):
        if name in reasons:
            collection.path(name)  # a name that leads out of the folder is refused
        elif why := why_no_file(collection.path(name)):
            reasons[name] = why
        elif classless:
            reasons[name] = "without a class"
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
    before, notes = collection.account, [*collection.account.notes, *scan.notes]
    split = {name: collection.split[name] for name in images.image if name in collection.split}
    if collection.split and len({*split.values()}) < 2:
        split = {}
        notes.append(
            "the split that came with the data is not kept: only one side of it has pictures that "
            "can take part"
        )
    account = Account(
        before.what,
        scan.seen,
        len(images),
        added(scan.left_out, grouped(reasons.items())),
        class_counts(images, collection.class_columns),
        tuple(notes),
        before.columns,
    )
    return replace(collection, images=images, set_aside=aside, split=split, account=account)


def open_collection(run: Run, progress: Callable = iter) -> Collection:
    """The run's collection; the houses of the embedded study are drawn when they are not there yet.

    progress : wraps the houses that are drawn, e.g. ``tqdm``
    """
    if run.study.images.source == DRAWN:
        draw = SOURCES.find(DRAWN)
        draw(run.data, run.study.images.per_class or 150, run.study.seed, progress)
    settings, images = run.study.images, run.labels / "images.csv"
    if not images.is_file():
        return read_collection(run.data, settings)
    if settings.class_columns is None:  # a run that was begun is not asked for its classes again
        with contextlib.suppress(ValueError):  # a damaged file is named by who needs it
            columns = [name for name in pd.read_csv(images, nrows=0) if name not in RESERVED]
            settings = settings.model_copy(update={"class_columns": tuple(columns)})
    try:
        return read_collection(run.data, settings)
    except ValueError:
        with contextlib.suppress(ValueError):  # nor for a split: its images have their sides
            return read_collection(run.data, settings.model_copy(update={"split": NO_SPLIT}))
        raise

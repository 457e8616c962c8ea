"""Image collections: what pictures a study has, reading them safely, and which are near-duplicates."""

import io
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw, ImageOps
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from imgsearch_utils.study import ImageSettings, nearest
from imgsearch_utils.workspace import DRAWN, Run

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
SAME_PICTURE = 0.9999  # cosine of two vectors of one picture, up to rounding
MAX_PIXELS = 250_000_000  # 0.75 GB as RGB; more than any camera's picture, less than a decompression bomb
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit is lower, and its warning is no news beside ours
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
RESERVED = ("image", "group", "side")  # columns of the package's own tables


@dataclass(frozen=True)
class Collection:
    """The pictures (or only the vectors) of one data set.

    images : one row an image: `image` (its name) and the class columns, coarse to fine
    folder : where the pictures are; None for a study that has vectors only
    vectors : the .npy file of such a study, in the order of `images`
    set_aside : `image`, `reason` of pictures that cannot take part
    """

    images: pd.DataFrame
    class_columns: list[str]
    folder: Path | None
    vectors: Path | None
    set_aside: pd.DataFrame

    @property
    def class_column(self) -> str | None:
        """The coarsest class: pairs across it are grade 0 without asking."""
        return self.class_columns[0] if self.class_columns else None

    def path(self, image: str) -> Path:
        """Where a picture is; refuses names that leave the collection's folder."""
        path = (self.folder / image).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise ValueError(f"{image!r} leads out of the data folder {self.folder}; move the picture inside")
        return path


def open_image(path: Path) -> Image.Image:
    """Decode one picture to RGB: first frame, turned as its EXIF says, transparency on white.

    Raises
    ------
    ValueError
        one line that names the file, for anything that is not a sound picture of at most 250 megapixels.
    """
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width} x {picture.height} pixels, more than {MAX_PIXELS:,} allowed")
            picture.draft("RGB", (1024, 1024))  # JPEG: decode at a smaller scale, at least this large
            return _to_rgb(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, EOFError) as error:
        reason = "empty file" if Path(path).exists() and not Path(path).stat().st_size else " ".join(str(error).split())
        reason = "not a readable picture" if "cannot identify" in reason else reason
        raise ValueError(f"{str(path)!r}: {reason}") from None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":  # more than 8 bits; 32 say nothing of their range
        values = np.nan_to_num(np.asarray(picture, np.float32))
        top = values.max(initial=0)
        scale = 65535 if "16" in picture.mode else next((range_ for range_ in (1, 255, 65535) if top <= range_), top)
        return Image.fromarray((values.clip(0, scale) * (255 / scale)).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


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
            ImageDraw.Draw(tile).text((side // 2, side // 2), "no picture", fill="#888888", anchor="mm")
        tiles.append(tile)
    return tiles


def side_by_side(left: Image.Image, right: Image.Image, gap: int = 6) -> Image.Image:
    """Two pictures of one height beside each other, with a white gap."""
    pair = Image.new("RGB", (left.width + gap + right.width, left.height), "white")
    pair.paste(left, (0, 0))
    pair.paste(right, (left.width + gap, 0))
    return pair


def read_labels(path: Path) -> pd.DataFrame:
    """Read `file_label` + one column per level of class: commas, semicolons or tabs, any line ends, BOM or none.

    Raises
    ------
    ValueError
        one line with what was expected and got: no CSV in UTF-8, a row of another length, a column absent or with
        a name that is taken, an image listed twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
        table = pd.read_csv(io.StringIO(text, newline=""), sep=delimiter, header=None, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as a CSV in UTF-8: {' '.join(str(error).split())}") from None
    header = [str(name).strip() for name in table.iloc[0]]
    table = table.iloc[1:].set_axis(header, axis=1)
    if "file_label" not in header:
        raise ValueError(f"{path}: expected a column file_label, got {', '.join(header)}")
    if taken := [name for name in header if header.count(name) > 1 or name in RESERVED]:
        raise ValueError(f"{path}: the column {taken[0]!r} stands twice or is one of {', '.join(RESERVED)}; rename it")
    twice = table.file_label[table.file_label.duplicated()]
    if len(twice):
        raise ValueError(f"{path}: {twice.iloc[0]!r} is listed more than once; keep one row per image")
    table = table.assign(**{name: table[name].str.strip() for name in header if name != "file_label"})
    return table.rename(columns={"file_label": "image"})[["image", *(n for n in header if n != "file_label")]]


def read_collection(folder: Path, settings: ImageSettings) -> Collection:
    """Read a folder of class folders, a folder with labels.csv, or vectors with labels.csv.

    Pictures may lie in the folder itself or below its `all_images` or `images`. Pictures that are listed but absent
    or without a class, and names that no CSV can hold, are set aside.

    Raises
    ------
    ValueError
        for a folder without pictures, a missing class column, fewer than two images, a name that leads out of the
        folder, pictures beside class folders.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; place the pictures there, or name another in images.source"
                         + (f". {settings.obtain}" if settings.obtain else ""))
    pictures = next((folder / name for name in ("all_images", "images") if (folder / name).is_dir()), folder)
    vectors = folder / settings.vectors if settings.vectors else None
    if (folder / "labels.csv").is_file():
        table = read_labels(folder / "labels.csv")
    elif vectors:
        raise ValueError(f"{folder}: vectors need a labels.csv with a file_label for each row")
    else:
        table = _scan(pictures, settings.class_columns != ())
    if vectors and not vectors.is_file():
        raise ValueError(f"{vectors}: no such file (images.vectors)")
    columns = list(settings.class_columns if settings.class_columns is not None else table.columns[1:])
    for column in columns:
        if column not in table.columns[1:]:
            raise ValueError(f"{folder}: no class column {column!r}. {nearest(column, table.columns[1:])}")
    there = pictures if pictures is not folder or not vectors else None
    collection = Collection(table[["image", *columns]].reset_index(drop=True), columns, there, vectors,
                            pd.DataFrame(columns=["image", "reason"], dtype=str))
    if not vectors:
        collection = _without_unusable(collection)
    if len(collection.images) < 2:
        raise ValueError(f"{folder}: {len(collection.images)} usable picture(s) found; a study needs at least two "
                         f"({', '.join(SUFFIXES)})")
    return collection


def _without_unusable(collection: Collection) -> Collection:
    reasons, images = {}, collection.images
    blank = (images[collection.class_columns] == "").any(axis=1)
    for name, classless in zip(images.image, blank):
        if not collection.path(name).is_file():
            reasons[name] = "listed in labels.csv but not in the folder"
        elif classless:
            reasons[name] = "without a class in labels.csv"
        elif re.search("[\r\ud800-\udfff]", name):
            reasons[name] = "a name with a carriage return or bytes that are not UTF-8; rename the file"
    images = images[~images.image.isin(list(reasons))].reset_index(drop=True).astype(str)
    aside = pd.DataFrame({"image": [name.encode("utf-8", "backslashreplace").decode() for name in reasons],
                          "reason": list(reasons.values())}, dtype=str)
    return replace(collection, images=images, set_aside=aside)


def open_collection(run: Run, progress: Callable = iter) -> Collection:
    """The run's collection; the houses of the embedded study are drawn when they are not there yet.

    progress : wraps the houses that are drawn, e.g. ``tqdm``
    """
    if run.study.images.source == DRAWN:
        from imgsearch_utils.synthetic_houses import write_houses

        write_houses(run.data, run.study.images.per_class or 150, run.study.seed, progress)
    return read_collection(run.data, run.study.images)


def _scan(pictures: Path, with_classes: bool) -> pd.DataFrame:
    """Pictures below a folder; their folders are the classes, coarse to fine, a missing finer one like the coarser."""
    files = sorted(p.relative_to(pictures) for p in pictures.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    table = pd.DataFrame({"image": [path.as_posix() for path in files]}, dtype=object)
    depths = [len(path.parts) - 1 for path in files]
    if with_classes and any(depths):
        if loose := [path.name for path, depth in zip(files, depths) if not depth]:
            raise ValueError(f"{pictures}: {loose[0]!r} and {len(loose) - 1} more pictures lie beside class folders; "
                             "move them into one, or write class_columns: [] for a study without classes")
        for n in range(max(depths)):
            level = "class" if max(depths) == 1 else f"level_{n + 1}"
            table[level] = [path.parts[min(n, depth - 1)] for path, depth in zip(files, depths)]
    return table


def describe_folder(study: str, folder: Path) -> tuple[str, str]:
    """Look at a folder of pictures and write a study for it.

    Returns
    -------
    the study's YAML, and a line that says what was found

    Raises
    ------
    ValueError
        as ``read_collection``
    """
    vectors = next((path.name for path in sorted(folder.glob("*.npy"))), None)
    pictures = any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
    source = {"source": str(folder)} | ({"vectors": vectors} if vectors and not pictures else {})
    found = read_collection(folder, ImageSettings(**source))
    sizes = [f"{found.images[column].nunique()} {column}" for column in found.class_columns]
    line = f"{len(found.images):,} {'pictures' if pictures else 'vectors'}" + (f": {', '.join(sizes)}" if sizes else "")
    oracle = "hierarchy" if sizes else "person"
    who = "same class: 3; replace by person to grade pairs yourself" if sizes else "you grade the pairs in notebook 01"
    return (f"# {line}\n{yaml.safe_dump({'study': study, 'images': source}, sort_keys=False, allow_unicode=True)}"
            f"oracle: {oracle}  # {who}\n"), line


def near_duplicate_groups(vectors: np.ndarray, cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Group images whose vectors are nearly equal; a group is a connected component of such pairs.

    Parameters
    ----------
    vectors : (n, d) embeddings of one encoder
    cosine : pairs at least this similar count as duplicates

    Returns
    -------
    groups : (n,) int, the group of each image, numbered in order of first appearance
    pairs : (m, 2) int, the duplicate pairs' positions
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for start in range(0, len(unit), 1024):
        rows, columns = np.nonzero(unit[start : start + 1024] @ unit.T >= cosine - 1e-6)  # rounding of float32
        rows += start
        found.append(np.stack([rows, columns], 1)[rows < columns])
    pairs = np.concatenate(found)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(unit),) * 2)
    return pd.factorize(connected_components(graph, directed=False)[1])[0], pairs


def named_sample(images: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The images that a CSV with a column file_label names; ValueError where it names one that is not there."""
    names = read_labels(file).image
    unknown = names[~names.isin(images.image)]
    if len(unknown):
        raise ValueError(f"{file}: {len(unknown)} image(s) are not in the collection, first: {unknown.iloc[0]!r}")
    return images[images.image.isin(names)]


def balanced_sample(images: pd.DataFrame, class_column: str | None, per_class: int | None, seed: int) -> pd.DataFrame:
    """At most `per_class` images of each class, in the table's order; all of them when it is None."""
    if per_class is None:
        return images
    shuffled = images.sample(frac=1, random_state=seed)
    chosen = shuffled.groupby(class_column).head(per_class) if class_column else shuffled.head(per_class)
    return chosen.sort_index()

"""Image collections: what pictures a study has, reading them safely, and which are near-duplicates."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageOps
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from imgsearch_utils.study import ImageSettings, nearest
from imgsearch_utils.workspace import DRAWN, Run

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
MAX_PIXELS = 250_000_000  # 0.75 GB as RGB; more than any camera's picture, less than a decompression bomb


@dataclass(frozen=True)
class Collection:
    """The pictures (or only the vectors) of one data set.

    images : one row an image: `image` (its name) and the class columns, coarse to fine
    folder : where the pictures are; None for a study that has vectors only
    vectors : the .npy file of such a study, in the order of `images`
    set_aside : `image`, `reason` of listed pictures that are not there
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
            raise ValueError(f"{image}: leads out of the data folder {self.folder}")
        return path


def open_image(path: Path) -> Image.Image:
    """Decode one picture to RGB: first frame, turned as its EXIF says, transparency on white.

    Raises
    ------
    ValueError
        one line that names the file, for anything that is not a sound picture of at most 250 megapixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is ours
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels, more than {MAX_PIXELS:,} allowed")
                picture.draft("RGB", (1024, 1024))  # JPEG: decode at a smaller scale, at least this large
                return _to_rgb(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, EOFError) as error:
        reason = "empty file" if Path(path).exists() and not Path(path).stat().st_size else " ".join(str(error).split())
        reason = "not a readable picture" if "cannot identify" in reason else reason
        raise ValueError(f"{path}: {reason}") from None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 bits and more: to the picture's own range
        values = np.asarray(picture, np.float32)
        scale = 65535 if values.max(initial=0) > 255 else 255
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
    """Read `file_label` + one column per level of class; BOM, semicolons and Windows line ends are accepted."""
    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as a CSV in UTF-8: {' '.join(str(error).split())}") from None
    if "file_label" not in table:
        raise ValueError(f"{path}: expected a column file_label, got {', '.join(table.columns)}")
    twice = table.file_label[table.file_label.duplicated()]
    if len(twice):
        raise ValueError(f"{path}: {twice.iloc[0]!r} is listed more than once; keep one row per image")
    return table.rename(columns={"file_label": "image"})


def read_collection(folder: Path, settings: ImageSettings) -> Collection:
    """Read a folder of class folders, a folder with labels.csv, or vectors with labels.csv.

    Pictures may lie in the folder itself or below its `all_images` or `images`.

    Raises
    ------
    ValueError
        for a folder without pictures, a missing class column, fewer than two images.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; place the pictures there, or name another in images.source")
    pictures = next((folder / name for name in ("all_images", "images") if (folder / name).is_dir()), folder)
    vectors = folder / settings.vectors if settings.vectors else None
    if (folder / "labels.csv").is_file():
        table = read_labels(folder / "labels.csv")
    elif vectors:
        raise ValueError(f"{folder}: vectors need a labels.csv with a file_label for each row")
    else:
        table = _scan(pictures)
    if vectors and not vectors.is_file():
        raise ValueError(f"{vectors}: no such file (images.vectors)")
    columns = list(settings.class_columns if settings.class_columns is not None else table.columns[1:])
    for column in columns:
        if column not in table.columns[1:]:
            raise ValueError(f"{folder}: no class column {column!r}. {nearest(column, table.columns[1:])}")
    there = pictures if pictures is not folder or not vectors else None
    gone = [] if vectors else [name for name in table.image if not (pictures / name).is_file()]
    set_aside = pd.DataFrame({"image": gone, "reason": "listed in labels.csv but not in the folder"}, dtype=str)
    table = table[~table.image.isin(gone)].reset_index(drop=True)
    if len(table) < 2:
        raise ValueError(f"{folder}: {len(table)} picture(s) found; a study needs at least two ({', '.join(SUFFIXES)})")
    return Collection(table[["image", *columns]], columns, there, vectors, set_aside)


def open_collection(run: Run) -> Collection:
    """The run's collection; the houses of the embedded study are drawn when they are not there yet."""
    if run.study.images.source == DRAWN:
        from imgsearch_utils.synthetic_houses import write_houses

        write_houses(run.data, run.study.images.per_class or 150, run.study.seed)
    return read_collection(run.data, run.study.images)


def _scan(pictures: Path) -> pd.DataFrame:
    files = sorted(p.relative_to(pictures) for p in pictures.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    table = pd.DataFrame({"image": [path.as_posix() for path in files]}, dtype=str)
    if files and all(len(path.parts) > 1 for path in files):
        table["class"] = [path.parts[0] for path in files]
    return table


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
        rows, columns = np.nonzero(unit[start : start + 1024] @ unit.T >= cosine)
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

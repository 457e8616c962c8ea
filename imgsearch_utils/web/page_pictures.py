"""Pictures on their way to a page, which asks for them by number when it needs them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from imgsearch_utils.images.collection import Collection
from imgsearch_utils.images.decoding import jpeg, open_image

MAX_SIDE, MAX_BYTES = 1600, 1_000_000  # larger pictures are sent smaller
SMALL = 320  # pixels, the longer side of a picture among others
_BROWSER_FORMATS = {".jpg", ".jpeg", ".png", ".webp"}


def picture_bytes(path: Path) -> bytes:
    """A picture as a browser shows it: the file itself, or a JPEG of at most 1600 pixels where that
    is too much.

    Raises
    ------
    ValueError
        one line that names the file when it cannot be read.
    """
    if (
        path.suffix.lower() in _BROWSER_FORMATS
        and path.is_file()
        and 0 < path.stat().st_size <= MAX_BYTES
    ):
        return path.read_bytes()
    return jpeg(open_image(path), MAX_SIDE, quality=90)


def send_pictures(
    send: Callable[..., None],
    collection: Collection,
    names: Sequence[str],
    rows: Sequence[int],
    large: bool,
) -> None:
    """Answer a page's wish for pictures, by their rows among the names; one that cannot be read is
    `missing`.
    """
    for row in rows:
        name, answer, content = (
            name_at(names, row),
            {"kind": "picture", "row": row, "large": large},
            b"",
        )
        try:
            if collection.folder is None:
                raise ValueError("this study has vectors only")
            path = collection.path(name)
            content = picture_bytes(path) if large else jpeg(open_image(path), SMALL)
        except ValueError:
            answer["missing"] = True
        send(answer, [content])


def name_at(names: Sequence[str], row: int) -> str:
    """The name in a row that a page sent; ValueError for what is none."""
    if not (isinstance(row, int) and 0 <= row < len(names)):
        raise ValueError("no image of this page; reload it")
    return names[row]

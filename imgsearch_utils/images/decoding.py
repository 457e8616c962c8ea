"""Picture files read safely, and small pictures for pages and figures."""

import functools
import io
import os
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

#: of Pillow's own formats, and of what a phone or a browser calls them
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
SUFFIXES |= {".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pnm"}
HEIF = {".heic", ".heif"}  # of phones; another library reads them
MAX_UPLOAD = 20_000_000  # bytes of a picture that a server takes
# 0.75 GB as RGB; more than any camera's picture, less than a decompression bomb
MAX_PIXELS = 250_000_000
# Pillow's own limit is lower, and its warning is no news beside ours
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@functools.cache
def reads_heif() -> bool:
    """Whether the library that decodes HEIC is installed; then Pillow uses it from now on."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def why_not_decoded(suffix: str) -> str:
    """Why a file of this suffix is taken for no picture; empty where it is taken for one."""
    suffix = suffix.lower()
    if suffix in HEIF and not reads_heif():
        return f"{suffix}, for which pillow-heif is missing: pip install imgsearch-utils[heic]"
    return "" if suffix in SUFFIXES | HEIF else f"no picture ({suffix or 'no suffix'})"


def why_no_file(path: Path) -> str:
    """Why a path is no file with content to read; empty where it is one. Opening a FIFO would wait
    for ever.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:
        if os.path.islink(path):  # noqa: PTH114
            return "a link that leads nowhere"
        return getattr(error, "strerror", str(error))
    if stat.S_ISREG(mode):
        return ""
    return (
        "a folder, not a picture"
        if stat.S_ISDIR(mode)
        else "a FIFO, a socket or a device, not a file"
    )


def picture_files(path: Path) -> list[Path]:
    """The file itself, or all files below a folder that are named like pictures, in order; links
    are not followed.

    Raises
    ------
    ValueError
        for a path that is not there, and a folder without any.
    """
    if not os.path.lexists(path):
        raise ValueError(f"{path}: no such file or folder; give a picture, or a folder of pictures")
    if not path.is_dir():
        return [path]
    inside = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    if not (files := sorted(file for file in inside if not why_not_decoded(file.suffix))):
        raise ValueError(f"{path}: no picture in this folder ({', '.join(sorted(SUFFIXES))})")
    return files


def open_image(path: Path) -> Image.Image:
    """Decode one picture to RGB: first frame, turned as its EXIF says, transparency on white.

    Raises
    ------
    ValueError one line that names the file, for anything that is not a sound picture of at most 250
        megapixels.
    """
    try:
        if reason := why_no_file(path):
            raise ValueError(reason)
        if Path(path).suffix.lower() in HEIF:
            reads_heif()
        return decode(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, EOFError) as error:
        empty = not why_no_file(path) and not Path(path).stat().st_size
        reason = "empty file" if empty else " ".join(str(error).split())
        reason = "not a readable picture" if "cannot identify" in reason else reason
        raise ValueError(f"{str(path)!r}: {reason}") from None


def decode(file: Path | BinaryIO, formats: Sequence[str] | None = None) -> Image.Image:
    """As ``open_image``, of a path or of an open file, of these formats alone; raises what the
    decoders raise.
    """
    with Image.open(file, formats=formats) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(
                f"{picture.width} x {picture.height} pixels, more than {MAX_PIXELS:,} allowed"
            )
        picture.draft("RGB", (1024, 1024))  # JPEG: decode at a smaller scale, at least this large
        return _to_rgb(ImageOps.exif_transpose(picture))


def _to_rgb(picture: Image.Image) -> Image.Image:
    # more than 8 bits; 32 say nothing of their range
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, np.float32))
        top = values.max(initial=0)
        scale = (
            65535
            if "16" in picture.mode
            else next((range_ for range_ in (1, 255, 65535) if top <= range_), top)
        )
        return Image.fromarray((values.clip(0, scale) * (255 / scale)).astype(np.uint8)).convert(
            "RGB"
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def middle_of_strip(picture: Image.Image) -> Image.Image:
    """The picture; of a strip more than eight times as long as wide the middle: scaled up, it would
    fill memory.
    """
    width, height = picture.size
    side = 8 * min(width, height)
    if max(width, height) <= side:
        return picture
    left, top = max(0, width - side) // 2, max(0, height - side) // 2
    return picture.crop((left, top, left + min(width, side), top + min(height, side)))


def jpeg(picture: Image.Image, side: int, quality: int = 88) -> bytes:
    """A picture as JPEG, at most `side` pixels long."""
    picture = picture.copy()
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def side_by_side(left: Image.Image, right: Image.Image, gap: int = 6) -> Image.Image:
    """Two pictures of one height beside each other, with a white gap."""
    pair = Image.new("RGB", (left.width + gap + right.width, left.height), "white")
    pair.paste(left, (0, 0))
    pair.paste(right, (left.width + gap, 0))
    return pair

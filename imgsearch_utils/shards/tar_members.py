"""Which members of a tar are pictures, and which say something of which picture."""

import re
from pathlib import PurePosixPath

from imgsearch_utils.images.decoding import why_not_decoded
from imgsearch_utils.images.picture_scan import is_system
from imgsearch_utils.study import listed

SAID = {".json", ".txt", ".cls", ".text", ".caption"}


class Members:
    """The members of a tar by what they are.

    Members that are named alike up to the first dot, in one folder, are one sample, as webdataset
    has it; up to the last dot they are of one picture. Of a sample's pictures that which is called
    like the sample (``7.jpg``) is the picture, and one with a word more (``7.mask.png``) says
    something of it; where none is called like the sample (``scan 1.05.jpg``, ``scan 1.06.jpg``)
    each is a picture.

    names : of the tar's files
    column : what follows the first dot of the pictures that are wanted, e.g. ``jpg``; empty where
        that is plain

    Raises
    ------
    ValueError
        where a sample has two pictures of its name (``7.jpg``, ``7.png``), and none is wanted

    Attributes
    ----------
    pictures : in the tar's order
    said_of : name -> (the column of a text, or empty for JSON; the pictures of which it says that)
    left_out : name -> why it is neither
    """

    def __init__(self, names: list[str], column: str = ""):
        self.said_of: dict[str, tuple[str, list[str]]] = {}
        self.left_out: dict[str, str] = {}
        self.notes: list[str] = []
        found = [name for name in names if self._is_picture(name)]
        by_sample: dict[str, list[str]] = {}
        for name in dict.fromkeys(found):
            by_sample.setdefault(_sample(name), []).append(name)
        self.pictures = [
            name
            for sample, pictures in by_sample.items()
            for name in self._chosen(sample, pictures, column)
        ]
        if column and not self.pictures:
            kinds = {_kind(name) for name in found}
            raise ValueError(f"no picture is a .{column}; there are {listed(sorted(kinds))}")
        if beside := [name for name in found if name in self.left_out]:
            kinds = sorted({_kind(name) for name in beside})
            self.notes.append(
                f"pictures that say something of others were not taken: .{listed(kinds)}; "
                f"--column {kinds[0]} takes them instead"
            )
        self._assign([name for name in names if _suffix(name) in SAID])

    def _is_picture(self, name: str) -> bool:
        parts = [part for part in PurePosixPath(name).parts if part not in (".", "..")]
        if any(is_system(part) for part in parts):
            self.left_out[name] = "hidden, or a system's own file"
        elif why := why_not_decoded(_suffix(name)):
            if _suffix(name) not in SAID:
                self.left_out[name] = why
        else:
            return True
        return False

    def _chosen(self, sample: str, pictures: list[str], column: str) -> list[str]:
        """Those of a sample's pictures that are taken; the others are left out by name."""
        if column:
            taken = [name for name in pictures if _kind(name) == column.lower()]
        else:
            plain = [name for name in pictures if _stem(name) == sample]
            if len(plain) > 1:
                kinds = [_kind(name) for name in plain]
                raise ValueError(
                    f"{plain[0]!r} and {plain[1]!r} are pictures of one sample, and nothing is "
                    f"guessed: name those that are meant, --column {kinds[0]} or --column "
                    f"{kinds[1]}"
                )
            words = re.compile(r"[^\W\d_]")  # numbers alone count pictures
            taken = [
                name
                for name in pictures
                if not plain or name in plain or not words.search(_stem(name)[len(sample) :])
            ]
        for name in pictures:
            if name not in taken:
                self.left_out[name] = f"beside the picture of its sample (.{_kind(name)})"
        return taken

    def _assign(self, names: list[str]) -> None:
        by_stem: dict[str, list[str]] = {}
        by_sample: dict[str, list[str]] = {}
        for picture in self.pictures:
            by_stem.setdefault(_stem(picture), []).append(picture)
            by_stem.setdefault(picture, []).append(picture)
            by_sample.setdefault(_sample(picture), []).append(picture)
        for name in names:
            if name in self.left_out:
                continue
            stem, sample, suffix = _stem(name), _sample(name), _suffix(name)
            of = by_stem.get(stem) or by_sample.get(sample, [])
            if not of:
                self.left_out[name] = f"that say something of no picture here ({suffix})"
                continue
            # 7.caption.txt says its caption, 7.txt its txt
            more = "" if stem in by_stem else stem[len(sample) + 1 :]
            self.said_of[name] = ("" if suffix == ".json" else more or suffix[1:]), of


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stem(name: str) -> str:
    """A name up to its last dot."""
    return name[: len(name) - len(PurePosixPath(name).suffix)]


def _sample(name: str) -> str:
    """A name up to the first dot of its last part."""
    return re.match(r"(?:.*/)?\.?[^./]*", name, re.DOTALL)[0]


def _kind(name: str) -> str:
    """What follows the first dot of a name's last part, in small letters, without numbers."""
    words = name[len(_sample(name)) + 1 :].lower().split(".")
    return ".".join(word for word in words if re.search(r"[^\W\d_]", word))

"""What the folders above pictures mean: a split, classes from coarse to fine, or only a place."""

import calendar
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imgsearch_utils.study import listed

#: the settings `images.split`: what the data come with is not kept; the folders are a split
NO_SPLIT, BY_FOLDERS = "none", "folders"
#: what the sides are called in data sets that come with a split, as folders or in a column -> here
SPLITS = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "trn": "train",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "valset": "dev",
    "dev": "dev",
    "eval": "dev",
    "evaluation": "dev",
    "test": "test",
    "testing": "test",
    "testset": "test",
    "holdout": "test",
    "query": "test",
    "gallery": "test",
}
FEW = 10  # classes that are never too many
# first letters of the months in English, German, French, Spanish, Italian, Portuguese and Dutch
MONTHS = (
    "jan ene gen",
    "feb fev",
    "mar mae mrt",
    "apr avr abr",
    "may mai mei mag",
    "jun jui giu",
    "jul jui lug",
    "aug aou ago",
    "sep set",
    "oct okt ott out",
    "nov",
    "dec dez dic",
)
_MONTHS = {month.casefold() for month in [*calendar.month_name, *calendar.month_abbr] if month}
_YEAR_FIRST = re.compile(r"(19|20)\d\d($|[^0-9a-z].*|(0[1-9]|1[0-2])([0-3]\d)?($|\D.*))")
_NUMBER = re.compile(r"\d+|(?=.*\d)[0-9a-f]{2}|(?=.*\d)[0-9a-f]{8,}")  # and hashes, whole or cut
#: what a camera, a phone, a scanner or a downloader calls its folders, and people a new one
_PLACE = re.compile(
    r"\d{3}[a-z_][a-z0-9_]{4}|dcim|camera( roll)?|screenshots?|"
    r"(new|untitled)[ _-]folder.*|neuer ordner.*|(batch|chunk|dir|disc|disk|export|fold|folder|"
    r"pages?|parts?|rolls?|scans?|set|shards?|vol|volume)[ ._-]*\(?\d+\)?"
)


@dataclass(frozen=True)
class Levels:
    """How the folders above pictures are read.

    sides : of each picture, where a level of folders is a split: "train", "dev", "test"; or empty
    classes : column -> the class of each picture, from coarse to fine
    notes : which level was taken for what, and what reads it otherwise
    doubts : why nobody can know whether these are classes; empty where it is plain
    """

    sides: list[str]
    classes: dict[str, list[str]]
    notes: list[str]
    doubts: list[str]


def side_of(name: str) -> str:
    """The side of a split that a name is exactly; empty where it is none."""
    return SPLITS.get(name.strip().lower(), "")


def side_in(name: str) -> tuple[str, str]:
    """The side that one word of a name says (``seg_train``, ``val2017``), and the rest of the
    name; both empty where none or several do.
    """
    words = re.split(r"([^a-z]+)", name.lower())
    named = [place for place, word in enumerate(words) if word in SPLITS]
    if len(named) != 1:
        return "", ""
    rest = "".join(word for place, word in enumerate(words) if place != named[0])
    return SPLITS[words[named[0]]], re.sub(r"[\W\d_]+", "", rest)


def says_nothing(name: str) -> str:
    """Why a folder's name may be only a place: "number", "date" or "place"; empty where it names
    something.
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter)).strip()
    words = re.findall(r"[^\W\d_]+|\d+", plain)
    numbers = [int(word) for word in words if word.isdecimal()]
    only_numbers = len(numbers) == len(words) > 0
    if _NUMBER.fullmatch(plain) or only_numbers:
        return "date" if any(1900 <= number < 2100 for number in numbers) else "number"
    months = {
        number
        for word in words
        for number, begins in enumerate(MONTHS, 1)
        if word[:3] in begins.split()
    }
    dated = numbers and (months & {*numbers} or (months and max(numbers) > 1900))
    if _YEAR_FIRST.fullmatch(plain) or dated:
        return "date"
    return "place" if _PLACE.fullmatch(plain) else ""


def held_out(sides: Sequence[str]) -> list[str]:
    """The sides; of a split without a test side, what is held out is the test side."""
    has_test = "test" in sides
    return [side if has_test or side == "train" else "test" for side in sides]


def read_levels(
    folders: Sequence[tuple[str, ...]], split: str | None = None, chosen: bool = False
) -> Levels:
    """Read the folders above each picture, from the outermost.

    A level is a split where it says train and another side, each folder, alone or with one and the
    same other word (``seg_train``, ``seg_test``). A level with one folder alone says nothing. All
    others are classes; a missing finer one is like the coarser.

    split : as of ``ImageSettings.split``
    chosen : the classes were chosen, so that nothing about them is in doubt

    Raises
    ------
    ValueError
        where other folders stand beside those of a split, so that nobody can know what is meant;
        where `split` is a column
    """
    if split not in (None, NO_SPLIT, BY_FOLDERS):
        raise ValueError(
            f"there is no table with a column {split!r}, so the split is that of the folders, "
            f"--split {BY_FOLDERS}, or --split {NO_SPLIT}"
        )
    levels, notes, sides, of_split = _by_level(folders), [], [], []
    for at, names in enumerate(levels if split != NO_SPLIT and all(folders) else []):
        if not sides:
            sides = _split(names, split == BY_FOLDERS, at)
            of_split += [at] * bool(sides)
        elif sides == [side_of(name) or side_in(name)[0] for name in names]:
            of_split.append(at)  # seg_train/seg_train/
    if sides:
        names = levels[of_split[0]]
        counted = ", ".join(f"{name}/ {names.count(name):,}" for name in dict.fromkeys(names))
        held = "" if "test" in sides else "; what is held out is the test side"
        notes.append(
            f"folder level {of_split[0] + 1} was taken for a split, since its folders are called "
            f"so: {counted}{held}; --split none reads it as classes"
        )
    elif split == BY_FOLDERS:
        raise ValueError(
            "no level of folders is a split: expected train and another of "
            f"{', '.join(SPLITS)}; rename the folders, or leave --split out"
        )
    # of a picture without a deeper folder the finer level is the coarser one, but never its split
    levels = _by_level(
        [tuple(part for at, part in enumerate(each) if at not in of_split) for each in folders]
    )
    telling = [names for names in levels if len(set(names)) > 1]
    if levels and not telling:
        telling = levels[-1:]
    elif said := [names[0] for names in levels if len(set(names)) == 1]:
        notes.append(f"all pictures lie below {listed(said)}/, so that level is no class")
    if not telling:
        return Levels(held_out(sides), {}, notes, [])
    one = len(telling) == 1
    classes = {"class" if one else f"level_{n}": names for n, names in enumerate(telling, 1)}
    doubts = [] if chosen else _doubts(classes)
    return Levels(held_out(sides), classes, notes, doubts)


def _by_level(folders: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """The folder of each picture, level by level; where there is none so deep, the deepest."""
    depth = max(map(len, folders), default=0)
    return [
        [each[min(at, len(each) - 1)] if each else "" for each in folders] for at in range(depth)
    ]


def _split(names: list[str], wanted: bool, at: int) -> list[str]:
    """The side of each picture by the folders of one level; empty where they are no split."""
    distinct = {*names}
    exact = {name: side_of(name) for name in distinct}
    loose = {name: side_in(name) for name in distinct}
    several = {*exact.values()} - {""}
    if all(exact.values()) and "train" in several and len(several) > 1:
        return [exact[name] for name in names]
    said = {side for side, _ in loose.values()} - {""}
    if "train" not in said or len(said) < 2:
        return []
    odd = sorted(name for name, (side, _) in loose.items() if not side)
    if not odd and (wanted or len({rest for _, rest in loose.values()}) == 1):
        return [loose[name][0] for name in names]
    if at and not wanted and ("train" not in several or len(several) < 2):
        return []  # words of finer folders: classes may be called so
    odd = odd or sorted(distinct)
    shown = sorted(name for name, (side, _) in loose.items() if side and name not in odd)
    beside = " and ".join(sorted(shown)) or "the others"
    raise ValueError(
        f"{odd[0]!r} stands beside {beside}, so that these may be a split or classes; for a split "
        f"that is kept (--split folders), each is one of {', '.join(SPLITS)}, and no other folder "
        "stands beside them; for classes: --split none"
    )


def _doubts(classes: dict[str, list[str]]) -> list[str]:
    """Why levels may be no classes."""
    doubts = []
    for column, names in classes.items():
        distinct = sorted({*names})
        odd = [name for name in distinct if says_nothing(name)]
        if all(name.casefold() in _MONTHS for name in distinct):
            odd = distinct
        if odd:
            kinds = {says_nothing(name) or "date" for name in odd}
            what = " and ".join(f"{kind}s" for kind in sorted(kinds))
            doubts.append(
                f"{len(odd):,} of the {len(distinct):,} folders of {column} are called by {what} "
                f"({listed(odd, 4)})"
            )
        elif too_many(len(distinct), len(names)):
            doubts.append(
                f"{column} has {len(distinct):,} folders for {len(names):,} pictures, and hardly "
                "two share one"
            )
        elif twins := spelt_alike(distinct):
            doubts.append(f"the folders {twins[0]!r} and {twins[1]!r} are one name, spelt twice")
    return doubts


def too_many(n_classes: int, n_images: int) -> bool:
    """Whether hardly two images share a class."""
    return n_classes > max(n_images / 2, FEW) or n_classes == n_images > 3


def spelt_alike(names: Sequence[str]) -> tuple[str, ...]:
    """Two names that differ in case, blanks or the form of accents alone; empty where none do."""
    spelt: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()
        if spelt.setdefault(plain, name) != name:
            return spelt[plain], name
    return ()


def refuse_doubts(where: object, doubts: Iterable[str], columns: Iterable[str]) -> None:
    """Raise a ValueError that names both readings and the options that choose, where there are
    doubts.
    """
    doubts = list(doubts)
    if not doubts:
        return
    flags = " ".join(f"--classes {name}" for name in columns) or "--classes COLUMN"
    raise ValueError(
        f"{where}: {doubts[0]}, which may be classes or not, and pairs across classes would be "
        f"graded 0 unseen; nothing is guessed: name the columns that are classes, coarse to fine "
        f"({flags}), or say that none is (--classes '', or --flat for no split either); in a "
        "study's file: images.class_columns"
    )

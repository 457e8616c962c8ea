"""The account of a command: what it saw, what it took, what it left out and why, and how it read
folders and columns.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from imgsearch_utils.study import listed
from imgsearch_utils.workspace.storage import read_json, write_atomic

MOST_REASONS = 12  # that are printed; the file beside the result has all
MOST_CLASSES = 12


@dataclass(frozen=True)
class Account:
    """What became of everything that a command saw.

    what : "files", "rows"; what is counted
    seen, taken : how many
    left_out : reason -> (how many, the first of them); with `taken` they are all that was seen
    classes : column -> class -> how many of the taken
    notes : which folder level or column was taken for what, and the option that reads it otherwise
    columns : column -> "number", "date" or "text"

    Raises
    ------
    RuntimeError
        where it does not add up: something was dropped in silence, which is a fault of this package
    """

    what: str
    seen: int
    taken: int
    left_out: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        out = sum(number for number, _ in self.left_out.values())
        if self.seen != self.taken + out:
            raise RuntimeError(
                f"the account does not add up: {self.seen:,} {self.what} seen, {self.taken:,} "
                f"taken, {out:,} left out; please report this"
            )

    def without(
        self, more: Iterable[tuple[str, str]], classes: Mapping[str, Mapping[str, int]]
    ) -> "Account":
        """The account where some of what was taken is left out after all: (name, reason) of each.

        classes : of what is still taken
        """
        more = list(more)
        return replace(
            self,
            taken=self.taken - len(more),
            left_out=added(self.left_out, grouped(more)),
            classes=classes,
        )

    def noted(self, *notes: str) -> "Account":
        """The account with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def lines(self) -> list[str]:
        """The account for people; ESC and other unprintable letters of names are written out."""
        out = self.seen - self.taken
        lines = [f"{self.seen:,} {self.what} seen = {self.taken:,} taken + {out:,} left out"]
        reasons = sorted(self.left_out.items(), key=lambda each: -each[1][0])
        for reason, (number, first) in reasons[:MOST_REASONS]:
            lines.append(f"left out: {number:,} {reason}" + (f"; first: {first}" if first else ""))
        if rest := reasons[MOST_REASONS:]:
            number = sum(number for _, (number, _) in rest)
            lines.append(f"left out: {number:,} more, for {len(rest)} other reasons")
        for column, counts in self.classes.items():
            each = [
                f"{name} {n:,}" for name, n in sorted(counts.items(), key=lambda each: -each[1])
            ]
            lines.append(f"{column}: {len(each):,} classes: {listed(each, MOST_CLASSES)}")
        kinds: dict[str, list[str]] = {}
        for column, kind in self.columns.items():
            kinds.setdefault(kind, []).append(column)
        if kinds:
            read = "; ".join(f"{kind}: {listed(names)}" for kind, names in sorted(kinds.items()))
            lines.append(f"columns by what they are read as: {read}")
        return [printable(line) for line in [*lines, *self.notes]]

    def write(self, file: Path) -> None:
        """Keep it as JSON beside the command's result."""
        write_atomic(file, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> "Account":
        """What ``write`` kept."""
        values = read_json(file, "what", "seen", "taken", "left_out", "classes", "notes", "columns")
        values["left_out"] = {name: tuple(each) for name, each in values["left_out"].items()}
        return cls(**{**values, "notes": tuple(values["notes"])})


def grouped(each: Iterable[tuple[str, str]]) -> dict[str, tuple[int, str]]:
    """(name, reason) of each, by reason: how many, and the first."""
    each = list(each)
    first: dict[str, str] = {}
    for name, reason in each:
        first.setdefault(reason, repr(name))
    return {
        reason: (number, first[reason])
        for reason, number in Counter(reason for _, reason in each).items()
    }


def added(
    one: Mapping[str, tuple[int, str]], two: Mapping[str, tuple[int, str]]
) -> dict[str, tuple[int, str]]:
    """Both, by reason; the first of a reason is that of `one`."""
    together = dict(one)
    for reason, (number, first) in two.items():
        before, earlier = together.get(reason, (0, first))
        together[reason] = before + number, earlier
    return together


def printable(text: str) -> str:
    """Text that a terminal shows as it is: one line, no control characters, no half letters."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )

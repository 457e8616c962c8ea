"""One line of the journal: what somebody did, as a tuple and as bytes; and which acts stand."""

import csv
import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from imgsearch_utils.grades.pairs import GRADES, key, lower_median
from imgsearch_utils.study import AUTOMATIC, nearest

RUBRIC_VERSION = "1"
# of the search page: weak evidence of its own kind, never a grade
VOTES = ("vote_up", "vote_down", "unvote")
# which of two images is more like a third; evidence of its own kind, never a grade
COMPARISONS = ("closer", "neither", "uncompare")
ACTS = ("grade", "skip", "unsure", "undo", *VOTES, *COMPARISONS)
# what `answers` says of acts that one key gave to all that was left of a list; they have one time
REST = "rest"
# what `source` may say
ADJUDICATION, REPEAT, VOTE = ("adjudication", "repeat", "vote")


class Act(NamedTuple):
    """One line of the journal.

    time : UTC, ISO 8601
    image1, image2 : in canonical order; of a comparison, the query and the image that is closer
    grade : 0..3 for the act "grade", else None
    seconds : how long the annotator looked
    round : of a grade, the round that asks it; of a vote, the first that may learn from it
    source : "person", "automatic" (zeros across classes), "adjudication", "repeat" (asked a second
        time to measure agreement with oneself), "vote", or where the grade came from
    answers : the rubric's nine questions in order, y, n or - each; may be empty; or ``REST``; of a
        comparison, the third image: so all lines have as many fields as in older journals
    """

    time: str
    annotator: str
    image1: str
    image2: str
    act: str
    grade: int | None = None
    seconds: float | None = None
    round: int = 0
    rubric: str = RUBRIC_VERSION
    source: str = "person"
    answers: str = ""


# A field never holds a raw line end, so that one act is one line and a torn line cannot swallow the
# next.
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_PLAIN = {escaped: plain for plain, escaped in _ESCAPES.items()}


def line_of(fields) -> bytes:
    text = [
        "" if field is None else re.sub(r"[\\\n\r]", lambda m: _ESCAPES[m[0]], str(field))
        for field in fields
    ]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(text)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def parse(line: bytes) -> Act:
    [row] = csv.reader([line.decode("utf-8", "surrogateescape")], strict=True)
    fields = dict(
        zip(
            Act._fields,
            [re.sub(r"\\[\\nr]", lambda m: _PLAIN[m[0]], field) for field in row],
            strict=True,
        )
    )
    fields["grade"] = int(fields["grade"]) if fields["grade"] else None
    fields["seconds"] = float(fields["seconds"]) if fields["seconds"] else None
    return checked(Act(**{**fields, "round": int(fields["round"])}))


def checked(act: Act) -> Act:
    if act.act not in ACTS:
        raise ValueError(f"no act is called {act.act!r}. {nearest(act.act, ACTS)}")
    if act.act == "grade" and act.grade not in GRADES:
        raise ValueError(f"grade: expected 0, 1, 2 or 3, got {act.grade!r}")
    if act.act != "grade" and act.grade is not None:
        raise ValueError(f"{act.act}: expected no grade, got {act.grade!r}")
    if not (act.annotator and act.image1 and act.image2):
        raise ValueError(
            f"expected an annotator and two images, got {act.annotator!r}, {act.image1!r}, "
            f"{act.image2!r}"
        )
    if act.act in COMPARISONS and len({*compared(act)} - {""}) < 3:
        raise ValueError(
            f"a comparison needs three different images, got {', '.join(map(repr, compared(act)))}"
        )
    return act if act.grade is None else act._replace(grade=int(act.grade))


def compared(act: Act) -> tuple[str, str, str]:
    """The query of a comparison, the image that is closer to it, and the one that is farther."""
    return act.image1, act.image2, act.answers


def question_of(act: Act) -> tuple[str, str, str]:
    """What a comparison answers: its query, and the two candidates in canonical order."""
    return act.image1, *key(act.image2, act.answers)


def checked_act_of_pair(act: Act) -> Act:
    # in canonical order, a query and its result could change places
    if act.act in COMPARISONS:
        raise ValueError(f"{act.act}: expected an act on a pair; write comparisons by `compare`")
    return checked(act)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def comparison(annotator, query, closer, farther, act="closer", **fields) -> Act:
    if act not in COMPARISONS:
        raise ValueError(f"no comparison is called {act!r}. {nearest(act, COMPARISONS)}")
    # of an act that says no order, the candidates have none
    candidates = (closer, farther) if act == "closer" else key(closer, farther)
    return checked(
        Act(now(), annotator, query, candidates[0], act, **fields, answers=candidates[1])
    )


HEADER = line_of(Act._fields)


class Standing:
    """The acts of labelling that no undo took back, kept up act by act: of the whole journal, of a
    pair, and of an annotator; so a page's act costs the same however long the journal is.
    """

    def __init__(self):
        self.acts: dict[int, Act] = {}
        self.of_pair: dict[tuple[str, str], dict[int, Act]] = {}
        self.of_annotator: dict[str, dict[int, Act]] = {}
        self._latest: dict[tuple[str, str, str], list[int]] = {}

    def add(self, number: int, act: Act) -> None:
        """Take in the next act of the journal, by its number."""
        if act.act in VOTES or act.act in COMPARISONS:
            return
        pair = act.image1, act.image2
        latest = self._latest.setdefault((act.annotator, *pair), [])
        held = (
            self.acts,
            self.of_pair.setdefault(pair, {}),
            self.of_annotator.setdefault(act.annotator, {}),
        )
        if act.act != "undo":
            latest.append(number)
            for acts in held:
                acts[number] = act
        elif latest:
            undone = latest.pop()
            for acts in held:
                del acts[undone]


def grade_of(acts: Iterable[Act]) -> tuple[int, Act, int] | None:
    """What the standing acts on one pair say together: its grade, the act that was decisive last,
    and how many annotators count; None where nobody graded.

    Of each annotator the last act but a skip counts. An adjudication decides; else the lower
    median; an automatic zero counts only where nobody graded.
    """
    by_annotator = {act.annotator: act for act in acts if act.act != "skip"}
    graded = [act for act in by_annotator.values() if act.act == "grade"]
    judged = [act for act in graded if act.source == ADJUDICATION][-1:]
    voices = judged or [act for act in graded if act.source != AUTOMATIC] or graded
    if not voices:
        return None
    return lower_median(act.grade for act in voices), voices[-1], len(voices)

"""Messages to the widgets themselves, without a server: random and malformed ones, the journal
compared act by act.
"""

import contextlib
import io
import os
import traceback
import warnings

import numpy as np
import pandas as pd

from benchmarks.hostile.case import STUDY, Case, attack
from benchmarks.hostile.commands import surroundings
from benchmarks.hostile.inputs import odd_picture
from benchmarks.hostile.messages import acknowledges, grading, kind_of, malformed, searching, told
from imgsearch_utils import workspace
from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.search.searcher import UNLIKE
from imgsearch_utils.web import SearchPage, Tagger


class _Recorded:
    """Keeps what a widget sends to its page."""

    def send(self, content, buffers=None):
        self.__dict__.setdefault("sent", []).append(content)

    def hears(self, case: Case, message, buffers=()) -> list[dict]:
        """Hand it a message as a kernel does: what it sent. What it raises would stand in the
        server's log.
        """
        self.__dict__["sent"] = []
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
            try:
                for callback in list(self._msg_callbacks.callbacks):
                    callback(self, message, list(buffers))
            except Exception as raised:
                case.fall(
                    f"{case.attack} raised {type(raised).__name__} at a {kind_of(message)}: "
                    f"{str(message)[:160]}"
                )
                case.did.append(traceback.format_exc()[-1500:])
        return self.__dict__["sent"]


class _Tagger(_Recorded, Tagger):
    pass


class _SearchPage(_Recorded, SearchPage):
    pass


def live_in(case: Case):
    """Make the case's workspace this process's; a case is a process of its own, so nothing is put
    back.
    """
    case.copy()
    os.environ.update(surroundings(case.home))
    os.chdir(case.home)
    return workspace.find_run(STUDY)


@attack("tagger", share=0.04)
def tagger(case: Case) -> None:
    """Random and malformed messages to the tagger: each acknowledged act is one line of the
    journal, as it was told.
    """
    run, file = live_in(case), case.home / "own.csv"
    pairs = np.array([case.rng.choice(case.base.names, 2, replace=False) for _ in range(12)])
    repeats, name = float(case.one_of([0, 0.3])), case.one_of(["", "ann"])
    widget = _Tagger(
        pd.DataFrame(pairs, columns=["image1", "image2"]),
        open_collection(run),
        file,
        annotator=name,
        seed=1,
        repeats=repeats,
    )
    inner = getattr(widget, "_tagging", widget)
    for _ in range(40):
        queue, annotator = list(inner._queue), inner._annotator
        message = grading(case.rng, queue)
        message = malformed(case.rng, message) if case.rng.random() < 0.3 else message
        before = Journal(file).acts()
        sent = widget.hears(case, message)
        new = Journal(file).acts()[len(before) :]
        kind = kind_of(message)
        if kind not in ("act", "undo"):
            if new:
                case.fall(f"{len(new)} acts were written by a {kind}: {str(message)[:160]}")
            continue
        acknowledged = any(acknowledges(answer, message) for answer in sent)
        if (
            len(new) > 1
            or (new and not acknowledged)
            or (kind == "act" and acknowledged and not new)
        ):
            case.fall(
                f"{len(new)} lines for one {kind} that was "
                f"{'' if acknowledged else 'not '}acknowledged: "
                f"{str(message)[:200]}"
            )
        for act in new if kind == "act" else []:
            right = told(message, annotator, queue[message["place"]][:2])
            if (act.annotator, act.image1, act.image2, act.act, act.grade) != right:
                case.fall(f"told {right}, the journal has {act}")


@attack("search_page", share=0.04)
def search_page(case: Case) -> None:
    """Random and malformed messages to the search page: answers as numpy computes them, votes as
    they were told.
    """
    run, names, journal = live_in(case), case.base.names, None
    widget, journal = _SearchPage(run), Journal(run.journal)
    if case.rng.random() < 0.9:
        widget.hears(case, {"kind": "hello", "name": "ann", "serial": "0"})
    unit = np.load(case.base.home / f"vector_dbs/{STUDY}/encoder/vectors.npy")
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    for _ in range(20):
        message = searching(case.rng, names)
        message = malformed(case.rng, message) if case.rng.random() < 0.4 else message
        buffers = [odd_picture(case)[1]] if kind_of(message) == "upload" else []
        before = journal.acts()
        sent = widget.hears(case, message, buffers)
        new = journal.acts()[len(before) :]
        acknowledged = sum(answer.get("kind") == "voted" and answer["kept"] for answer in sent)
        if new and (len(new) > 1 or not acknowledged):
            case.fall(
                f"{len(new)} votes written, {acknowledged} acknowledged: {str(message)[:200]}"
            )
        for act in new:
            right = told(message, "", (names[message["query"]], names[message["row"]]))
            if (act.annotator, act.image1, act.image2, act.act, act.grade) != right:
                case.fall(f"told {right}, the journal has {act}")
        for answer in sent:
            if (
                answer.get("kind") == "results"
                and answer.get("image")
                and not (answer["uploaded"] or answer["words"])
            ):
                right_neighbours(case, answer, unit)


def right_neighbours(case: Case, answer: dict, unit: np.ndarray) -> None:
    """The encoder's neighbours of an image of the study, moved by votes, in order, with the cosines
    of its vectors.
    """
    like, unlike = (
        unit[[image["row"] for image in answer["marked"][way]]] for way in ("up", "down")
    )
    asked = np.mean([unit[answer["image"]["row"]], *like], axis=0) - (
        UNLIKE * unlike.mean(0) if len(unlike) else 0
    )
    cosine = unit @ (asked / np.linalg.norm(asked))
    found = [(row["row"], row["score"]) for row in answer["results"]["encoder"]]
    best = np.sort(cosine)[::-1][: len(found)]
    if (
        any(abs(cosine[row] - score) > 1e-4 for row, score in found)
        or np.abs(best - [score for _, score in found]).max() > 1e-4
    ):
        case.fall(f"wrong result on the search page for {answer['image']['name']}")

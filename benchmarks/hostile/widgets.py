"""Messages to the widgets themselves, without a server: random and malformed ones, the journal compared act by act."""

import contextlib
import io
import warnings

import numpy as np
import pandas as pd

from benchmarks.hostile.case import STUDY, Case, attack
from benchmarks.hostile.inputs import VALUES, odd_picture
from imgsearch_utils import workspace
from imgsearch_utils.labels.journal import Journal
from imgsearch_utils.pages.search_page import SearchPage
from imgsearch_utils.pages.tagger import Tagger
from imgsearch_utils.pictures.collection import open_collection

GRADING = ("hello", "name", "act", "act", "act", "act", "undo", "go", "want")
SEARCHING = ("hello", "upload", "words", "like", "like", "back", "more", "vote", "vote", "want")


def grading(rng, total: int) -> dict:
    """A message as the tagger's page sends it."""
    kind = GRADING[rng.integers(len(GRADING))]
    act = ("grade", "grade", "grade", "skip", "unsure")[rng.integers(5)]
    fields = {"hello": {"name": "ann"}, "name": {"name": ("ann", "bob", " eve ")[rng.integers(3)]},
              "act": {"place": int(rng.integers(total)), "act": act, "seconds": float(rng.random()), "answers": "yn-"},
              "undo": {}, "go": {"place": int(rng.integers(-2, total + 2))},
              "want": {"pictures": rng.integers(0, 8, 2).tolist()}}[kind]
    if act == "grade" and kind == "act":
        fields["grade"] = int(rng.integers(4))
    return {"kind": kind, "serial": f"s{rng.integers(10**9)}", **fields}


def searching(rng, total: int) -> dict:
    """A message as the search page sends it."""
    kind = SEARCHING[rng.integers(len(SEARCHING))]
    row = int(rng.integers(total))
    fields = {"upload": {"file": "x.png", "part": 0, "last": True}, "words": {"text": "a house"}, "like": {"row": row},
              "vote": {"query": int(rng.integers(total)), "row": row, "vote": ("up", "down", "")[rng.integers(3)]},
              "want": {"rows": [row], "large": bool(rng.random() < 0.3)}}.get(kind, {})
    return {"kind": kind, "serial": f"s{rng.integers(10**9)}", "name": "ann", "k": int(rng.integers(1, 70)), **fields}


def malformed(rng, message: dict):
    """The message with a field lost, added or of another type; sometimes no mapping at all."""
    message = dict(message)
    name = list(message)[rng.integers(len(message))]
    how = rng.random()
    if how < 0.3:
        del message[name]
    elif how < 0.95:
        value = VALUES[rng.integers(len(VALUES))]
        message[name] = value if rng.random() < 0.7 else [value]
    else:
        return [None, [], "hello", 3, {}][rng.integers(5)]
    return message


def tell(widget, message, buffers=()) -> tuple[list[dict], str]:
    """Hand a message to a widget as a kernel does; what it sent, and the error that would stand in a server's log."""
    sent, error = [], io.StringIO()
    widget.send = lambda content, buffers=None: sent.append(content)
    with contextlib.redirect_stderr(error), warnings.catch_warnings(action="ignore"):
        try:
            widget._handle_custom_msg(message, list(buffers))
        except Exception as raised:
            return sent, f"{type(raised).__name__}: {raised}"
    return sent, ""


@attack("tagger", share=0.05)
def tagger(case: Case) -> None:
    """Random and malformed messages to the tagger: each acknowledged act is one line of the journal, as it was told."""
    case.copy()
    with living_in(case):
        run = workspace.find_run(STUDY)
        pairs = np.array([case.rng.choice(case.base.names, 2, replace=False) for _ in range(12)])
        journal, repeats = case.home / "own.csv", float(case.rng.choice([0, 0.3]))
        widget = Tagger(pd.DataFrame(pairs, columns=["image1", "image2"]), open_collection(run), journal,
                        annotator=case.one_of(["", "ann"]), seed=1, repeats=repeats)
        for _ in range(30):
            message = grading(case.rng, len(widget._queue))
            odd = case.rng.random() < 0.3
            message = malformed(case.rng, message) if odd else message
            before, queue, annotator = len(Journal(journal).acts()), list(widget._queue), widget._annotator
            sent, error = tell(widget, message)
            new = Journal(journal).acts()[before:]
            if error:
                case.fall(f"the tagger raised {_short(error)} at {'a malformed' if odd else 'a sound'} "
                          f"{_kind(message)}: {str(message)[:160]}")
            check_act(case, message, sent, new, queue, annotator)
            if error and case.falls[30:]:
                return


def check_act(case: Case, message, sent: list[dict], new: list, queue: list, annotator: str) -> None:
    """A line is in the journal where, and only where, an act was acknowledged."""
    kind = message.get("kind") if isinstance(message, dict) else None
    acknowledged = any(each.get("kind") == "state" for each in sent)
    if kind not in ("act", "undo"):
        if new:
            case.fall(f"{len(new)} acts were written by a message of kind {kind!r}")
        return
    if len(new) > 1 or (kind == "act" and bool(new) != acknowledged):
        case.fall(f"{len(new)} lines for one {kind} that was {'' if acknowledged else 'not '}acknowledged: {message}")
    for act in new if kind == "act" else []:
        item = queue[message["place"]]
        told = (annotator, *item.pair, message["act"], message.get("grade") if message["act"] == "grade" else None)
        if (act.annotator, act.image1, act.image2, act.act, act.grade) != told:
            case.fall(f"told {told}, the journal has {act}")


@attack("search_page", share=0.05)
def search_page(case: Case) -> None:
    """Random and malformed messages to the search page: answers as numpy computes them, votes as they were told."""
    case.copy()
    with living_in(case):
        run = workspace.find_run(STUDY)
        widget = SearchPage(run)
        tell(widget, {"kind": "hello", "name": "ann"})
        names, journal = widget._used.names, Journal(run.journal)
        unit = np.load(case.base.home / f"vector_dbs/{STUDY}/encoder/vectors.npy")
        unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        for _ in range(15):
            message = searching(case.rng, len(names))
            odd = case.rng.random() < 0.4
            message = malformed(case.rng, message) if odd else message
            buffers = [odd_picture(case)[1]] if _kind(message) == "upload" else []
            before = len(journal.acts())
            sent, error = tell(widget, message, buffers)
            new = journal.acts()[before:]
            if error:
                case.fall(f"the search page raised {_short(error)} at {'a malformed' if odd else 'a sound'} "
                          f"{_kind(message)}: {str(message)[:160]}")
            voted = [each for each in sent if each.get("kind") == "voted"]
            if len(new) != len(voted):
                case.fall(f"{len(new)} votes written, {len(voted)} acknowledged: {message}")
            for act in new:
                pair = tuple(sorted((names[message["query"]], names[message["row"]])))
                if (act.annotator, act.image1, act.image2) != (message["name"], *pair):
                    case.fall(f"told {message}, the journal has {act}")
            for answer in sent:
                if answer.get("kind") == "results" and answer.get("image") and not answer.get("words"):
                    cosine = unit @ unit[answer["image"]["row"]]
                    if not answer.get("uploaded"):
                        own = answer["results"]["encoder"]
                        if any(abs(cosine[row["row"]] - row["score"]) > 1e-4 for row in own) or (
                                own and own[0]["score"] < cosine.max() - 1e-4):
                            case.fall(f"wrong result on the search page for {message}")


@contextlib.contextmanager
def living_in(case: Case):
    """The case's workspace is this process's; a case is a process of its own, so nothing is put back."""
    import os

    from benchmarks.hostile.commands import surroundings

    os.environ.update(surroundings(case.home))
    os.chdir(case.home)
    yield


def _kind(message) -> str:
    return str(message.get("kind"))[:20] if isinstance(message, dict) else "message"


def _short(error: str) -> str:
    return " ".join(error.split())[:120]

"""What the teaching page does: the tagger of a run's open round, beside it what the grades have
taught so far.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pandas as pd

from imgsearch_utils.asking.advice import advise
from imgsearch_utils.grades.agreement import weighted_kappa
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.learning.model import round_in_search
from imgsearch_utils.learning.promotion import chosen_row, tell_decision, tell_evidence
from imgsearch_utils.steps import tagging
from imgsearch_utils.steps.teaching_session import (
    EVERY,
    TeachingSession,
    check_teachable,
    open_round,
)
from imgsearch_utils.web.messages import refusing, serial_of
from imgsearch_utils.web.tagging_page import Tagging, Task, known_by
from imgsearch_utils.workspace import Round, Run

MEASURES = {
    "ap": ("Average precision", "of finding pairs of grade 3 among all judged pairs; 1 is perfect"),
    "ndcg": ("nDCG@10", "of the order within one picture's judged results; 1 is perfect"),
}


class Classroom:
    """A run that is being taught by one or several people at once: its open round and its lessons.

    study : by name or path, as it was typed

    ValueError as of ``check_teachable``.
    """

    def __init__(self, run: Run, study: str):
        check_teachable(run)
        self.run, self.lessons = run, TeachingSession(run, study)
        self._collection, self._turn = open_collection(run), threading.Lock()
        self._task: Task | None = None
        self._asked: tuple[Path, int] | None = None  # the file of the task's pairs, and its time
        self._drafted = None  # the lesson whose lists were taken over
        self._sittings: WeakSet[Teaching] = WeakSet()
        self.task()
        # loads scikit-learn, seconds that no act should wait for
        threading.Thread(target=weighted_kappa, args=([0, 1], [0, 1]), daemon=True).start()

    def task(self) -> Task:
        """The tagger's task of the open round; a new one when a round was made, or lists of it were
        drafted anew.
        """
        with self._turn:
            if self._task and self.lessons.state.name == "finishing":
                return self._task
            this = open_round(self.run)
            if self._task and self._task.round == this.number:
                self._take_over_lists(this)
            asked = this.pairs, this.pairs.stat().st_mtime_ns
            if asked != self._asked:
                self._task, self._asked = self._task_of(this), asked
            return self._task

    def join(self, sitting: "Teaching") -> None:
        """Let what this person sees stay as it is, when lists are drafted anew."""
        with self._turn:
            self._sittings.add(sitting)

    def _task_of(self, this: Round) -> Task:
        asked, there = tagging.asked_pairs(this), self._collection.images.image
        pairs = asked[asked.image1.isin(there) & asked.image2.isin(there)]
        if self._task and self._task.round == this.number:
            return replace(self._task, pairs=pairs)
        return Task(
            pairs,
            self._collection,
            self.lessons.journal,
            self.run.study.rubric,
            this.number,
            self.run.study.seed + this.number,
            also=self.lessons.embeddings.names,
        )

    def _take_over_lists(self, this: Round) -> None:
        """Ask the lists that the last lesson drafted."""
        taught = self.lessons.taught
        if taught and taught is not self._drafted:
            self._drafted = taught
            if taught.drafts:
                on_screen = {pair for sitting in self._sittings for pair in sitting.on_screen()}
                tagging.take_over(this, taught.drafts, on_screen)

    def waiting(self) -> pd.DataFrame:
        """The open round's pairs that nobody has answered."""
        task = self.task()
        return tagging.unanswered(task.pairs, task.journal)

    def health(self) -> dict[str, Any]:
        """What a program is told of it."""
        return {
            "study": self.run.study.study,
            "run": self.run.name,
            "round": self.task().round,
            "pairs": len(self.task().pairs),
            "learning": self.lessons.state.name,
        }


class Teaching(Tagging):
    """One person's sitting in a classroom: a tagger that also says what was learnt, and that ends
    rounds.

    The page asks for what was learnt again and again; what has not changed since is not said again.
    """

    def __init__(self, room: Classroom, send: Callable[..., None], annotator: str = ""):
        self._room = room
        super().__init__(room.task(), send, annotator)
        room.join(self)
        self._handlers |= {"news": self._on_news, "finish": self._on_finish}

    def receive(self, message: dict[str, Any], _=()) -> None:
        """Do what the page asks, in the round that is open now."""
        try:
            task = self._room.task()
        except (OSError, ValueError) as error:
            return self._refuse(message, " ".join(str(error).split()))
        if task is not self._task:  # a round was made meanwhile, or lists were drafted anew
            here, at = self.on_screen(), self._at
            self._take_up(task, self._annotator)
            if here and self.on_screen(at) == here:
                self._at = at
            else:
                self._show()
        if self._room.lessons.state.name == "finishing" and _is_one_of(
            message, "act", "rest", "undo"
        ):
            return self._refuse(
                message, f"round {self._task.round} is being made; go on in a moment"
            )
        if _is_one_of(message, "news"):  # waits for nobody's act, and nobody's act for it
            with refusing(lambda line: self._refuse(message, line)):
                return self._on_news(message)
        super().receive(message)

    def on_screen(self, place: int | None = None) -> list[tuple[str, str]]:
        """The pairs that are shown together at a place, or where the person is now."""
        places = self._listed(self._at if place is None else place)
        return [self._queue[i].pair for i in places if i < len(self._queue)]

    def _more(self) -> dict[str, Any]:
        return {"teaches": True, "next": "Finish the round, and the next pairs come."}

    def _on_news(self, message) -> None:
        lessons, waiting = self._room.lessons, len(self._room.waiting())
        grades = lessons.look()
        version = repr(
            (
                lessons.state,
                len(lessons.history),
                lessons.missing(),
                self._query(),
                waiting,
                self._task.round,
            )
        )
        if version == message.get("known"):
            self._send({"kind": "no news"})  # a page asks again only when it has its answer
        else:
            self._send(self._lesson(grades, waiting) | {"version": version})

    def _on_finish(self, message) -> None:
        serial = serial_of(message, needed=True)
        if not self._can_finish(self._room.lessons.look()):
            raise ValueError("the round cannot be finished yet: it needs a lesson that was learnt")
        written = self._holds(message, lambda _, act: act.act == "skip")
        self._room.lessons.finish(lambda: written or self._skip_waiting(message))
        self._show(serial)

    def _skip_waiting(self, message) -> None:
        # also those whose pictures are not there any more
        waiting = tagging.waiting_pairs(self._room.run.round(self._task.round))
        if len(waiting):
            self._journal.append_together(
                self._annotator,
                zip(waiting.image1, waiting.image2),
                "skip",
                round=self._task.round,
                source=self._task.source,
                rubric=self._task.rubric.version,
            )
        self._task.written.append(known_by(message))

    def _can_finish(self, grades: int) -> bool:
        lessons = self._room.lessons
        return (
            lessons.taught is not None
            and lessons.state.name in ("learnt", "failed")
            and grades >= EVERY
        )

    def _query(self) -> str:
        """The picture whose results are shown: the one on the left."""
        return self._queue[min(self._at, len(self._queue) - 1)].left

    def _lesson(self, grades: int, waiting: int) -> dict[str, Any]:
        """What the page is told of what was learnt."""
        lessons = self._room.lessons
        taught, state, missing = lessons.taught, lessons.state, lessons.missing()
        query = self._query()
        results = {
            name: [
                {"number": self._number[image], "name": image, "p": None if np.isnan(p) else p}
                for image, p in results_of_model
            ]
            for name, results_of_model in lessons.results(query).items()
        }
        return {
            "kind": "lesson",
            "state": state.name,
            "line": self._line(state, taught, missing),
            "every": EVERY,
            "missing": missing,
            "learnt_from": len(taught.grades) if taught else None,
            "uses": _in_search(self._room.run),
            "then": _then(taught),
            "quality": _quality(taught),
            "history": lessons.history,
            "sentences": [advise(taught.decision, len(taught.grades)), *taught.of_classes]
            if taught
            else [],
            "before": results["before"] if taught else [],
            "now": results.get("now", []),
            "can_finish": self._can_finish(grades),
            "question": f"{waiting} pairs that nobody has graded are left out then. Finish round "
            f"{self._task.round}?"
            if waiting
            else f"Finish round {self._task.round}?",
        }

    def _line(self, state, taught, missing: int) -> str:
        until_next = f"It learns again after {missing} more." if missing else ""
        if state.name == "learning":
            return "It learns from your grades. Go on meanwhile."
        if state.name == "finishing":
            return f"Round {self._task.round} is being made; this takes about half a minute."
        if state.name == "failed":
            return f"{state.line[0].upper()}{state.line[1:]}. {until_next}"
        if state.name == "learnt":
            return (
                f"Learnt from {len(taught.grades)} grades in {taught.seconds:.0f} s. {until_next}"
            )
        gone = self._room.lessons.gone
        left_out = (
            f"{len(gone)} pictures of this run are not there any more (first: {gone[0]}); their "
            "pairs are left out, their grades stay in the journal. "
            if gone
            else ""
        )
        return (
            f"{state.line + '. ' if state.line else ''}{left_out}It learns from the first {EVERY} "
            f"grades; {missing} to go."
        )


def _is_one_of(message: Any, *kinds: str) -> bool:
    return isinstance(message, dict) and message.get("kind") in kinds


def _quality(taught) -> list[dict[str, Any]]:
    """Measures of the encoder and of what was learnt, with the gain and its 95 % interval, None
    where there is none.
    """
    if taught is None:
        return []
    encoder, row = (
        taught.candidates.set_index("candidate").loc["encoder"],
        chosen_row(taught.candidates),
    )
    table = [
        {
            "measure": name,
            "about": about,
            "encoder": encoder[column],
            "learnt": row[column],
            "gain": row[f"{column}_gain"],
            "low": row[f"{column}_gain_low"],
            "high": row[f"{column}_gain_high"],
        }
        for column, (name, about) in MEASURES.items()
    ]
    measured = [each for each in table if np.isfinite([each["encoder"], each["learnt"]]).all()]
    return [
        {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in each.items()
        }
        for each in measured
    ]


def _in_search(run: Run) -> str:
    """What search uses now."""
    if run.rounds_made and not run.rounds_made[-1].finished:
        return "the encoder as it is"
    if (used := round_in_search(run)) is None:
        return "the encoder as it is"
    return "what the classes taught" if used.by_classes else f"what round {used.number} taught"


def _then(taught) -> str:
    """What search would use if the round were finished now, and why."""
    if taught is None:
        return ""
    decision = taught.decision
    return f"After this round: {tell_decision(decision)} {tell_evidence(decision.evidence)}"

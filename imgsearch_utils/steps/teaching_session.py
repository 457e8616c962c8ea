"""Notebook 05: a person teaches a run; what the grades have taught is learnt anew meanwhile, in
another process.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.encoders.embed_collection import gone, load_embeddings, open_images
from imgsearch_utils.grades.journal import AUTOMATIC, Journal
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.promotion import Decision, chosen_row, what_classes_gave
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.steps.tagging import Drafts
from imgsearch_utils.study import changed_settings, read_study
from imgsearch_utils.workspace import Round, Run, find_study, how_begun

EVERY = 20  # grades after which it is learnt anew
SHOWN = 6  # results of a query, before and after
NICE = 10  # how far the learning process steps back for the page
PATIENCE = {"learn": 900.0, "finish": 3600.0}  # seconds until a process that hangs is given up


def open_round(run: Run) -> Round:
    """The round whose pairs are asked now: the one after those that were made."""
    return run.round(len(run.rounds_made))


def check_teachable(run: Run) -> None:
    """ValueError where a run is not taught by people, is published, or has nothing to ask yet."""
    if not run.taught:
        raise ValueError(
            f"run {run.name} has an oracle ({run.study.oracle}) that answers; to teach a run "
            "yourself, write oracle: person in its study, or begin with: imgsearch new NAME FOLDER"
        )
    if run.published:
        raise ValueError(
            f"run {run.name} is published and never written again; teach a run of your own"
        )
    if not open_round(run).pairs.is_file():
        raise ValueError(
            f"run {run.name} has no pairs to ask yet; first: imgsearch run "
            f"{run.study.study}{run.named}"
        )


def check_unchanged(run: Run, study: str, settings: dict[str, Any]) -> None:
    """ValueError where a study's file says something else now than the run was begun with."""
    if changed := changed_settings(run.study, read_study(find_study(study), settings)):
        raise ValueError(
            f"the study {study} was edited since this page was opened: {'; '.join(changed)}; "
            "nothing was written. Restore it, and finish the round then"
        )


class LessonMessage(NamedTuple):
    """What the learning process sends: what a run's grades taught up to a moment, without torch.

    grades : by pair, those of train pairs that people gave
    candidates, decision : of ``LearningResult``
    vectors : (n, e) of length 1, by what was learnt, of the images in the order of the run's
        embeddings
    curves : the calibration of the encoder and of what was learnt
    of_classes : what the classes taught before, in a sentence; or nothing
    drafts : the round's untouched lists, drafted anew by what was learnt; None where there are none
    seconds : that it took
    """

    grades: dict[tuple[str, str], float]
    candidates: pd.DataFrame
    decision: Decision
    vectors: np.ndarray
    curves: dict[str, Calibration]
    of_classes: list[str]
    drafts: Drafts | None
    seconds: float


class PeoplesGrades:
    """The current grades that people gave to pairs of these images, kept up as the journal grows.

    grades : by pair
    changed : the pairs whose grade came, changed or went since ``mark``
    """

    def __init__(self, journal: Journal, images: set[str]):
        self._journal, self._images, self._read_to = journal, images, 0
        self.grades: dict[tuple[str, str], float] = {}
        self.changed: set[tuple[str, str]] = set()
        self._marked: dict[tuple[str, str], float] = {}

    def look(self) -> "PeoplesGrades":
        """Take in what was appended to the journal."""
        acts = self._journal.acts(self._read_to)
        self._read_to += len(acts)
        pairs = {(act.image1, act.image2) for act in acts}
        for pair in filter(self._images.issuperset, pairs):
            self.grades.pop(pair, None)
            found = self._journal.grade(*pair)
            if found and found[1] != AUTOMATIC:
                self.grades[pair] = found[0]
            is_new = self.grades.get(pair) != self._marked.get(pair)
            (self.changed.add if is_new else self.changed.discard)(pair)
        return self

    def mark(self) -> None:
        """Count what changed from here on."""
        self._marked, self.changed = dict(self.grades), set()


def learn_now(run: Run, *_) -> LessonMessage:
    """Learn from a run's grades as notebook 02 would, but for some of its candidates, and keep
    nothing.

    ValueError for too few grades.
    """
    from imgsearch_utils.grades.comparison_files import teaching_triplets
    from imgsearch_utils.grades.usable_grades import voted_pairs
    from imgsearch_utils.learning import learner  # torch, which the page does without
    from imgsearch_utils.steps.learning_round import evidence, redraft, rival_of

    began, images = time.monotonic(), open_images(run)
    embeddings = images.embeddings
    grades = PeoplesGrades(Journal(run.journal), set(images.train.names)).look().grades
    this = open_round(run)
    result = learner.learn(
        images,
        evidence(this, images),
        run.study.head,
        run.study.seed,
        fast=True,
        votes=voted_pairs(this, images),
        rival=rival_of(this, images),
        comparisons=teaching_triplets(run, images.train, this.number),
    )
    return LessonMessage(
        grades,
        result.candidates,
        result.decision,
        result.models["head"].vectors(np.asarray(embeddings.vectors)),
        {name: model.calibration for name, model in result.models.items()},
        what_classes_gave(run),
        redraft(this, images, result.models["head"]),
        time.monotonic() - began,
    )


def finish_now(run: Run, study: str, settings: dict[str, Any]) -> list[int]:
    """Make the rounds whose pairs are all answered, as ``imgsearch run`` would; return their
    numbers.
    """
    from imgsearch_utils.steps.pipeline import finish_rounds

    return finish_rounds(run, study, settings)


JOBS: dict[str, Callable] = {"learn": learn_now, "finish": finish_now}


def _work(connection, *job_arguments: Any) -> None:
    """What the learning process does: one job after the other; it ends with the process that
    started it.
    """
    threading.Thread(
        target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True
    ).start()
    # it starts kernels, which a daemonic process may not
    multiprocessing.current_process().daemon = False
    if hasattr(os, "nice"):
        os.nice(NICE)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            connection.send(JOBS[job](*job_arguments))
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            connection.send(RuntimeError(" ".join(str(error).split())))


@dataclass
class LearnerState:
    """What the learning process is about: "waiting", "learning", "learnt", "failed", or "finishing"
    a round.
    """

    name: str = "waiting"
    line: str = ""


class TeachingSession:
    """A run that is being taught: what its grades taught, learnt anew after each ``EVERY`` of them.

    Learning goes on in a process of its own, which steps back for this one. All of it may be called
    by several threads.

    study : by name or path, as it was typed
    patience : seconds that each of ``JOBS`` may take, by name; then its process is ended
    """

    def __init__(self, run: Run, study: str, patience: dict[str, float] = PATIENCE):
        self._patience = patience
        self.run, self.state, self.taught = run, LearnerState(), None
        self._job_arguments = run, *how_begun(study, run)
        self.history: list[dict[str, float]] = []
        self.embeddings = load_embeddings(run)
        self._unit = normalised(np.asarray(self.embeddings.vectors))
        splits = read_split(run)
        # pictures that were removed or renamed: said once, their grades wait in the journal
        self.gone = gone(splits.image, self.embeddings)
        splits = splits[~splits.image.isin(self.gone)]
        self.journal, self._turn = Journal(run.journal), threading.Lock()
        self._grades = PeoplesGrades(self.journal, {*splits.image[splits.side == "train"]})
        self._process = self._connection = None

    def look(self) -> int:
        """Begin to learn where enough grades came, changed or went; returns how many there are."""
        with self._turn:
            found = self._grades.look()
            if self.state.name not in ("learning", "finishing") and len(found.changed) >= EVERY:
                found.mark()
                self._begin("learn", LearnerState("learning"))
            return len(found.grades)

    def missing(self) -> int:
        """How many more grades it takes until it is learnt anew."""
        return max(0, EVERY - len(self._grades.changed))

    def finish(self, before: Callable[[], None] = lambda: None) -> None:
        """Begin to make the round; ValueError where something is under way, or where the study does
        not fit the run any more.

        before : what is written for it, once nothing stands against it
        """
        with self._turn:
            if self.state.name in ("learning", "finishing"):
                raise ValueError("it is learning just now; finish the round in a few seconds")
            check_unchanged(self.run, *self._job_arguments[1:])
            before()
            self._begin("finish", LearnerState("finishing"))

    def _begin(self, job: str, state: LearnerState) -> None:
        self.state = state
        threading.Thread(target=self._do, args=(job,), daemon=True).start()

    def _do(self, job: str) -> None:
        try:
            if self._process is None or not self._process.is_alive():
                context = multiprocessing.get_context("spawn")
                self._connection, there = context.Pipe()
                process = context.Process(
                    target=_work, args=(there, *self._job_arguments), daemon=True
                )
                process.start()
                there.close()
                self._process = process
            self._connection.send(job)
            if self._connection.poll(self._patience[job]):
                answer = self._connection.recv()
            else:
                self._process.kill()  # also one that was stopped
                self._process.join()
                answer = RuntimeError(
                    f"the process that learns gave no answer for {self._patience[job]:.0f} s and "
                    "was ended; it is started again with the next grades"
                )
        except (OSError, EOFError):
            answer = RuntimeError(
                "the process that learns has stopped; it is started again with the next grades"
            )
        with self._turn:
            if isinstance(answer, RuntimeError):
                what = "not learnt" if job == "learn" else "the round is not made"
                self.state = LearnerState("failed", f"{what}: {answer}")
            elif job == "learn":
                self.taught, self.state = answer, LearnerState("learnt")
                chosen = chosen_row(answer.candidates)
                encoder = answer.candidates.set_index("candidate").ap["encoder"]
                # None where no grade is a 3, or all are: a page reads no NaN
                measured = {"encoder": encoder, "learnt": chosen.ap}
                self.history.append(
                    {"grades": len(answer.grades)}
                    | {name: None if np.isnan(ap) else ap for name, ap in measured.items()}
                )
            else:
                line = f"round {max(answer)} is made" if answer else ""
                self.state = LearnerState("learnt" if self.taught else "waiting", line)

    def results(self, query: str) -> dict[str, list[tuple[str, float]]]:
        """The first results of a query with their P(similar), by the encoder ("before") and by what
        was learnt.
        """
        taught, names = self.taught, self.embeddings.names
        vectors = {"before": ("encoder", self._unit)}
        if taught:
            vectors["now"] = ("head", taught.vectors)
        row, results = names.index(query), {}
        for key, (model, unit) in vectors.items():
            cosine = unit @ unit[row]
            # equal cosines by name, so that the list is the same each time
            order = np.lexsort((names, -cosine.round(6)))
            first = order[order != row][:SHOWN]
            p_similar = np.full(len(first), np.nan)
            if taught:
                p_similar = taught.curves[model].predict(cosine[first])[:, 3]
            results[key] = [(names[i], float(p)) for i, p in zip(first, p_similar)]
        return results

    def close(self) -> None:
        """End the learning process."""
        if self._process is not None:
            self._process.terminate()

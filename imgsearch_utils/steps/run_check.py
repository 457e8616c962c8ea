"""Whether a run is whole: every file against what was written about it; nothing is written."""

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from imgsearch_utils import indexes
from imgsearch_utils.encoders.embed_collection import EMBED_LOCK, NETWORK, embed_command
from imgsearch_utils.grades import Journal, graded_pairs
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.learning.model import MODELS, calibrated_models, load_models
from imgsearch_utils.steps.rounds_log import count_labels, log_text, rounds_log
from imgsearch_utils.workspace import (
    JOURNAL,
    RUN_LOCK,
    Run,
    folder_lock,
    shown,
    tuned_stage,
    tuned_versions,
)

RESTORE = (
    "what people gave is never made again: restore the journal from a copy, or begin "
    "another run (--run NAME)"
)
PATIENCE = 10  # seconds to wait for another writer


class Fault(NamedTuple):
    """What is wrong, and what to do."""

    what: str
    do: str


def check_run(run: Run, at_work: bool = False) -> list[Fault]:
    """Everything that is wrong with a run, the journal first; empty where all is well.

    What is not made yet is no fault. A run of an older version, whose manifests hold no digests, is
    looked at as far as that goes. What does not look whole is looked at again while its writers
    wait: it may have been half written.

    at_work : whether the caller works on the run, and holds its lock; vectors that were read wholly
        before are then known by their stamp at first

    Raises
    ------
    RuntimeError where the run does not look whole and another process is writing it: it cannot be
        told which is why.
    """
    faults = _look(run, again=not at_work)
    if not faults:
        return []
    locks = [] if at_work else [run.labels / RUN_LOCK, run.vectors / EMBED_LOCK]
    locks += [
        Path(folder_lock(run.vectors / name).lock_file) for name in (*MODELS, NETWORK, "search")
    ]
    with _writers_wait(run, locks, f"{faults[0].what}; but "):
        return _look(run, again=True)


@contextlib.contextmanager
def _writers_wait(run: Run, locks: list[Path], before: str = "") -> Iterator[None]:
    """Keep those waiting who take these locks to write; RuntimeError, with the words `before`,
    where one is at work.
    """
    with contextlib.ExitStack() as held:
        # where there is none, nobody wrote; and none is made here
        for lock in filter(Path.is_file, locks):
            try:
                held.enter_context(FileLock(lock, timeout=PATIENCE))
            except Timeout:
                raise RuntimeError(
                    f"{before}another process writes run {run.name} ({shown(lock)} is held): "
                    "wait for it, and check again"
                ) from None
            except OSError:  # read-only: nobody writes
                continue
        yield


def _look(run: Run, again: bool) -> list[Fault]:
    """again : read vectors and indexes wholly, however short ago that was done"""
    faults = []
    run_command = f"imgsearch run {run.study.study}{run.named}"
    for look in (_journal, _stages, _tuned, _vectors, _models, _indexes, _log):
        try:
            faults += look(run, again)
        except (OSError, ValueError) as error:
            do = f"restore it from a copy, or remove its folder and run: {run_command}"
            faults.append(Fault(" ".join(str(error).split()), do))
    return list(dict.fromkeys(faults))


def _run_again(run: Run) -> str:
    return f"make it again: imgsearch run {run.study.study}{run.named}"


def _journal(run: Run, _) -> Iterator[Fault]:
    begun, journal = [stage for stage in run.stages().values() if stage.begun], shown(run.journal)
    if not run.journal.is_file():
        if begun:
            yield Fault(f"{journal} is not there", RESTORE)
        return
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as torn:
        warnings.simplefilter("always")
        with _writers_wait(run, [Path(f"{run.journal}.lock")]):
            copy = Path(shutil.copy(run.journal, folder))
        try:
            Journal(copy).acts()
        except ValueError as error:
            what = str(error).replace(str(copy), journal)
            yield Fault(what, "restore the journal from a copy")
            return
    if torn:
        yield Fault(
            f"{journal}: the last line is torn and never was acknowledged",
            "the next command that writes a grade sets it aside",
        )
        return
    for stage in begun:
        yield from (Fault(line, RESTORE) for line in stage.other_sources(JOURNAL))
    for this in run.rounds:
        # of an older version
        if this.finished and JOURNAL not in this.as_stage().recorded().get("sources", {}):
            images = Images(read_split(run), Embeddings([], np.empty((0, 1), np.float32), {}))
            n_learnt = this.metrics.get("labels", {}).get("labels", 0)
            n_graded = count_labels(graded_pairs(this, images))["labels"]
            if n_graded < n_learnt:
                yield Fault(
                    f"{journal} holds {n_graded} grades of train pairs up to round {this.number}, "
                    f"which was made of {n_learnt}",
                    RESTORE,
                )


def _stages(run: Run, _) -> Iterator[Fault]:
    stages = list(run.stages().values())
    n_begun = max((number for number, stage in enumerate(stages, 1) if stage.begun), default=0)
    changed = (
        f"restore it from a copy; or remove it and what was made after it, and {_run_again(run)}"
    )
    for stage in stages[:n_begun]:
        for fault in stage.faults():
            if fault.source != JOURNAL:
                yield Fault(fault.what, _run_again(run) if fault.lost else changed)
    if run.report_stage().begun and not (run.report / "index.html").is_file():
        yield Fault(f"{shown(run.report / 'index.html')} is not there", _run_again(run))


def _tuned(run: Run, _) -> Iterator[Fault]:
    for version in tuned_versions(run.name):
        stage = tuned_stage(run.name, version)
        folders = [shown(folder) for folder in stage.folders.values() if folder.is_dir()]
        do = (
            f"restore it from a copy; or remove {' and '.join(folders)}, and make the version "
            "again: imgsearch finetune CONFIG"
        )
        yield from (Fault(fault.what, do) for fault in stage.faults())


def _vectors(run: Run, again: bool) -> Iterator[Fault]:
    if run.tagging_stage().begun and not run.published and not (run.vectors / "encoder").is_dir():
        yield Fault(
            f"{shown(run.vectors / 'encoder')} is not there", f"make it again: {embed_command(run)}"
        )
    for model in MODELS:
        if (run.vectors / model).is_dir():
            try:
                Embeddings.load(run.vectors / model, again)
            except ValueError as error:
                yield Fault(
                    f"{shown(run.vectors / model)} is not what was saved "
                    f"({str(error).partition(': ')[2]})",
                    f"remove it, and {_run_again(run)}",
                )


def _models(run: Run, again: bool) -> Iterator[Fault]:
    folder = run.vectors / "encoder"
    try:
        embeddings = Embeddings.load(folder, again) if folder.is_dir() else None
    except ValueError:  # which is said of the vectors
        embeddings = None
    for this in filter(lambda this: this.finished, run.rounds):
        if run.published and not (this.model / "head.safetensors").is_file():
            calibrated_models(this)
            continue
        head = load_models(this)["head"].head
        try:
            if embeddings:
                head.check_fits(embeddings)
        except ValueError as error:
            do = f"restore the run's vectors, or {embed_command(run)}"
            yield Fault(f"{shown(this.model)}: {error}", do)


def _indexes(run: Run, _) -> Iterator[Fault]:
    # an index is two files, of which one may be lost
    about = [file.with_suffix("") for file in run.vectors.glob("*/[!.]*.index.json")]
    for file in sorted({*run.vectors.glob("*/[!.]*.index"), *about}):
        if run.published and not file.is_file():
            continue
        try:
            indexes.load(file, again=True)
        except indexes.MissingPackage:
            continue
        except indexes.Unreachable as error:
            yield Fault(*str(error).rsplit("; ", 1))
        except ValueError as error:
            do = f"remove {shown(file)}, and {_run_again(run)}"
            if file.parent.name == "search":
                do = f"imgsearch index{run.options}"
            yield Fault(" ".join(str(error).split()), do)


def _log(run: Run, _) -> Iterator[Fault]:
    file, rounds = run.results / "results_log.csv", run.rounds_made
    if not rounds:
        return
    if not file.is_file():
        yield Fault(f"{shown(file)} is not there", _run_again(run))
    elif all(this.finished for this in rounds) and file.read_text("utf-8") != log_text(
        rounds_log(run)
    ):
        yield Fault(f"{shown(file)} does not say what the rounds say", _run_again(run))

"""The notebooks in their order, run headless by papermill; what is finished is not run again."""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imgsearch_utils import workspace
from imgsearch_utils.encoders.embed_collection import embed_run, load_embeddings
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.learning.model import load_models, model_vectors
from imgsearch_utils.steps.rounds_log import log_rounds
from imgsearch_utils.steps.run_check import RESTORE, check_run
from imgsearch_utils.steps.tagging import ready, teach_command
from imgsearch_utils.workspace import JOURNAL, PUBLISHED, RUN_LOCK, Run, Stage, parameters

EXECUTED = "notebook.ipynb"


Step = tuple[str, dict[str, Any], Callable[[], Stage]]


def steps(run: Run) -> Iterator[Step]:
    """The notebooks of a run in their order: name, own parameters, and the stage that each
    finishes.

    Where people teach the run, a round's turn comes when what it asks is answered, so this looks as
    it goes."""
    yield "01_data_tagging", {}, run.tagging_stage
    yield from learning_steps(run)
    yield "03_ann_comparison", {}, run.comparison_stage
    yield "04_report", {}, run.report_stage


def learning_steps(run: Run) -> Iterator[Step]:
    """The rounds among ``steps``."""
    rounds_made = {this.number for this in run.rounds}
    for this in map(run.round, range(run.most_rounds)):
        if this.number not in rounds_made and not ready(this):
            break
        yield "02_siamese_active_learning", {"ROUND": this.number}, this.stage


def execute(
    run: Run, study: str, settings: dict[str, Any], say: Callable[[str], None] = print
) -> Path:
    """Run what is not finished of a run, notebook by notebook; return the report's page.

    Parameters
    ----------
    study, settings : of ``workspace.how_begun``, handed on to the notebooks
    say : gets one line a notebook

    Raises
    ------
    RuntimeError when a notebook fails, with its error's last line; or when another process runs the
        same run.
    """
    page = run.report / "index.html"
    run.labels.mkdir(parents=True, exist_ok=True)
    with _alone(run):
        _refuse_a_lost_journal(run)
        _clear_outdated_comparison(run)
        pending = not all(_done(stage) for _, _, stage in steps(run))
        if pending:
            from imgsearch_utils.steps.kernel import prepare

            prepare()
            for step in steps(run):
                if step[0] == "03_ann_comparison":
                    _clear_outdated_comparison(run)  # by a round that was made just now
                _take(run, step, study, settings, say)
        _make_again(run, say)
        if faults := check_run(run, at_work=True):
            others = f" ({len(faults) - 1} more: imgsearch check{run.options})"
            raise RuntimeError(
                f"{faults[0].what}; {faults[0].do}{others if len(faults) > 1 else ''}"
            )
    finished = f"Run {run.name} is finished with these settings. Its report"
    say(f"{'The report' if pending else finished}: {workspace.shown(page)}")
    if run.taught:
        say(f"To teach it what you mean by similar: {teach_command(run)}")
    return page


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """RuntimeError where another process works on the run."""
    try:
        with FileLock(run.labels / RUN_LOCK, timeout=0):
            yield
    except Timeout:
        raise RuntimeError(
            f"run {run.name} is being worked on by another process; wait for it, or stop it"
        ) from None


def finish_rounds(run: Run, study: str, settings: dict[str, Any]) -> list[int]:
    """Make those rounds of a run that people teach whose pairs are all answered; return their
    numbers.

    Parameters and errors as of ``execute``.
    """
    made = []
    with _alone(run):
        _refuse_a_lost_journal(run)
        for step in learning_steps(run):
            _, parameters_, stage = step
            if not _done(stage):
                _take(run, step, study, settings, lambda _: None)
                made.append(parameters_["ROUND"])
        _make_again(run, lambda _: None)
    return made


def _take(
    run: Run, step: Step, study: str, settings: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Execute a step's notebook where its stage is not finished."""
    name, own, stage = step
    label = " ".join([name, *(f"{key}={value}" for key, value in own.items())])
    if _done(stage):
        _refuse_other_sources(stage())
        say(f"{label}: finished before")
        return
    began = time.monotonic()
    given = {"STUDY": study, "RUN": run.name, "SETTINGS": settings, **own}
    anew = name == "03_ann_comparison" and not stage().finished
    _execute(name, given, run, stage, label)
    if anew:
        shutil.rmtree(run.report, ignore_errors=True)  # it shows what was measured before
    say(f"{label}: {time.monotonic() - began:.0f} s")


def _clear_outdated_comparison(run: Run) -> None:
    """Make room for the comparison and the report of a run that was taught further since."""
    compared = run.comparison_stage().recorded().get("rounds", len(run.rounds))
    if not run.taught or compared == len(run.rounds):
        return
    for folder in (run.report, *run.comparison_stage().folders.values()):
        shutil.rmtree(folder, ignore_errors=True)


def _done(stage: Callable[[], Stage]) -> bool:
    try:
        opened = stage()
    except ValueError:  # a round whose predecessor is not finished
        return False
    return opened.finished and (opened[opened.last] / EXECUTED).is_file()


def _refuse_a_lost_journal(run: Run) -> None:
    """RuntimeError where stages were made, and the journal that they were made of is gone or lost
    lines.
    """
    begun = [stage for stage in run.stages().values() if stage.begun]
    lost = [line for stage in begun for line in stage.other_sources(JOURNAL)]
    if begun and not run.journal.is_file():
        lost = [f"{workspace.shown(run.journal)} is not there"]
    if lost:
        raise RuntimeError(f"{lost[0]}; {RESTORE}")


def _refuse_other_sources(stage: Stage) -> None:
    if other := stage.other_sources():
        raise RuntimeError(
            f"{'; '.join(other)}. Restore it from a copy; or remove that folder and what was "
            "made after it, and run this again"
        )


def _make_again(run: Run, say: Callable[[str], None]) -> None:
    """What belongs to no stage and follows from them: the log; the vectors, which a published run
    leaves out.
    """
    log = run.results / "results_log.csv"
    before = log.read_bytes() if log.is_file() else None
    log_rounds(run)
    if log.is_file() and log.read_bytes() != before:
        say(f"made again: {workspace.shown(log)}")
    if run.published:
        return
    if not (run.vectors / "encoder" / "config.json").is_file():
        embed_run(run, open_collection(run))
        say(f"made again: {workspace.shown(run.vectors / 'encoder')}")
    if not run.rounds_made:
        return
    embeddings, there = load_embeddings(run), (run.vectors / "head").is_dir()
    model_vectors(run, embeddings, load_models(run.last_round)["head"], keep=True)
    if not there:
        say(f"made again: {workspace.shown(run.vectors / 'head')}")


def _execute(
    name: str, given: dict[str, Any], run: Run, stage: Callable[[], Stage], label: str
) -> None:
    import papermill  # takes as long as torch to load, and not needed where all is finished
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from imgsearch_utils.steps.kernel import Kernel

    notebook = workspace.notebook_path(name)
    parameters.refuse_unknown(name, given, parameters.declared(notebook))
    partial = run.results / f"{name}.partial.ipynb"
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(partial),
            given,
            cwd=str(workspace.source()),
            progress_bar={"desc": label, "leave": False} if sys.stderr.isatty() else False,
            # an ended kernel is interrupted first, which a busy one logs as an error; cells' errors
            # are raised
            extra_arguments=["--log-level=CRITICAL"],
            kernel_manager_class=Kernel,
        )
    except PapermillExecutionError as error:
        raise RuntimeError(
            f"{name}: {error.ename}: {error.evalue} (the notebook so far: "
            f"{workspace.shown(partial)})"
        ) from None
    except DeadKernelError:
        raise RuntimeError(
            f"{name}: its process was ended from outside, for instance because memory ran out; "
            "run this again, and it goes on where it stopped"
        ) from None
    finished = stage()
    if not finished.finished:
        raise RuntimeError(
            f"{name} ended without finishing its stage; its last cell must publish it"
        )
    partial.replace(finished[finished.last] / EXECUTED)


def publish(run: Run) -> None:
    """Make the run that is kept in git, mark it as published, and make the committed notebooks'
    outputs anew.
    """
    execute(run, run.study.study, {})
    workspace.write_atomic(
        run.labels / PUBLISHED,
        "This run is kept for readers. Its journal is never written again: "
        "work on a run of your own.\n",
    )
    refresh_notebooks(
        sorted(path.stem for path in workspace.notebook_path("").parent.glob("*.ipynb"))
    )


def refresh_notebooks(names: list[str]) -> None:
    """Execute notebooks of the checkout where they stand, as committed: with their own parameters,
    without times.
    """
    import nbformat
    from nbclient import NotebookClient

    from imgsearch_utils.steps.kernel import Kernel

    for name in names:
        path = workspace.notebook_path(name)
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            notebook,
            record_timing=False,
            extra_arguments=["--log-level=CRITICAL"],
            kernel_manager_class=Kernel,
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.execute()
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number:02d}"
        path.write_text(
            json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
            encoding="utf-8",
        )

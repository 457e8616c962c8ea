"""The notebooks in their order, run headless by papermill; what is finished is not run again."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill
from filelock import FileLock, Timeout
from nbclient import NotebookClient
from papermill.exceptions import PapermillExecutionError

from imgsearch_utils import parameters, workspace
from imgsearch_utils.workspace import PUBLISHED, Run, Stage

EXECUTED = "notebook.ipynb"


def steps(run: Run) -> list[tuple[str, dict[str, Any], Callable[[], Stage]]]:
    """The notebooks of a run in their order: name, own parameters, and the stage that each finishes."""
    learning = [("02_siamese_active_learning", {"ROUND": number}, run.round(number).stage)
                for number in range(run.study.rounds)]
    return [("01_data_tagging", {}, run.tagging_stage), *learning,
            ("03_ann_comparison", {}, run.comparison_stage), ("04_report", {}, run.report_stage)]


def execute(run: Run, say: Callable[[str], None] = print, settings: dict[str, Any] | None = None,
            study: str | None = None) -> Path:
    """Run what is not finished of a run, notebook by notebook; return the report's page.

    Parameters
    ----------
    say : gets one line a notebook
    settings, study : what the run was opened with, handed on to the notebooks

    Raises
    ------
    RuntimeError
        when a notebook fails, with its error's last line; or when another process runs the same run.
    """
    page = run.report / "index.html"
    run.labels.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.labels / ".run.lock", timeout=0):
            pending = [step for step in steps(run) if not _done(step[2])]
            if not pending:
                say(f"Run {run.name} is finished with these settings. Its report: {workspace.shown(page)}")
                return page
            for name, own, stage in steps(run):
                label = " ".join([name, *(f"{key}={value}" for key, value in own.items())])
                if _done(stage):
                    say(f"{label}: finished before")
                    continue
                began = time.monotonic()
                given = {"STUDY": study or run.study.study, "RUN": run.name, "SETTINGS": settings or {}, **own}
                _execute(name, given, run, stage, label)
                say(f"{label}: {time.monotonic() - began:.0f} s")
    except Timeout:
        raise RuntimeError(f"run {run.name} is being worked on by another process; wait for it, or stop it") from None
    say(f"The report: {workspace.shown(page)}")
    return page


def _done(stage: Callable[[], Stage]) -> bool:
    try:
        opened = stage()
    except ValueError:  # a round whose predecessor is not finished
        return False
    return opened.finished and (opened[opened.last] / EXECUTED).is_file()


def _execute(name: str, given: dict[str, Any], run: Run, stage: Callable[[], Stage], label: str) -> None:
    notebook = workspace.notebook_path(name)
    parameters.refuse_unknown(name, given, parameters.declared(notebook))
    partial = run.results / f"{name}.partial.ipynb"
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook), str(partial), given, cwd=str(workspace.source()),
            progress_bar={"desc": label, "leave": False} if sys.stderr.isatty() else False,
            extra_arguments=["--log-level=ERROR"])
    except PapermillExecutionError as error:
        raise RuntimeError(f"{name}: {error.ename}: {error.evalue} (the notebook so far: "
                           f"{workspace.shown(partial)})") from None
    finished = stage()
    if not finished.finished:
        raise RuntimeError(f"{name} ended without finishing its stage; its last cell must publish it")
    partial.replace(finished[finished.last] / EXECUTED)


def publish(run: Run) -> None:
    """Make the run that is kept in git, mark it as published, and make the committed notebooks' outputs anew."""
    marker = run.labels / PUBLISHED
    marker.unlink(missing_ok=True)
    execute(run, study=run.study.study)
    workspace.write_atomic(marker, "This run is kept for readers. Its journal is never written again: work on a run of "
                                   "your own.\n")
    refresh_notebooks(sorted(path.stem for path in workspace.notebook_path("").parent.glob("*.ipynb")))


def refresh_notebooks(names: list[str]) -> None:
    """Execute notebooks of the checkout where they stand, as committed: with their own parameters, without times."""
    for name in names:
        path = workspace.notebook_path(name)
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, record_timing=False, resources={"metadata": {"path": str(path.parent)}}).execute()
        notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                             "language_info": {"name": "python"}}
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number:02d}"
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")

"""A run is begun with a study's settings, which bind it from what is made with them; it is opened
by its name.
"""

import csv
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imgsearch_utils.study import (
    WORDS,
    ImageSettings,
    Study,
    changed_settings,
    difference,
    nearest,
    parse_study,
    read_study,
    read_yaml,
)
from imgsearch_utils.workspace.runs import RUN_LOCK, Run, find_study
from imgsearch_utils.workspace.storage import read_json, shown, source, write_json

NAMED = "named"  # a run that is named may be begun too
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
# what `source` says in the journal where a person gave the grade
BY_PEOPLE = ("person", "repeat", "adjudication")


def open_run(study: str, run: str = "", settings: dict[str, Any] | None = None) -> Run:
    """Open a run to work on it, or begin it: a study by name or path, with settings changed by
    dotted name.

    Parameters
    ----------
    run : the run's name; the study's own name when empty
    settings : e.g. ``{"rounds": 2, "head.epochs": 5}``

    Raises
    ------
    ValueError where the run was begun with other settings, and a stage or a person's grades were
        made with them; the message lists each difference. Before that, the new settings replace the
        old, and a line says so. ``WORDS`` may change: of the rubric, each line of the journal says
        which version it answers.
    """
    checked = read_study(find_study(study), settings)
    name = run or checked.study
    _check_name(name)
    opened = Run(name, checked)
    file = opened.labels / "settings.json"
    if not file.is_file():
        write_json(file, checked.model_dump(mode="json"))
        return opened
    if changed := changed_settings(_begun_with(file), checked):
        begun = Run(name, _begun_with(file))
        _refuse_if_bound(begun, "; ".join(changed))
        try:
            with FileLock(file.with_name(RUN_LOCK), timeout=0):
                _replace_settings(begun, checked, "; ".join(changed))
        except Timeout:
            raise ValueError(
                f"run {name} was begun with other settings ({'; '.join(changed)}), and another "
                "process "
                "works on it; wait for it, or choose another name for the new run (RUN)"
            ) from None
    return opened


def _check_name(run: str) -> None:
    if not run.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"RUN must be letters, digits, - and _, got {run!r}")


def how_begun(study: str, run: Run) -> tuple[str, dict[str, Any]]:
    """With what ``open_run`` opens a run that was begun: the study, by name or path, and the
    settings that differ.

    study : by name or path, as it was typed
    """
    path = find_study(study)
    own = read_study(path).model_dump(mode="json", exclude={"rubric"})
    changed = _leaves(own, run.study.model_dump(mode="json", exclude={"rubric"}))
    return path.stem if path.parent == source() / "configs" else str(path), changed


def _leaves(own: dict[str, Any], begun: dict[str, Any], at: str = "") -> dict[str, Any]:
    """The values of `begun`, by dotted name, that are others in `own`."""
    changed = {}
    for name, value in begun.items():
        if isinstance(value, dict) and isinstance(own.get(name), dict):
            changed |= _leaves(own[name], value, f"{at}{name}.")
        elif own.get(name) != value:
            changed[f"{at}{name}"] = value
    return changed


def _refuse_if_bound(run: Run, changed: str) -> None:
    if binding := _binding(run):
        raise ValueError(
            f"run {run.name} was made with other settings: {changed}; and {binding} with them. "
            "Restore "
            "them, or choose another name for the new run (RUN)"
        )


def _replace_settings(run: Run, study: Study, changed: str) -> None:
    """Let a run go on with other settings, where nothing was made with its own yet; ValueError
    where something was.
    """
    _refuse_if_bound(run, changed)  # by a process that ended in the meantime
    if run.journal.is_file() and _givers(run.journal) <= {"oracle"}:  # which answers again
        run.journal.replace(run.journal.with_name("journal.csv.of_other_settings"))
    write_json(run.labels / "settings.json", study.model_dump(mode="json"))
    print(
        f"run {run.name} goes on with other settings, as nothing was finished with the old: "
        f"{changed}",
        file=sys.stderr,
    )


def _binding(run: Run) -> str:
    """What was made with a run's settings, so that they cannot be changed; empty where nothing
    was.
    """
    made_stages = [name for name, stage in run.stages().items() if stage.begun]
    if made_stages:
        return f"{', '.join(made_stages)} was made"
    givers = _givers(run.journal)
    if "people" in givers:
        return f"people graded pairs in {shown(run.journal)}"
    return (
        f"an oracle's grades stand among others in {shown(run.journal)}"
        if {"oracle", "others"} <= givers
        else ""
    )


def _givers(journal: Path) -> set[str]:
    """Who gave what the journal holds: "people", "oracle", "others" (imported, votes); automatic
    zeros are nobody's.
    """
    if not journal.is_file():
        return set()
    with journal.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = [
            (line.get("annotator") or "", line.get("source") or "", line.get("act") or "")
            for line in csv.DictReader(file)
        ]
    return {
        "oracle"
        if who.startswith("oracle:")
        else "people"
        if source in BY_PEOPLE and "vote" not in act
        else "others"
        for who, source, act in lines
        if source != "automatic"
    }


def find_run(study: str, run: str = "", begin: bool | str = False) -> Run:
    """A run that was begun, with its own settings and the study's present ``WORDS``; nothing is
    written.

    begin : begin the study's own run where it is not there; one that is named only where this is
        ``NAMED``, as a name may be misspelt

    Raises
    ------
    ValueError
        for a run that was not begun, with the nearest name.
    """
    if run:
        _check_name(run)
    checked = read_study(find_study(study))
    file = Run(run or checked.study, checked).labels / "settings.json"
    if file.is_file():
        begun = _begun_with(file)
        if changed := difference(begun.images.source, checked.images.source, "images.source"):
            raise ValueError(
                f"run {file.parent.name} was begun by another study: {changed[0]}; give this "
                "one, or "
                "its run, another name"
            )
        return Run(
            file.parent.name,
            begun.model_copy(update={name: getattr(checked, name) for name in WORDS}),
        )
    if begin and (not run or begin == NAMED):
        return open_run(study, run)
    begun = sorted(path.parent.name for path in file.parents[1].glob("*/settings.json"))
    run_option, advice = (
        run and f" --run {run}",
        f". {nearest(run, begun)}" if run and begun else "",
    )
    raise ValueError(
        f"no run is called {file.parent.name} here; begin it: imgsearch run "
        f"{study}{run_option}{advice}"
    )


class OtherVersion(ValueError):
    """A run's settings are not those of this version; its grades are those of any."""


def _begun_with(settings: Path) -> Study:
    values = None
    try:
        values = read_json(settings)
        return parse_study(values, shown(settings))
    except ValueError as error:
        name, study = settings.parent.name, values.get("study") if isinstance(values, dict) else ""
        options = f"--study {study or name}"
        run_option = f" --run {name}" if study and name != study else ""
        made = datetime.fromtimestamp(settings.stat().st_mtime)
        raise OtherVersion(
            # what `read_json` advises would remove the journal
            f"run {name} was made by another version of this package, on {made:%Y-%m-%d}, or its "
            f"settings are broken ({str(error).partition('; restore')[0]}). Its grades can be "
            f"carried over to a new run: imgsearch labels export grades.csv {options}{run_option}; "
            f"then imgsearch labels import grades.csv {options} --run NEW --begin"
        ) from None


def find_grades(study: str, run: str = "") -> Run:
    """A run to read its journal alone, whichever version of this package made it: as ``find_run``,
    and with settings that say nothing where the run's, or the study's, are not of this version.
    """
    try:
        return find_run(study, run)
    except ValueError as error:
        path = find_study(study)
        if run:
            _check_name(run)
        if not isinstance(error, OtherVersion) and not _is_unreadable(path):
            raise
        values = read_yaml(path)
        name = values.get("study") if isinstance(values, dict) else None
        name = name if isinstance(name, str) and PLAIN_NAME.fullmatch(name) else path.stem
        found = Run(run or name, Study(study="unread", images=ImageSettings(source="unread")))
        if not found.journal.is_file():
            raise
        return found


def _is_unreadable(study: Path) -> bool:
    try:
        read_study(study)
    except ValueError:
        return True
    return False

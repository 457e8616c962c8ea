"""Folder names and write-once folders: the only file that knows where a run keeps things."""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imgsearch_utils.study import Study, difference, nearest, parse_study, read_study
from imgsearch_utils.tables import read_own, write_own

DRAWN = "synthetic_houses"  # the image source that the package draws itself
PUBLISHED = "PUBLISHED"  # a file beside a run's journal: the run is kept for readers, and its journal not written again
VERSIONS = ("torch", "timm", "open_clip_torch", "numpy", "pandas", "scikit-learn", "annoy", "pillow", "imgsearch-utils")


def source() -> Path:
    """The checkout: notebooks and configs."""
    return Path(__file__).resolve().parents[1]


def home() -> Path:
    """Where data sets and results are kept: the checkout, or the folder named by IMGSEARCH_HOME."""
    return Path(os.environ.get("IMGSEARCH_HOME") or source()).resolve()


def notebook_path(name: str) -> Path:
    """Where a notebook of the checkout is."""
    return source() / "notebooks" / f"{name}.ipynb"


def shown(path: Path) -> str:
    """A path for people: relative to the workspace where it lies inside."""
    path = Path(path).resolve()
    return path.relative_to(home()).as_posix() if path.is_relative_to(home()) else str(path)


def data_folder(name: str) -> Path:
    """Find a data set: an absolute folder, ``datasets/<name>``, or ``<name>`` in the folder IMGSEARCH_DATA.

    A name that is found nowhere gives its place in ``datasets/``.
    """
    places = [home() / "datasets" / name]
    if os.environ.get("IMGSEARCH_DATA"):
        places.append(Path(os.environ["IMGSEARCH_DATA"]) / name)
    if Path(name).is_absolute():
        return Path(name)
    if ".." in Path(name).parts:
        raise ValueError(f"images.source {name!r} leads out of the data folder; give an absolute path instead")
    return next((place for place in places if place.is_dir()), places[0])


def find_study(name: str) -> Path:
    """Find a study's YAML: a name in ``configs/``, or a path.

    Raises
    ------
    ValueError
        for a name that is neither, with the nearest one.
    """
    for path in (home() / "configs" / f"{name}.yaml", source() / "configs" / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path.resolve()
    names = sorted({path.stem for place in (home(), source()) for path in (place / "configs").glob("*.yaml")})
    raise ValueError(f"no study is called {name!r} in configs/, and it is no file. {nearest(name, names)}")


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that it is either the old or the new one, whenever the power goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Build a folder beside its place and move it there in the end, replacing what stood there."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        old = folder.with_name(f"{folder.name}.old.partial")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)


@dataclass(frozen=True)
class Stage:
    """One step of a run: folders built as ``NAME.partial``, renamed together, `last` at the end.

    A stage is finished when `last` stands under its final name; it is then never written again.
    """

    folders: dict[str, Path]
    last: str

    @property
    def finished(self) -> bool:
        return self.folders[self.last].is_dir()

    def __getitem__(self, tree: str) -> Path:
        """The folder to read from (finished) or to write into (unfinished)."""
        folder = self.folders[tree]
        return folder if self.finished else folder.with_name(f"{folder.name}.partial")

    def start(self) -> "Stage":
        """Clear what an unfinished try left behind and make the folders to write into."""
        if not self.finished:
            for tree, folder in self.folders.items():
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(self[tree], ignore_errors=True)
                self[tree].mkdir(parents=True)
        return self

    def keep(self, names: str | Sequence[str], make: Callable[[], Any]) -> Any:
        """What the stage holds under this name; where it is not there yet, it is made, and kept.

        So a notebook reads the same on a finished stage and on an unfinished one. What a finished stage lacks (a
        published run is kept small) is made again for the caller, and nothing is written.

        Parameters
        ----------
        names : a file in the last folder, or ``folder/file``; or several, which are made together. Its ending says
            how it is saved and loaded: see ``KEPT``
        make : called without arguments, where a file is missing; returns a value for each name

        Returns
        -------
        what is loaded, so that both ways give the same; a list for several names
        """
        if isinstance(names, str):
            return self.keep([names], lambda: [make()])[0]
        places = [name.rpartition("/") for name in names]
        files = [self[tree or self.last] / file for tree, _, file in places]
        if all(file.exists() for file in files):
            return [KEPT[file.suffix][1](file) for file in files]
        with contextlib.ExitStack() as stack:
            if self.finished:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                files = [folder / file.name for file in files]
            for file, value in zip(files, make(), strict=True):
                KEPT[file.suffix][0](value, file)
            return [KEPT[file.suffix][1](file) for file in files]

    def publish(self, **manifest: Any) -> None:
        """Give the folders their final names; a finished stage stays as it is."""
        if self.finished:
            return
        for tree in sorted(self.folders, key=lambda tree: tree == self.last):
            write_json(self[tree] / "manifest.json", {
                **manifest, "written": datetime.now(UTC).isoformat(timespec="seconds"),
                "python": platform.python_version(), "versions": {name: version(name) for name in VERSIONS}})
            self[tree].rename(self.folders[tree])


@dataclass(frozen=True)
class Run:
    """One run of a study: its settings and its folders."""

    name: str
    study: Study

    @property
    def labels(self) -> Path:
        return home() / "active_learning_labels" / self.name

    @property
    def models(self) -> Path:
        return home() / "active_learning_models" / self.name

    @property
    def results(self) -> Path:
        return home() / "active_learning_results" / self.name

    @property
    def vectors(self) -> Path:
        return home() / "vector_dbs" / self.name

    @property
    def report(self) -> Path:
        return home() / "report_results" / self.name

    @property
    def data(self) -> Path:
        images = self.study.images
        if images.source == DRAWN:
            return home() / "datasets" / DRAWN / f"{images.per_class or 150}_of_each_seed_{self.study.seed}"
        return data_folder(images.source)

    @property
    def journal(self) -> Path:
        return self.labels / "journal.csv"

    @property
    def published(self) -> bool:
        """Whether the run is kept for readers: its journal is never written again."""
        return (self.labels / PUBLISHED).is_file()

    def round(self, number: int) -> "Round":
        """Round 0, 1, ...; the pairs of the round after the last are kept too."""
        return Round(self, number)

    @property
    def last_round(self) -> "Round":
        """The last finished round; ValueError where none is finished."""
        finished = [each for each in map(self.round, range(self.study.rounds)) if each.finished]
        if not finished:
            raise ValueError(f"run {self.name} has no finished round yet; run the study first")
        return finished[-1]

    def tagging_stage(self) -> Stage:
        return Stage({"pairs": self.round(0).labels, "results": self.results / "tagging"}, "results")

    def comparison_stage(self) -> Stage:
        return Stage({"indexes": self.vectors / "indexes", "results": self.results / "ann_comparison"}, "results")

    def report_stage(self) -> Stage:
        return Stage({"report": self.report}, "report")


@dataclass(frozen=True)
class Round:
    """One round of a run: where its pairs, its head and its results are.

    labels, model, results : its folders; `labels` holds pairs.csv, `model` the head and calibration.json
    """

    run: Run
    number: int

    @property
    def name(self) -> str:
        return f"round_{self.number:02d}"

    @property
    def labels(self) -> Path:
        return self.run.labels / self.name

    @property
    def model(self) -> Path:
        return self.run.models / self.name

    @property
    def results(self) -> Path:
        return self.run.results / self.name

    @property
    def pairs(self) -> Path:
        """The file of the pairs to ask; those of round 0 belong to notebook 01, which may not be finished."""
        return (self.labels if self.number else self.run.tagging_stage()["pairs"]) / "pairs.csv"

    @property
    def finished(self) -> bool:
        return self.results.is_dir()

    @property
    def metrics(self) -> dict[str, Any]:
        """What the finished round measured."""
        return read_json(self.results / "metrics.json")

    def stage(self) -> Stage:
        """The round's head, its results, and the pairs to ask in the next round."""
        if not 0 <= self.number < self.run.study.rounds:
            raise ValueError(f"ROUND must be 0 to {self.run.study.rounds - 1} in this study, got {self.number}")
        if self.number and not (before := self.run.round(self.number - 1)).finished:
            raise ValueError(f"round {self.number} builds on round {before.number}, which is not finished; run it "
                             "first")
        return Stage({"model": self.model, "next_pairs": self.run.round(self.number + 1).labels,
                      "results": self.results}, "results")


def open_run(study: str, run: str = "", settings: dict[str, Any] | None = None) -> Run:
    """Open a run to work on it, or begin it: a study by name or path, with settings changed by dotted name.

    Parameters
    ----------
    run : the run's name; the study's own name when empty
    settings : e.g. ``{"rounds": 2, "head.epochs": 5}``

    Raises
    ------
    ValueError
        where the run was begun with other settings; the message lists each difference. The rubric may change: each
        line of the journal says which version it answers.
    """
    checked = read_study(find_study(study), settings)
    name = run or checked.study
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"RUN must be letters, digits, - and _, got {name!r}")
    opened = Run(name, checked)
    file = opened.labels / "settings.json"
    if not file.is_file():
        write_json(file, checked.model_dump(mode="json"))
        return opened
    before, now = (each.model_dump(mode="json", exclude={"rubric"}) for each in (_begun_with(file), checked))
    if changed := difference(before, now):
        raise ValueError(f"run {name} was made with other settings: {'; '.join(changed)}. Restore them, or choose "
                         "another name for the new run (RUN)")
    return opened


def find_run(study: str, run: str = "", begin: bool = False) -> Run:
    """A run that was begun, with its own settings and the study's present rubric; nothing is written.

    begin : begin the study's own run where it is not there; a run that is named is never begun

    Raises
    ------
    ValueError
        for a run that was not begun, with the nearest name.
    """
    checked = read_study(find_study(study))
    file = Run(run or checked.study, checked).labels / "settings.json"
    if file.is_file():
        return Run(file.parent.name, _begun_with(file).model_copy(update={"rubric": checked.rubric}))
    if begin and not run:
        return open_run(study)
    begun = sorted(path.parent.name for path in file.parents[1].glob("*/settings.json"))
    given, advice = run and f" --run {run}", f". {nearest(run, begun)}" if run and begun else ""
    raise ValueError(f"no run is called {file.parent.name} here; begin it: imgsearch run {study}{given}{advice}")


def _begun_with(settings: Path) -> Study:
    return parse_study(read_json(settings), str(settings))


def write_json(path: Path, values: Any) -> None:
    """Write JSON with sorted keys, in one step."""
    write_atomic(path, json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Read a JSON file; ValueError names it when it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON: {' '.join(str(error).split())}") from None


#: ending -> how a stage keeps a file of this kind: save(value, path), load(path); other rooms add theirs
KEPT: dict[str, tuple[Callable[[Any, Path], None], Callable[[Path], Any]]] = {
    ".csv": (write_own, read_own),
    ".json": (lambda values, path: write_json(path, values), read_json),
}

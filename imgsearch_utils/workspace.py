"""Folder names and write-once folders: the only file that knows where things are kept."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imgsearch_utils.study import Study, difference, nearest, parse_study, read_study

DRAWN = "synthetic_houses"  # the image source that the package draws itself
VERSIONS = ("torch", "timm", "open_clip_torch", "numpy", "pandas", "scikit-learn", "annoy", "pillow", "imgsearch-utils")


def source() -> Path:
    """The checkout: notebooks and configs."""
    return Path(__file__).resolve().parents[1]


def home() -> Path:
    """Where data sets and results are kept: the checkout, or the folder named by IMGSEARCH_HOME."""
    return Path(os.environ.get("IMGSEARCH_HOME") or source()).resolve()


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


@contextmanager
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

    def round_pairs(self, number: int) -> Path:
        """The folder of a round's pairs, below the run's labels."""
        return self.labels / f"round_{number:02d}"

    def tagging_stage(self) -> Stage:
        return Stage({"pairs": self.round_pairs(0), "results": self.results / "tagging"}, "results")

    def round_stage(self, number: int) -> Stage:
        """Round `number`'s model, its results, and the pairs to ask for the next round."""
        if not 0 <= number < self.study.rounds:
            raise ValueError(f"ROUND must be 0 to {self.study.rounds - 1} in this study, got {number}")
        if number and not self.round_stage(number - 1).finished:
            raise ValueError(f"round {number} builds on round {number - 1}, which is not finished; run it first")
        name = f"round_{number:02d}"
        return Stage({"model": self.models / name, "next_pairs": self.round_pairs(number + 1),
                      "results": self.results / name}, "results")

    def comparison_stage(self) -> Stage:
        return Stage({"indexes": self.vectors / "indexes", "results": self.results / "ann_comparison"}, "results")

    def report_stage(self) -> Stage:
        return Stage({"report": self.report}, "report")


def open_run(study: str, run: str = "", settings: dict[str, Any] | None = None) -> Run:
    """Open a run, or begin one: a study by name or path, with settings changed by dotted name.

    Parameters
    ----------
    run : the run's name; the study's own name when empty
    settings : e.g. ``{"rounds": 2, "head.epochs": 5}``

    Raises
    ------
    ValueError
        where the run was begun with other settings; the message lists each difference.
    """
    checked = read_study(find_study(study), settings)
    name = run or checked.study
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"RUN must be letters, digits, - and _, got {name!r}")
    opened = Run(name, checked)
    file = opened.labels / "settings.json"
    now = json.loads(checked.model_dump_json())
    if file.is_file():
        changed = difference(json.loads(parse_study(read_json(file), str(file)).model_dump_json()), now)
        if changed:
            raise ValueError(f"run {name} was made with other settings: {'; '.join(changed)}. Restore them, or choose "
                             "another name for the new run (RUN)")
    else:
        write_json(file, now)
    return opened


def find_run(study: str, run: str = "") -> Run:
    """A run as it stands, whatever settings it was made with; begun with the study's own where there is none."""
    checked = read_study(find_study(study))
    file = Run(run or checked.study, checked).labels / "settings.json"
    return Run(file.parent.name, parse_study(read_json(file), str(file))) if file.is_file() else open_run(study, run)


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

"""Folder names and write-once folders: the only file that knows where a run keeps things."""

import contextlib
import csv
import ctypes
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imgsearch_utils.study import Study, difference, nearest, parse_study, read_study
from imgsearch_utils.tables import read_own, write_own

DRAWN = "synthetic_houses"  # the image source that the package draws itself
PUBLISHED = "PUBLISHED"  # a file beside a run's journal: the run is kept for readers, and its journal not written again
#: of a published run, what .gitignore leaves out: drawn, made or executed again from what is there
LEFT_OUT = ("figures/", "head.safetensors", "chosen.index", "notebook.ipynb")
BY_PEOPLE = ("person", "repeat", "adjudication")  # what `source` says in the journal where a person gave the grade
RUN_LOCK = ".run.lock"  # beside a run's settings: held by the process that works on the run
JOURNAL = "journal"  # the source of stages that grows
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
        for a name that is neither, with the nearest one; for a name that two studies bear.
    """
    own, built_in = (place / "configs" / f"{name}.yaml" for place in (home(), source()))
    if own.is_file() and built_in.is_file() and own.read_bytes() != built_in.read_bytes():
        raise ValueError(f"two studies are called {name}: {own} and a built-in one; give yours another name")
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


def folder_lock(folder: Path) -> FileLock:
    """The lock that writers of a folder hold; a file beside it."""
    return FileLock(folder.with_name(f".{folder.name}.lock"))


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Build a folder beside its place and move it there in the end, replacing what stood there.

    Writers come one after the other. On Linux old and new change places in one step, so that a reader finds a folder
    at every moment; where the file system cannot, a reader that misses it looks again under the ``folder_lock``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        if not folder.exists():
            partial.rename(folder)
        elif _exchange(partial, folder):
            shutil.rmtree(partial, ignore_errors=True)  # a reader may be writing its stamp there
        else:
            old = folder.with_name(f"{folder.name}.old.partial")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            partial.rename(folder)
            shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, two: Path) -> bool:
    """Let two names change places in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    at_cwd, exchange = -100, 2  # of <fcntl.h> and <stdio.h>
    return rename is not None and rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(two), exchange) == 0


@dataclass(frozen=True)
class Stage:
    """One step of a run: folders built as ``NAME.partial``, renamed together, `last` at the end.

    A stage is finished when all its folders stand under their final names and hold the files that their manifests
    list; it is then never written again. One that lost a folder or a file is not finished: it is made again beside
    what is left of it, and takes its place only where that gives the same.

    sources : files outside the folders that the stage is made of, or writes; the manifest says what they held. Of a
        file that is only appended to (a journal), what it held then must still stand at its beginning
    published : kept in git, without what ``LEFT_OUT`` names
    repeats : whether making it again gives the same (False where it measures times)
    """

    folders: dict[str, Path]
    last: str
    sources: Mapping[str, Path] = field(default_factory=dict)
    published: bool = False
    repeats: bool = True

    @property
    def finished(self) -> bool:
        if not all(folder.is_dir() for folder in self.folders.values()):
            return False
        about = self._manifest(self.last)
        needed = [self.sources[name] for name in about.get("sources", ()) if name in self.sources and name != JOURNAL]
        return not self._lost(about) and all(file.is_file() for file in needed)

    @property
    def begun(self) -> bool:
        """Whether a folder stands under its final name."""
        return any(folder.is_dir() for folder in self.folders.values())

    def _manifest(self, tree: str) -> dict[str, Any]:
        file = self.folders[tree] / "manifest.json"
        return read_json(file, "versions") if file.is_file() else {}

    def recorded(self) -> dict[str, Any]:
        """The manifest of what is left of the stage, with `files` and `sources`; empty where there is none."""
        return next(filter(None, map(self._manifest, (self.last, *self.folders))), {})

    def _path(self, name: str) -> Path:
        tree, _, file = name.partition("/")
        return self.folders.get(tree, Path(os.devnull)) / file

    def _lost(self, manifest: dict[str, Any]) -> list[str]:
        return [name for name in manifest.get("files", ()) if not self._path(name).is_file()
                and not (self.published and any(part in name for part in LEFT_OUT))]

    def __getitem__(self, tree: str) -> Path:
        """The folder to read from (finished) or to write into (unfinished)."""
        folder = self.folders[tree]
        return folder if self.finished else folder.with_name(f"{folder.name}.partial")

    def start(self) -> "Stage":
        """Clear what an unfinished try left behind and make the folders to write into."""
        if not self.finished:
            known = self.recorded().get("files")
            for tree, folder in self.folders.items():
                if not known:  # nothing says what it was
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
            if self.finished:
                self.check(*(f"{tree or self.last}/{file}" for tree, _, file in places))
            return [KEPT[file.suffix][1](file) for file in files]
        with contextlib.ExitStack() as stack:
            if self.finished:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                files = [folder / file.name for file in files]
            for file, value in zip(files, make(), strict=True):
                KEPT[file.suffix][0](value, file)
            return [KEPT[file.suffix][1](file) for file in files]

    def publish(self, **manifest: Any) -> None:
        """Give the folders their final names; a finished stage stays as it is.

        Each folder's manifest lists the SHA-256 of the files of all of them, and what the sources held.

        Raises
        ------
        ValueError
            where a part of the stage stood already and what was made again differs from it: what was built on the
            stage since would no longer belong to it. Nothing is changed then.
        """
        if self.finished:
            for folder in self.folders.values():  # where a source was all that it lacked
                shutil.rmtree(folder.with_name(f"{folder.name}.partial"), ignore_errors=True)
            return
        files = {f"{tree}/{file.relative_to(self[tree]).as_posix()}": digest(file) for tree in self.folders
                 for file in sorted(self[tree].rglob("*")) if file.is_file()}
        before = self.recorded().get("files", {})
        aside = ("/figures/", "/config.json")  # drawings, and the versions and all the vectors that a head met
        other = [name for name, content in files.items() if self.repeats and before.get(name, content) != content and
                 name.endswith((".csv", ".json", ".safetensors")) and not any(part in name for part in aside)]
        other += self.other_sources()
        if other:
            left = " and ".join(shown(folder) for folder in self.folders.values() if folder.is_dir())
            raise ValueError(f"made again, {', '.join(other)} is not what it was: grades, pictures or versions changed "
                             f"since, and later steps were built on it. Restore the lost folder from a copy; or remove "
                             f"{left} and all that was made after it, to make it anew")
        about = {**manifest, "files": files, "sources": self._hold(), "python": platform.python_version(),
                 "written": datetime.now(UTC).isoformat(timespec="seconds"),
                 "versions": {name: version(name) for name in VERSIONS}}
        for tree in self.folders:
            write_json(self[tree] / "manifest.json", about)
        partials = {folder: self[tree] for tree, folder in self.folders.items()}
        last = self.folders[self.last]
        shutil.rmtree(last, ignore_errors=True)
        for folder in sorted(partials, key=lambda folder: folder == last):
            shutil.rmtree(folder, ignore_errors=True)
            partials[folder].rename(folder)

    def _hold(self) -> dict[str, dict[str, Any]]:
        return {name: {"bytes": file.stat().st_size, "sha256": digest(file)}
                for name, file in self.sources.items() if file.is_file()}

    def check(self, *names: str) -> None:
        """ValueError where one of these files (``folder/file``) is there and not what the stage's manifest says."""
        files = self.recorded().get("files", {})
        for name in names:
            if name in files and self._path(name).is_file() and digest(self._path(name)) != files[name]:
                raise ValueError(f"{shown(self._path(name))} is not the file that was written (by manifest.json in "
                                 f"{shown(self.folders[self.last])}); restore it from a copy, or remove it and run "
                                 "the study again, which makes it again")

    def faults(self) -> list[str]:
        """What is wrong with a stage that stands, a line each: lost, other than when it was made, or made of others.

        Reads every file. A stage that was made before manifests had digests is only looked at for its folders.
        """
        found = [f"{shown(folder)} is not there" for folder in self.folders.values() if not folder.is_dir()]
        for tree, folder in self.folders.items():
            if folder.is_dir() and not (about := self._manifest(tree)):
                found.append(f"{shown(folder)} has no manifest.json")
            elif folder.is_dir() and about.get("files") != self.recorded().get("files"):
                found.append(f"{shown(folder)} belongs to another making of the stage (its manifest.json differs)")
        about = self.recorded()
        for name, content in about.get("files", {}).items():
            file = self._path(name)
            if file.is_file() and digest(file) != content:
                found.append(f"{shown(file)} is not the file that was written")
        found += [f"{shown(self._path(name))} is not there" for name in self._lost(about)
                  if self._path(name).parent.is_dir()]
        return found + self.other_sources()

    def other_sources(self, *names: str) -> list[str]:
        """Which of the files that the stage was made of (of all `sources`, or these) are gone or others now."""
        found = []
        for name, held in self.recorded().get("sources", {}).items():
            file = self.sources.get(name)
            if file is None or names and name not in names:
                continue
            if not file.is_file():
                found.append(f"{shown(file)} is not there")
            elif digest(file, held["bytes"]) != held["sha256"] or (
                    name != JOURNAL and file.stat().st_size != held["bytes"]):
                found.append(f"{shown(file)} is not what {shown(self.folders[self.last])} was made of")
        return found


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
    def rounds_made(self) -> list["Round"]:
        """The rounds of which a head or results stand, whole or not."""
        return [this for this in map(self.round, range(self.study.rounds))
                if this.results.is_dir() or this.model.is_dir()]

    @property
    def last_round(self) -> "Round":
        """The last finished round; ValueError where none is finished, or where the last one lost a part of it."""
        if not (rounds := self.rounds_made):
            raise ValueError(f"run {self.name} has no finished round yet; run the study first")
        if not rounds[-1].finished:
            raise ValueError(f"round {rounds[-1].number} of run {self.name} lost a part of it; what it lost says: "
                             f"imgsearch check{self.options}; to make it again: imgsearch run {self.study.study}"
                             f"{self.named}")
        return rounds[-1]

    @property
    def named(self) -> str:
        """The option that names the run in a command; empty for the study's own."""
        return f" --run {self.name}" if self.name != self.study.study else ""

    @property
    def options(self) -> str:
        """The options of commands for this run."""
        return f" --study {self.study.study}{self.named}"

    def _stage(self, last: str, repeats: bool = True, sources: Sequence[str] = (), **folders: Path) -> Stage:
        known = {"images": self.labels / "images.csv", JOURNAL: self.journal}
        return Stage(folders, last, {name: known[name] for name in sources}, self.published, repeats)

    def tagging_stage(self) -> Stage:
        return self._stage("results", sources=("images", JOURNAL), pairs=self.round(0).labels,
                           results=self.results / "tagging")

    def comparison_stage(self) -> Stage:
        return self._stage("results", repeats=False, indexes=self.vectors / "indexes",
                           results=self.results / "ann_comparison")

    def report_stage(self) -> Stage:
        return self._stage("report", repeats=False, report=self.report)

    def stages(self) -> dict[str, Stage]:
        """All stages of the run by name, in their order."""
        rounds = {this.name: this.as_stage() for this in map(self.round, range(self.study.rounds))}
        return {"tagging": self.tagging_stage(), **rounds, "ann_comparison": self.comparison_stage(),
                "report": self.report_stage()}


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
        return self.as_stage().finished

    @property
    def metrics(self) -> dict[str, Any]:
        """What the finished round measured."""
        self.as_stage().check("results/metrics.json")
        return read_json(self.results / "metrics.json", "promoted")

    def stage(self) -> Stage:
        """The round's head, its results, and the pairs to ask in the next round."""
        if not 0 <= self.number < self.run.study.rounds:
            raise ValueError(f"ROUND must be 0 to {self.run.study.rounds - 1} in this study, got {self.number}")
        if self.number and not (before := self.run.round(self.number - 1)).finished:
            raise ValueError(f"round {self.number} builds on round {before.number}, which is not finished; run it "
                             "first")
        return self.as_stage()

    def as_stage(self) -> Stage:
        """The same, whether its turn has come or not."""
        stage = self.run._stage("results", sources=("images", JOURNAL), model=self.model,
                                next_pairs=self.run.round(self.number + 1).labels, results=self.results)
        return replace(stage, sources={**stage.sources, "pairs": self.labels / "pairs.csv"})


def open_run(study: str, run: str = "", settings: dict[str, Any] | None = None) -> Run:
    """Open a run to work on it, or begin it: a study by name or path, with settings changed by dotted name.

    Parameters
    ----------
    run : the run's name; the study's own name when empty
    settings : e.g. ``{"rounds": 2, "head.epochs": 5}``

    Raises
    ------
    ValueError
        where the run was begun with other settings, and a stage or a person's grades were made with them; the message
        lists each difference. Before that, the new settings replace the old, and a line says so. The rubric may
        change: each line of the journal says which version it answers.
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
    if changed := _changed(file, checked):
        try:
            with FileLock(file.with_name(RUN_LOCK), timeout=0):
                _replace_settings(Run(name, _begun_with(file)), checked, "; ".join(changed))
        except Timeout:
            raise ValueError(f"run {name} was begun with other settings ({'; '.join(changed)}), and another process "
                             "works on it; wait for it, or choose another name for the new run (RUN)") from None
    return opened


def _changed(settings: Path, study: Study) -> list[str]:
    """How a study differs from what a run was begun with, but for the rubric."""
    return difference(*(each.model_dump(mode="json", exclude={"rubric"}) for each in (_begun_with(settings), study)))


def _replace_settings(run: Run, study: Study, changed: str) -> None:
    """Let a run go on with other settings, where nothing was made with its own yet; ValueError where something was."""
    if binding := _binding(run):
        raise ValueError(f"run {run.name} was made with other settings: {changed}; and {binding} with them. Restore "
                         "them, or choose another name for the new run (RUN)")
    if run.journal.is_file() and _givers(run.journal) <= {"oracle"}:  # which answers again
        run.journal.replace(run.journal.with_name("journal.csv.of_other_settings"))
    write_json(run.labels / "settings.json", study.model_dump(mode="json"))
    print(f"run {run.name} goes on with other settings, as nothing was finished with the old: {changed}",
          file=sys.stderr)


def _binding(run: Run) -> str:
    """What was made with a run's settings, so that they cannot be changed; empty where nothing was."""
    made = [name for name, stage in run.stages().items() if stage.begun]
    if made:
        return f"{', '.join(made)} was made"
    givers = _givers(run.journal)
    if "people" in givers:
        return f"people graded pairs in {shown(run.journal)}"
    return f"an oracle's grades stand among others in {shown(run.journal)}" if {"oracle", "others"} <= givers else ""


def _givers(journal: Path) -> set[str]:
    """Who gave what the journal holds: "people", "oracle", "others" (imported, votes); automatic zeros are nobody's."""
    if not journal.is_file():
        return set()
    with journal.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = [(line.get("annotator") or "", line.get("source") or "", line.get("act") or "")
                 for line in csv.DictReader(file)]
    return {"oracle" if who.startswith("oracle:") else "people" if source in BY_PEOPLE and "vote" not in act else
            "others" for who, source, act in lines if source != "automatic"}


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
        begun = _begun_with(file)
        if changed := difference(begun.images.source, checked.images.source, "images.source"):
            raise ValueError(f"run {file.parent.name} was begun by another study: {changed[0]}; give this one, or "
                             "its run, another name")
        return Run(file.parent.name, begun.model_copy(update={"rubric": checked.rubric}))
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


def digest(path: Path, n_bytes: int | None = None) -> str:
    """SHA-256 of a file's content, or of its first bytes."""
    with path.open("rb") as file:
        if n_bytes is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        found = hashlib.sha256()
        while n_bytes > 0 and (block := file.read(min(n_bytes, 1 << 20))):
            found.update(block)
            n_bytes -= len(block)
        return found.hexdigest()


def read_json(path: Path, *keys: str) -> Any:
    """Read a JSON file; with `keys`, an object that has them. ValueError names the file when it is not one."""
    again = "restore it from a copy, or remove its folder and run the study again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON: {' '.join(str(error).split())}; {again}") from None
    if keys and not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object with {', '.join(keys)}, got {type(values).__name__}; {again}")
    if lacking := [key for key in keys if key not in values]:
        raise ValueError(f"{path}: {', '.join(lacking)} is missing; {again}")
    return values


#: ending -> how a stage keeps a file of this kind: save(value, path), load(path); other rooms add theirs
KEPT: dict[str, tuple[Callable[[Any, Path], None], Callable[[Path], Any]]] = {
    ".csv": (write_own, read_own),
    ".json": (lambda values, path: write_json(path, values), read_json),
}

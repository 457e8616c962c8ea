"""Where a run keeps things: the folders of runs and rounds, found by name."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgsearch_utils.study import Study, nearest
from imgsearch_utils.workspace.stage import JOURNAL, Stage
from imgsearch_utils.workspace.storage import home, read_json, source

DRAWN = "synthetic_houses"  # the image source that the package draws itself
# a file beside a run's journal: the run is kept for readers, and its journal not written again
PUBLISHED = "PUBLISHED"
MOST_ROUNDS = 1000  # of a run that people teach
RUN_LOCK = ".run.lock"  # beside a run's settings: held by the process that works on the run


def notebook_path(name: str) -> Path:
    """Where a notebook of the checkout is."""
    return source() / "notebooks" / f"{name}.ipynb"


def data_folder(name: str) -> Path:
    """Find a data set: an absolute folder, ``datasets/<name>``, or ``<name>`` in the folder
    IMGSEARCH_DATA.

    A name that is found nowhere gives its place in ``datasets/``.
    """
    places = [home() / "datasets" / name]
    if os.environ.get("IMGSEARCH_DATA"):
        places.append(Path(os.environ["IMGSEARCH_DATA"]) / name)
    if Path(name).is_absolute():
        return Path(name)
    if ".." in Path(name).parts:
        raise ValueError(
            f"images.source {name!r} leads out of the data folder; give an absolute path instead"
        )
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
        raise ValueError(
            f"two studies are called {name}: {own} and a built-in one; give yours another name"
        )
    for path in (
        home() / "configs" / f"{name}.yaml",
        source() / "configs" / f"{name}.yaml",
        Path(name),
    ):
        if path.is_file():
            return path.resolve()
    names = sorted(
        {path.stem for place in (home(), source()) for path in (place / "configs").glob("*.yaml")}
    )
    raise ValueError(
        f"no study is called {name!r} in configs/, and it is no file. {nearest(name, names)}"
    )


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
            return (
                home()
                / "datasets"
                / DRAWN
                / f"{images.per_class or 150}_of_each_seed_{self.study.seed}"
            )
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
    def taught(self) -> bool:
        """Whether people teach the run: it begins without a grade, and has as many rounds as they
        like.
        """
        return self.study.oracle == "person"

    @property
    def rounds_made(self) -> list["Round"]:
        """The rounds of which a head or results stand, whole or not."""
        folders = (
            folder for place in (self.models, self.results) for folder in place.glob("round_*")
        )
        numbers = {
            int(folder.name.removeprefix("round_"))
            for folder in folders
            if re.fullmatch("round_[0-9]{2,3}", folder.name) and folder.is_dir()
        }
        return [this for this in map(self.round, sorted(numbers)) if this.number < self.most_rounds]

    @property
    def rounds(self) -> list["Round"]:
        """The study's rounds, made or not; of a run that people teach, those that were made."""
        return (
            self.rounds_made
            if self.taught
            else [self.round(number) for number in range(self.study.rounds)]
        )

    @property
    def most_rounds(self) -> int:
        """How many rounds the run may have."""
        return MOST_ROUNDS if self.taught else self.study.rounds

    @property
    def last_round(self) -> "Round":
        """The last finished round; ValueError where none is finished, or where the last one lost a
        part of it.
        """
        if not (rounds := self.rounds_made):
            raise ValueError(f"run {self.name} has no finished round yet; run the study first")
        if not rounds[-1].finished:
            raise ValueError(
                f"round {rounds[-1].number} of run {self.name} lost a part of it; what it lost "
                "says: "
                f"imgsearch check{self.options}; to make it again: imgsearch run {self.study.study}"
                f"{self.named}"
            )
        return rounds[-1]

    @property
    def named(self) -> str:
        """The option that names the run in a command; empty for the study's own."""
        return f" --run {self.name}" if self.name != self.study.study else ""

    @property
    def options(self) -> str:
        """The options of commands for this run."""
        return f" --study {self.study.study}{self.named}"

    def _stage(
        self, last: str, repeats: bool = True, sources: Sequence[str] = (), **folders: Path
    ) -> Stage:
        known = {
            "images": self.labels / "images.csv",
            JOURNAL: self.journal,
            "settings": self.labels / "settings.json",
        }
        return Stage(
            folders, last, {name: known[name] for name in sources}, self.published, repeats
        )

    def tagging_stage(self) -> Stage:
        return self._stage(
            "results",
            sources=("images", JOURNAL, "settings"),
            pairs=self.round(0).labels,
            results=self.results / "tagging",
        )

    def comparison_stage(self) -> Stage:
        return self._stage(
            "results",
            repeats=False,
            indexes=self.vectors / "indexes",
            results=self.results / "ann_comparison",
        )

    def report_stage(self) -> Stage:
        return self._stage("report", repeats=False, report=self.report)

    def stages(self) -> dict[str, Stage]:
        """All stages of the run by name, in their order."""
        rounds = {this.name: this.as_stage() for this in self.rounds}
        return {
            "tagging": self.tagging_stage(),
            **rounds,
            "ann_comparison": self.comparison_stage(),
            "report": self.report_stage(),
        }


@dataclass(frozen=True)
class Round:
    """One round of a run: where its pairs, its head and its results are.

    labels, model, results : its folders; `labels` holds pairs.csv, `model` the head and
    calibration.json"""

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
        """The file of the pairs to ask, as they were drafted last; those of round 0 belong to
        notebook 01, which may not be finished.
        """
        if self.redrafted.is_file():
            return self.redrafted
        return (self.labels if self.number else self.run.tagging_stage()["pairs"]) / "pairs.csv"

    @property
    def redrafted(self) -> Path:
        """Where the round's pairs stand whose lists were drafted anew while it was taught."""
        return self.run.labels / "redrafted" / f"{self.name}.csv"

    @property
    def finished(self) -> bool:
        return self.as_stage().finished

    @property
    def metrics(self) -> dict[str, Any]:
        """What the finished round measured."""
        self.as_stage().check("results/metrics.json")
        return read_json(self.results / "metrics.json", "promoted")

    @property
    def by_classes(self) -> bool:
        """Whether the finished round learnt from what the classes alone say, before anybody gave a
        grade.
        """
        return self.metrics.get("evidence") == "classes"

    def stage(self) -> Stage:
        """The round's head, its results, and the pairs to ask in the next round."""
        if not 0 <= self.number < self.run.most_rounds:
            raise ValueError(
                f"ROUND must be 0 to {self.run.most_rounds - 1} in this study, got {self.number}"
            )
        if self.number and not (before := self.run.round(self.number - 1)).finished:
            raise ValueError(
                f"round {self.number} builds on round {before.number}, which is not finished; "
                "run it "
                "first"
            )
        return self.as_stage()

    def as_stage(self) -> Stage:
        """The same, whether its turn has come or not."""
        stage = self.run._stage(
            "results",
            sources=("images", JOURNAL),
            model=self.model,
            next_pairs=self.run.round(self.number + 1).labels,
            results=self.results,
        )
        asked = self.redrafted if self.redrafted.is_file() else self.labels / "pairs.csv"
        return replace(stage, sources={**stage.sources, "pairs": asked})


def tuned_stage(run: str, version: str) -> Stage:
    """Where a fine-tuned version is kept: its weights beside the run's heads, curves and scores
    beside its results.
    """
    return Stage(
        {
            "model": home() / "active_learning_models" / run / "tuned" / version,
            "results": home() / "active_learning_results" / run / "tuned" / version,
        },
        last="results",
        published=(home() / "active_learning_labels" / run / PUBLISHED).is_file(),
    )


def tuned_versions(run: str) -> list[str]:
    """The fine-tuned versions of a run that were finished, also those that lost a part since."""
    places = [
        home() / place / run / "tuned"
        for place in ("active_learning_models", "active_learning_results")
    ]
    return sorted(
        {
            path.name
            for place in places
            for path in place.glob("*")
            if (path / "manifest.json").is_file() and path.suffix != ".partial"
        }
    )

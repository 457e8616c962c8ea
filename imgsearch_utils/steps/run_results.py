"""What the stages of a run left, read for its report."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from imgsearch_utils.evaluation.relevance import of_all
from imgsearch_utils.learning.model import calibrated_models
from imgsearch_utils.steps.rounds_log import log_rounds, measured_splits
from imgsearch_utils.workspace import Round, Run, read_json
from imgsearch_utils.workspace.tables import read_table


@dataclass(frozen=True)
class RunResults:
    """What the stages of a run left, as far as it is there.

    log : results_log.csv; empty where there was no round. Rounds that were judged by other evidence
        than the last one (by the classes, before anybody graded) are left out: their numbers cannot
        be compared
    metrics : of the last round; empty where there was none
    """

    run: Run
    log: pd.DataFrame
    metrics: dict[str, Any]

    @classmethod
    def of(cls, run: Run) -> "RunResults":
        """ValueError where a round, or the comparison, lost a part of it."""
        log = log_rounds(run)
        log = log[log.evidence == log.evidence.iloc[-1]] if len(log) else log
        return cls(run, log, run.last_round.metrics if run.rounds_made else {})

    @property
    def last(self) -> Round | None:
        """The last round, if there was any."""
        return self.run.last_round if self.metrics else None

    @property
    def by_classes(self) -> bool:
        """Whether the last round learnt from what the classes alone say, without a grade."""
        return self.metrics.get("evidence") == "classes"

    @property
    def similar(self) -> str:
        """What the pairs are that count as similar."""
        return "of the same class" if self.by_classes else "of grade 3"

    @property
    def promoted(self) -> bool:
        """Whether search uses what was learnt."""
        return bool(self.metrics.get("promoted"))

    def measures(self, split: str) -> bool:
        """Whether encoder and head were measured on a split's pairs."""
        return split in measured_splits(self.metrics)

    def logged(self, split: str) -> bool:
        """Whether the log has quality on a split to draw."""
        column = f"{split}_head_ap"
        return column in self.log and bool(self.log[column].notna().any())

    def quality_of(self, split: str, model: str, name: str) -> float:
        """A measure of the last round; NaN where it is undefined."""
        value = self.metrics[split][model].get(name)
        return float("nan") if value is None else value

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The last round's scored pairs; no row where there was no round."""
        return (
            read_table(self.last.results / "scored_pairs.csv")
            if self.last
            else pd.DataFrame({"side": []})
        )

    @cached_property
    def candidates(self) -> pd.DataFrame:
        return read_table(self.last.results / "candidates.csv") if self.last else pd.DataFrame()

    @cached_property
    def history(self) -> pd.DataFrame:
        """The training of the chosen candidate; no row where that trains no network."""
        table = (
            read_table(self.last.results / "history.csv")
            if self.last
            else pd.DataFrame({"train_loss": []})
        )
        return table if table.train_loss.notna().any() else table[:0]

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """From which P(similar) on each model calls a pair similar."""
        return {name: model.threshold for name, model in calibrated_models(self.last).items()}

    def compared(self, name: str) -> pd.DataFrame:
        """A table of notebook 03; without rows where it is not there."""
        file = self.run.results / "ann_comparison" / name
        return read_table(file) if file.is_file() and file.stat().st_size > 1 else pd.DataFrame()

    @cached_property
    def retrieval(self) -> pd.DataFrame:
        """Means of retrieval measures (rows) by model (columns); empty where no result was
        judged.
        """
        table = of_all(self.ranked)
        return table.pivot(index="measure", columns="model", values="mean") if len(table) else table

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """What notebook 03 measured of rankings: see ``relevance.compare_rankings``."""
        table = self.compared("retrieval.csv")
        # one that was measured by an older version
        return table if "class" in table else table.assign(**{"class": ""})

    @cached_property
    def judged_by_classes(self) -> bool:
        """Whether results of test images were judged by their classes, as nobody graded any."""
        return set(self.ranked.get("judged_by", [])) == {"classes"}

    @cached_property
    def choice(self) -> dict[str, Any]:
        return read_json(self.run.results / "ann_comparison" / "index.json", "index", "reason")

"""What rounds measured, as tables: of one round, and the log with a row a round."""

from typing import Any

import pandas as pd

from imgsearch_utils.learning.model import MODELS
from imgsearch_utils.workspace import Run, write_atomic

LOGGED = ("roc_auc", "ap", "same_class_roc_auc", "same_class_ap", "f1", "accuracy", "ece")


def count_labels(graded: pd.DataFrame) -> dict[str, int]:
    """How many train pairs have a grade: all (`labels`), those that were asked, those of grade 3
    (`similar`).
    """
    train = graded[graded.side == "train"]
    return {
        "labels": len(train),
        "asked": int((~train.automatic).sum()),
        "similar": int((train.similarity == 3).sum()),
    }


def measured_splits(metrics: dict[str, Any]) -> list[str]:
    """On which splits, dev and test, a round measured encoder and head."""
    return [split for split in ("dev", "test") if (metrics.get(split) or {}).get("encoder")]


def quality(metrics: dict[str, Any]) -> pd.DataFrame:
    """The measures of ``LOGGED`` by split and model; then, on the last split, of the answers that
    need no model.
    """
    splits = measured_splits(metrics)
    rows = {(split, model): metrics[split][model] for split in splits for model in MODELS}
    for split in splits[-1:]:
        rows |= {(split, name): values for name, values in metrics[split]["trivial"].items()}
    index = pd.MultiIndex.from_tuples(rows, names=["side", "model"])
    return pd.DataFrame([*rows.values()], index, [*LOGGED]).astype(float)


def within_queries(metrics: dict[str, Any]) -> pd.DataFrame:
    """What the head gains in the order within a query's judged pairs, by split and measure."""
    splits = {
        split: pd.DataFrame(metrics[split]["within_queries"]).T
        for split in measured_splits(metrics)
    }
    return pd.concat(splits).astype(float)


def rounds_log(run: Run) -> pd.DataFrame:
    """The finished rounds' metrics, one row a round; ValueError names a metrics.json that lacks
    something.
    """
    rows = []
    for this in run.rounds:
        if not this.finished:
            break
        metrics = this.metrics
        try:
            row = {
                "round": this.number,
                **metrics["labels"],
                "candidate": metrics["candidate"],
                "promoted": metrics["promoted"],
                "evidence": metrics.get("evidence", "grades"),
            }
            for split in ("dev", "test"):
                # None: none is graded
                measured = metrics.get(split) if split == "test" and run.taught else metrics[split]
                for model in MODELS:
                    row |= {
                        f"{split}_{model}_{name}": measured and measured[model].get(name)
                        for name in LOGGED
                    }
                for name, *where in (
                    ("ap", "ap_gain_over", "encoder"),
                    ("query_ndcg", "within_queries", "nDCG@10"),
                ):
                    gain = measured[where[0]][where[1]] if measured else {}
                    row |= {
                        f"{split}_{name}_gain": gain.get("difference"),
                        f"{split}_{name}_gain_low": gain.get("low"),
                        f"{split}_{name}_gain_high": gain.get("high"),
                    }
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{this.results / 'metrics.json'} lacks what a round measures ({error}); remove "
                f"{this.results} and run the study again, which makes it again"
            ) from None
        rows.append(row)
    return pd.DataFrame(rows).replace({None: float("nan")}).infer_objects()


def log_text(log: pd.DataFrame) -> str:
    """What results_log.csv holds."""
    return log.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def log_rounds(run: Run) -> pd.DataFrame:
    """Write results_log.csv from the finished rounds' metrics where it says something else, and
    return it.
    """
    log, file = rounds_log(run), run.results / "results_log.csv"
    if len(log) and not (file.is_file() and file.read_text(encoding="utf-8") == log_text(log)):
        write_atomic(file, log_text(log))
    return log

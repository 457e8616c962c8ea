"""Ways of fine-tuning: what each gained over several seeds, by benchmarks/finetuning.csv."""

from pathlib import Path

import pandas as pd

from imgsearch_utils.workspace.tables import read_table


def read_ways(file: Path) -> pd.DataFrame:
    """The mAP of each way on each part, a row a seed; `validation` only of what was fine-tuned, as
    it ended.
    """
    rows = read_table(file)
    rows = rows[rows.measure == "AP"].drop_duplicates(["seed", "part", "model"])
    return rows.assign(validation=rows.validation.where(rows.model == rows.way))


def mean_of_seeds(ways: pd.DataFrame) -> pd.DataFrame:
    """What ``plots.encoders`` draws: the mean of the seeds, from the worst to the best."""
    means = ways.groupby(["model", "part"])["mean"].agg(["mean", "min", "max", "size"])
    names = {"model": "encoder", "part": "measure", "min": "low", "max": "high", "size": "seeds"}
    return means.reset_index().sort_values(["part", "mean"]).rename(columns=names)


def gains_of_ways(ways: pd.DataFrame) -> pd.DataFrame:
    """By part and way, the best first: mAP, its gains over the frozen encoder and over the head,
    the lowest end of the latter's intervals, and the mAP on the validation classes.
    """
    gains = ways.groupby(["part", "model"]).agg(
        seeds=("seed", "nunique"),
        mAP=("mean", "mean"),
        over_frozen=("gain", "mean"),
        over_head=("gain_over_head", "mean"),
        worst_low=("gain_low_over_head", "min"),
        validation=("validation", "mean"),
    )
    return gains.round(3).sort_values(["part", "mAP"], ascending=False)


def best_ways(gains: pd.DataFrame) -> list[str]:
    """Which way gains most on classes that it never saw, and which ones in every seed: two
    sentences.
    """
    unseen = gains.loc["unseen_classes"].dropna(subset="over_head").sort_index()
    best = unseen.loc[unseen.over_head.idxmax()]
    better = unseen.index[unseen.worst_low > 0]
    return [
        f"Most on unseen classes: {best.name}, {best.over_head:+.3f} mAP over the head and "
        f"{best.over_frozen:+.3f} over the frozen encoder, in the mean over {best.seeds:.0f} "
        "seeds.",
        "Better than the head in every seed, by intervals above 0: "
        f"{', '.join(better) or 'none of them'}.",
    ]

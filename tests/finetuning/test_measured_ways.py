"""What ways of fine-tuning gained over several seeds, recomputed by hand on a small table."""

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.finetuning import measured_ways


@pytest.fixture
def ways(tmp_path):
    rows = []
    for seed, plus in ((0, 0.0), (1, 0.1)):
        for part in ("unseen_images", "unseen_classes"):
            for way, low in (("tuned", 0.01), ("deep", -0.2)):
                # a head stands beside each way, and is the same
                rows.append([seed, part, "head", way, "AP", 0.4, 0.05, np.nan, np.nan, 0.3])
                score = (0.5 if way == "tuned" else 0.45) + plus
                rows.append(
                    [seed, part, way, way, "AP", score, score - 0.35, score - 0.4, low, 0.6]
                )
        rows.append([seed, part, "tuned", "tuned", "P@1", 0.9, 0.1, 0.1, 0.1, 0.6])
    columns = "seed part model way measure mean gain gain_over_head gain_low_over_head validation"
    table = pd.DataFrame(rows, columns=columns.split())
    table.to_csv(tmp_path / "ways.csv", index=False)
    return measured_ways.read_ways(tmp_path / "ways.csv")


def test_each_way_counts_once_a_seed(ways):
    assert len(ways) == 2 * 2 * 3 and set(ways.measure) == {"AP"}
    assert ways.validation[ways.model == "head"].isna().all()
    means = measured_ways.mean_of_seeds(ways).set_index(["measure", "encoder"])
    row = means.loc[("unseen_classes", "tuned")]
    assert row[["mean", "low", "high", "seeds"]].tolist() == pytest.approx([0.55, 0.5, 0.6, 2])


def test_the_best_way_and_those_better_in_every_seed_are_said(ways):
    gains = measured_ways.gains_of_ways(ways)
    assert gains.loc["unseen_images"].index.tolist() == ["tuned", "deep", "head"]
    assert gains.loc[("unseen_classes", "deep"), "worst_low"] == pytest.approx(-0.2)
    best, better = measured_ways.best_ways(gains)
    assert "unseen classes: tuned, +0.150 mAP over the head and +0.200 over the frozen" in best
    assert better.endswith("above 0: tuned.")
    nothing = measured_ways.best_ways(gains.assign(worst_low=-1.0))
    assert nothing[1].endswith("none of them.")

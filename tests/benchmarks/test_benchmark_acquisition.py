"""The benchmarks of acquisition and losses: tiny, they run, go on where they stopped, and their
gains add up.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import ndcg_score

from benchmarks import acquisition, examples, learning_curves

STUDY = """
study: patches
images: {source: patches, class_columns: [kind, colour]}
oracle: hierarchy
asked_per_round: 8
zeros_per_round: 8
test_share: 0.3
max_per_image: 10
duplicate_cosine: 1.0
head: {hidden: 8, epochs: 2}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A study of 48 small pictures, 2 kinds of 2 colours; its folder of results is kept for the
    module.
    """
    home, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    folder, rows = home / "datasets" / "patches", []
    folder.mkdir(parents=True)
    (home / "configs").mkdir()
    (home / "configs" / "patches.yaml").write_text(STUDY)
    for k in range(48):
        kind, colour = k % 2, k // 2 % 2
        pixels = rng.integers(0, 60, (48, 48, 3))
        pixels[:: 6 if kind else 1, :: 1 if kind else 6, 2 * colour] += 180
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k:02d}.png")
        rows.append((f"{k:02d}.png", f"kind{kind}", f"colour{kind}{colour}"))
    pd.DataFrame(rows, columns=["file_label", "kind", "colour"]).to_csv(
        folder / "labels.csv", index=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGSEARCH_HOME", str(home))
        yield home


def run(home, module, *arguments):
    module.main(["--studies", "patches", "--out", str(home), *arguments])


ACQUISITION = "--strategies", "random", "uncertainty", "--labels", "12", "24"


@pytest.mark.slow  # learns dozens of heads
def test_acquisition_runs_and_goes_on_where_it_stopped(workspace):
    run(workspace, acquisition, *ACQUISITION, "--seeds", "0", "1")
    file = workspace / "acquisition.csv"
    rows, text = learning_curves.read_rows(file), file.read_text()
    assert sorted(rows.study.unique()) == ["patches", "patches, no classes"]
    assert (
        len(rows) == 2 * 2 * 2 * 2
        and rows[["ap", "roc_auc", "ndcg", "used_ap"]].stack().between(0, 1).all()
    )
    first = rows[(rows.labels == 12) & ((rows.study == "patches") | (rows.strategy != "random"))]
    # one first round for all that need a model
    assert (first.groupby(["study", "seed"]).ap.nunique() == 1).all()
    kept = np.where(rows.promoted, rows.ap, rows.encoder_ap)
    np.testing.assert_allclose(rows.used_ap, kept)
    lines = text.splitlines(keepends=True)
    lost = [line for line in lines if ",uncertainty,1,24," in line or ",random,0,12," in line]
    assert len(lost) == 4
    file.write_text("".join(line for line in lines if line not in lost))
    run(workspace, acquisition, *ACQUISITION, "--seeds", "0", "1", "--jobs", "2")
    assert sorted(file.read_text().splitlines(keepends=True)) == sorted(lines)
    run(workspace, acquisition, *ACQUISITION, "--seeds", "0", "1")
    assert len(file.read_text().splitlines()) == len(lines)
    trusted = pd.read_csv(workspace / "acquisition_trust.csv")
    assert (trusted.seeds == 2).all() and len(trusted) == 2 * 2 * 2
    vectors = workspace / "vector_dbs" / "benchmarks_patches" / "encoder" / "vectors.npy"
    assert vectors.is_file()


@pytest.mark.slow  # the same
def test_rows_of_other_settings_are_refused(workspace):
    run(workspace, acquisition, "--strategies", "random", "--labels", "12", "24", "--seeds", "0")
    with pytest.raises(ValueError, match="other settings"):
        run(
            workspace, acquisition, "--strategies", "random", "--labels", "12", "20", "--seeds", "0"
        )


def test_search_counts_as_worse_where_it_lost_more_than_a_hundredth():
    rows = pd.DataFrame(
        [
            ("s", "random", seed, 60, True, 0.5 + gain, 0.5, 0.6, 0.6)
            for seed, gain in enumerate([0.1, -0.009, -0.011])
        ],
        columns=[
            "study",
            "strategy",
            "seed",
            "labels",
            "promoted",
            "used_ap",
            "encoder_ap",
            "used_ndcg",
            "encoder_ndcg",
        ],
    )
    [found] = acquisition.trust(rows).itertuples()
    assert (found.seeds, found.worse, found.promoted) == (
        3,
        1,
        1,
    ) and found.used_ap == pytest.approx(0.08 / 3)


def curves(values):
    """Rows of one study: {strategy: [AP at 100, 200, 400 labels, one list a seed]}."""
    return pd.DataFrame(
        [
            {"study": "s", "strategy": name, "seed": seed, "labels": labels, "ap": ap}
            for name, seeds in values.items()
            for seed, curve in enumerate(seeds)
            for labels, ap in zip((100, 200, 400), curve)
        ]
    )


VALUES = {
    "random": [[0.2, 0.3, 0.4], [0.3, 0.3, 0.5], [0.1, 0.2, 0.6]],
    "clever": [[0.2, 0.4, 0.5], [0.3, 0.5, 0.5], [0.1, 0.4, 0.5]],
}


def test_a_paired_interval_is_that_of_plain_loops():
    found = learning_curves.gains(
        learning_curves.per_seed(curves(VALUES), "strategy"), "strategy", ("random",)
    )
    row = found[(found.strategy == "clever") & (found.measure == "area")].iloc[0]

    def area(ap):
        return ((ap[0] + ap[1]) / 2 * 100 + (ap[1] + ap[2]) / 2 * 200) / 300

    differences = [
        area(one) - area(other) for one, other in zip(VALUES["clever"], VALUES["random"])
    ]
    rng, means = np.random.default_rng(1), []
    for _ in range(20_000):
        drawn = [differences[rng.integers(3)] for _ in range(3)]
        means.append(sum(drawn) / 3)
    assert row.gain == pytest.approx(sum(differences) / 3)
    assert (row.low, row.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-9)
    assert row.seeds == 3 and row.won == sum(difference > 0 for difference in differences)
    at_300 = found[(found.strategy == "clever") & (found.measure == "ap_300")].iloc[0]
    middle = [
        (one[1] + one[2]) / 2 - (other[1] + other[2]) / 2
        for one, other in zip(*map(VALUES.get, ("clever", "random")))
    ]
    assert at_300.gain == pytest.approx(np.mean(middle))
    assert not (found.measure == "ap_600").any()  # nothing was measured there


def test_unfinished_curves_take_no_part():
    rows = curves(VALUES)
    found = learning_curves.per_seed(rows[:-1], "strategy")
    assert len(found) == 5


def test_labels_to_match_random_s_end():
    values = {"random": [[0.2, 0.3, 0.4]], "clever": [[0.2, 0.5, 0.6]], "worse": [[0.1, 0.1, 0.1]]}
    found = (
        learning_curves.labels_to_match(curves(values), "strategy")
        .set_index("strategy")
        .labels_to_match
    )
    assert found["random"] == 400 and np.isnan(found["worse"])
    assert found["clever"] == pytest.approx(100 + 100 * 2 / 3)


@given(st.integers(0, 2**32 - 1), st.integers(11, 40))
def test_the_quick_ndcg_is_scikit_learns(seed, n):
    rng = np.random.default_rng(seed)
    grades, scores = rng.integers(0, 4, n).astype(float), rng.permutation(n) / n
    if grades.any():
        assert examples.ndcg_at_10(grades, scores) == pytest.approx(
            ndcg_score([2**grades - 1], [scores], k=10)
        )

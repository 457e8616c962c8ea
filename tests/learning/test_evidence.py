"""What decides: lists that two models drafted in turns, or pairs that neither chose; fair to both."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, ttest_1samp

from imgsearch_utils.asking import Pool, choose_pairs
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.evidence import FEWEST, Rival, compare_lists, evidence_of
from imgsearch_utils.learning.promotion import ORDER, PRECISION
from imgsearch_utils.metrics import ap_gain, mean_gain, query_gain
from imgsearch_utils.metrics.geometry import normalised, pair_cosines


class Part:
    """A head that keeps some of the dimensions."""

    def __init__(self, part):
        self.part = part

    def embed(self, vectors):
        return normalised(vectors[:, self.part])


def one_list(grades, before, learnt, query="a"):
    places = {"place_before": before, "place_learnt": learnt}
    return pd.DataFrame({"round": 1, "query": query, "similarity": grades, **places})


def test_a_list_is_measured_by_both_orders():
    table = compare_lists(one_list([3, 0, 3, 1], [1, 2, 3, 4], [2, 3, 1, 4]))
    assert table.to_dict("records") == [
        {"round": 1, "query": "a", "results": 4, "before": pytest.approx(0.6), "learnt": 0.8}
    ]


@pytest.mark.parametrize("grades", [[3, 3, 3], [0, 0], []])
def test_lists_of_one_grade_say_nothing(grades):
    places = range(1, len(grades) + 1)
    assert compare_lists(one_list(grades, places, places)).empty


@pytest.fixture
def scored():
    """Pairs of sixty images; what was learnt knows the grade in part, and a model chose the last
    hundred.
    """
    rng, n = np.random.default_rng(0), 400
    one, two = np.triu_indices(60, 1)
    some = rng.permutation(len(one))[:n]
    score, grades = rng.normal(size=n), rng.integers(0, 4, n).astype(float)
    return pd.DataFrame(
        {
            "image1": one[some].astype(str),
            "image2": two[some].astype(str),
            "similarity": grades,
            "group1": one[some],
            "group2": two[some],
            "score": score + grades / 2,
            "before": score,
            "weight": (np.arange(n) < 300).astype(float),
        }
    )


def test_few_lists_leave_it_to_pairs_that_no_model_chose(scored):
    lists = [one_list([3, 0], [1, 2], [2, 1], query=str(number)) for number in range(FEWEST - 1)]
    found = evidence_of(scored, Rival(lists=pd.concat(lists)))
    assert (found.by, found.n) == ("pairs", 300) and found.chance < 0.001
    assert evidence_of(scored[:300], Rival()) == found


def test_of_two_measures_the_clearer_one_is_told_at_twice_its_chance(scored):
    weak = scored.assign(score=scored.before + 0.1 * (scored.score - scored.before))
    found, fair = evidence_of(weak, Rival()), weak[:300]
    order = query_gain(fair, fair.score, fair.before).set_index("measure").loc["nDCG@10"]
    gains = {PRECISION: ap_gain(fair, fair.score, fair.before), ORDER: order}
    chances = {
        name: norm.sf(gain["difference"] / ((gain["high"] - gain["low"]) / 3.92))
        for name, gain in gains.items()
    }
    clearer = min(chances, key=chances.get)
    assert found.measure == clearer
    assert found.chance == pytest.approx(2 * chances[clearer], rel=1e-3)
    assert found.difference == pytest.approx(gains[clearer]["difference"])


def test_strata_leave_average_precision_alone(scored):
    found = evidence_of(scored.assign(weight=np.arange(400) % 3 / 2), Rival())
    assert found.measure == PRECISION


def test_a_weight_of_two_is_a_pair_twice():
    """In average precision; a pair that stands for two is still one when its error is told."""
    rng = np.random.default_rng(1)
    n = 80
    pairs = pd.DataFrame(
        {"similarity": rng.integers(0, 4, n), "group1": range(n), "group2": range(n, 2 * n)}
    )
    one, two, weight = rng.normal(size=n), rng.normal(size=n), rng.integers(1, 4, n)
    twice = np.repeat(np.arange(n), weight)
    weighted = ap_gain(pairs, one, two, weight)
    repeated = ap_gain(pairs.iloc[twice], one[twice], two[twice])
    assert weighted["difference"] == pytest.approx(repeated["difference"])
    equal = ap_gain(pairs, one, two, np.full(n, 7.0))
    assert equal == pytest.approx(ap_gain(pairs, one, two))


def test_the_mean_of_gains_has_the_interval_and_the_chance_of_students_t():
    gains = [0.1, 0.2, 0.4]
    found, test = mean_gain(gains), ttest_1samp(gains, 0, alternative="greater")
    assert found["difference"] == pytest.approx(0.7 / 3)
    assert found["chance"] == pytest.approx(test.pvalue)
    ends = ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((ends.low, ends.high))
    assert np.isnan(mean_gain([0.1])["chance"]) and np.isnan(mean_gain([0.1, 0.1])["chance"])


def asked_lists(seed, learnt_knows=0.5):
    """Lists asked of two models that see half of the dimensions each; people see all of them, but
    for noise, and the more of the second model's the higher `learnt_knows`.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(150, 24)).astype(np.float32)
    table = pd.DataFrame({"image": [f"{k:03d}" for k in range(150)], "group": np.arange(150)})
    images = Images(table.assign(side="train"), Embeddings(table.image.tolist(), vectors, {}))
    before, learnt = (Model.with_head(Part(slice(a, a + 12))) for a in (0, 12))
    pairs = choose_pairs(Pool.of(images, learnt, before=before), "lists", 240, seed)
    weights = np.repeat([1 - learnt_knows, learnt_knows], 12) ** 0.5
    seen = normalised(vectors * weights + 0.2 * rng.normal(size=vectors.shape))
    cosine = pair_cosines(seen.astype(np.float32), *images.rows_of(pairs))
    pairs["similarity"] = np.digitize(cosine, [0.15, 0.25, 0.4]).astype(float)
    return pairs[pairs.place_learnt.notna()].assign(round=1)


def test_two_equal_models_are_hardly_ever_told_apart_and_a_better_one_is():
    """Of lists that the first model alone put first, nearly all would call the second better."""
    equal = [compare_lists(asked_lists(seed)) for seed in range(30)]
    chances = np.array([mean_gain(one.learnt - one.before)["chance"] for one in equal])
    assert ((chances < 0.05).sum() <= 5) and ((chances > 0.95).sum() <= 5)
    better = compare_lists(asked_lists(0, learnt_knows=0.9))
    assert mean_gain(better.learnt - better.before)["chance"] < 0.01

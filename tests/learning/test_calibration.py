"""P(grade) from a cosine: probabilities, monotone, honest; the threshold of best F1."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from imgsearch_utils.learning import Head, Model
from imgsearch_utils.learning.calibration import Calibration, best_f1_threshold
from imgsearch_utils.learning.model import NO_HEAD, models_from_dict, models_to_dict
from imgsearch_utils.metrics import expected_calibration_error
from imgsearch_utils.study import HeadSettings


def sample(seed, n=20_000):
    """Cosines and grades whose truth is P(grade >= k) = sigmoid(6 cosine - cut_k)."""
    rng = np.random.default_rng(seed)
    cosine = rng.uniform(-1, 1, n)
    reached = 1 / (1 + np.exp(-(6 * cosine[:, None] - np.array([-1.0, 1, 3]))))
    return cosine, (rng.random((n, 1)) < reached).sum(1), reached


def test_recovers_the_truth_and_is_calibrated():
    cosine, grades, reached = sample(0)
    fitted = Calibration.fit(cosine, grades)
    p = fitted.predict(cosine)
    np.testing.assert_allclose(p[:, 3], reached[:, 2], atol=0.03)
    np.testing.assert_allclose(p[:, 1:].sum(1), reached[:, 0], atol=0.03)
    fresh_cosine, fresh_grades, _ = sample(1)
    assert expected_calibration_error(fresh_grades == 3, fitted.predict(fresh_cosine)[:, 3]) < 0.015


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 3)), min_size=1, max_size=40))
def test_any_pairs_give_monotone_probabilities(pairs):
    cosine, grades = (np.array(column, float) for column in zip(*pairs))
    fitted = Calibration.fit(cosine, grades)
    p = fitted.predict(np.linspace(-1, 1, 101))
    assert (p >= 0).all() and np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(1), 1)
    assert (np.diff(p[:, 3]) >= 0).all()
    assert 0 < fitted.threshold < 1
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    if np.isfinite(fitted.cosine_at_threshold()):
        assert fitted.predict(np.array([fitted.cosine_at_threshold()]))[0, 3] == pytest.approx(
            fitted.threshold
        )


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(-20, 20), st.integers(0, 3), st.integers(1, 3)),
        min_size=2,
        max_size=30,
    )
)
def test_a_weight_is_so_many_pairs(pairs):
    cosine, grades, weight = (np.array(column) for column in zip(*pairs))
    cosine = cosine / 20
    weighted = Calibration.fit(cosine, grades, weight.astype(float))
    repeated = Calibration.fit(np.repeat(cosine, weight), np.repeat(grades, weight))
    at = np.linspace(-1, 1, 41)
    np.testing.assert_allclose(weighted.predict(at), repeated.predict(at), atol=2e-3)
    np.testing.assert_allclose(
        Calibration.fit(cosine, grades).predict(at),
        Calibration.fit(cosine, grades, np.ones(len(cosine))).predict(at),
        atol=1e-12,
    )


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(1, 19), st.booleans(), st.integers(1, 4)), min_size=1, max_size=30
    )
)
def test_the_threshold_of_weighted_pairs_is_that_of_so_many(pairs):
    p, similar, weight = (np.array(column) for column in zip(*pairs))
    p = p / 20
    expected = best_f1_threshold(np.repeat(p, weight), np.repeat(similar, weight))
    assert best_f1_threshold(p, similar, weight.astype(float)) == pytest.approx(expected)


def test_weights_move_the_curves():
    cosine, grades, _ = sample(0, 500)
    fitted, heavy = (
        Calibration.fit(cosine, grades, np.where(grades == 0, weight, 1.0))
        for weight in (1.0, 20.0)
    )
    assert (heavy.predict(cosine)[:, 3] < fitted.predict(cosine)[:, 3]).all()


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 19), st.booleans()), min_size=1, max_size=30))
def test_no_threshold_has_a_better_f1(pairs):
    p, similar = np.array([x for x, _ in pairs]) / 20, np.array([y for _, y in pairs])
    chosen = best_f1_threshold(p, similar)
    if similar.any():
        tried = [f1_score(similar, p >= t, zero_division=0) for t in np.linspace(0, 1, 101)]
        assert f1_score(similar, p >= chosen, zero_division=0) == pytest.approx(max(tried))


@pytest.mark.parametrize(
    ("cosine", "grades", "words"),
    [
        ([], [], "at least 1"),
        ([0.1, 0.2], [1], "as many"),
        ([np.nan], [1], "finite"),
        ([0.1], [4], "0, 1, 2 or 3"),
    ],
)
def test_refuses_what_cannot_be_fitted(cosine, grades, words):
    with pytest.raises(ValueError, match=words):
        Calibration.fit(np.array(cosine), np.array(grades))


@pytest.mark.parametrize(
    "values", [{}, {"slopes": [1], "intercepts": [1], "threshold": 0.5}, {"slopes": None}]
)
def test_refuses_what_is_no_calibration(values):
    with pytest.raises(ValueError, match="slopes"):
        Calibration.from_dict(values)


def test_moved_curves_are_those_of_the_other_pairs_and_pairs_as_before_move_nothing():
    """In the other pairs, each grade is reached at a cosine that is higher by 1/3."""
    fitted = Calibration.fit(*sample(0)[:2])
    cosine, grades, reached = sample(1)
    shift_intercepts = fitted.shift_intercepts(cosine + 1 / 3, grades, np.ones(len(cosine)))
    np.testing.assert_allclose(
        shift_intercepts.predict(cosine + 1 / 3)[:, 3], reached[:, 2], atol=0.03
    )
    assert shift_intercepts.slopes == fitted.slopes
    same = fitted.shift_intercepts(cosine, grades, np.ones(len(cosine)))
    np.testing.assert_allclose(same.intercepts, fitted.intercepts, atol=0.1)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(-20, 20), st.integers(0, 3), st.integers(1, 9)),
        min_size=1,
        max_size=30,
    ),
    st.floats(0.01, 100),
)
def test_moving_asks_for_weights_up_to_scale_and_never_goes_far_on_little(pairs, scale):
    cosine, grades, weight = (np.array(column, float) for column in zip(*pairs))
    fitted = Calibration.fit(*sample(0, 500)[:2])
    one, two = (
        fitted.shift_intercepts(cosine / 20, grades, weight * factor) for factor in (1.0, scale)
    )
    np.testing.assert_allclose(one.intercepts, two.intercepts, atol=1e-3)
    assert (
        np.abs(np.subtract(one.intercepts, fitted.intercepts)) <= 10
    ).all() and 0 < one.threshold < 1
    # decides as before
    assert one.cosine_at_threshold() == pytest.approx(fitted.cosine_at_threshold(), abs=1e-6)


curves = st.builds(Calibration, *[st.tuples(*[st.floats(0, 50)] * 3)] * 2, st.floats(0.01, 0.99))


@given(curves, curves, st.floats(-1, 1))
def test_models_come_back_from_json_as_they_were(encoder, learnt, out_of_collection_cosine):
    head = Head(6, HeadSettings(hidden=4))
    models = {
        "encoder": Model(calibration=encoder, out_of_collection_cosine=out_of_collection_cosine),
        "head": Model.with_head(head, learnt, out_of_collection_cosine),
    }
    assert models_from_dict(json.loads(json.dumps(models_to_dict(models))), head) == models


@pytest.mark.parametrize(
    "changes",
    [
        {"reach": None},
        {"reach": 7.0},
        {"reach": float("nan")},
        {"reach": "0.5"},
        {"head": {}},
        {"encoder": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("lost", ["", "reach", "encoder", "head"])
def test_refuses_what_are_no_models(changes, lost):
    calibration = Calibration((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 0.5)
    sound = models_to_dict(
        {
            name: Model(calibration=calibration, out_of_collection_cosine=0.5)
            for name in ("encoder", "head")
        }
    )
    assert models_from_dict(sound, NO_HEAD)["encoder"].out_of_collection_cosine == 0.5
    broken = {name: value for name, value in {**sound, **changes}.items() if name != lost}
    with pytest.raises(ValueError, match="^expected "):
        models_from_dict(broken, NO_HEAD)
    for nothing in ([], 7, None):
        with pytest.raises(ValueError, match="^expected reach, encoder and head"):
            models_from_dict(nothing, NO_HEAD)

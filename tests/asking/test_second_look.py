"""Grades that were spoilt on purpose come to the top of the list."""

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.asking.second_look import suspected_errors
from imgsearch_utils.images import Images
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.study import HeadSettings

SETTINGS = HeadSettings(hidden=16, epochs=8, learning_rate=3e-3)


def make_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 6)).astype(np.float32)
    names = [f"{k}.jpg" for k in range(80)]
    a, b = rng.integers(0, 80, (2, 500))
    a, b = a[a != b], b[a != b]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    grades = np.digitize((unit[a] * unit[b]).sum(1), [-0.2, 0.2, 0.5])
    pairs = pd.DataFrame(
        {
            "image1": np.take(names, a),
            "image2": np.take(names, b),
            "similarity": grades.astype(float),
        }
    )
    return Images.of(Embeddings(names, vectors, {})), pairs


def test_spoilt_grades_are_listed_first():
    embeddings, pairs = make_pairs()
    spoilt = pairs[pairs.similarity.isin([0, 3])].sample(20, random_state=0).index
    pairs.loc[spoilt, "similarity"] = 3 - pairs.similarity[spoilt]
    before = pairs.copy()
    listed = suspected_errors(
        embeddings, pairs.assign(number=pairs.index), SETTINGS, seeds=(0, 1), folds=3
    )
    assert listed.number[:25].isin(spoilt).sum() >= 16
    assert sorted(listed.number) == list(pairs.index) and listed.loss.is_monotonic_decreasing
    assert listed.p_grade.between(0, 1).all() and listed.expected_grade.between(0, 3).all()
    pd.testing.assert_frame_equal(pairs, before)


def test_ungraded_pairs_are_left_out_and_too_few_refused():
    embeddings, pairs = make_pairs()
    with pytest.raises(ValueError, match="at least 5 graded pairs, got 3"):
        suspected_errors(
            embeddings, pairs.assign(similarity=pairs.similarity.where(pairs.index < 3)), SETTINGS
        )

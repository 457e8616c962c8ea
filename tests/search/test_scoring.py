"""Scoring pairs: the scores are the model's, whatever is kept in memory and however the pairs
come.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.images import Embeddings
from imgsearch_utils.learning import Head, Model
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.search import scoring
from imgsearch_utils.study import HeadSettings

CALIBRATION = Calibration((8.0, 7.0, 7.0), (1.0, 0.0, -2.0), 0.3)
GRADES = [f"p_grade_{k}" for k in range(4)]


def database(seed, n):
    vectors = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    return Embeddings([f"{row:03d}" for row in range(n)], vectors, {"encoder": "drawn"})


def some_head(seed):
    head = Head(6, HeadSettings(hidden=4, head="mlp"), width=6)
    head.mean.fill_(0.1)
    head.basis.copy_(head.basis.new_tensor(np.eye(6)))
    return Model.with_head(head, CALIBRATION)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(2, 30),
    kept=st.integers(0, 40),
    block=st.integers(1, 20),
    calls=st.lists(st.integers(0, 25), min_size=1, max_size=5),
)
def test_scores_are_the_models_however_much_is_kept(seed, n, kept, block, calls):
    rng, known, model = np.random.default_rng(seed), database(seed, n), some_head(seed)
    unit, plain = model.vectors(known.vectors), Model().vectors(known.vectors)
    score = scoring.PairScorer(known, model, room=kept * 4 * unit.shape[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BLOCK", block)
        for size in calls:
            i, j = rng.integers(n, size=(2, size))
            table = score(i, j)
            assert list(table) == ["score", "p_similar", *GRADES, "cosine"]
            np.testing.assert_allclose(table.score, (unit[i] * unit[j]).sum(1), atol=1e-5)
            np.testing.assert_allclose(table.cosine, (plain[i] * plain[j]).sum(1), atol=1e-5)
            np.testing.assert_array_equal(
                table.p_similar, CALIBRATION.predict(table.score.to_numpy())[:, 3]
            )
            np.testing.assert_array_equal(table.p_similar, table.p_grade_3)
            np.testing.assert_allclose(table[GRADES].sum(axis=1), 1)


def test_the_encoders_score_is_its_cosine_and_a_strange_head_is_refused():
    known = database(0, 8)
    table = scoring.PairScorer(known, Model(calibration=CALIBRATION))(np.arange(7), np.arange(1, 8))
    assert (table.score == table.cosine).all() and len(table) == 7
    model = some_head(0)
    model.head.made_of = {"encoder": {"encoder": "another"}}
    with pytest.raises(ValueError, match="another encoder"):
        scoring.PairScorer(known, model)


def test_vectors_that_are_let_go_of_are_read_again(tmp_path, monkeypatch):
    known, model = database(1, 50), some_head(1)
    known.save(tmp_path / "vectors")
    i, j = np.random.default_rng(0).integers(50, size=(2, 300))
    expected = scoring.PairScorer(known, model)(i, j)
    monkeypatch.setattr(scoring, "ROOM", 0)
    monkeypatch.setattr(scoring, "BLOCK", 7)
    found = scoring.PairScorer(Embeddings.load(tmp_path / "vectors"), model, room=0)(i, j)
    np.testing.assert_allclose(found, expected, atol=1e-5)

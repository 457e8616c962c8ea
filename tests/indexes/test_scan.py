"""Exact search in vectors as they lie: the same answers as the exact index, whatever the blocks and
the filter.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils import indexes
from imgsearch_utils.indexes import scan
from imgsearch_utils.metrics.geometry import normalised


@settings(max_examples=40)
@given(
    st.integers(0, 999),
    st.integers(1, 60),
    st.integers(1, 70),
    st.sampled_from([1, 7, 65_536]),
    st.booleans(),
)
def test_it_answers_as_the_exact_index_does(seed, n, k, block, filtered):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n, 5)) * rng.uniform(0.1, 9, (n, 1))).astype(np.float32)
    queries, k = normalised(rng.normal(size=(3, 5))), min(k, n)
    allowed = np.sort(rng.permutation(n)[: rng.integers(0, n + 1)]) if filtered else None
    exact = indexes.find("exact")().build(normalised(vectors)).query(queries, k, allowed=allowed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BLOCK", block)
        np.testing.assert_array_equal(
            indexes.Scan(vectors).query(queries, k, allowed=allowed), exact
        )
    if filtered:
        np.testing.assert_array_equal(indexes.among(vectors, allowed, queries, k), exact)


def test_it_refuses_what_every_index_refuses():
    found = indexes.Scan(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="k must be 1 to 4"):
        found.query(np.ones((1, 3), np.float32), 5)
    with pytest.raises(ValueError, match="queries must be"):
        found.query(np.ones((1, 2), np.float32), 1)

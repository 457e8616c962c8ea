"""The rivals of the package's head learn, and know no class that they are not told."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import rivals
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.study import HeadSettings

SMALL = HeadSettings(hidden=16, epochs=8, batch_size=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def graded():
    """40 images of 8 numbers, and pairs that are similar where the first number has one sign."""
    rng = np.random.default_rng(0)
    names = [f"{k:02d}.jpg" for k in range(40)]
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    table = pd.DataFrame({"image": names, "kind": np.tile(["a", "b"], 20)})
    images = Images(table, Embeddings(names, vectors, {}))
    i, j = np.triu_indices(40, 1)
    some = rng.choice(len(i), 160, replace=False)
    sign = vectors[:, 0] > 0
    similarity = np.where(sign[i[some]] == sign[j[some]], 3, 0)
    pairs = pd.DataFrame({"image1": np.array(names)[i[some]], "image2": np.array(names)[j[some]]})
    return images, pairs.assign(similarity=similarity)


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_a_rival_learns_what_the_grades_say_and_its_seed_decides(graded, name):
    images, pairs = graded
    similar, encoder = pairs.similarity == 3, rivals.Model().cosines(images, pairs)
    first, again = (rivals.RIVALS[name](images, pairs, SMALL, 0) for _ in range(2))
    score = first.cosines(images, pairs)
    before, after = (roc_auc_score(similar, of) for of in (encoder, score))
    assert after > before + 0.05
    np.testing.assert_array_equal(again.cosines(images, pairs), score)


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_only_a_rival_with_classes_knows_them(graded, name):
    images, pairs = graded
    other = replace(images, table=images.table.assign(kind=np.repeat(["a", "b"], 20)))
    fit = rivals.RIVALS[name]
    scores = [fit(known, pairs, SMALL, 0).cosines(images, pairs) for known in (images, other)]
    assert np.array_equal(*scores) == name.endswith("pairs alone")
    nobody = fit(rivals.without_classes(images), pairs, SMALL, 0).cosines(images, pairs)
    assert np.array_equal(nobody, scores[0]) == name.endswith("pairs alone")

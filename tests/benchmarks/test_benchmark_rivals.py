"""The rivals of the package's head: their loss is the formula, they learn, and know no class that
they are not told.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
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


def test_the_contrastive_loss_averages_either_kind_of_pair_apart():
    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(6, 3, generator=generator))
    i, j = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 4, 5])
    similar = torch.tensor([True, False, False, False])
    distances = [float(torch.linalg.norm(unit[a] - unit[b])) for a, b in zip(i, j)]
    hinges = [max(0.0, 1.2 - distance) ** 2 for distance in distances[1:]]
    expected = distances[0] ** 2 + sum(hinges) / 3
    assert float(rivals.contrastive_apart(unit, i, j, similar, 1.2)) == pytest.approx(expected)
    only = rivals.contrastive_apart(unit, i[:1], j[:1], similar[:1])
    assert float(only) == pytest.approx(distances[0] ** 2)


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

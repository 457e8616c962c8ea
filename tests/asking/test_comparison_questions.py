"""Questions for comparisons: three pictures apart, of one class, near the query, none twice."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.asking.comparison_questions import AMONG, choose_questions
from imgsearch_utils.grades.pairs import key
from imgsearch_utils.images import Images
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.learning import Model
from imgsearch_utils.metrics.geometry import normalised


class Turned:
    """A head that looks at other numbers of the vectors."""

    def embed(self, vectors):
        return normalised(vectors[:, ::-1][:, :3])


def drawn(n, n_groups, classes, seed):
    rng = np.random.default_rng(seed)
    names = [f"{k:03d}" for k in range(n)]
    table = pd.DataFrame({"image": names, "group": rng.integers(0, n_groups, n)})
    if classes:
        table["kind"] = (table.group % 2).astype(str)
    return Images(table, Embeddings(names, rng.normal(size=(n, 8)).astype(np.float32), {}))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 90),
    n_groups=st.integers(1, 60),
    classes=st.booleans(),
    two=st.booleans(),
    size=st.integers(0, 120),
    seed=st.integers(0, 1000),
)
def test_questions_are_of_three_pictures_that_may_be_compared(
    n, n_groups, classes, two, size, seed
):
    images = drawn(n, n_groups, classes, seed)
    models = [Model(), Model.with_head(Turned())] if two else [Model()]
    questions = choose_questions(images, models, size, seed)
    assert questions.equals(choose_questions(images, models, size, seed)) and len(questions) <= size
    rows = questions.map(images.names.index).to_numpy(int).reshape(-1, 3)
    assert all(len({*images.table.group.iloc[row]}) == 3 for row in rows)
    assert all(images.classes.iloc[row].nunique() == 1 for row in rows)
    asked = {(query, *key(one, two)) for query, one, two in questions.itertuples(index=False)}
    assert len(asked) == len(questions)
    again = choose_questions(images, models, size, seed, asked)
    assert not asked & {(query, *key(*two)) for query, *two in again.itertuples(index=False)}
    units = [model.vectors(images.vectors) for model in models]
    for query, *candidates in rows:
        may = images.classes.to_numpy() == images.classes.iloc[query]
        may &= images.table.group.to_numpy() != images.table.group.iloc[query]
        # how many come before it, by each of the models
        before = [
            [(unit[may] @ unit[query] > unit[one] @ unit[query] + 1e-6).sum() for one in candidates]
            for unit in units
        ]
        (a, b), (c, d) = before[0], before[-1]
        assert max(a, d) < AMONG or max(b, c) < AMONG


def test_each_picture_is_asked_for_as_often_as_the_others():
    images = drawn(60, 60, False, 0)
    counts = choose_questions(images, [Model()], 150, 0)["query"].value_counts()
    assert set(counts) == {2, 3} and len(counts) == 60

"""From neighbours to relevance: ranked lists, their grades, means with intervals, examples."""

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.evaluation import relevance
from imgsearch_utils.images import Images
from imgsearch_utils.images.collection import Collection
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import parse_study
from imgsearch_utils.workspace import Run


def make(n=12, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 4
    names = [f"{i:02d}.png" for i in rng.permutation(n)]
    vectors = (3 * np.eye(4, dim)[kinds] + rng.normal(size=(n, dim))).astype(np.float32)
    images = pd.DataFrame(
        {
            "image": names,
            "tree": [f"t{k // 2}" for k in kinds],
            "kind": [f"k{k}" for k in kinds],
            "group": range(n),
            "side": np.where(np.arange(n) < n // 4, "train", "test"),
        }
    )
    return Embeddings(names, vectors, {"encoder": "e"}, [f"{i:064x}" for i in range(n)]), images


class Part:
    """A head that takes some of the numbers."""

    def __init__(self, part):
        self.part = part

    def embed(self, vectors):
        return normalised(vectors[:, self.part])


def rank(embeddings, queries, gallery):
    table = pd.DataFrame({"image": gallery})
    return relevance.rank(Images(table, embeddings), Model(), queries)


def study(oracle, **more):
    return Run(
        "tiny",
        parse_study({"study": "tiny", "images": {"source": "trees"}, "oracle": oracle, **more}),
    )


def collection(images):
    classes = [name for name in ("tree", "kind") if name in images]
    return Collection(images[["image", *classes]], classes, None, None, pd.DataFrame())


def test_every_gallery_image_but_the_query_is_ranked_by_its_cosine():
    embeddings, images = make()
    queries, gallery = embeddings.names[:4], embeddings.names[2:]
    ranked = rank(embeddings, queries, gallery)
    assert (ranked["query"] != ranked.image).all() and list(ranked) == ["query", "image", "score"]
    assert ranked.groupby("query").size().to_dict() == dict(zip(queries, (10, 10, 9, 9)))
    for row in ranked.itertuples():
        one, two = embeddings.of([row.query, row.image]).astype(float)
        assert row.score == pytest.approx(
            one @ two / np.linalg.norm(one) / np.linalg.norm(two), abs=1e-5
        )


def test_a_twin_of_the_query_is_ranked_though_the_query_is_not():
    embeddings = Embeddings(["a", "b", "c"], np.array([[1, 0], [1, 0], [0, 1]], np.float32), {})
    ranked = rank(embeddings, ["a"], ["a", "b", "c"])
    assert ranked.image.tolist() == ["b", "c"] and ranked.score.tolist() == [1, 0]


def test_examples_break_ties_by_name_and_are_the_same_by_seed():
    _, images = make(20)
    tied = Embeddings(images.image.tolist(), np.ones((20, 3), np.float32), {})
    test_side, models = Images(images, tied).split("test"), {"encoder": Model(), "head": Model()}
    table = relevance.example_results(test_side, models, 3, 5, seed=1)
    pd.testing.assert_frame_equal(table, relevance.example_results(test_side, models, 3, 5, 1))
    test = sorted(images.image[images.side == "test"])
    assert list(table) == ["query", "model", "rank", "image", "score", "drawn"]
    assert table["query"].nunique() == 15 and table["query"][table.drawn].nunique() == 3
    assert table.drawn.is_monotonic_decreasing  # those that chance drew come first
    for (query, _), part in table.groupby(["query", "model"]):
        assert part["rank"].tolist() == [1, 2, 3, 4, 5] and query in test
        assert part.image.tolist() == [name for name in test if name != query][:5]
    assert table.groupby("model")["query"].nunique().to_dict() == {"encoder": 15, "head": 15}
    few = relevance.example_results(test_side, {"encoder": Model()}, 99, 99, seed=1)
    assert few["query"].nunique() == 15 and few["rank"].max() == 14


@pytest.mark.parametrize("most", [50_000_000, 100])
@pytest.mark.parametrize("k", [1, 7, 999])
def test_the_nearest_are_the_first_of_the_whole_ranking_whatever_ties(monkeypatch, k, most):
    monkeypatch.setattr(relevance, "MOST_COSINES", most)
    embeddings, images = make(40)
    embeddings.vectors[5:25] = embeddings.vectors[5]
    every = Images(images, embeddings)
    first = relevance.first_results(relevance.rank(every, Model(), sorted(every.names)), k)
    found = relevance.nearest(every, Model(), sorted(every.names), k)
    assert (
        found["query"].tolist() == first["query"].tolist()
        and found["rank"].tolist() == first["rank"].tolist()
    )
    np.testing.assert_allclose(found.score, first.score, atol=1e-6)
    assert set(zip(found["query"], found.image)) == set(zip(first["query"], first.image))


def test_a_sample_is_the_same_each_time_and_few_images_are_all_there():
    embeddings, images = make(400)
    every = Images(images, embeddings)
    some = relevance.sampled(every, 250)
    assert len(some) == 250 and set(some.names) < set(every.names)
    assert (
        some.names == relevance.sampled(every, 250).names and relevance.sampled(every, 400) is every
    )


def test_the_oracle_judges_every_result_by_the_hierarchy():
    embeddings, images = make()
    ranked = rank(embeddings, embeddings.names, embeddings.names)
    before = ranked.copy()
    judged = relevance.Judge(study("hierarchy"), collection(images), pd.DataFrame()).grades(ranked)
    pd.testing.assert_frame_equal(ranked, before)
    by_image = images.set_index("image")
    assert len(judged) == len(ranked)
    for row in judged.itertuples():
        same = (
            by_image.loc[row.query, ["tree", "kind"]] == by_image.loc[row.image, ["tree", "kind"]]
        ).tolist()
        assert row.grade == {(True, True): 3, (True, False): 2, (False, False): 0}[tuple(same)]


def test_people_judge_a_pair_in_both_directions_and_nothing_else():
    embeddings, images = make()
    one, two, three = embeddings.names[:3]
    graded = pd.DataFrame(
        {
            "image1": [one, two],
            "image2": [two, three],
            "similarity": [3.0, 1.0],
            "side": "test",
            "automatic": False,
        }
    )
    ranked = rank(embeddings, embeddings.names, embeddings.names)
    judged = relevance.Judge(study("person"), collection(images), graded).grades(ranked)
    assert {tuple(row) for row in judged.to_numpy()} == {
        (one, two, 3.0),
        (two, one, 3.0),
        (two, three, 1.0),
        (three, two, 1.0),
    }


def test_the_better_model_has_the_better_numbers():
    good, images = make(40)
    bad = np.random.default_rng(5).normal(size=(40, 4))
    both = Embeddings(good.names, np.concatenate([bad, good.vectors], 1).astype(np.float32), {})
    models = {
        "encoder": Model("encoder", Part(slice(0, 4))),
        "head": Model("head", Part(slice(4, 8))),
    }
    test, graded = (
        Images(images, both).split("test"),
        pd.DataFrame(columns=["image1", "image2", "similarity", "side", "automatic"]),
    )
    judge = relevance.Judge(study("hierarchy"), collection(images), graded)
    rankings = {name: (test, model) for name, model in models.items()}
    found = relevance.compare_rankings(rankings, judge, [1, 5])
    assert list(found) == [
        "model",
        "class",
        "measure",
        "mean",
        "low",
        "high",
        "queries",
        "gain",
        "gain_low",
        "gain_high",
        "judged_by",
    ]
    of_class, found = relevance.of_classes(found), relevance.of_all(found)
    assert (
        of_class["class"].unique().tolist() == ["k0", "k1", "k2", "k3"]
        and (of_class.groupby("model").queries.sum() == 30).all()
    )
    gains = found.set_index(["model", "measure"]).gain
    assert gains["encoder"].isna().all() and (gains["head"][["P@1", "AP"]] > 0.1).all()
    means = found.set_index(["model", "measure"])["mean"]
    for measure in ("P@1", "P@5", "nDCG@5", "AP"):
        assert means["head", measure] > means["encoder", measure] + 0.1
    assert means["head", "judged@5"] == 1 and (found.queries == 30).all()
    judge = relevance.Judge(study("person"), collection(images), graded)
    by_classes = relevance.of_all(relevance.compare_rankings(rankings, judge, [1, 5]))
    assert set(by_classes.judged_by) == {"classes"} and (by_classes["mean"] > 0).all()
    nobody = relevance.Judge(
        study("person"), collection(images[["image", "group", "side"]]), graded
    )
    assert nobody.source == "nobody" and relevance.compare_rankings(rankings, nobody, [1]).empty
    replayed = relevance.Judge(study("replay", labels=["a.csv"] * 4), collection(images), graded)
    with pytest.raises(
        ValueError, match="no test image has a judged result; grade test pairs first"
    ):
        relevance.compare_rankings(rankings, replayed, [1])


def test_the_classes_of_results_are_those_of_a_plain_loop():
    embeddings, images = make(40)
    table = relevance.confusion_of_results(
        Images(images.drop(columns="tree"), embeddings).split("test"), Model(), 3
    )
    test = images[images.side == "test"]
    kind = dict(zip(test.image, test.kind))
    unit = {name: v / np.linalg.norm(v) for name, v in zip(test.image, embeddings.of(test.image))}
    expected = pd.DataFrame(
        0.0, index=sorted(set(kind.values())), columns=sorted(set(kind.values()))
    )
    for query in kind:
        first = sorted(
            (n for n in kind if n != query), key=lambda n: (-float(unit[query] @ unit[n]), n)
        )[:3]
        for name in first:
            expected.loc[kind[query], kind[name]] += 1
    expected = expected.div(expected.sum(1), axis=0)
    for row, column in np.ndindex(expected.shape):
        name = expected.index[row], expected.columns[column]
        assert table.get(name[1], {}).get(name[0], 0) == pytest.approx(expected.loc[name])
    every = relevance.confusion_of_results(
        Images(images.drop(columns="tree"), embeddings).split("test"), Model(), 999
    )
    assert every.sum(axis=1).to_numpy() == pytest.approx(1)


def test_a_study_s_own_test_is_measured_as_plain_loops_measure_it(home):
    folder = home / "datasets" / "trees"
    folder.mkdir(parents=True)
    embeddings, _ = make(20)
    rng, names = np.random.default_rng(3), np.array(embeddings.names)
    one, two = np.triu_indices(10, 1)
    blind = pd.DataFrame(
        {"image1": names[one], "image2": names[two], "similarity": rng.integers(0, 4, len(one))}
    )
    query, place = np.divmod(np.arange(4 * 8), 8)
    judged = pd.DataFrame(
        {
            "query_image": names[query],
            "retrieved_image": names[4 + place],
            "similarity": rng.integers(0, 4, len(query)),
        }
    )
    blind.to_csv(folder / "blind.csv", index=False)
    judged.to_csv(folder / "judged.csv", index=False)
    settings = parse_study(
        {
            "study": "tiny",
            "images": {"source": "trees"},
            "blind_test": "blind.csv",
            "judged_results": "judged.csv",
        }
    )
    train = pd.DataFrame({"image1": names[8:12], "image2": names[12:16]})
    model = Model(calibration=Calibration((5.0, 5.0, 5.0), (0.0, -1.0, -2.0), 0.4))
    [row] = relevance.own_protocol(
        Run("tiny", settings), embeddings, {"encoder": model}, train
    ).to_dict("records")
    unit = {
        name: vector / np.linalg.norm(vector) for name, vector in zip(names, embeddings.of(names))
    }

    called = [
        1 / (1 + np.exp(2 - 5 * unit[a] @ unit[b])) >= 0.4
        for a, b in zip(blind.image1, blind.image2)
    ]
    similar = (blind.similarity == 3).tolist()
    hits = sum(c and s for c, s in zip(called, similar))
    assert row["pairs"] == 45 and row["shared_images"] == 2
    assert row["accuracy"] == pytest.approx(sum(c == s for c, s in zip(called, similar)) / 45)
    assert row["f1"] == pytest.approx(2 * hits / (sum(called) + sum(similar)))
    gains, precisions = [], []
    for name, part in judged.groupby("query_image"):
        cosine = {other: float(unit[name] @ unit[other]) for other in part.retrieved_image}
        best = sorted(
            part.itertuples(), key=lambda r: (-cosine[r.retrieved_image], r.retrieved_image)
        )
        value = [
            sum((2**g - 1) / np.log2(rank + 2) for rank, g in enumerate(grades))
            for grades in (
                [r.similarity for r in best[:5]],
                sorted(part.similarity, reverse=True)[:5],
            )
        ]
        gains.append(value[0] / value[1])
        right = [r.similarity == 3 for r in best[:5]]
        if relevant := (part.similarity == 3).sum():
            precisions.append(
                sum(sum(right[: n + 1]) / (n + 1) for n in range(5) if right[n]) / relevant
            )
    assert row["nDCG@5"] == pytest.approx(np.mean(gains)) and row["MAP@5"] == pytest.approx(
        np.mean(precisions)
    )


def test_means_are_worded_in_the_order_of_the_table():
    table = pd.DataFrame(
        {
            "measure": ["P@1", "AP", "P@1", "AP"],
            "model": ["head", "head", "encoder", "encoder"],
            "mean": [0.5, 0.25, 0.125, 0.2],
            "low": [0.4, np.nan, 0.1, 0.1],
            "high": [0.6, np.nan, 0.2, 0.3],
        }
    )
    words = relevance.in_words(table, "measure", "model")
    assert words.index.tolist() == ["P@1", "AP"] and words.columns.tolist() == ["head", "encoder"]
    assert words.loc["P@1", "head"] == "0.500 [0.400, 0.600]"
    assert words.loc["AP", "head"] == "0.250"  # of too few queries for an interval
    signed = relevance.in_words(table, "measure", "model", "mean", "low", "high", sign="+")
    assert signed.loc["AP", "encoder"] == "+0.200 [+0.100, +0.300]"

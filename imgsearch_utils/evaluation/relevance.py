"""From neighbours to relevance: images are ranked by a model's vectors, and the grades judge the
lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from imgsearch_utils.grades import oracles, read_pairs
from imgsearch_utils.images import Collection, Embeddings, Images
from imgsearch_utils.learning.model import Model
from imgsearch_utils.metrics import bootstrap, class_confusion, decision_metrics, retrieval_metrics
from imgsearch_utils.workspace import Run
from imgsearch_utils.workspace.tables import intervals

GAIN = ("gain", "gain_low", "gain_high")  # columns: over the first ranking, and its interval
BOTH_WAYS = (("query", "image"), ("image", "query"))
QUERIES = 200
GALLERY = 5_000  # images that a ranking is measured among: more are sampled
MOST_COSINES = 50_000_000  # that are held at once


@dataclass(frozen=True)
class Judge:
    """Who says how similar a result is to its query: the study's oracle where there is one, else
    the grades given.

    In a run that people teach, that is the classes until somebody grades test pairs; without
    classes, nobody.

    graded : image1, image2, similarity, side, automatic
    """

    run: Run
    collection: Collection
    graded: pd.DataFrame

    @property
    def source(self) -> str:
        """What judges: "oracle", "grades", "classes", or "nobody"."""
        if self.run.study.oracle in ("rubric", "hierarchy"):
            return "oracle"
        if not self.run.taught or (~self.graded.automatic[self.graded.side == "test"]).any():
            return "grades"
        classes = self.collection.class_column
        return "classes" if classes and self.collection.images[classes].nunique() > 1 else "nobody"

    def grades(self, ranked: pd.DataFrame) -> pd.DataFrame:
        """Grades `query`, `image`, `grade` of ranked results, as far as they are known."""
        results = ranked[["query", "image"]]
        pairs = ranked.rename(columns={"query": "image1", "image": "image2"})
        if self.source == "classes":
            grades = oracles.answer("hierarchy", pairs, self.collection.images)
            return results.assign(grade=grades)
        if self.source == "oracle":
            attributes = oracles.known_to_oracle(self.run, self.collection)
            return results.assign(grade=oracles.answer(self.run.study.oracle, pairs, attributes))
        graded = self.graded[["image1", "image2", "similarity"]]
        # a pair was graded once, and either image may be the query
        both = [graded.set_axis([*names, "grade"], axis=1) for names in BOTH_WAYS]
        return results.merge(pd.concat(both), on=["query", "image"])


def rank(images: Images, model: Model, queries: Sequence[str] | None = None) -> pd.DataFrame:
    """Rank all images for each query by cosine, exactly: `query`, `image`, `score`; never the query
    itself.

    queries : their names; all of the images when not given
    """
    gallery, queries = images.names, images.names if queries is None else list(queries)
    cosine = model.vectors(images.vectors_of(queries)) @ model.vectors(images.vectors).T
    table = pd.DataFrame(
        {
            "query": np.repeat(queries, len(gallery)),
            "image": np.tile(gallery, len(queries)),
            "score": cosine.ravel(),
        }
    )
    return table[table["query"] != table["image"]].reset_index(drop=True)


def some_queries(test: Images) -> list[str]:
    """At most ``QUERIES`` of the images, drawn at random, so that a ranking of all for each is no
    quadratic table.
    """
    return sorted(sampled(test, QUERIES).names)


def sampled(images: Images, most: int = GALLERY) -> Images:
    """All of the images, or a random sample of `most` of them.

    The sample holds as large a share of similar images as all do, so AP means the same; precision
    at the top is lower than among all images, where more are near."""
    if len(images) <= most:
        return images
    return images.among(np.random.default_rng(0).choice(sorted(images.names), most, replace=False))


def nearest(images: Images, model: Model, queries: Sequence[str], k: int) -> pd.DataFrame:
    """The k best images of each query, as ``first_results`` of ``rank`` gives them, without a table
    of all others.
    """
    gallery, unit = np.asarray(images.names, object), model.vectors(images.vectors)
    asked, place = model.vectors(images.vectors_of(queries)), pd.Index(gallery)
    n, tables = min(k, len(images) - 1), []
    part = max(1, MOST_COSINES // len(gallery))
    for at in range(0, len(queries), part):
        for query, cosine in zip(queries[at : at + part], asked[at : at + part] @ unit.T):
            cosine[place.get_loc(query)] = -np.inf
            # the n best, and all that tie with the last
            rows = np.flatnonzero(cosine >= np.partition(cosine, -n)[-n])
            tables.append(
                pd.DataFrame({"query": query, "image": gallery[rows], "score": cosine[rows]})
            )
    return first_results(pd.concat(tables, ignore_index=True), n)


def first_results(ranked: pd.DataFrame, k: int) -> pd.DataFrame:
    """The k best of each query, best first, equal scores by name, with their `rank` from 1."""
    ranked = ranked.sort_values(["query", "score", "image"], ascending=[True, False, True])
    place = ranked.groupby("query").cumcount() + 1
    return ranked.assign(rank=place)[place <= k]


def compare_rankings(
    rankings: dict[str, tuple[Images, Model]],
    judge: Judge,
    ks: Sequence[int] = (5, 10),
    more: bool = False,
) -> pd.DataFrame:
    """Retrieval measures of each ranking: ``sampled`` images are the gallery, ``some_queries`` of
    them the queries.

    Parameters
    ----------
    rankings : name -> the same images each time, with the vectors and the model that rank them
    ks, more : as of ``metrics.retrieval_metrics``

    Returns
    -------
    model (the ranking's name), class (of the queries, on the finest level, for AP; empty for all of
    them), measure, mean, low, high (95 % bootstrap over the queries' image groups), queries (that
    have the measure), judged_by; for all queries also gain, gain_low, gain_high over the first
    ranking. No row where nobody judges"""
    columns = ["model", "class", "measure", "mean", "low", "high", "queries", *GAIN]
    if judge.source == "nobody":
        return pd.DataFrame(columns=[*columns, "judged_by"])
    rankings = {name: (sampled(images), model) for name, (images, model) in rankings.items()}
    first = next(iter(rankings.values()))[0]
    queries, group = some_queries(first), first.table.set_index("image").group
    grades = judge.grades(rank(first, Model(), queries))
    if grades.empty:
        raise ValueError("no test image has a judged result; grade test pairs first")
    of_first, rows = None, []
    for name, (images, model) in rankings.items():
        per_query = retrieval_metrics(rank(images, model, queries), grades, ks, more)
        per_query = per_query.set_index("query").drop(columns=["n_judged", "n_relevant"])
        groups = group[per_query.index]
        # the first gains nothing over itself: no number, rather than 0
        gains = per_query - of_first if of_first is not None else per_query * np.nan
        of_first = per_query if of_first is None else of_first
        for measure, values in per_query.items():
            mean = (*bootstrap(values, groups), values.notna().sum())
            rows.append((name, "", measure, *mean, *bootstrap(gains[measure], groups)))
        if first.class_columns:
            classes = first.table.set_index("image")[first.class_columns[-1]]
            for label, values in per_query.AP.groupby(classes[per_query.index]):
                mean = (*bootstrap(values, groups[values.index]), values.notna().sum())
                rows.append((name, label, "AP", *mean, np.nan, np.nan, np.nan))
    return pd.DataFrame(rows, columns=columns).assign(judged_by=judge.source)


def mean_ap(images: Images, grades: pd.DataFrame) -> float:
    """The mean average precision of ``some_queries`` of the images, by their vectors.

    grades : as of ``Judge.grades``; NaN where no query has a similar image
    """
    ranked = rank(images, Model(), some_queries(images))
    return float(retrieval_metrics(ranked, grades, [10]).AP.mean())


def of_all(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``compare_rankings`` that are of all queries, also after they were kept in a
    file.
    """
    return table[table["class"].fillna("") == ""]


def of_classes(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are of the queries of a class."""
    return table[table["class"].fillna("") != ""]


def in_words(
    table: pd.DataFrame, rows: str, columns: str, *of: str, sign: str = ""
) -> pd.DataFrame:
    """Means with their intervals as text, in the table's order of rows and columns.

    rows, columns : the table's columns whose values become the rows and the columns
    of, sign : as of ``tables.intervals``
    """
    text = pd.Series(intervals(table, *of, sign=sign), table.index, dtype=object)
    text = text.str.replace(" [nan, nan]", "")  # of too few queries for an interval
    wide = table.assign(text=text).pivot(index=rows, columns=columns, values="text")
    return wide.loc[table[rows].unique(), table[columns].unique()]


def own_protocol(
    run: Run, embeddings: Embeddings, models: dict[str, Model], train: pd.DataFrame
) -> pd.DataFrame:
    """The study's own blind test pairs and judged results, measured as that study measured them.

    train : the training pairs, to say how many of the blind test's images they share

    Returns
    -------
    model, pairs, shared_images, accuracy, f1, nDCG@5, MAP@5 (mean AP of the first five results
    judged); empty where the study names neither"""
    images, rows = Images.of(embeddings), {model: {"model": model} for model in models}
    if not all(model.calibration for model in models.values()):  # before the first round
        return pd.DataFrame()
    if run.study.blind_test:
        pairs = read_pairs(run.data / run.study.blind_test).dropna(subset="similarity")
        named, seen = {*pairs.image1, *pairs.image2}, {*train.image1, *train.image2}
        for name, model in models.items():
            called_similar = model.p_similar(model.cosines(images, pairs)) >= model.threshold
            quality = decision_metrics((pairs.similarity == 3).to_numpy(), called_similar)
            rows[name] |= {
                "pairs": len(pairs),
                "shared_images": len(named & seen),
                "accuracy": quality["accuracy"],
                "f1": quality["f1"],
            }
    if run.study.judged_results:
        results = read_pairs(run.data / run.study.judged_results, "query_image", "retrieved_image")
        results = results.dropna(subset="similarity")
        grades = results.rename(
            columns={"image1": "query", "image2": "image", "similarity": "grade"}
        )
        grades = grades[["query", "image", "grade"]]
        for name, model in models.items():
            ranked = grades[["query", "image"]].assign(score=model.cosines(images, results))
            per_query = retrieval_metrics(first_results(ranked, 5), grades, [5])
            rows[name] |= {"nDCG@5": per_query["nDCG@5"].mean(), "MAP@5": per_query["AP"].mean()}
    return pd.DataFrame([row for row in rows.values() if len(row) > 1])


def confusion_of_results(test: Images, model: Model, k: int) -> pd.DataFrame:
    """Classes of the first k results (columns, shares) for queries of each class (rows), among the
    test images.
    """
    first, classes = nearest(test, model, some_queries(test), k), test.classes
    of_results = classes.loc[first.image].to_numpy().reshape(-1, min(k, len(test) - 1))
    return class_confusion(classes.loc[first["query"].drop_duplicates()].to_numpy(), of_results)


def example_results(
    test: Images, models: dict[str, Model], n_queries: int, k: int, seed: int
) -> pd.DataFrame:
    """The first k test images for ``some_queries``, to show some of them: ``example_queries`` says
    which.

    Returns
    -------
    query, model, rank, image, score, and drawn: whether it is one of the n_queries that chance
    drew, which come first"""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(test.names, min(n_queries, len(test)), replace=False).tolist()
    asked = sorted({*drawn, *some_queries(test)})
    tables = [nearest(test, model, asked, k).assign(model=name) for name, model in models.items()]
    results = pd.concat(tables, ignore_index=True)
    results = results.assign(drawn=results["query"].isin(drawn))
    results = results.sort_values("drawn", ascending=False, kind="stable", ignore_index=True)
    return results[["query", "model", "rank", "image", "score", "drawn"]]

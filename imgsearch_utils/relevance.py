"""From neighbours to relevance: rank images by a model's vectors and measure the lists by the grades."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from imgsearch_utils import oracles
from imgsearch_utils.ann import relevance_lost
from imgsearch_utils.calibration import Calibration
from imgsearch_utils.embeddings import Embeddings
from imgsearch_utils.images import Collection
from imgsearch_utils.indexes import find, normalised
from imgsearch_utils.metrics import class_confusion, decision_metrics, retrieval_metrics
from imgsearch_utils.pairs import read_pairs
from imgsearch_utils.rounds import known_to_oracle
from imgsearch_utils.siamese import Head
from imgsearch_utils.study import IndexSettings
from imgsearch_utils.workspace import Run


def head_embeddings(encoder: Embeddings, head: Head) -> Embeddings:
    """The head's unit embeddings of the encoder's vectors, with the configuration of both."""
    config = {**encoder.config, "head": head.settings.model_dump()}
    return Embeddings(encoder.names, head.embed(np.asarray(encoder.vectors)), config, encoder.digests)


def rank(embeddings: Embeddings, queries: list[str], gallery: list[str]) -> pd.DataFrame:
    """Rank the whole gallery for each query by cosine, exactly: `query`, `image`, `score`; never the query itself."""
    cosine = normalised(embeddings.of(queries)) @ normalised(embeddings.of(gallery)).T
    table = pd.DataFrame({"query": np.repeat(queries, len(gallery)), "image": np.tile(gallery, len(queries)),
                          "score": cosine.ravel()})
    return table[table["query"] != table["image"]].reset_index(drop=True)


def judged(run: Run, collection: Collection, ranked: pd.DataFrame, graded: pd.DataFrame) -> pd.DataFrame:
    """Grades of ranked results, `query`, `image`, `grade`: the oracle's where there is one, else those people gave."""
    if run.study.oracle in ("rubric", "hierarchy"):
        known = known_to_oracle(run, collection)
        asked = ranked.rename(columns={"query": "image1", "image": "image2"})
        return ranked[["query", "image"]].assign(grade=oracles.answer(run.study.oracle, asked, known))
    both = [graded.rename(columns={"image1": a, "image2": b, "similarity": "grade"})[["query", "image", "grade"]]
            for a, b in (("query", "image"), ("image", "query"))]
    return ranked[["query", "image"]].merge(pd.concat(both), on=["query", "image"])


def summarise(per_query: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Mean over queries of each measure with its 95 % bootstrap interval: `measure`, `mean`, `low`, `high`, `queries`.

    per_query : from ``metrics.retrieval_metrics``
    """
    rows = []
    for measure in per_query.columns.drop(["query", "n_judged", "n_relevant"]):
        values = per_query[measure].dropna().to_numpy(float)
        low = high = mean = float(values.mean()) if len(values) else float("nan")
        if len(values) > 1 and values.std():
            interval = bootstrap((values,), np.mean, n_resamples=2000, method="percentile",
                                 rng=np.random.default_rng(seed)).confidence_interval
            low, high = map(float, interval)
        rows.append((measure, mean, low, high, len(values)))
    return pd.DataFrame(rows, columns=["measure", "mean", "low", "high", "queries"])


def compare_models(run: Run, collection: Collection, models: dict[str, Embeddings], images: pd.DataFrame,
                   graded: pd.DataFrame, ks: list[int]) -> pd.DataFrame:
    """Retrieval measures of each model with the test images as queries and as gallery: `model` + `summarise`."""
    test = images.image[images.side == "test"].tolist()
    tables = []
    for model, embeddings in models.items():
        ranked = rank(embeddings, test, test)
        grades = judged(run, collection, ranked, graded)
        if grades.empty:
            raise ValueError("no test image has a judged result; label test pairs first")
        tables.append(summarise(retrieval_metrics(ranked, grades, ks), run.study.seed).assign(model=model))
    return pd.concat(tables, ignore_index=True)[["model", "measure", "mean", "low", "high", "queries"]]


def lost_by_indexes(run: Run, collection: Collection, models: dict[str, Embeddings], images: pd.DataFrame,
                    graded: pd.DataFrame, index_settings: Sequence[IndexSettings], k: int) -> pd.DataFrame:
    """nDCG@k and AP lost against exact search, test images asking for all images: `model` + `relevance_lost`.

    So many test images ask that about 60,000 results are judged (20 at least, 200 at most), since every setting of
    every index is measured on them.
    """
    test, names = images.image[images.side == "test"].sort_values(), images.image.tolist()
    enough = min(max(20, 60_000 // len(names)), 200, len(test))
    asked = test.sample(enough, random_state=run.study.seed).tolist()
    grades = judged(run, collection, rank(models["encoder"], asked, names), graded)
    tables = [relevance_lost(normalised(embeddings.of(names)), names, normalised(embeddings.of(asked)), asked, grades,
                             index_settings, min(k, len(names) - 1), run.study.seed).assign(model=model)
              for model, embeddings in models.items()]
    return pd.concat(tables, ignore_index=True)


def own_protocol(run: Run, models: dict[str, Embeddings], calibrations: dict[str, Calibration],
                 train: pd.DataFrame) -> pd.DataFrame:
    """The study's own blind test pairs and judged results, by its headline measures.

    Parameters
    ----------
    models, calibrations : by model; the calibrations give the threshold
    train : the training pairs, to say how many of the blind test's images they share

    Returns
    -------
    model, pairs, shared_images, accuracy, f1, nDCG@5, MAP@5 (mean AP of the first five results judged); empty where
    the study names neither
    """
    rows = {model: {"model": model} for model in models}
    if run.study.blind_test:
        pairs = read_pairs(run.data / run.study.blind_test).dropna(subset="similarity")
        named, seen = {*pairs.image1, *pairs.image2}, {*train.image1, *train.image2}
        for model, embeddings in models.items():
            one, two = (normalised(embeddings.of(pairs[column])) for column in ("image1", "image2"))
            said = calibrations[model].predict((one * two).sum(1))[:, 3] >= calibrations[model].threshold
            found = decision_metrics((pairs.similarity == 3).to_numpy(), said)
            rows[model] |= {"pairs": len(pairs), "shared_images": len(named & seen), "accuracy": found["accuracy"],
                            "f1": found["f1"]}
    if run.study.judged_results:
        judgements = read_pairs(run.data / run.study.judged_results, "query_image", "retrieved_image")
        grades = judgements.dropna(subset="similarity").rename(
            columns={"image1": "query", "image2": "image", "similarity": "grade"})[["query", "image", "grade"]]
        for model, embeddings in models.items():
            one, two = (normalised(embeddings.of(grades[column])) for column in ("query", "image"))
            ranked = grades[["query", "image"]].assign(score=(one * two).sum(1))
            ranked = ranked.sort_values(["query", "score", "image"], ascending=[True, False, True])
            per_query = retrieval_metrics(ranked.groupby("query").head(5), grades, [5])
            rows[model] |= {"nDCG@5": per_query["nDCG@5"].mean(), "MAP@5": per_query["AP"].mean()}
    return pd.DataFrame([row for row in rows.values() if len(row) > 1])


def pooled_rankings(run: Run, images: pd.DataFrame, k: int) -> pd.DataFrame:
    """The first `k` test images for each test image, by the vectors of every model in every index of the study.

    Returns
    -------
    query_image, retrieved_image, system ("head, faiss_lsh"), rank (1 is best)

    Raises
    ------
    ValueError
        where the run has no vectors yet.
    """
    test, tables = images.image[images.side == "test"].to_numpy(), []
    for model in ("encoder", "head"):
        if not (run.vectors / model).is_dir():
            raise ValueError(f"run {run.name} has no vectors of the {model} yet; run it to its end first")
        unit = normalised(Embeddings.load(run.vectors / model).of(test))
        for settings in run.study.indexes:
            found = find(settings.name)().build(unit, **settings.build).query(unit, min(k + 1, len(test)))
            query, place = np.nonzero((found >= 0) & (found != np.arange(len(test))[:, None]))
            table = pd.DataFrame({"query_image": test[query], "retrieved_image": test[found[query, place]]})
            rank_ = table.groupby("query_image").cumcount() + 1
            tables.append(table.assign(system=f"{model}, {settings.name}", rank=rank_)[rank_ <= k])
    return pd.concat(tables, ignore_index=True)


def confusion_of_results(embeddings: Embeddings, images: pd.DataFrame, class_column: str, k: int) -> pd.DataFrame:
    """Classes of the first k results (columns, shares) for test queries of each class (rows), among the test images."""
    test = images[images.side == "test"]
    names = test.image.tolist()
    first = rank(embeddings, names, names).sort_values(["query", "score", "image"], ascending=[True, False, True])
    first = first.groupby("query").head(k)
    classes = test.set_index("image")[class_column]
    found = classes.loc[first.image].to_numpy().reshape(-1, min(k, len(names) - 1))
    return class_confusion(classes.loc[first["query"].drop_duplicates()].to_numpy(), found)


def example_results(models: dict[str, Embeddings], images: pd.DataFrame, n_queries: int, k: int,
                    seed: int) -> pd.DataFrame:
    """The first k test images for a few random test queries: `query`, `model`, `rank`, `image`, `score`."""
    test = images.image[images.side == "test"].tolist()
    queries = sorted(np.random.default_rng(seed).choice(test, min(n_queries, len(test)), replace=False).tolist())
    tables = []
    for model, embeddings in models.items():
        ranked = rank(embeddings, queries, test).sort_values(["query", "score", "image"], ascending=[True, False, True])
        ranked["rank"] = ranked.groupby("query").cumcount() + 1
        tables.append(ranked[ranked["rank"] <= k].assign(model=model))
    return pd.concat(tables, ignore_index=True)[["query", "model", "rank", "image", "score"]]

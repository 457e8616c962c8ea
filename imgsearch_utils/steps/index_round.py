"""Notebook 03: what an index misses by the distances, what people would miss by the grades, whether
it survives.
"""

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from imgsearch_utils import indexes
from imgsearch_utils.evaluation.relevance import Judge, first_results, rank, sampled, some_queries
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.indexes import drawn_like, hold_out, points_of, recall_of
from imgsearch_utils.learning.model import MODELS, Model
from imgsearch_utils.metrics import bootstrap, retrieval_metrics
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import IndexSettings
from imgsearch_utils.workspace import Run, Stage, write_json


def held_out_queries(embeddings: Embeddings, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (gallery, queries): a tenth of the vectors, at most 1,000, asks for the others."""
    n = len(embeddings.names)
    return hold_out(n, max(1, min(1000, n // 10)), seed)


def lost_by_indexes(
    images: Images,
    models: dict[str, Model],
    judge: Judge,
    index_settings: Sequence[IndexSettings],
    k: int,
) -> pd.DataFrame:
    """What indexes lose against exact search by the grades: nDCG@k and AP of the first k results.

    Test images ask for all images: so many of them that about 60,000 results are judged (20 at
    least, 200 at most), since every setting of every index is measured on them. Of more than 50,000
    images a random sample is indexed.

    Returns
    -------
    a row per model, index and query point: model, index, build, query, n_queries; for nDCG@k and AP
    the mean (`nDCG`, `AP`), the mean loss against exact search (`nDCG_lost`, positive: worse) and
    its 95 % interval over the queries' image groups (`..._low`, `..._high`); judged, the mean share
    of judged among the first k; no row where nobody judges"""
    if judge.source == "nobody":
        return pd.DataFrame(columns=["model", "index", "build", "query"])
    images = sampled(images, 50_000)
    test = images.split("test").table.image.sort_values()
    enough = min(max(20, 60_000 // len(images)), 200, len(test))
    asked = test.sample(enough, random_state=judge.run.study.seed).tolist()
    grades, k = judge.grades(rank(images, models["encoder"], asked)), min(k, len(images) - 1)
    rows = [
        row
        for model in models.values()
        for row in _lost(images, asked, model, grades, index_settings, k)
    ]
    return pd.DataFrame(rows)


def _lost(images, asked, model, grades, index_settings, k):
    """Each index at each of its points, of one model's vectors: a row of ``lost_by_indexes``
    each.
    """
    names, groups = np.asarray(images.names), images.table.set_index("image").group
    vectors, queries = model.vectors(images.vectors), model.vectors(images.vectors_of(asked))

    def measure(index, point):
        ids = index.query(queries, k + 1, **point)
        query, place = np.nonzero(ids >= 0)
        ranked = pd.DataFrame(
            {"query": np.take(asked, query), "image": names[ids[query, place]], "score": -place}
        )
        ranked = first_results(ranked[ranked["image"] != ranked["query"]], k)
        return retrieval_metrics(ranked, grades, [k]).set_index("query")

    best = measure(indexes.find("exact")().build(vectors), {})
    for settings in index_settings:
        index = indexes.find(settings.name)().build(vectors, **settings.build)
        for point in points_of(settings):
            quality = measure(index, point)
            row = {
                "model": model.name,
                "index": settings.name,
                "build": json.dumps(settings.build, sort_keys=True),
                "query": json.dumps(point, sort_keys=True),
                "n_queries": int(quality[f"nDCG@{k}"].notna().sum()),
            }
            for name, column in (("nDCG", f"nDCG@{k}"), ("AP", "AP")):
                lost = best[column] - quality[column]
                mean, low, high = bootstrap(lost, groups[lost.index])
                row |= {
                    name: quality[column].mean(),
                    f"{name}_lost": mean,
                    f"{name}_low": low,
                    f"{name}_high": high,
                }
            yield row | {"judged": quality[f"judged@{k}"].mean()}


def larger_sets(
    vectors: np.ndarray, sizes: Sequence[int], seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gallery and 100 queries of each size that is larger than the vectors (n, d): synthetic, drawn
    like them.
    """
    for size in sizes:
        if size > len(vectors) >= 40:
            drawn = drawn_like(vectors, size + 100, seed)
            yield drawn[:size], drawn[size:]


def keep_index(stage: Stage, choice: dict, vectors: np.ndarray) -> None:
    """Build the chosen index of all vectors and keep it with what it is, for search to load."""
    if not stage.finished:
        index = indexes.find(choice["index"])().build(vectors, **choice["build"])
        index.save(stage["indexes"] / choice["file"])
        write_json(stage["indexes"] / "index.json", choice)


def survival(
    embeddings: Embeddings, before: Model, now: Model, points: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Recall of indexes built of the previous head's vectors and asked with the new head's, whose
    neighbours are true.

    points : index, build, query (JSON), k of the settings to try

    Returns
    -------
    index, query, and the recall "of the previous head" and "built again"
    """
    gallery, queries = held_out_queries(embeddings, seed)
    old, new = (model.vectors(np.asarray(embeddings.vectors)) for model in (before, now))
    rows = []
    for point in points.to_dict("records"):
        build, query = json.loads(point["build"]), json.loads(point["query"])
        recalls = [
            recall_of(
                indexes.find(point["index"])().build(vectors[gallery], **build),
                new[gallery],
                new[queries],
                point["k"],
                **query,
            )
            for vectors in (old, new)
        ]
        rows.append([point["index"], point["query"], *recalls])
    return pd.DataFrame(rows, columns=["index", "query", "of the previous head", "built again"])


def pooled_rankings(run: Run, test: Images, k: int) -> pd.DataFrame:
    """The first `k` test images by the vectors of every model in every index of the study.

    The queries are those on which rankings are measured (``relevance.compare_rankings``).

    Returns
    -------
    query_image, retrieved_image, system ("head, faiss_lsh"), rank (1 is best)

    Raises
    ------
    ValueError
        where the run has no vectors yet.
    """
    names, tables = np.asarray(test.names), []
    asked = pd.Index(names).get_indexer(some_queries(sampled(test)))
    for model in MODELS:
        if not (run.vectors / model).is_dir():
            raise ValueError(
                f"run {run.name} has no vectors of the {model} yet; run it to its end first"
            )
        unit = normalised(Embeddings.load(run.vectors / model).of(names))
        for settings in run.study.indexes:
            index = indexes.find(settings.name)().build(unit, **settings.build)
            ids = index.query(unit[asked], min(k + 1, len(names)))
            query, place = np.nonzero((ids >= 0) & (ids != asked[:, None]))
            table = pd.DataFrame(
                {"query_image": names[asked[query]], "retrieved_image": names[ids[query, place]]}
            )
            rank_ = table.groupby("query_image").cumcount() + 1
            tables.append(table.assign(system=f"{model}, {settings.name}", rank=rank_)[rank_ <= k])
    return pd.concat(tables, ignore_index=True)

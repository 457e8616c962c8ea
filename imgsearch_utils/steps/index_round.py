"""Notebook 03: what an index misses by the distances, what people would miss by the grades, whether
it survives.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from imgsearch_utils import indexes
from imgsearch_utils.encoders.embed_collection import open_images
from imgsearch_utils.evaluation import relevance
from imgsearch_utils.evaluation.baselines import rankings
from imgsearch_utils.evaluation.relevance import Judge, first_results
from imgsearch_utils.images.collection import Collection
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.indexes import drawn_like, hold_out, points_of, recall_of
from imgsearch_utils.learning.model import MODELS, Model, model_vectors
from imgsearch_utils.metrics import bootstrap, retrieval_metrics
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.steps.learning_round import evidence, models_in, models_of
from imgsearch_utils.steps.rounds_log import log_rounds
from imgsearch_utils.study import IndexSettings
from imgsearch_utils.workspace import Run, write_json

POINT = ["model", "index", "build", "query"]  # what names a measured point in all tables
MOST_QUERIES = 1000
MOST_INDEXED = 50_000  # images whose results are judged; of more, a random sample is
EXAMPLES, EXAMPLE_RESULTS = 3, 6  # queries that chance draws to be shown, and results of each


class IndexRound:
    """The comparison of one run; whatever is measured is kept in its stage, and not measured again.

    k : neighbours that are wanted; ``k`` is at most as many as can be found
    least_recall : of an index that may be chosen

    Attributes
    ----------
    images, models : the run's images, and the models of its last round by name
    searched : which of the models search uses
    recall : the column of the tables that an index is chosen by, recall@k
    judge : who says what is similar
    """

    def __init__(self, run: Run, collection: Collection, k: int, least_recall: float):
        self.run, self.collection, self.least_recall = run, collection, least_recall
        self.stage, self.images = run.comparison_stage(), open_images(run)
        self.log, self.models = log_rounds(run), models_in(run, self.images)
        self.searched = "head" if len(self.log) and self.log.promoted.iloc[-1] else "encoder"
        self.unit_vectors = {
            name: normalised(model_vectors(run, self.images.embeddings, model, keep=True))
            for name, model in self.models.items()
        }
        self.gallery, self.queries = held_out_rows(len(self.images.embeddings.names), run)
        self.wanted, self.k = k, min(k, len(self.gallery))
        self.recall = f"recall@{self.k}"
        last_round = run.rounds_made[-1] if len(self.log) else run.round(0)
        self.graded = evidence(last_round, self.images)
        self.judge = Judge(run, collection, self.graded)
        #: measured points, kept until the stage is finished: a comparison that was stopped goes on
        self.points = run.results / "ann_points"
        self._compare = partial(
            indexes.compare_indexes, k=self.k, folder=self.points, progress=tqdm
        )

    def compare_indexes(self) -> pd.DataFrame:
        """The study's indexes by each model's vectors: columns of ``indexes.compare_indexes``, and
        model, megabytes, resident_megabytes.
        """

        def measure():
            tables = []
            for name, unit in self.unit_vectors.items():
                gallery, queries = unit[self.gallery], unit[self.queries]
                table = self._compare(gallery, queries, self.run.study.indexes)
                tables.append(table.assign(model=name))
            table = pd.concat(tables)
            return table.assign(
                megabytes=table["bytes"] / 1e6, resident_megabytes=table["memory_bytes"] / 1e6
            )

        return self.stage.keep("indexes.csv", measure)

    def fastest(self, table: pd.DataFrame, *of: str) -> pd.DataFrame:
        """The fastest point with the wanted recall, for each value of the columns `of`."""
        good = table[table[self.recall] >= self.least_recall]
        return good.sort_values("single_qps").groupby([*of]).tail(1)

    def choose(self, measured: pd.DataFrame, megabytes: float) -> dict:
        """The index to take and why; it is built of all the vectors that search uses, and kept.

        megabytes : of memory that it may take; 0: any
        """
        unit = self.unit_vectors[self.searched]

        def choose():
            by_searched = measured[measured.model == self.searched]
            best = indexes.recommend(by_searched, self.least_recall, megabytes=megabytes)
            return {"model": self.searched, "k": self.k, "file": "chosen.index", **best}

        choice = self.stage.keep("index.json", choose)
        if not self.stage.finished:
            index = indexes.find(choice["index"])().build(unit, **choice["build"])
            index.save(self.stage["indexes"] / choice["file"])
            # beside the index too, where search reads it
            write_json(self.stage["indexes"] / "index.json", choice)
        return choice

    def _larger_sets(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return larger_sets(
            self.unit_vectors[self.searched], self.run.study.sizes, self.run.study.seed
        )

    def compare_sizes(self, measured: pd.DataFrame) -> pd.DataFrame:
        """The same on larger, synthetic sets, with exact search first; and what was measured on the
        run's own.
        """
        others = [settings for settings in self.run.study.indexes if settings.name != "exact"]
        compared = [IndexSettings(name="exact"), *others]

        def measure():
            drawn = [self._compare(*one, compared, runs=1) for one in self._larger_sets()]
            return pd.concat([measured[measured.model == self.searched], *drawn])

        return self.stage.keep("sizes.csv", measure)

    def compare_filtered(self, fastest: pd.DataFrame) -> pd.DataFrame:
        """Searches among parts of the largest set, by each index at its fastest setting there."""
        unit = self.unit_vectors[self.searched]
        *_, (vectors, queries) = (unit[self.gallery], unit[self.queries]), *self._larger_sets()
        points = fastest[fastest.n == len(vectors)]
        return self.stage.keep(
            "filtered.csv",
            lambda: indexes.compare_filtered(
                vectors, queries, points, self.k, seed=self.run.study.seed
            ),
        )

    def survival(self, fastest: pd.DataFrame) -> pd.DataFrame | None:
        """``survival`` of the indexes at their fastest settings; None before the second round."""
        if len(self.log) < 2:
            return None

        def measure():
            before = models_of(self.run.rounds_made[-2], self.images)["head"]
            points = fastest[fastest.model == "head"]
            return survival(self.images.embeddings, before, self.models["head"], points, self.run)

        return self.stage.keep("survival.csv", measure)

    def compare_rankings(self) -> pd.DataFrame:
        """``relevance.compare_rankings`` of the test images, by each model and by the baselines."""
        test, seed = self.images.split("test"), self.run.study.seed
        return self.stage.keep(
            "retrieval.csv",
            lambda: relevance.compare_rankings(
                rankings(self.models, test, self.collection, seed), self.judge
            ),
        )

    def relevance_lost(self, measured: pd.DataFrame) -> pd.DataFrame:
        """``lost_by_indexes`` of the indexes that were measured, with the recall of each point."""
        at_hand = set(measured["index"])
        settings = [one for one in self.run.study.indexes if one.name in at_hand]

        def measure():
            lost = lost_by_indexes(self.images, self.models, self.judge, settings, self.wanted)
            return lost.merge(measured[[*POINT, self.recall]], on=POINT)

        return self.stage.keep("relevance_lost.csv", measure)

    def own_protocol(self) -> pd.DataFrame:
        """``relevance.own_protocol``: what the study itself names to be measured."""
        train = self.graded[self.graded.side == "train"]
        rows = self.stage.keep(
            "own_protocol.json",
            lambda: relevance.own_protocol(
                self.run, self.images.embeddings, self.models, train
            ).to_dict("records"),
        )
        return pd.DataFrame(rows)

    def class_confusions(self) -> dict[str, pd.DataFrame]:
        """``relevance.confusion_of_results`` of the first ten, by model; empty without classes."""
        if not self.images.class_column:
            return {}
        test = self.images.split("test")

        def measure(model):
            return relevance.confusion_of_results(test, model, 10).reset_index()

        return {
            name: self.stage.keep(f"confusion_{name}.csv", partial(measure, model))
            for name, model in self.models.items()
        }

    def examples(self) -> pd.DataFrame:
        """``relevance.example_results`` of the test images."""
        test, seed = self.images.split("test"), self.run.study.seed
        return self.stage.keep(
            "examples.csv",
            lambda: relevance.example_results(test, self.models, EXAMPLES, EXAMPLE_RESULTS, seed),
        )


def held_out_rows(n: int, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Rows (gallery, queries) of n vectors: a tenth of them, at most 1,000, asks for the others."""
    return hold_out(n, max(1, min(MOST_QUERIES, n // 10)), run.study.seed)


def abilities(names: Sequence[str]) -> pd.DataFrame:
    """What indexes can do once they are built: a row each, "yes" or a dash by add, delete,
    filter.
    """
    able = {name: indexes.find(name).can() for name in dict.fromkeys(names)}
    return pd.DataFrame(
        {
            verb: {name: "yes" if verb in can else "–" for name, can in able.items()}
            for verb in ("add", "delete", "filter")
        }
    )


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
        return pd.DataFrame(columns=POINT)
    images = relevance.sampled(images, MOST_INDEXED)
    test = images.split("test").table.image.sort_values()
    n_asked = min(max(20, 60_000 // len(images)), 200, len(test))
    asked = test.sample(n_asked, random_state=judge.run.study.seed).tolist()
    grades = judge.grades(relevance.rank(images, models["encoder"], asked))
    k = min(k, len(images) - 1)
    rows = []
    for model in models.values():
        rows += _lost_of_model(images, asked, model, grades, index_settings, k)
    return pd.DataFrame(rows)


def _lost_of_model(images, asked, model, grades, index_settings, k) -> Iterator[dict]:
    """The rows of ``lost_by_indexes`` of one model's vectors."""
    names, groups = np.asarray(images.names), images.table.set_index("image").group
    vectors, queries = model.vectors(images.vectors), model.vectors(images.vectors_of(asked))

    def measure(index, point):
        # one more than k: the query itself is among what is found
        ids = index.query(queries, k + 1, **point)
        query, place = np.nonzero(ids >= 0)
        ranked = pd.DataFrame(
            {"query": np.take(asked, query), "image": names[ids[query, place]], "score": -place}
        )
        ranked = first_results(ranked[ranked["image"] != ranked["query"]], k)
        return retrieval_metrics(ranked, grades, [k]).set_index("query")

    exact = measure(indexes.find("exact")().build(vectors), {})
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
                lost = exact[column] - quality[column]
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


def survival(
    embeddings: Embeddings, before: Model, now: Model, points: pd.DataFrame, run: Run
) -> pd.DataFrame:
    """Recall of indexes built of the previous head's vectors and asked with the new head's, whose
    neighbours are true.

    points : index, build, query (JSON), k of the settings to try

    Returns
    -------
    index, query, and the recall "of the previous head" and "built again"
    """
    gallery, queries = held_out_rows(len(embeddings.names), run)
    old, new = (model.vectors(np.asarray(embeddings.vectors)) for model in (before, now))
    rows = []
    for point in points.to_dict("records"):
        build, query = json.loads(point["build"]), json.loads(point["query"])
        row = {"index": point["index"], "query": point["query"]}
        for column, vectors in (("of the previous head", old), ("built again", new)):
            index = indexes.find(point["index"])().build(vectors[gallery], **build)
            row[column] = recall_of(index, new[gallery], new[queries], point["k"], **query)
        rows.append(row)
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
    asked = pd.Index(names).get_indexer(relevance.some_queries(relevance.sampled(test)))
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

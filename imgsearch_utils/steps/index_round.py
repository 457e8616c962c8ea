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
from imgsearch_utils.evaluation.relevance import Judge, first_results
from imgsearch_utils.images import Collection, Embeddings, Images
from imgsearch_utils.indexes import drawn_like, hold_out, recall_of
from imgsearch_utils.learning.model import MODELS, model_vectors, round_in_search
from imgsearch_utils.metrics import bootstrap, retrieval_metrics
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.steps.learning_round import evidence, models_in, models_of
from imgsearch_utils.steps.rounds_log import log_rounds
from imgsearch_utils.study import IndexSettings
from imgsearch_utils.workspace import Run, Stage, write_json

POINT = ["model", "index", "build", "query"]  # what names a measured point in all tables
MOST_QUERIES = 1000
MOST_INDEXED = 50_000  # images whose results are judged; of more, a random sample is
MOST_ASKED = 200
ENOUGH_RESULTS = 60_000  # that are judged to know what an index loses


class IndexRound:
    """The comparison of one run: what its methods give, notebook 03 keeps in the run's stage.

    k : neighbours that are wanted; the attribute is at most as many as the gallery has
    least_recall : of an index that may be chosen

    Attributes
    ----------
    images, models : the run's images, and the models of its last round by name
    searched : which of the models search uses
    unit_vectors : (n, d) of length 1, by model
    gallery, queries : rows of the vectors; a tenth, at most 1,000, asks for the others
    recall : the column recall@k of the tables
    graded, judge : the grades so far, and who says what is similar
    points : a folder of measured points: a comparison that was stopped goes on
    """

    def __init__(self, run: Run, collection: Collection, k: int, least_recall: float):
        self.run, self.least_recall, self.images = run, least_recall, open_images(run)
        self.log, self.models = log_rounds(run), models_in(run, self.images)
        self.searched = "head" if round_in_search(run) else "encoder"
        embeddings = self.images.embeddings
        self.unit_vectors = {
            name: normalised(model_vectors(run, embeddings, model, keep=True))
            for name, model in self.models.items()
        }
        n = len(embeddings.names)
        self.gallery, self.queries = hold_out(n, max(1, min(MOST_QUERIES, n // 10)), run.study.seed)
        self.wanted, self.k = k, min(k, len(self.gallery))
        self.recall = f"recall@{self.k}"
        self.graded = evidence(run.rounds_made[-1] if len(self.log) else run.round(0), self.images)
        self.judge = Judge(run, collection, self.graded)
        self.points = run.results / "ann_points"
        self._compare = partial(
            indexes.compare_indexes, k=self.k, folder=self.points, progress=tqdm
        )

    def compare_indexes(self) -> pd.DataFrame:
        """The study's indexes by each model's vectors: columns of ``indexes.compare_indexes``, and
        model, megabytes, resident_megabytes.
        """
        tables = []
        for name, unit in self.unit_vectors.items():
            gallery, queries = unit[self.gallery], unit[self.queries]
            table = self._compare(gallery, queries, self.run.study.indexes)
            tables.append(table.assign(model=name))
        table = pd.concat(tables)
        return table.assign(
            megabytes=table["bytes"] / 1e6, resident_megabytes=table["memory_bytes"] / 1e6
        )

    def fastest(self, table: pd.DataFrame, *of: str) -> pd.DataFrame:
        """The fastest point with the wanted recall, for each value of the columns `of`."""
        good = table[table[self.recall] >= self.least_recall]
        return good.sort_values("single_qps").groupby([*of]).tail(1)

    def choose(self, measured: pd.DataFrame, megabytes: float) -> dict:
        """The index to take for the vectors that search uses, and why: what index.json holds.

        megabytes : of memory that it may take; 0: any
        """
        measured = measured[measured.model == self.searched]
        chosen = indexes.recommend(measured, self.least_recall, megabytes=megabytes)
        return {"model": self.searched, "k": self.k, "file": "chosen.index", **chosen}

    def build(self, choice: dict, stage: Stage) -> None:
        """Build the chosen index of all vectors and keep it with what it is, for search to load."""
        if not stage.finished:
            unit = self.unit_vectors[choice["model"]]
            index = indexes.find(choice["index"])().build(unit, **choice["build"])
            index.save(stage["indexes"] / choice["file"])
            write_json(stage["indexes"] / "index.json", choice)

    def larger_sets(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Gallery and 100 queries of each size of the study that is larger than its own:
        synthetic, drawn like its vectors.
        """
        unit = self.unit_vectors[self.searched]
        for size in self.run.study.sizes:
            if size > len(unit) >= 40:
                drawn = drawn_like(unit, size + 100, self.run.study.seed)
                yield drawn[:size], drawn[size:]

    def compare_sizes(self, measured: pd.DataFrame) -> pd.DataFrame:
        """What was measured on the run's own vectors, and the same on the larger sets, exact search
        always among it.
        """
        others = [settings for settings in self.run.study.indexes if settings.name != "exact"]
        settings = [IndexSettings(name="exact"), *others]
        drawn = [self._compare(*vectors, settings, runs=1) for vectors in self.larger_sets()]
        return pd.concat([measured[measured.model == self.searched], *drawn])

    def compare_filtered(self, fastest: pd.DataFrame) -> pd.DataFrame:
        """Searches among parts of the largest set, by each index at its fastest setting there."""
        unit = self.unit_vectors[self.searched]
        *_, (vectors, queries) = (unit[self.gallery], unit[self.queries]), *self.larger_sets()
        points = fastest[fastest.n == len(vectors)]
        return indexes.compare_filtered(vectors, queries, points, self.k, seed=self.run.study.seed)

    def survival(self, points: pd.DataFrame) -> pd.DataFrame:
        """Recall of indexes built of the previous head's vectors and asked with the new head's,
        whose neighbours are true.

        points : model, index, build, query (JSON), k of the settings to try, those of the head

        Returns
        -------
        index, query, and the recall "of the previous head" and "built again"
        """
        before = models_of(self.run.rounds_made[-2], self.images)["head"]
        vectors = np.asarray(self.images.embeddings.vectors)
        old, new = before.vectors(vectors), self.models["head"].vectors(vectors)
        rows = []
        for point in points[points.model == "head"].to_dict("records"):
            build, query = json.loads(point["build"]), json.loads(point["query"])
            row = {"index": point["index"], "query": point["query"]}
            for column, built_of in (("of the previous head", old), ("built again", new)):
                index = indexes.find(point["index"])().build(built_of[self.gallery], **build)
                row[column] = recall_of(
                    index, new[self.gallery], new[self.queries], self.k, **query
                )
            rows.append(row)
        return pd.DataFrame(rows, columns=["index", "query", "of the previous head", "built again"])

    def relevance_lost(self, measured: pd.DataFrame) -> pd.DataFrame:
        """What indexes lose against exact search by the grades: nDCG@k and AP of the first k
        results.

        Test images ask for all images: so many of them that about 60,000 results are judged (20 at
        least, 200 at most), since every setting of every index is measured on them. Of more than
        50,000 images a random sample is indexed.

        Returns
        -------
        a row per point of `measured`: model, index, build, query, its recall, n_queries; for nDCG@k
        and AP the mean (`nDCG`, `AP`), the mean loss against exact search (`nDCG_lost`, positive:
        worse) and its 95 % interval over the queries' image groups (`nDCG_low`, ...); judged, the
        mean share of judged among the first k; no row where nobody judges"""
        if self.judge.source == "nobody":
            return pd.DataFrame(columns=[*POINT, self.recall])
        images = relevance.sampled(self.images, MOST_INDEXED)
        test = images.split("test").table.image.sort_values()
        n_asked = min(max(20, ENOUGH_RESULTS // len(images)), MOST_ASKED, len(test))
        asked = test.sample(n_asked, random_state=self.run.study.seed).tolist()
        grades = self.judge.grades(relevance.rank(images, self.models["encoder"], asked))
        points = measured[[*POINT, self.recall]]
        rows = []
        for model in self.models.values():
            of_model = points[points.model == model.name]
            rows += _lost_of_model(images, asked, model, grades, of_model, self.wanted)
        return pd.DataFrame(rows)


def _lost_of_model(images, asked, model, grades, points, k) -> Iterator[dict]:
    """The rows of ``relevance_lost`` of one model's vectors."""
    names, groups = np.asarray(images.names), images.table.set_index("image").group
    vectors, queries = model.vectors(images.vectors), model.vectors(images.vectors_of(asked))
    k = min(k, len(images) - 1)

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
    for (name, build), settings in points.groupby(["index", "build"], sort=False):
        index = indexes.find(name)().build(vectors, **json.loads(build))
        for row in settings.to_dict("records"):
            quality = measure(index, json.loads(row["query"]))
            row["n_queries"] = int(quality[f"nDCG@{k}"].notna().sum())
            for measured, column in (("nDCG", f"nDCG@{k}"), ("AP", "AP")):
                lost = exact[column] - quality[column]
                mean, low, high = bootstrap(lost, groups[lost.index])
                row |= {
                    measured: quality[column].mean(),
                    f"{measured}_lost": mean,
                    f"{measured}_low": low,
                    f"{measured}_high": high,
                }
            yield row | {"judged": quality[f"judged@{k}"].mean()}


def abilities(names: Sequence[str]) -> pd.DataFrame:
    """What indexes can do once they are built: a row each, "yes" or a dash by add and filter."""
    able = {name: indexes.find(name).can() for name in dict.fromkeys(names)}
    return pd.DataFrame(
        {
            verb: {name: "yes" if verb in can else "–" for name, can in able.items()}
            for verb in ("add", "filter")
        }
    )


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

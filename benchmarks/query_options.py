"""What crops, expansion and re-ranking are worth: nDCG@10 and AP of the test images, against the
plain query.

    python -m benchmarks.query_options [--study synthetic_houses] [--run RUN] [--out benchmarks]

Test images are queries and gallery both (a query's own picture is taken out, before expansion too),
ranked exactly by the encoder and by the run's latest head, judged by the study's oracle. Nothing is
chosen by it: all are off unless asked for. Writes query_options.csv: a row for each study, model
and setting, with the mean, its 95 % bootstrap interval, and the paired gain over the plain query
with its own (groups of near-duplicates are drawn together). Rows of other studies stay as they are.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from imgsearch_utils.encoders.embed_collection import open_images
from imgsearch_utils.evaluation.relevance import Judge
from imgsearch_utils.grades import graded_pairs
from imgsearch_utils.images import open_collection, open_image
from imgsearch_utils.metrics import bootstrap, retrieval_metrics
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.search.reranking import FIRST, RERANK, reranked
from imgsearch_utils.search.searcher import Searcher, crops_of, expanded
from imgsearch_utils.workspace import find_run

CROPS = (1, 3, 6, 10)
EXPANSIONS = [(0, 0.0), *((m, alpha) for m in (1, 3, 5, 10) for alpha in (0.0, 3.0))]
MEASURES = ["nDCG@10", "AP"]


def settings() -> list[tuple[int, int, float, str]]:
    """(crops, expand, alpha, rerank): crops alone, expansion alone, both; re-ranking alone, and
    after expansion.
    """
    plain = [
        *((crops, 0, 0.0) for crops in CROPS),
        *((1, m, alpha) for m, alpha in EXPANSIONS[1:]),
        (6, 3, 3.0),
    ]
    return [
        *((*each, "") for each in plain),
        *((1, 0, 0.0, way) for way in RERANK),
        (1, 3, 3.0, "reciprocal"),
    ]


def in_new_order(
    first: np.ndarray, unit: np.ndarray, gallery: np.ndarray, names: np.ndarray
) -> np.ndarray:
    """Scores (n, n) that put the first ``FIRST`` results of each query, by the cosines `first`, in
    another order.
    """
    found = np.full_like(first, -np.inf)
    for row, cosines in enumerate(first):
        order = np.lexsort([names, -cosines.round(6)])
        order = order[order != row]  # without its own picture
        top = order[:FIRST]
        top = top[reranked(unit[row], gallery[top], names[top])]
        found[row, np.concatenate([top, order[FIRST:]])] = -np.arange(len(order))
    return found


def rank(
    searcher: Searcher,
    queries: np.ndarray,
    images: list[str],
    expand: int,
    alpha: float,
    rerank: str,
) -> pd.DataFrame:
    """Rank `images` for each of them, its encoder vector being a row of `queries`: `query`,
    `image`, `score`.
    """
    unit, gallery = (
        searcher.model.vectors(vectors) for vectors in (queries, searcher.vectors_of(images))
    )
    if expand:
        cosine = unit @ gallery.T
        np.fill_diagonal(cosine, -np.inf)  # its own picture
        unit = expanded(
            unit, gallery[np.argsort(-cosine, axis=1, kind="stable")[:, :expand]], alpha
        )
    score = unit @ gallery.T
    if rerank:
        score = in_new_order(score, unit, gallery, np.array(images))
    table = pd.DataFrame(
        {
            "query": np.repeat(images, len(images)),
            "image": np.tile(images, len(images)),
            "score": score.ravel(),
        }
    )
    return table[table["query"] != table["image"]]


def measure(study: str, run_name: str) -> pd.DataFrame:
    """The rows of one study."""
    run = find_run(study, run_name)
    split = open_images(run)
    test = split.split("test").names
    groups = split.table.set_index("image").group
    encoder = Searcher.open(run, "encoder")
    pictures = [open_image(encoder.collection.path(name)) for name in test]
    cut = [
        encoder.encode(crops_of(picture, max(CROPS)))
        for picture in tqdm(pictures, desc=f"crops of {study}")
    ]
    every = normalised(np.concatenate(cut)).reshape(len(test), max(CROPS), -1)
    judge = Judge(run, open_collection(run), graded_pairs(run.last_round, split))
    rows = []
    for model in ("encoder", "head"):
        searcher, plain = Searcher.open(run, model), None
        for crops, expand, alpha, rerank in settings():
            # of n crops `encode` takes the first: the picture, the crops, the mirrored crops
            ranked = rank(searcher, every[:, :crops].mean(1), test, expand, alpha, rerank)
            grades = judge.grades(ranked)
            found = retrieval_metrics(ranked, grades, [10]).set_index("query")[MEASURES]
            plain = found if plain is None else plain
            for name in MEASURES:
                values = found[name].dropna()
                mean, low, high = bootstrap(values, groups[values.index])
                gain = bootstrap(values - plain[name][values.index], groups[values.index])
                rows.append(
                    (
                        study,
                        model,
                        crops,
                        expand,
                        alpha,
                        rerank,
                        name,
                        len(values),
                        mean,
                        low,
                        high,
                        *gain,
                    )
                )
    columns = [
        "study",
        "model",
        "crops",
        "expand",
        "alpha",
        "rerank",
        "measure",
        "queries",
        "mean",
        "low",
        "high",
        "gain",
        "gain_low",
        "gain_high",
    ]
    return pd.DataFrame(rows, columns=columns)


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="synthetic_houses")
    parser.add_argument("--run", default="")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(arguments)
    file, table = given.out / "query_options.csv", measure(given.study, given.run)
    if file.is_file():
        before = pd.read_csv(file)
        table = pd.concat([before[before.study != given.study], table])
    table.to_csv(file, index=False, float_format="%.5f", lineterminator="\n")
    print(table[table.study == given.study].round(3).to_string(index=False))


if __name__ == "__main__":
    main()

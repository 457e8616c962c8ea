"""Every index on 100,000 vectors of 512 dimensions: recall, speed, build time, size; what exact
search costs there.

    python -m benchmarks.ann_scale --out FOLDER [--n 100000] [--dim 512] [--indexes exact faiss_hnsw
    ...] [--hdf5 FILE] python -m benchmarks.ann_scale --write-hdf5 FILE [--n 100000] [--dim 512]

The vectors are synthetic: drawn from a mixture of Gaussians fitted to a study's
(``indexes.drawn_like``), to the first `dim` principal components of them. A file of
ann-benchmarks (angular distance) may be given instead. Each finished point is kept in
FOLDER/points, so that the same command goes on where it was stopped. Writes FOLDER/indexes.csv and
FOLDER/recall_and_speed.png, and prints each index at its fastest setting that reaches the recall.
With --write-hdf5 the vectors, the queries and their true neighbours are kept in the layout of
ann-benchmarks, for other tools to be measured on."""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from tqdm import tqdm

from benchmarks.learning_curves import open_trials
from imgsearch_utils import indexes
from imgsearch_utils.indexes import index_figures
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import IndexSettings

INDEXES = (
    "exact",
    "torch",
    "faiss_hnsw",
    "faiss_hnsw_sq",
    "faiss_ivf",
    "faiss_ivfpq",
    "faiss_lsh",
    "annoy",
    "hnswlib",
    "usearch",
    "pynndescent",
    "milvus",
)
SHOWN = [
    "index",
    "query",
    "recall@10",
    "single_qps",
    "batch_qps",
    "p95_ms",
    "build_seconds",
    "megabytes",
]


def study_vectors(study: str, n: int, dim: int) -> np.ndarray:
    """n unit vectors (n, dim) drawn like a study's."""
    vectors = normalised(np.asarray(open_trials(study, 1)[0].images.vectors))
    if vectors.shape[1] > dim:
        components = min(dim, len(vectors))
        reduced = PCA(components, random_state=0).fit_transform(vectors)
        vectors = normalised(np.pad(reduced, ((0, 0), (0, dim - components))))
    return indexes.drawn_like(vectors, n)


def fastest(table: pd.DataFrame, recall: float) -> pd.DataFrame:
    """Each index at its fastest setting with at least this recall@10, else at its best recall;
    fastest first.
    """
    reached = table[table["recall@10"] >= recall].sort_values("single_qps").groupby("index").tail(1)
    others = table[~table["index"].isin(reached["index"])].dropna(subset=["recall@10"])
    best = others.sort_values("recall@10").groupby("index").tail(1)
    return pd.concat([reached.sort_values("single_qps", ascending=False), best])


def main(arguments: list[str] | None = None) -> None:
    """Draw or read the vectors, keep them where asked; compare, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument(
        "--study", default="synthetic_houses", help="whose vectors the drawn ones are like"
    )
    parser.add_argument("--hdf5", type=Path, help="an ann-benchmarks file to take instead")
    parser.add_argument(
        "--write-hdf5", type=Path, help="keep vectors, queries and true neighbours in this file"
    )
    parser.add_argument("--indexes", nargs="+", default=list(INDEXES))
    parser.add_argument("--recall", type=float, default=0.95)
    chosen = parser.parse_args(arguments)
    if not chosen.out and not chosen.write_hdf5:
        parser.error("nothing to do: give --out FOLDER, --write-hdf5 FILE, or both")
    began = time.monotonic()
    if chosen.hdf5:
        vectors, queries = indexes.read_hdf5(chosen.hdf5)
    else:
        drawn = study_vectors(chosen.study, chosen.n + chosen.queries, chosen.dim)
        vectors, queries = drawn[: chosen.n], drawn[chosen.n :]
    if chosen.write_hdf5:
        indexes.write_hdf5(chosen.write_hdf5, vectors, queries)
    if not chosen.out:
        return
    wanted = [IndexSettings(name=name) for name in chosen.indexes]
    table = indexes.compare_indexes(
        vectors,
        queries,
        wanted,
        runs=1,
        folder=chosen.out / "points",
        progress=partial(tqdm, disable=None),
    )
    table = table.assign(
        megabytes=table["bytes"] / 1e6, model=chosen.hdf5.stem if chosen.hdf5 else "mixture"
    )
    table.to_csv(chosen.out / "indexes.csv", index=False, float_format="%.5g")
    figure = index_figures.pareto(table.dropna(subset=["recall@10"]), "recall@10")
    figure.savefig(chosen.out / "recall_and_speed.png", dpi=110)
    print(*filter(None, table.problem.dropna().unique()), sep="\n")
    print(fastest(table, chosen.recall)[SHOWN].round(3).to_string(index=False))
    print(indexes.recommend(table, chosen.recall)["reason"], f"({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()

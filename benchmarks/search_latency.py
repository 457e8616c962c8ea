"""How long a search takes: from a picture file to ranked names, warm; and the search part alone
among many vectors.

    python -m benchmarks.search_latency [--vectors 100000] [--index faiss_ivf] [--run RUN] [--json]

`file_to_names` is decoding, encoding by the study's encoder, searching and the table of results, on
a run's pictures; without --run on 450 drawn houses of 256 px in a workspace of its own. `search` is
asking the index, the results' exact scores and labels, on vectors drawn like the houses'
(synthetic: a mixture of Gaussians fitted to them), with `recall` against exact search, which is
timed beside it. Milliseconds of one query, on one thread unless --threads says otherwise: the
median, and the 10th and 90th percentile."""

import argparse
import json
import os
import tempfile
import time

import numpy as np
import pandas as pd
import torch

from imgsearch_utils import indexes
from imgsearch_utils.encoders.embed_collection import embed_run
from imgsearch_utils.images import open_collection, open_image
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.label_conditions import Metadata
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.search.searcher import Searcher
from imgsearch_utils.workspace import find_run

POINTS = {
    "faiss_ivf": ({"nlist": 512}, {"nprobe": 24}),
    "faiss_hnsw": ({"ef_construction": 80}, {"ef": 64}),
}
CURVES = Calibration((10.0, 10.0, 10.0), (-3.0, -5.0, -7.0), 0.5)  # any will do for timing


def milliseconds(ask, queries) -> dict[str, float]:
    """Median, p10 and p90 of ask(query), a query at a time; the first three warm up and do not
    count.
    """
    taken = []
    for query in queries:
        start = time.perf_counter()
        ask(query)
        taken.append((time.perf_counter() - start) * 1000)
    low, middle, high = np.quantile(taken[3:], [0.1, 0.5, 0.9]).tolist()
    return {"ms": middle, "p10": low, "p90": high, "queries": len(taken) - 3}


def from_file(searcher: Searcher, n: int) -> dict[str, float]:
    """Picture file to ranked names, `n` times."""
    some = np.random.default_rng(0).choice(searcher.names, n + 3)
    first = milliseconds(
        lambda file: searcher.search(searcher.encode([open_image(file)])),
        [searcher.collection.path(name) for name in some],
    )
    return {
        **first,
        "model": searcher.model.name,
        "encoder": searcher.database.config["encoder"],
        "pictures": len(searcher.names),
    }


def among(searcher: Searcher, n: int, names: list[str], k: int, queries: int) -> list[dict]:
    """The search part among `n` vectors drawn like the database's, by each of the indexes."""
    drawn = indexes.drawn_like(normalised(searcher.database.vectors), n + queries + 3)
    vectors, asked, rows = drawn[:n], drawn[n:], []
    images = [f"{row:07d}.jpg" for row in range(n)]
    kinds = np.random.default_rng(0).choice(["farmhouse", "modern", "rustic"], n)
    labels = Metadata.in_memory(images, pd.DataFrame({"image": images, "house_type": kinds}))
    for name in dict.fromkeys(["exact", *names]):
        build, point = POINTS.get(name, ({}, {}))
        start = time.perf_counter()
        index = indexes.find(name)().build(vectors, **build)
        built = time.perf_counter() - start
        large = Searcher(
            searcher.run,
            Model(calibration=CURVES),
            Embeddings(images, vectors, {}),
            vectors,
            labels,
            searcher.collection,
            index,
            point,
        )
        recall = indexes.recall_of(index, vectors, asked, k, **point)
        rows.append(
            {
                "index": name,
                "build": build,
                "query": point,
                "vectors": n,
                "dim": vectors.shape[1],
                "k": k,
                **milliseconds(lambda one: large.search(one[None], k), asked),  # noqa: B023
                "recall": recall,
                "build_seconds": built,
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument(
        "--index", action="append", help="may be given several times; default faiss_ivf"
    )
    parser.add_argument("--study", default="synthetic_houses")
    parser.add_argument("--run", default="", help="time file_to_names on this run of the study")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    indexes.find("exact").library().omp_set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        if given.run:
            run = find_run(given.study, given.run)
        else:
            os.environ["IMGSEARCH_HOME"] = folder
            run = find_run(given.study, begin=True)
            embed_run(run, open_collection(run))
        searcher = Searcher.open(run)
        found = {
            "threads": given.threads,
            "file_to_names": from_file(searcher, given.queries),
            "search": among(
                searcher, given.vectors, given.index or ["faiss_ivf"], 10, given.queries
            ),
        }
    if given.json:
        print(json.dumps(found))
        return
    print(f"file to names: {found['file_to_names']}")
    print(pd.DataFrame(found["search"]).to_string(index=False, float_format="%.3g"))


if __name__ == "__main__":
    main()

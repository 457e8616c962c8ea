"""Score every pair of a pool and keep the least certain: how far from the bare matrix product?

    python -m benchmarks.pair_scoring [--images 100000] [--dim 128] [--chosen 200] [--threads 2]
    [--json]

`seconds` is the time to choose; `ratio_to_matmul` is the time of the bare product by it: torch.mm
in the same blocks over the same pairs with the same threads, into one preallocated block, nothing
kept. The product is timed before and after, and the mean counts. `peak_mb` is the process's peak
memory above that before choosing."""

import argparse
import json
import resource
import time

import numpy as np
import pandas as pd
import torch

from imgsearch_utils.asking import Pool, choose_pairs, pool
from imgsearch_utils.images import Images
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.calibration import Calibration


def bare_product(vectors: torch.Tensor) -> float:
    """Seconds of the product of all pairs' blocks, nothing kept."""
    buffer = torch.empty(pool.BLOCK[0] * pool.BLOCK[1])
    start = time.perf_counter()
    for a0, a1, b0, b1 in pool.blocks(len(vectors)):
        torch.mm(
            vectors[a0:a1],
            vectors[b0:b1].T,
            out=buffer[: (a1 - a0) * (b1 - b0)].view(a1 - a0, b1 - b0),
        )
    return time.perf_counter() - start


def _peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n: int, dim: int, chosen: int, threads: int) -> dict:
    """Choose `chosen` of all pairs of `n` random unit vectors; half the bare product before, half
    after.
    """
    torch.set_num_threads(threads)
    vectors = np.random.default_rng(0).standard_normal((n, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"{k:07d}" for k in range(n)]
    table = pd.DataFrame({"image": names, "group": np.arange(n), "side": "train"})
    images = Images(table, Embeddings(names, vectors, {}))
    calibration = Calibration((10.0, 10.0, 10.0), (2.0, 0.0, -2.0), 0.5)
    bare = [bare_product(torch.from_numpy(vectors))]
    before, start = _peak_mb(), time.perf_counter()
    choose_pairs(
        Pool.of(images, Model(calibration=calibration)), "uncertainty", chosen, 0, max_per_image=4
    )
    seconds = time.perf_counter() - start
    peak = _peak_mb() - before
    bare.append(bare_product(torch.from_numpy(vectors)))
    return {
        "images": n,
        "dim": dim,
        "pairs": n * (n - 1) // 2,
        "chosen": chosen,
        "threads": threads,
        "seconds": seconds,
        "bare_seconds": bare,
        "ratio_to_matmul": float(np.mean(bare)) / seconds,
        "peak_mb": peak,
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("images", 100_000), ("dim", 128), ("chosen", 200), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    found = measure(chosen.images, chosen.dim, chosen.chosen, chosen.threads)
    print(
        json.dumps(found)
        if chosen.json
        else "\n".join(f"{name:16s} {value}" for name, value in found.items())
    )


if __name__ == "__main__":
    main()

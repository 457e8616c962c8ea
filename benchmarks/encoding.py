"""Encode picture files: how far from the bare network, and how much faster than a plain loop in
torch?

    python -m benchmarks.encoding [--images 450] [--encoder efficientnet_lite0] [--backend auto]
    [--threads 2] [--json]

The pictures are drawn houses of 256 x 256 pixels, in files. In each of `--rounds` rounds these take
turns, and the ratios are the medians over rounds of images per second (with quartiles):

- encode: our whole way from files to vectors;
- bare: the back end's forward pass alone, on random tensors. For onnxruntime the faster of two ways
  counts: as many threads with one batch each of our size, or one session with all threads on
  batches of 32;
- torch: a plain loop in single precision over batches of 32: open, preprocess, stack, forward.

Where the processor has bfloat16, retrieval with it is compared with single precision, leave one out
by cosine: on the houses, and on the photographs of groceries where they are at hand. It agrees when
no metric moves more than .01."""

import argparse
import itertools
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score

from imgsearch_utils.drawn_houses import HOUSE_TYPES, write_houses
from imgsearch_utils.encoders.backends import BACKENDS, export
from imgsearch_utils.encoders.encoder import BATCH, Encoder
from imgsearch_utils.encoders.encoder_names import get_encoder
from imgsearch_utils.encoders.onnx_encoder import onnx_session
from imgsearch_utils.images.collection import read_collection
from imgsearch_utils.images.decoding import open_image
from imgsearch_utils.study import ImageSettings
from imgsearch_utils.workspace import data_folder

PLAIN = 32  # pictures a batch of the plain loop
TOLERANCE = 0.01


def plain_torch(encoder: Encoder, paths: list[Path]) -> np.ndarray:
    """The loop that one writes first."""
    vectors = []
    for start in range(0, len(paths), PLAIN):
        pictures = torch.stack(
            [encoder.preprocess(open_image(path)) for path in paths[start : start + PLAIN]]
        )
        with torch.inference_mode():
            vectors.append(encoder.forward(pictures).numpy())
    return np.concatenate(vectors)


def retrieval(vectors: np.ndarray, classes: pd.Series) -> dict[str, float]:
    """P@10 and mean average precision, leave one out by cosine; relevant means the same class."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine, same = unit @ unit.T, classes.to_numpy()[:, None] == classes.to_numpy()
    others = ~np.eye(len(unit), dtype=bool)
    rows = [(same[i, others[i]], cosine[i, others[i]]) for i in range(len(unit))]
    return {
        "P@10": float(np.mean([y[np.argsort(-s, kind="stable")[:10]].mean() for y, s in rows])),
        "mAP": float(np.mean([average_precision_score(y, s) for y, s in rows if y.any()])),
    }


def bfloat16_agreement(name: str, sets: dict[str, tuple[list[Path], pd.Series]]) -> dict:
    """Metrics in both precisions on each set, and whether they agree; or why there is no
    bfloat16.
    """
    try:
        half, single = get_encoder(f"{name}@bfloat16"), get_encoder(name)
    except ValueError as error:
        return {"missing": str(error)}
    found = {}
    for data, (paths, classes) in sets.items():
        ours, reference = (
            retrieval(half.encode(paths), classes),
            retrieval(single.encode(paths), classes),
        )
        found |= {
            f"{data} {key}": {"float32": reference[key], "bfloat16": ours[key]} for key in ours
        }
    agree = all(abs(pair["float32"] - pair["bfloat16"]) <= TOLERANCE for pair in found.values())
    return {"agrees": agree, "tolerance": TOLERANCE, **found}


def measure(n: int, name: str, backend: str, threads: int, rounds: int, folder: Path) -> dict:
    """Draw `n` houses into `folder`, and let the ways take turns."""
    torch.set_num_threads(threads)
    write_houses(folder, -(-n // len(HOUSE_TYPES)))
    houses = read_collection(folder, ImageSettings(source="houses"))
    paths = [houses.path(image) for image in houses.images.image[:n]]
    encoder, plain = get_encoder(name, backend), get_encoder(name, "torch")
    plain.forward.to(memory_format=torch.contiguous_format)
    few = paths[: 3 * PLAIN]

    started = time.perf_counter()
    forward = encoder.bulk()
    start_seconds = time.perf_counter() - started
    shape = encoder.preprocess(open_image(paths[0])).shape
    noise = torch.rand(PLAIN, *shape)

    def network(batch):
        with torch.inference_mode():
            return (forward or encoder.forward)(batch)

    def bare():
        with ThreadPoolExecutor(threads if forward else 1) as pool:
            list(pool.map(network, itertools.repeat(noise[:BATCH], -(-n // BATCH))))

    ways = {
        "encode": (n, lambda: encoder.encode(paths)),
        "bare": (n, bare),
        "torch": (len(few), lambda: plain_torch(plain, few)),
    }
    if forward:
        session, pictures = onnx_session(export(plain), PLAIN, threads), noise.numpy()
        ways["bare_one_session"] = (
            3 * PLAIN,
            lambda: [session.run(None, {"pictures": pictures}) for _ in range(3)],
        )
    speed = []
    for turn in range(rounds + 1):
        row = {}
        for way in sorted(ways, reverse=bool(turn % 2)):
            images, run = ways[way]
            started = time.perf_counter()
            run()
            row[way] = images / (time.perf_counter() - started)
        speed += [row] if turn else []  # the first is to warm up
    speed = pd.DataFrame(speed)
    to_bare = speed.filter(like="bare").rdiv(speed.encode, axis=0).quantile([0.5, 0.25, 0.75])
    to_bare = to_bare[to_bare.loc[0.5].idxmin()]  # against the faster way
    to_torch = (speed.encode / speed.torch).quantile([0.5, 0.25, 0.75])

    vectors, reference = encoder.encode(paths)[: len(few)], plain_torch(plain, few)
    cosine = (
        (vectors * reference).sum(1)
        / np.linalg.norm(vectors, axis=1)
        / np.linalg.norm(reference, axis=1)
    )
    sets = {"houses": (paths, houses.images.house_type[:n])}
    if (data_folder("grocery") / "labels.csv").is_file():
        grocery = read_collection(data_folder("grocery"), ImageSettings(source="grocery"))
        sets["grocery"] = (
            [grocery.path(image) for image in grocery.images.image],
            grocery.images.fine,
        )
    return {
        "images": n,
        "encoder": name,
        "backend": "onnxruntime" if forward else "torch",
        "threads": threads,
        "rounds": rounds,
        "ratio_to_bare": to_bare[0.5],
        "ratio_to_bare_quartiles": to_bare[1:].tolist(),
        "ratio_to_torch": to_torch[0.5],
        "ratio_to_torch_quartiles": to_torch[1:].tolist(),
        "bare": to_bare.name,
        "images_per_second": speed.median().to_dict(),
        "start_seconds": start_seconds,
        "least_cosine_to_torch": float(cosine.min()),
        "bfloat16": bfloat16_agreement(name, sets),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("images", 450), ("threads", 2), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--backend", default="auto", choices=BACKENDS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            chosen.images,
            chosen.encoder,
            chosen.backend,
            chosen.threads,
            chosen.rounds,
            Path(folder),
        )
    print(
        json.dumps(found)
        if chosen.json
        else "\n".join(f"{name:26s} {value}" for name, value in found.items())
    )


if __name__ == "__main__":
    main()

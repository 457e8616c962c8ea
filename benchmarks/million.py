"""What a million images cost on one machine: seconds, peak memory and bytes on disk of each step,
from 10,000 on.

    python -m benchmarks.million [--n 10000 100000 1000000] [--dim 512] [--home FOLDER] [--out
    benchmarks] [--json]

The vectors are drawn like a study's (``indexes.drawn_like``); every hundredth is a
near-duplicate of another. Each step runs in a process of its own, on two processors or as many as
there are, and its peak memory is that process's: the vectors that it has mapped from disk count,
the libraries too. Writes million.csv; a step that is there is not measured again, so a run that was
stopped goes on. million_slopes.csv has d log(seconds) / d log(n) of each step over the sizes: 1 is
in proportion.

- `store`: vectors from a .npy into the run's folder; `append`: 1,000 further ones at its end,
  `ratio` beside encoding and saving 1,000 pictures alone (which takes `alone`)
- `open`: a run's database and the first answer, imports apart; `first open` also keeps the labels
  in an Arrow file
- `index ...`: built; p50 and p95 of one query at the fastest setting with recall@10 of .95 or more
- `from disk`: loaded, and one query, of an index whose lists stay on disk (`keep` makes it); its
  peak is all it takes
- `filtered`: one query among a half, a tenth and a hundredth of the images, by their labels; p95,
  and its recall
- `duplicates`: groups; `found` is the share of the true pairs of 1,000 images
- `choose`: 120 pairs to ask, of high cosine and uncertain ones; `measure`: retrieval of 200 queries
  by classes
- `score`, `import`: the commands `imgsearch score` and `imgsearch labels import` on a CSV of twenty
  graded pairs an image, 2,000,000 at most
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

INDEXES = ("exact", "faiss_ivf", "faiss_ivfpq", "faiss_ivf_rabitq", "scann", "lancedb")
QUERIES, MORE = 300, 1000
ROWS = 2_000_000  # of a CSV of pairs, at most
COLUMNS = [
    "n",
    "dim",
    "step",
    "seconds",
    "peak_mb",
    "disk_mb",
    "p50_ms",
    "p95_ms",
    "recall",
    "ratio",
    "about",
]


def draw(home: Path, n: int, dim: int) -> dict:
    """Vectors like a study's, in a workspace of their own."""
    from benchmarks.ann_scale import study_vectors

    began = time.perf_counter()
    lay_out(home, study_vectors("synthetic_houses", n + QUERIES + MORE, dim))
    return {"seconds": time.perf_counter() - began}


def lay_out(home: Path, drawn: np.ndarray) -> None:
    """A workspace with a study of vectors and labels; the last vectors (n + QUERIES + MORE, d) ask
    and are appended.
    """
    n, rng = len(drawn) - QUERIES - MORE, np.random.default_rng(0)
    twins = rng.permutation(n)[: 2 * (n // 100)].reshape(2, -1)
    noise = rng.normal(scale=0.003, size=(n // 100, drawn.shape[1]))
    drawn[twins[0]] = (drawn[twins[1]] + noise).astype(np.float32)
    data = home / "data"
    data.mkdir(parents=True, exist_ok=True)
    np.save(data / "vectors.npy", drawn[:n])
    np.save(home / "asked.npy", drawn[n : n + QUERIES])
    np.save(home / "more.npy", drawn[n + QUERIES :])
    pd.DataFrame(
        {
            "file_label": [f"{row:07d}.jpg" for row in range(n)],
            "kind": rng.choice(list("abcdefghij"), n),
            "year": rng.integers(1900, 2000, n),
        }
    ).to_csv(data / "labels.csv", index=False)
    one, other = rng.integers(n, size=(2, min(20 * n, ROWS)))
    pairs = pd.DataFrame({"image1": one, "image2": np.where(one == other, (other + 1) % n, other)})
    (
        pairs.map("{:07d}.jpg".format)
        .assign(similarity=rng.integers(4, size=len(pairs)))
        .to_csv(home / "pairs.csv", index=False)
    )
    (home / "configs").mkdir(exist_ok=True)
    (home / "configs" / "million.yaml").write_text(
        f"study: million\nimages: {{source: {data}, vectors: vectors.npy}}\noracle: person\n"
    )


def _run():
    from imgsearch_utils.workspace import find_run

    return find_run("million", begin=True)


def store(home: Path, *_) -> dict:
    """The run's embeddings."""
    from imgsearch_utils.encoders.embed_collection import embed_run
    from imgsearch_utils.images import open_collection

    run = _run()
    began = time.perf_counter()
    embed_run(run, open_collection(run))
    return {"seconds": time.perf_counter() - began, "disk_mb": _megabytes(run.vectors / "encoder")}


def append(home: Path, n: int, dim: int) -> dict:
    """Further vectors at the end of the store, beside what as many pictures cost alone."""
    from imgsearch_utils.drawn_houses import draw_house, sample_houses
    from imgsearch_utils.encoders.encoder_names import get_encoder
    from imgsearch_utils.images import Embeddings

    vectors, folder = np.load(home / "more.npy"), _run().vectors / "encoder"
    with tempfile.TemporaryDirectory() as place:
        encoder, pictures = get_encoder("efficientnet_lite0"), []
        for number, house in enumerate(
            sample_houses(-(-MORE // 3), seed=0).to_dict("records")[:MORE]
        ):
            pictures.append(Path(place) / f"{number}.jpg")
            draw_house(house, 256).save(pictures[-1])
        encoder.encode_files(pictures[:32], many=True)
        began = time.perf_counter()
        encoder.encode_files(pictures, many=True)
        encoding = time.perf_counter() - began
    began = time.perf_counter()
    before = Embeddings.load(folder)
    loaded = time.perf_counter() - began
    names = [f"more {row}.jpg" for row in range(len(vectors))]
    more = Embeddings(names, vectors, before.config)
    began = time.perf_counter()
    more.save(home / "alone")
    Embeddings.load(home / "alone")
    alone = encoding + time.perf_counter() - began
    began = time.perf_counter()
    before.append(folder, more)
    seconds = encoding + loaded + time.perf_counter() - began
    return {
        "seconds": seconds,
        "ratio": seconds / alone,
        "about": f"alone {alone:.1f} s, loading {loaded:.2f} s",
    }


def open_(home: Path, *_) -> dict:
    """A run's database in a process that has its imports, and the first answer."""
    from imgsearch_utils.search.searcher import Searcher

    run, asked = _run(), np.load(home / "asked.npy")
    began = time.perf_counter()
    Searcher.open(run).search(asked[:1], 10)
    return {"seconds": time.perf_counter() - began, "disk_mb": _megabytes(run.vectors)}


def index(name: str, home: Path, *_) -> dict:
    """One index: built, asked, kept."""
    from imgsearch_utils import indexes
    from imgsearch_utils.images.vector_store import drop_page_cache
    from imgsearch_utils.metrics.geometry import normalised
    from imgsearch_utils.study import IndexSettings

    stored, asked = (
        np.load(home / "data" / "vectors.npy", mmap_mode="r"),
        np.load(home / "asked.npy"),
    )
    vectors = normalised(stored)
    drop_page_cache(stored)
    began = time.perf_counter()
    table = indexes.compare_indexes(vectors, asked, [IndexSettings(name=name)], runs=1)
    table = table.dropna(subset=["recall@10"]).sort_values("p95_ms")
    good = table[table["recall@10"] >= 0.95]
    best = (good if len(good) else table.sort_values("recall@10", ascending=False)).iloc[0]
    return {
        "seconds": best.build_seconds,
        "p50_ms": best.p50_ms,
        "p95_ms": best.p95_ms,
        "recall": best["recall@10"],
        "disk_mb": best["bytes"] / 1e6,
        "about": f"{best['query']}; all of it {time.perf_counter() - began:.0f} s",
    }


def keep(home: Path, *_) -> dict:
    """An index whose lists stay on disk, and the true answers."""
    from imgsearch_utils import indexes
    from imgsearch_utils.search.database import keep_index

    run, began = _run(), time.perf_counter()
    file = keep_index(run, name="faiss_ivf_disk").file
    seconds = time.perf_counter() - began
    true = indexes.Scan(_images().embeddings.vectors).query(np.load(home / "asked.npy"), 10)
    np.save(home / "true.npy", true)
    return {"seconds": seconds, "disk_mb": file.stat().st_size / 1e6}


def from_disk(home: Path, *_) -> dict:
    """That index in a process which holds nothing else."""
    from imgsearch_utils import indexes

    [file] = (_run().vectors / "search").glob("*faiss_ivf_disk.index")
    asked, true = np.load(home / "asked.npy"), np.load(home / "true.npy")
    began = time.perf_counter()
    index = indexes.load(file)
    seconds = time.perf_counter() - began
    for probes in (1, 2, 4, 8, 16, 32, 64, 128):
        found, times = [], []
        for one, right in zip(asked, true):
            began = time.perf_counter()
            ids = index.query(one[None], 10, nprobe=probes)[0]
            times.append(1000 * (time.perf_counter() - began))
            found.append(len({*ids.tolist()} & {*right.tolist()}) / 10)
        if np.mean(found) >= 0.95:
            break
    return {
        "seconds": seconds,
        "p50_ms": np.median(times),
        "p95_ms": np.percentile(times, 95),
        "recall": np.mean(found),
        "about": f"{probes} lists read",
    }


def filtered(home: Path, *_) -> dict:
    """Queries among a part of the images, by an index where there are many, each beside exact
    search.
    """
    from imgsearch_utils import indexes
    from imgsearch_utils.search.searcher import Searcher

    asked = np.load(home / "asked.npy")[:50]
    searcher = replace(Searcher.open(_run(), index="faiss_ivf_disk"), point={"nprobe": 128})
    found, times = [], []
    for condition in ("year < 1950", "kind = 'a'", "kind = 'a' AND year < 1910"):
        for one in asked:
            began = time.perf_counter()
            allowed = searcher.only(condition)
            rows = searcher.search(one[None], 10, allowed=allowed).image
            times.append(1000 * (time.perf_counter() - began))
            true = indexes.among(searcher.vectors, allowed, one[None] / np.linalg.norm(one), 10)[0]
            found.append(len({*rows} & {searcher.names[row] for row in true}) / 10)
    return {
        "seconds": sum(times) / 1000,
        "p50_ms": np.median(times),
        "p95_ms": np.percentile(times, 95),
        "recall": np.mean(found),
        "about": "1/2, 1/10, 1/100 of the images, the condition included; 128 lists",
    }


def _images():
    from imgsearch_utils.encoders.embed_collection import load_embeddings
    from imgsearch_utils.images import Images

    return Images.of(load_embeddings(_run()))


def duplicates(home: Path, *_) -> dict:
    """Groups of near-duplicates, and how many of the true ones of some images are among them."""
    from imgsearch_utils.images.image_split import group_near_duplicates
    from imgsearch_utils.metrics.geometry import normalised

    images, cosine = _images(), 0.97
    began = time.perf_counter()
    grouped, pairs = group_near_duplicates(images, cosine)
    seconds = time.perf_counter() - began
    group = grouped.table.group.to_numpy()
    some = np.random.default_rng(1).permutation(
        np.flatnonzero(grouped.table.duplicated("group", keep=False))
    )[:500]
    some = np.concatenate([some, np.random.default_rng(2).choice(len(group), 500)])
    asked, true, right = normalised(images.embeddings.vectors[some]), 0, 0
    for start in range(0, len(group), 65_536):
        rows, columns = np.nonzero(
            asked @ normalised(images.embeddings.vectors[start : start + 65_536]).T >= cosine
        )
        other = some[rows] != columns + start
        true += other.sum()
        right += (group[some[rows]] == group[columns + start])[other].sum()
    return {
        "seconds": seconds,
        "recall": right / max(1, true),
        "about": f"{len(pairs)} pairs, {true} looked at",
    }


def choose(home: Path, *_) -> dict:
    """The pairs of a round, of a study without classes."""
    from imgsearch_utils.asking import Pool, choose_pairs
    from imgsearch_utils.learning import Model
    from imgsearch_utils.learning.calibration import Calibration

    images = _images()
    images.table["group"] = np.arange(len(images))
    model = Model(calibration=Calibration((8.0, 7.0, 7.0), (1.0, 0.0, -2.0), 0.3))
    began = time.perf_counter()
    pairs = choose_pairs(Pool.of(images, model), "uncertainty", 120, 0, 4)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "about": f"{len(pairs)} pairs, mean cosine {pairs.score.mean():.3f}",
    }


def measure(home: Path, *_) -> dict:
    """Retrieval of the encoder among sampled images, judged by classes."""
    from imgsearch_utils.evaluation.relevance import Judge, compare_rankings
    from imgsearch_utils.grades.pairs import COLUMNS as PAIR
    from imgsearch_utils.images import Images, open_collection
    from imgsearch_utils.learning import Model

    run = _run()
    collection, embeddings = open_collection(run), _images().embeddings
    images = Images(
        collection.images.assign(group=np.arange(len(collection.images)), side="test"), embeddings
    )
    judge = Judge(run, collection, pd.DataFrame(columns=[*PAIR, "side", "automatic"]))
    began = time.perf_counter()
    table = compare_rankings({"encoder": (images, Model())}, judge)
    return {
        "seconds": time.perf_counter() - began,
        "about": f"{int(table.queries.iloc[0])} queries",
    }


def score(home: Path, *_) -> dict:
    """A CSV of pairs, scored by a head, which learnt nothing."""
    _finish_a_round()
    return _type("score", home / "pairs.csv", "--out", home / "scored.csv") | {
        "disk_mb": _megabytes(home, "scored*")
    }


def _finish_a_round() -> None:
    """As if the run's first round had been made and its head promoted."""
    import torch

    from imgsearch_utils.learning import Model
    from imgsearch_utils.learning.calibration import Calibration
    from imgsearch_utils.learning.heads import PLAIN, Head
    from imgsearch_utils.learning.model import models_to_dict
    from imgsearch_utils.learning.training_statistics import TrainingStatistics
    from imgsearch_utils.study import HeadSettings
    from imgsearch_utils.workspace import write_json

    run, settings = _run(), HeadSettings(head="mlp", class_share=0)
    some = np.asarray(_images().embeddings.vectors[:200])
    ground = TrainingStatistics.of(some, np.array(["a", "b"] * 100), settings)
    head = Head.untrained(ground, settings, PLAIN, (torch.zeros(0, len(ground.mean)),) * 2)
    calibration = Calibration((8.0, 7.0, 7.0), (1.0, 0.0, -2.0), 0.3)
    for folder in (run.round(0).model, run.round(0).results, run.round(1).labels):
        folder.mkdir(parents=True, exist_ok=True)
    head.save(run.round(0).model)
    models = {"encoder": Model(calibration=calibration), "head": Model.with_head(head, calibration)}
    write_json(run.round(0).model / "calibration.json", models_to_dict(models))
    write_json(run.round(0).results / "metrics.json", {"promoted": True})


def import_(home: Path, *_) -> dict:
    """The same CSV, written to the run's journal."""
    return _type("labels", "import", home / "pairs.csv") | {
        "disk_mb": _megabytes(_run().labels, "journal*")
    }


def _type(*command) -> dict:
    """Seconds that a command takes."""
    from imgsearch_utils.cli.commands import app

    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        app([*map(str, command), "--study", "million"], standalone_mode=False)
    return {"seconds": time.perf_counter() - began}


def _peak_mb() -> float:
    """Of this process alone: what getrusage says may be the parent's, until something else is
    executed.
    """
    [line] = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) / 1024


def _megabytes(folder: Path, files: str = "*") -> float:
    return sum(file.stat().st_size for file in folder.rglob(files) if file.is_file()) / 1e6


STEPS = {
    "draw": draw,
    "store": store,
    "first open": open_,
    "open": open_,
    **{f"index {name}": partial(index, name) for name in INDEXES},
    "keep": keep,
    "from disk": from_disk,
    "filtered": filtered,
    "duplicates": duplicates,
    "choose": choose,
    "measure": measure,
    "append": append,
    "score": score,
    "import": import_,
}


def slopes(table: pd.DataFrame) -> pd.Series:
    """By step: the exponent with which its seconds grow with n."""
    return (
        table.groupby("step", sort=False)
        .apply(
            lambda rows: (
                np.polyfit(np.log(rows.n), np.log(rows.seconds), 1)[0] if len(rows) > 1 else np.nan
            ),
            include_groups=False,
        )
        .rename("slope")
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not there yet, each step in a process of its own; write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument(
        "--home", type=Path, default=Path(tempfile.gettempdir()) / "imgsearch_million"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.here:
        [n], [name] = chosen.n, chosen.steps
        row = STEPS[name](chosen.home, n, chosen.dim)
        return print(json.dumps({**row, "peak_mb": _peak_mb()}))
    file = chosen.out / "million.csv"
    wanted = [(n, name) for n in chosen.n for name in chosen.steps]
    for n, name in tqdm(wanted, disable=None):
        known = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=COLUMNS)
        if ((known.n == n) & (known.dim == chosen.dim) & (known.step == name)).any():
            continue
        row = _measured(name, chosen.home / f"{n}_{chosen.dim}", n, chosen.dim)
        new = pd.DataFrame([{"n": n, "dim": chosen.dim, "step": name, **row}], columns=COLUMNS)
        (new if known.empty else pd.concat([known, new])).to_csv(
            file, index=False, float_format="%.4g"
        )
    table = pd.read_csv(file)
    grows = slopes(table)
    grows.to_csv(chosen.out / "million_slopes.csv", float_format="%.3f")
    if chosen.json:
        return print(table.to_json(orient="records"))
    print(table.round(2).to_string(index=False))
    print(grows.round(2).to_string())


def _measured(name: str, home: Path, n: int, dim: int) -> dict:
    command = [
        sys.executable,
        "-m",
        "benchmarks.million",
        "--here",
        "--steps",
        name,
        "--n",
        str(n),
        "--dim",
        str(dim),
        "--home",
        str(home),
    ]
    where = dict(os.environ) if name == "draw" else {**os.environ, "IMGSEARCH_HOME": str(home)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=where, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise RuntimeError(f"{name} of {n:,} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

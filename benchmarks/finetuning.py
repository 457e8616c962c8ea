"""Fine-tuning: how fast the training is beside a bare loop, and what it gains on classes that it
never saw.

    python -m benchmarks.finetuning --json
    python -m benchmarks.finetuning --ablation [--seeds 0 1 2] [--out benchmarks]

The first times steps of ``finetuning.training`` on drawn houses (decoded before, augmented as they
come, triplets, AdamW) against forward and backward on random tensors of the same shape, in turns;
`ratio_to_bare` is the share of the bare loop's images a second.

The second takes the grocery photographs, holds a third of the fine classes out whole (another third
for each seed, half as many more to say when to stop), and measures the mean average precision among
the images of the held-out classes, and among unseen images of the others: by the frozen backbone at
its own 224 pixels, by a head that was trained on its vectors with the same images, and by each of
``WAYS`` of fine-tuning: as it ended, halfway back to the frozen weights, and with a head on top.
Writes finetuning.csv: a row for each seed, way, part and measure, with 95 % intervals over groups
of near-duplicates, and paired gains over the frozen backbone and over the head. `validation`, of
what was tuned as it ended, is what a choice between the ways may look at. What is there is not
measured again."""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_metric_learning import distances, losses

from imgsearch_utils.drawn_houses import draw_house, sample_houses
from imgsearch_utils.encoders.encoder import DEVICE
from imgsearch_utils.encoders.encoder_names import get_encoder
from imgsearch_utils.evaluation.relevance import Judge, of_all
from imgsearch_utils.finetuning.augmentation import encode, read_squares
from imgsearch_utils.finetuning.backbone import Backbone
from imgsearch_utils.finetuning.backbone_training import TrainingData, train
from imgsearch_utils.finetuning.finetune_run import Parts, Validation, judged, parts_of
from imgsearch_utils.finetuning.finetuning_settings import Finetuning
from imgsearch_utils.grades.pairs import COLUMNS
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.images.image_split import group_near_duplicates, split_by_group
from imgsearch_utils.learning import learner
from imgsearch_utils.learning.model import Model
from imgsearch_utils.steps.learning_round import class_pairs
from imgsearch_utils.study import parse_study
from imgsearch_utils.workspace import Run

AUGMENT = ("crop", "flip", "trivial")
WAYS = {
    "fine-tuned": {"augment": ()},
    "fine-tuned, augmented": {"augment": AUGMENT},
    "fine-tuned, augmented, 6 blocks": {"augment": AUGMENT, "blocks": 6},
    "fine-tuned, augmented, all blocks": {"augment": AUGMENT, "blocks": 100},
    "fine-tuned, augmented, 6 blocks, 224 pixels": {"augment": AUGMENT, "blocks": 6, "pixels": 224},
    "fine-tuned, augmented, all blocks, 224 pixels": {
        "augment": AUGMENT,
        "blocks": 100,
        "pixels": 224,
    },
}
FROZEN, HEAD = "frozen", "head on frozen vectors"
MEASURES = ("AP", "P@1", "nDCG@10")
STUDY = {
    "study": "grocery_finetuning",
    "images": {"source": "grocery"},
    "oracle": "hierarchy",
    "asked_per_round": 4000,
    "zeros_per_round": 4000,
}


def throughput(images: int, pixels: int, turns: int, epochs: int) -> dict:
    """Images a second of a training and of a bare loop, each in turns; medians.

    Beside a GPU, loader processes start once for all epochs, so one epoch would measure their
    start."""
    settings = Finetuning(
        study="x", augment=AUGMENT, epochs=epochs, blocks=3, pixels=pixels, warmup=0
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, house in enumerate(
            sample_houses(-(-images // 3), seed=0).to_dict("records")[:images]
        ):
            paths.append(Path(folder) / f"{number}.png")
            draw_house(house, 256).save(paths[-1])
        squares = read_squares(paths, pixels)
        lessons = TrainingData(np.arange(images), np.arange(images) % 8)
        ours, bare = [], []
        for turn in range(turns):
            backbone = Backbone.open(settings.encoder, settings.blocks, pixels)
            began = time.perf_counter()
            history = train(
                backbone,
                squares,
                lessons,
                settings,
                lambda: 0.0,
                Path(folder) / f"{turn}",
                say=lambda _: None,
            )
            ours.append(history.images.sum() / (time.perf_counter() - began))
            bare.append(_bare(backbone, settings, int(history.images.sum())))
    return {
        "device": DEVICE,
        "pixels": pixels,
        "batch": settings.batch,
        "images_per_s": float(np.median(ours)),
        "bare_images_per_s": float(np.median(bare)),
        "ratio_to_bare": float(np.median(np.divide(ours, bare))),
    }


def _bare(backbone: Backbone, settings: Finetuning, images: int) -> float:
    pictures = torch.randn(settings.batch, 3, backbone.pixels, backbone.pixels).to(
        DEVICE, memory_format=torch.channels_last
    )
    classes = torch.arange(settings.batch) // settings.per_class
    loss_of = losses.TripletMarginLoss(distance=distances.CosineSimilarity())
    optimizer = torch.optim.AdamW(backbone.parameters.values())
    began, steps = time.perf_counter(), max(1, round(images / settings.batch))
    for _ in range(steps):
        with torch.autocast("cuda", torch.bfloat16, enabled=DEVICE == "cuda"):
            vectors = backbone.network(pictures)
        loss_of(vectors.float(), classes.to(DEVICE)).backward()
        optimizer.step()
        optimizer.zero_grad()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return steps * settings.batch / (time.perf_counter() - began)


def taught_head(parts: Parts, vectors: Embeddings, run: Run, seed: int) -> Model:
    """A head trained as in a study, on the images that fine-tuning learns from and stops by."""
    table = pd.concat([parts.train.table, parts.validation.table]).assign(side="train")
    other = parts.unseen_images.table.assign(side="test")
    images = Images(pd.concat([table, other], ignore_index=True), vectors)
    graded = class_pairs(images, run.study.model_copy(update={"seed": seed}))
    return Model.with_head(
        learner.train_candidate(
            images, graded, run.study.head, seed, learner.candidates_of(images.train)[0]
        )
    )


def ablation(file: Path, seeds: list[int], pixels: int, epochs: int, ways: dict) -> pd.DataFrame:
    """Measure what the file does not have yet."""
    run = Run("grocery_finetuning", parse_study(STUDY))
    collection = open_collection(run)
    judge = Judge(run, collection, pd.DataFrame(columns=[*COLUMNS, "side", "automatic"]))
    names = collection.images.image.tolist()
    paths = [collection.path(name) for name in names]
    before = get_encoder("efficientnet_lite0").encode(paths)
    embeddings = Embeddings(names, before, {})
    grouped, _ = group_near_duplicates(
        Images(collection.images, embeddings), run.study.duplicate_cosine
    )
    for seed in seeds:
        images, head = split_by_group(grouped, 0, 0.2, seed), None
        for way, own in ways.items():
            known = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["seed", "way"])
            if ((known.seed == seed) & (known.way == way)).any():
                continue
            settings = Finetuning(
                **{
                    "study": "grocery",
                    "blocks": 3,
                    "pixels": pixels,
                    "epochs": epochs,
                    "seed": seed,
                    "held_out_classes": 0.33,
                    **own,
                }
            )
            began, parts = time.monotonic(), parts_of(images, settings)
            head = (
                taught_head(parts, embeddings, run, seed).vectors(before) if head is None else head
            )
            backbone = Backbone.open(settings.encoder, settings.blocks, settings.pixels)
            squares = read_squares(paths, settings.pixels)
            frozen = backbone.weights()
            history = _trained(backbone, squares, names, parts, settings, judge)
            after = encode(backbone.network, squares, settings.pixels, backbone.mean, backbone.std)
            backbone.go_back(frozen, 0.5)
            tuned = {
                way: after,
                f"{way}, halfway": encode(
                    backbone.network, squares, settings.pixels, backbone.mean, backbone.std
                ),
                f"{way}, then a head": taught_head(
                    parts, Embeddings(names, after, {}), run, seed
                ).vectors(after),
            }
            tables = [
                _scores(parts, {**others, **tuned}, judge, images)
                for others in ({FROZEN: before, HEAD: head}, {HEAD: head})
            ]
            found = tables[0].merge(
                tables[1][["model", "part", "measure", "gain", "gain_low", "gain_high"]],
                "left",
                ["model", "part", "measure"],
                suffixes=("", "_over_head"),
            )
            found = found.assign(
                seed=seed,
                way=way,
                validation=history.validation.max(),
                images=len(parts.train),
                epochs=history.epoch.max(),
                seconds=round(time.monotonic() - began, 1),
                device=DEVICE,
            )
            pd.concat([known, found]).to_csv(
                file, index=False, float_format="%.4f", lineterminator="\n"
            )
            print(f"seed {seed}, {way}: {time.monotonic() - began:.0f} s", flush=True)
    return pd.read_csv(file)


def _scores(parts, vectors, judge, images):
    table = of_all(judged(parts, vectors, judge, images.table))
    return table[table.measure.isin(MEASURES)].drop(columns=["class", "judged_by"])


def _trained(backbone, squares, names, parts, settings, judge):
    place = pd.Index(names)
    rows, classes = (
        place.get_indexer(parts.train.names),
        pd.factorize(parts.train.table.fine, sort=True)[0],
    )
    seen, watched = (
        squares[place.get_indexer(parts.validation.names)],
        Validation(parts.validation, judge),
    )

    def validate() -> float:
        return watched.mean_ap(
            encode(backbone.network, seen, backbone.pixels, backbone.mean, backbone.std)
        )

    with tempfile.TemporaryDirectory() as folder:
        return train(
            backbone,
            squares,
            TrainingData(rows, classes),
            settings,
            validate,
            Path(folder) / "checkpoint",
            say=lambda _: None,
        )


def means(table: pd.DataFrame, measure: str = "AP") -> pd.DataFrame:
    """Of each part and way: mean and standard deviation over the seeds, and the mean gains over
    frozen and head.
    """
    rows = table[table.measure == measure]
    fixed = rows[rows.model.isin([FROZEN, HEAD])].drop_duplicates(["seed", "part", "model"])
    own = rows[~rows.model.isin([FROZEN, HEAD])]
    return (
        pd.concat([fixed, own])
        .groupby(["part", "model"], sort=False)
        .agg(
            seeds=("seed", "nunique"),
            mean=("mean", "mean"),
            spread=("mean", "std"),
            gain=("gain", "mean"),
            worst_low=("gain_low", "min"),
            over_head=("gain_over_head", "mean"),
            over_head_low=("gain_low_over_head", "min"),
            validation=("validation", "mean"),
            seconds=("seconds", "mean"),
        )
        .reset_index()
    )


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--pixels", type=int, default=160)
    parser.add_argument("--images", type=int, default=192, help="of the throughput")
    parser.add_argument("--turns", type=int, default=3, help="of the throughput")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if not given.ablation:
        found = throughput(
            given.images, given.pixels, given.turns, given.epochs if DEVICE == "cuda" else 1
        )
        return print(
            json.dumps(found)
            if given.json
            else "\n".join(f"{key}: {value}" for key, value in found.items())
        )
    table = ablation(
        given.out / "finetuning.csv",
        given.seeds,
        given.pixels,
        given.epochs,
        {way: WAYS[way] for way in given.ways},
    )
    print(means(table).round(3).to_string(index=False))


if __name__ == "__main__":
    main()

"""`imgsearch finetune`: a backbone trained further on a run's pictures, judged by what it finds
among unseen ones.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from safetensors.torch import save_file

from imgsearch_utils.encoders.encoder_names import get_encoder
from imgsearch_utils.evaluation.baselines import with_vectors
from imgsearch_utils.evaluation.example_queries import grades_so_far
from imgsearch_utils.evaluation.relevance import (
    GAIN,
    Judge,
    compare_rankings,
    example_results,
    mean_ap,
    of_all,
    rank,
    some_queries,
)
from imgsearch_utils.finetuning.augmentation import encode, read_squares
from imgsearch_utils.finetuning.backbone import Backbone
from imgsearch_utils.finetuning.backbone_training import TrainingData, train
from imgsearch_utils.finetuning.finetuning_settings import Finetuning
from imgsearch_utils.finetuning.tuned_encoder import ABOUT, WEIGHTS
from imgsearch_utils.grades.usable_grades import graded_pairs
from imgsearch_utils.images import Embeddings, Images, open_collection
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.learning import LOSSES, Model
from imgsearch_utils.learning.promotion import Gain
from imgsearch_utils.metrics import SIMILAR
from imgsearch_utils.study import difference
from imgsearch_utils.workspace import (
    Run,
    Stage,
    find_run,
    read_json,
    tuned_stage,
    tuned_versions,
    write_json,
)
from imgsearch_utils.workspace.tables import intervals, read_table, write_table

FROZEN, TUNED = "frozen", "fine-tuned"
VALIDATION = 0.2  # of the training images' groups, where no classes are held out
CUTS = (1, 5, 10)
SHOWN, FIRST = 3, 6  # queries drawn at random to be shown, and results of each


@dataclass(frozen=True)
class Parts:
    """Which images a version learns from, which say when to stop, and on which it is judged.

    unseen_images : test images of classes that it learns from; unseen_classes : all images of those
    held out"""

    train: Images
    validation: Images
    unseen_images: Images
    unseen_classes: Images

    @property
    def judged(self) -> dict[str, Images]:
        """The parts on which it is judged, that hold two images or more."""
        return {
            name: part
            for name in ("unseen_images", "unseen_classes")
            if len(part := getattr(self, name)) > 1
        }


def parts_of(images: Images, settings: Finetuning) -> Parts:
    """Cut a run's images; whole groups of near-duplicates and whole classes stay together.

    Raises
    ------
    ValueError where classes are wanted that the images do not have, or too few images are left to
        learn from.
    """
    rng = np.random.default_rng(settings.seed)
    table, level = images.table, _finest_class(images)
    held_out, validating = [], []
    if level is None and (settings.learn_from == "classes" or settings.held_out_classes):
        raise ValueError(
            "the images have no classes to learn from; set learn_from: grades and "
            "held_out_classes: 0"
        )
    if settings.held_out_classes:
        names = rng.permutation(sorted(table[level].unique()))
        n = max(1, round(len(names) * settings.held_out_classes))
        held_out, validating = names[:n], names[n : n + max(1, n // 2)]
        if len(names) - len(held_out) - len(validating) < 2:
            raise ValueError(
                f"held_out_classes {settings.held_out_classes} leaves fewer than two of "
                f"{len(names)} classes to learn from; hold out fewer"
            )
    unseen = table[level].isin(held_out) if level else pd.Series(False, table.index)
    seen = ~unseen
    # a near-duplicate of what is held out would teach it
    learns = seen & (table.side == "train") & ~table.group.isin(table.group[unseen])
    if len(validating):
        validates = learns & table[level].isin(validating)
    elif (table.side == "dev").sum() > 1:
        validates = seen & (table.side == "dev")
    else:
        groups = rng.permutation(sorted(table.group[learns].unique()))
        validates = learns & table.group.isin(groups[: max(2, round(VALIDATION * len(groups)))])
    learns &= ~validates & ~table.group.isin(table.group[validates])
    if learns.sum() < 4 or validates.sum() < 2:
        raise ValueError(
            f"{learns.sum()} images are left to learn from and {validates.sum()} to validate, "
            "too few"
        )
    chosen = (learns, validates, seen & (table.side == "test"), unseen)
    return Parts(*(Images(table[rows], images.embeddings) for rows in chosen))


def _finest_class(images: Images) -> str | None:
    return images.class_columns[-1] if images.class_columns else None


def finetune(
    run: Run, settings: Finetuning, say: Callable[[str], None] = print, progress: Callable = iter
) -> Stage:
    """Make a version, or go on with one that was stopped; a finished one stays as it is.

    Raises
    ------
    ValueError for a run without pictures or splits, settings that do not fit it, a finished version
        of other settings, and what ``finetuning`` refuses.
    """
    stage = tuned_stage(run.name, settings.version)
    own_settings = settings.model_dump(mode="json")
    if stage.finished:
        before = read_json(stage["model"] / ABOUT, "settings")["settings"]
        # of an older version, perhaps, with settings that are no longer there, or without some
        before = {name: value for name, value in before.items() if name in own_settings}
        before = Finetuning.model_validate(before).model_dump(mode="json")
        if changed := difference(before, own_settings):
            raise ValueError(
                f"version {settings.version} of run {run.name} was made with other settings "
                f"({'; '.join(changed)}); give this one another name: version: NAME"
            )
        say(f"tuned:{run.name}/{settings.version} is finished")
        return stage
    if settings.learn_from == "grades":
        LOSSES.find(settings.loss)
    collection, table = open_collection(run), read_split(run)
    if collection.folder is None:
        raise ValueError(f"run {run.name} has vectors only; fine-tuning needs its pictures")
    backbone = Backbone.open(settings.encoder, settings.blocks, settings.pixels)
    images = Images(table, Embeddings([], np.empty((0, 1), np.float32), {}))
    parts = parts_of(images, settings)
    judge = Judge(run, collection, grades_so_far(run))
    if judge.source == "nobody":
        raise ValueError(
            f"nobody says what is similar in run {run.name}, so no version of it can be judged; "
            "grade pairs first"
        )
    say(
        f"reads {len(table)} pictures; learns from {len(parts.train)}, validates on "
        f"{len(parts.validation)}"
    )
    paths = [collection.path(name) for name in table.image]
    pictures = _Pictures(table, read_squares(paths, backbone.pixels, progress))
    lessons = _lessons(run, parts, settings, pictures)
    # as it would be used, of as many pixels as it expects
    before = get_encoder(settings.encoder).encode(paths)
    validation, frozen = Validation(parts.validation, judge), backbone.weights()
    watched = pictures.rows(parts.validation)
    checkpoint = stage.folders["model"].with_suffix(".checkpoint.pt")
    history = train(
        backbone,
        pictures.squares,
        lessons,
        settings,
        lambda: validation.mean_ap(pictures.vectors(backbone, watched)),
        checkpoint,
        _identity([own_settings, backbone.base], pictures.squares, lessons),
        say,
    )
    backbone.go_back(frozen, settings.share)
    stage.start()
    weights = backbone.network.state_dict()
    save_file(
        {name: value.cpu().contiguous() for name, value in weights.items()},
        stage["model"] / WEIGHTS,
    )
    about = {"base": backbone.base, "pixels": backbone.pixels, "trained": backbone.trained}
    write_json(stage["model"] / ABOUT, {"settings": own_settings, **about})
    vectors = {FROZEN: before, TUNED: pictures.vectors(backbone)}
    tables = {
        "history": history,
        "retrieval": judged(parts, vectors, judge, table),
        "examples": _examples(parts, vectors, pictures, settings.seed),
    }
    for name, kept in tables.items():
        write_table(kept, stage["results"] / f"{name}.csv")
    stage.publish(version=settings.version)
    checkpoint.unlink(missing_ok=True)
    return stage


def _identity(settings: list[dict], squares: np.ndarray, lessons: TrainingData) -> str:
    """A digest of all that a training follows from, so that it goes on with the same alone."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in (squares, lessons.rows, lessons.classes, lessons.pairs):
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Pictures:
    """The run's pictures, decoded, in the order of its table."""

    table: pd.DataFrame
    squares: np.ndarray

    def rows(self, images: Images) -> np.ndarray:
        return pd.Index(self.table.image).get_indexer(images.names)

    def vectors(self, backbone: Backbone, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        return encode(
            backbone.network, self.squares[rows], backbone.pixels, backbone.mean, backbone.std
        )


class Validation:
    """The validation images, and the grades of each among the others, which stay the same.

    Raises
    ------
    ValueError
        where no two of them are similar.
    """

    def __init__(self, images: Images, judge: Judge):
        blank = with_vectors(images, "", np.ones((len(images), 1)))
        self._images = images
        self._grades = judge.grades(rank(blank, Model(), some_queries(images)))
        if not (self._grades.grade == SIMILAR).any():
            raise ValueError(
                "no two validation images are similar by what is known, so nothing says when to "
                "stop; grade more pairs, or hold out other classes"
            )

    def mean_ap(self, vectors: np.ndarray) -> float:
        """By their vectors (n, d), in their order."""
        return mean_ap(with_vectors(self._images, TUNED, vectors), self._grades)


def _lessons(run: Run, parts: Parts, settings: Finetuning, pictures: _Pictures) -> TrainingData:
    rows, images = pictures.rows(parts.train), parts.train
    level = _finest_class(images)
    labels = images.table[level] if level else np.zeros(len(images), int)
    classes, _ = pd.factorize(labels, sort=True)
    if settings.learn_from == "classes":
        return TrainingData(rows, classes)
    if not run.rounds_made:
        raise ValueError(
            f"learn_from: grades, and run {run.name} has no finished round; run it first"
        )
    graded = images.both_of(graded_pairs(run.last_round, images))
    if graded.empty:
        raise ValueError(
            f"learn_from: grades, and run {run.name} has no graded pair of training images"
        )
    place = pd.Index(images.names)
    columns = [place.get_indexer(graded[name]) for name in ("image1", "image2")]
    return TrainingData(rows, classes, np.stack([*columns, graded.similarity.to_numpy(int)], 1))


def _examples(
    parts: Parts, vectors: dict[str, np.ndarray], pictures: _Pictures, seed: int
) -> pd.DataFrame:
    """The first results of a few unseen images by each: as of ``relevance.example_results``."""
    images = list(parts.judged.values())[-1]  # of unseen classes where there are some
    rows, tables = pictures.rows(images), []
    for name, of_all_images in vectors.items():
        own = with_vectors(images, name, of_all_images[rows])
        tables.append(example_results(own, {name: Model()}, SHOWN, FIRST, seed))
    return pd.concat(tables, ignore_index=True)


def judged(
    parts: Parts, vectors: dict[str, np.ndarray], judge: Judge, table: pd.DataFrame
) -> pd.DataFrame:
    """``compare_rankings`` of several vectors (n, d) of all images of a table, on each part: with a
    column `part`.
    """
    place, tables = pd.Index(table.image), []
    for name, images in parts.judged.items():
        rows = place.get_indexer(images.names)
        rankings = {
            who: (with_vectors(images, who, each[rows]), Model()) for who, each in vectors.items()
        }
        tables.append(compare_rankings(rankings, judge, CUTS, more=True).assign(part=name))
    return pd.concat(tables, ignore_index=True)


def _map_of_version(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``judged`` that hold a version's mAP, one a part; `gain_in_words`."""
    rows = of_all(scores)
    rows = rows[(rows.measure == "AP") & (rows.model == TUNED)]
    return rows.assign(
        part=rows.part.str.replace("_", " "), gain_in_words=intervals(rows, *GAIN, "+")
    )


def verdict(scores: pd.DataFrame) -> tuple[bool, str]:
    """Whether a version is better than the frozen backbone, and in words; `scores` as of
    ``judged``.
    """
    rows = _map_of_version(scores)
    told = "; ".join(
        f"on {row.part}, mAP {row.mean:.3f} against {row.mean - row.gain:.3f}: {row.gain_in_words}"
        for row in rows.itertuples()
    )
    gains = [Gain(row.part, row.gain, row.gain_low, row.gain_high) for row in rows.itertuples()]
    is_better = any(gain.is_above for gain in gains) and not any(gain.is_below for gain in gains)
    if is_better:
        outcome = "Better than the frozen encoder: an interval lies above 0, and none below."
    elif any(gain.is_below for gain in gains):
        outcome = "Worse: an interval lies below 0; the frozen encoder stays the one to use."
    else:
        outcome = "No interval lies above 0; the frozen encoder stays the one to use."
    return is_better, f"{told}. {outcome}"


def finetune_all(
    settings: list[Finetuning], say: Callable[[str], None] = print, progress: Callable = iter
) -> None:
    """Make each version of a file of settings, and say what it is worth and how to use it."""
    for version in settings:
        run = find_run(version.study, version.run)
        stage = finetune(run, version, say, progress)
        is_better, words = verdict(read_table(stage["results"] / "retrieval.csv"))
        name = f"tuned:{run.name}/{version.version}"
        say(f"{name}: {words}")
        if is_better:
            say(f"to use it: imgsearch run {run.study.study} --run NEW_NAME --set encoder={name}")
    say(f"compare versions: imgsearch finetune --list --study {settings[0].study}{run.named}")


def listed(run: Run) -> pd.DataFrame:
    """The versions of a run: their settings that differ from the usual, their mAP and gain on each
    part.
    """
    rows, usual = [], Finetuning(study="x", run=run.name).model_dump(mode="json")
    for name in tuned_versions(run.name):
        stage = tuned_stage(run.name, name)
        row = {
            "encoder": f"tuned:{run.name}/{name}",
            "settings": "lost a part; see: imgsearch check",
        }
        if stage.finished:
            own = read_json(stage["model"] / ABOUT, "settings")["settings"]
            row["settings"] = ", ".join(
                f"{key} {value}"
                for key, value in own.items()
                if value != usual.get(key, value) and key not in ("study", "run", "version")
            )
            scores = read_table(stage["results"] / "retrieval.csv")
            for part in _map_of_version(scores).itertuples():
                row[part.part] = f"{part.mean:.3f} ({part.gain_in_words})"
        rows.append(row)
    return pd.DataFrame(rows)

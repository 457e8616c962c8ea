"""Notebook 02: one round of active learning, from the grades so far to the pairs to ask next; the log of all rounds."""

import pandas as pd

from imgsearch_utils.asking import Pool, choose_pairs
from imgsearch_utils.labels.graded import graded_pairs
from imgsearch_utils.labels.journal import Journal
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.evaluation import cross_fitted, score_sides
from imgsearch_utils.learning.heads import Head
from imgsearch_utils.learning.model import MODELS, Model
from imgsearch_utils.learning.training import train_head
from imgsearch_utils.steps.tagging import replayed_pairs, with_zeros
from imgsearch_utils.vectors.images import Images
from imgsearch_utils.workspace import Round, Run, write_atomic

LOGGED = ("roc_auc", "ap", "same_class_roc_auc", "same_class_ap", "f1", "accuracy", "ece")


def learn(this: Round, images: Images, graded: pd.DataFrame) -> tuple[Head, pd.DataFrame]:
    """The round's head and the history of its training; trained where they are not there.

    graded : of ``labels.graded_pairs``
    """
    train, dev = (graded[graded.side == side] for side in ("train", "dev"))
    study = this.run.study
    return tuple(this.stage().keep(["model/head.safetensors", "history.csv"], lambda: train_head(
        images.train, train, study.head, study.seed + this.number, dev)))


def judge(this: Round, images: Images, graded: pd.DataFrame, head: Head) -> tuple[pd.DataFrame, dict[str, Model]]:
    """The round's dev and test pairs scored by both models, and the models with their calibrations, by name."""
    def make():
        scored, models = score_sides(images, head, graded, cross_fitted(this, images, graded))
        numbers = scored.select_dtypes("floating").columns
        return (scored.astype(dict.fromkeys(numbers, float)).round(5),
                {name: model.calibration.to_dict() for name, model in models.items()})

    scored, curves = this.stage().keep(["scored_pairs.csv", "model/calibration.json"], make)
    encoder, learnt = (Calibration.from_dict(curves[name]) for name in MODELS)
    return scored, {"encoder": Model(calibration=encoder), "head": Model.with_head(head, learnt)}


def models_of(this: Round, images: Images) -> dict[str, Model]:
    """The encoder and the round's head, calibrated, by name; made again where a published run leaves the head out."""
    graded = graded_pairs(this, images)
    head, _ = learn(this, images, graded)
    return judge(this, images, graded, head)[1]


def count_labels(graded: pd.DataFrame) -> dict[str, int]:
    """How many train pairs have a grade: all (`labels`), those that were asked, those of grade 3 (`similar`)."""
    train = graded[graded.side == "train"]
    return {"labels": len(train), "asked": int((~train.automatic).sum()), "similar": int((train.similarity == 3).sum())}


def next_pairs(this: Round, images: Images, model: Model) -> pd.DataFrame:
    """The pairs to ask in the round after `this`, chosen by the study's strategy; columns as of ``first_pairs``."""
    study, number = this.run.study, this.number + 1
    if study.oracle == "replay":
        return replayed_pairs(this.run, images, lambda table: (table["round"] == number) & (table.side == "train"))
    labelled = Journal(this.run.journal).labels(up_to_round=this.number)  # so it gives the same when made again
    seed = study.seed * 1000 + 10 * number
    pool = Pool.of(images.train, model, labelled)
    asked = choose_pairs(pool, study.strategy, study.asked_per_round, seed, study.max_per_image)
    return with_zeros(asked, images.train, study.zeros_per_round, seed, labelled).assign(side="train")


def rounds_log(run: Run) -> pd.DataFrame:
    """The finished rounds' metrics, one row a round; ValueError names a metrics.json that lacks something."""
    rows = []
    for this in map(run.round, range(run.study.rounds)):
        if not this.finished:
            break
        metrics = this.metrics
        try:
            row = {"round": this.number, **metrics["labels"], "promoted": metrics["promoted"]}
            for side in ("dev", "test"):
                for model in MODELS:
                    row |= {f"{side}_{model}_{name}": metrics[side][model].get(name) for name in LOGGED}
                gain = metrics[side]["ap_gain_over"]["encoder"]
                row |= {f"{side}_ap_gain": gain["difference"], f"{side}_ap_gain_low": gain["low"],
                        f"{side}_ap_gain_high": gain["high"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{this.results / 'metrics.json'} lacks what a round measures ({error}); remove "
                             f"{this.results} and run the study again, which makes it again") from None
        rows.append(row)
    return pd.DataFrame(rows).replace({None: float("nan")}).infer_objects()


def log_text(log: pd.DataFrame) -> str:
    """What results_log.csv holds."""
    return log.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def log_rounds(run: Run) -> pd.DataFrame:
    """Write results_log.csv from the finished rounds' metrics where it says something else, and return it."""
    log, file = rounds_log(run), run.results / "results_log.csv"
    if not file.is_file() or file.read_text(encoding="utf-8") != log_text(log):
        write_atomic(file, log_text(log))
    return log

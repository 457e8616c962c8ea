"""Notebook 02: one round of active learning, from the grades so far to the pairs to ask next."""

from typing import Any

import pandas as pd

from imgsearch_utils.asking import Pool, automatic_zeros, choose_pairs, usual_strategy
from imgsearch_utils.grades import oracles
from imgsearch_utils.grades.comparison_files import teaching_triplets
from imgsearch_utils.grades.journal import AUTOMATIC, Journal
from imgsearch_utils.grades.usable_grades import graded_pairs, voted_pairs
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning import learner
from imgsearch_utils.learning.learner import LearningResult
from imgsearch_utils.learning.model import Model, models_from_dict, models_to_dict
from imgsearch_utils.learning.promotion import chosen_row
from imgsearch_utils.learning.round_metrics import evaluate, score_pairs
from imgsearch_utils.steps.rounds_log import count_labels
from imgsearch_utils.steps.tagging import replayed_pairs, with_zeros
from imgsearch_utils.study import Study
from imgsearch_utils.workspace import Round, Run


def evidence(this: Round, images: Images) -> pd.DataFrame:
    """What a round learns from, and is judged by: the grades up to it, as of
    ``grades.graded_pairs``.

    A run that people teach learns from its classes before anybody gave a grade (``class_pairs``);
    and its test pairs count once somebody graded some of them."""
    graded = graded_pairs(this, images)
    given = set(graded.side[~graded.automatic])
    if not this.run.taught:
        return graded
    if "train" not in given and images.has_classes:
        return class_pairs(images, this.run.study)
    return graded[(graded.side != "test") | ("test" in given)].reset_index(drop=True)


def class_pairs(images: Images, study: Study) -> pd.DataFrame:
    """Random pairs of train and of test images, graded by what the classes say: 3 within the finest
    class, 0 across.

    There are as many as a round has asked pairs and automatic zeros; columns as of
    ``grades.graded_pairs``."""
    tables = []
    for number, split in enumerate(("train", "test")):
        here, seed = images.split(split), study.seed * 1000 + number
        within = choose_pairs(Pool.of(here), "random", study.asked_per_round, seed)
        across = automatic_zeros(here, study.zeros_per_round, seed)
        table = pd.concat([within, across], ignore_index=True)[["image1", "image2"]]
        grades = oracles.answer("hierarchy", table, here.table[["image", *here.class_columns]])
        group1, group2 = here.of_pairs(table, "group")
        tables.append(
            table.assign(
                similarity=grades,
                round=0,
                source=AUTOMATIC,
                annotators=0,
                side=split,
                automatic=True,
                same_class=here.same_class(table),
                group1=group1,
                group2=group2,
                drawn=True,
            )
        )
    return pd.concat(tables, ignore_index=True)


def count_grades(graded: pd.DataFrame) -> pd.DataFrame:
    """How many pairs have each grade (columns), by the round of train pairs, or by split: of those
    that were asked, or of all where none was.
    """
    asked = graded if graded.automatic.all() else graded[~graded.automatic]
    grade = asked.similarity.astype(int).rename("grade")
    return pd.crosstab(asked["round"].where(asked.side == "train", asked.side), grade)


def head_in_search(before: Round) -> bool:
    """Whether search uses a head before this round; it stays while the round's grades do not say
    that it is worse.

    In a run that people teach alone: there a few grades follow on what all classes showed.
    """
    run, number = before.run, before.number - 1
    return run.taught and number >= 0 and bool(run.round(number).metrics["promoted"])


def learn(this: Round, images: Images, graded: pd.DataFrame) -> LearningResult:
    """What the round learnt from the grades so far; learnt where it is not there.

    graded : of ``grades.graded_pairs``
    """
    study, stage, trained = this.run.study, this.stage(), []
    more = {
        "votes": voted_pairs(this, images),
        "comparisons": teaching_triplets(this.run, images.train, this.number),
    }

    def make():
        result = learner.learn(
            images, graded, study.head, study.seed, in_search=head_in_search(this), **more
        )
        trained.append(result.models["head"].head)
        scored = score_pairs(images, graded, result)
        numbers = scored.select_dtypes("floating").columns
        scored = scored.astype(dict.fromkeys(numbers, float)).round(5)
        curves = models_to_dict(result.models)
        return curves, result.candidates.round(5), result.history, scored

    files = ["model/calibration.json", "candidates.csv", "history.csv", "scored_pairs.csv"]
    curves, candidates, history, scored = stage.keep(files, make)

    def head():
        if trained:
            return trained[0]
        name = chosen_row(candidates).candidate
        return learner.train_candidate(images, graded, study.head, study.seed, name, **more)

    models = models_from_dict(curves, stage.keep("model/head.safetensors", head))
    return LearningResult(models, candidates, scored, history)


def deciding_and_reporting(scored: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scored dev pairs, which decide, and the test pairs, which report; where no test pair is
    graded, the dev pairs twice.
    """
    dev, test = (scored[scored.side == split] for split in ("dev", "test"))
    return dev, (test if len(test) else dev)


def measure(result: LearningResult, graded: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json holds of a round."""
    by_classes = graded.automatic.all()
    return {
        **evaluate(result.scored, result.models),
        "candidate": result.chosen,
        "promoted": result.promoted,
        "evidence": "classes" if by_classes else "grades",
        "labels": count_labels(graded),
    }


def models_of(this: Round, images: Images) -> dict[str, Model]:
    """The encoder and the round's head, calibrated, by name; made again where a published run
    leaves the head out.
    """
    return learn(this, images, evidence(this, images)).models


def models_in(run: Run, images: Images) -> dict[str, Model]:
    """The models of the last round, as of ``models_of``; before the first one the encoder alone,
    not calibrated.
    """
    return models_of(run.last_round, images) if run.rounds_made else {"encoder": Model()}


def next_pairs(this: Round, images: Images, model: Model) -> pd.DataFrame:
    """The pairs to ask in the round after `this`, chosen by the study's strategy; columns as of
    ``first_pairs``.
    """
    study, number = this.run.study, this.number + 1
    if study.oracle == "replay":
        return replayed_pairs(
            this.run, images, lambda table: (table["round"] == number) & (table.side == "train")
        )
    # so it gives the same when made again
    labelled = Journal(this.run.journal).labels(up_to_round=this.number)
    seed = study.seed * 1000 + 10 * number
    pool = Pool.of(images.train, model, labelled)
    strategy = study.strategy or usual_strategy(images.train, this.run.taught)
    asked = choose_pairs(pool, strategy, study.asked_per_round, seed, study.max_per_image)
    return with_zeros(asked, images.train, study.zeros_per_round, seed, labelled).assign(
        side="train"
    )

"""Notebook 02: one round of active learning, from the grades so far to the pairs to ask next."""

from typing import Any

import pandas as pd

from imgsearch_utils.asking import Pool, automatic_zeros, choose_pairs, redrafted, usual_strategy
from imgsearch_utils.grades import oracles
from imgsearch_utils.grades.agreement import self_agreement
from imgsearch_utils.grades.comparison_files import teaching_triplets
from imgsearch_utils.grades.journal import AUTOMATIC, Journal
from imgsearch_utils.grades.pairs import read_pairs
from imgsearch_utils.grades.usable_grades import graded_lists, graded_pairs, voted_pairs
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning import learner
from imgsearch_utils.learning.evidence import Rival
from imgsearch_utils.learning.learner import LearningResult
from imgsearch_utils.learning.model import (
    Model,
    class_round,
    models_from_dict,
    models_to_dict,
    round_in_search,
)
from imgsearch_utils.learning.promotion import (
    ENCODER,
    are_steady,
    chosen_row,
    decision_of_metrics,
    decision_to_dict,
)
from imgsearch_utils.learning.round_metrics import evaluate, score_pairs
from imgsearch_utils.steps.rounds_log import count_labels
from imgsearch_utils.steps.tagging import Drafts, replayed_pairs, untouched_lists, with_zeros
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
                strategy="random",
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


def rival_of(this: Round, images: Images) -> Rival:
    """What search used before the grades, and how the lists of the run so far compare it with what
    they taught.
    """
    in_search = False
    if this.number:
        before = this.run.round(this.number - 1)
        in_search = bool(before.metrics["promoted"]) and not before.by_classes
    model, name = _model_before(this, images)
    steady = are_steady(self_agreement(Journal(this.run.journal), up_to_round=this.number))
    return Rival(model, name, graded_lists(this, images), this.number + 1, in_search, steady)


def _model_before(this, images):
    """What search used before the grades, and its name: the encoder, or the head that the classes
    taught, where search used that.
    """
    if by_classes := class_round(this.run, this.number):
        return models_of(by_classes, images)["head"], "what the classes taught"
    return Model(), ENCODER


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
            images, graded, study.head, study.seed, rival=rival_of(this, images), **more
        )
        trained.append(result.models["head"].head)
        scored = score_pairs(images, graded, result)
        numbers = scored.select_dtypes("floating").columns
        scored = scored.astype(dict.fromkeys(numbers, float)).round(5)
        curves = models_to_dict(result.models) | {"decision": decision_to_dict(result.decision)}
        return curves, result.candidates.round(5), result.history, scored

    files = ["model/calibration.json", "candidates.csv", "history.csv", "scored_pairs.csv"]
    curves, candidates, history, scored = stage.keep(files, make)

    def head():
        if trained:
            return trained[0]
        name = chosen_row(candidates).candidate
        return learner.train_candidate(images, graded, study.head, study.seed, name, **more)

    models = models_from_dict(curves, stage.keep("model/head.safetensors", head))
    decision = decision_of_metrics(curves)
    return LearningResult(models, candidates, scored, history, decision)


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
        "decision": decision_to_dict(result.decision),
        "evidence": "classes" if by_classes else "grades",
        "labels": count_labels(graded),
    }


def models_of(this: Round, images: Images) -> dict[str, Model]:
    """The encoder and the round's head, calibrated, by name; made again where a published run
    leaves the head out.
    """
    return learn(this, images, evidence(this, images)).models


def models_in(run: Run, images: Images) -> dict[str, Model]:
    """The models of the round whose head search uses, or else of the last round, as of
    ``models_of``; before the first one the encoder alone, not calibrated.
    """
    if not run.rounds_made:
        return {"encoder": Model()}
    return models_of(round_in_search(run) or run.last_round, images)


def next_pairs(this: Round, images: Images, model: Model) -> pd.DataFrame:
    """The pairs to ask in the round after `this`, chosen by the study's strategy; columns as of
    ``first_pairs``, and of lists ``tagging.LIST_COLUMNS``.
    """
    study, number = this.run.study, this.number + 1
    if study.oracle == "replay":
        return replayed_pairs(
            this.run, images, lambda table: (table["round"] == number) & (table.side == "train")
        )
    # so it gives the same when made again
    labelled = Journal(this.run.journal).labels(up_to_round=this.number)
    seed = study.seed * 1000 + 10 * number
    strategy = study.strategy or usual_strategy(images.train, this.run.taught)
    before = None
    if strategy == "lists" and not evidence(this, images).automatic.all():
        # so lists compare what the grades have taught so far with what search used before them
        before, _ = _model_before(this, images)
    pool = Pool.of(images.train, model, labelled, before)
    asked = choose_pairs(pool, strategy, study.asked_per_round, seed, study.max_per_image)
    return with_zeros(asked, images.train, study.zeros_per_round, seed, labelled).assign(
        side="train"
    )


def redraft(this: Round, images: Images, model: Model) -> Drafts | None:
    """The lists of a round that nobody has begun, drafted anew by what was learnt meanwhile and by
    what search used before the grades; None where there are none.

    So most lists compare what was learnt lately with its rival (test, then train), and people see
    what they taught.
    """
    pairs = read_pairs(this.pairs)
    replaced = untouched_lists(this, pairs, set())
    if not (replaced >= 0).any():
        return None
    labelled = Journal(this.run.journal).labels()[["image1", "image2"]]
    stay = pairs.loc[replaced < 0, ["image1", "image2"]]
    before, _ = _model_before(this, images)
    pool = Pool.of(images.train, model, pd.concat([labelled, stay]), before)
    seed = [this.run.study.seed, this.number, len(labelled)]
    return Drafts(pairs, redrafted(pool, pairs, replaced, seed))

"""What votes on search results teach, beside a person's grades, measured on images that took no
part.

    python -m benchmarks.votes [--studies synthetic_houses grocery] [--seeds 5] [--out benchmarks]

The study's oracle sits in the person's place. It graded 60 or 120 results, in lists; then it looked
at the first 12 results of 10 or of 30 other searches, and voted three up (grade 3) and three down
(grade 0 or 1) where there are so many, every tenth vote wrongly. The weight of the votes
(``learning.training.VOTE``) is compared by halves of the train images, one that teaches and one
that judges; its default was chosen there. Test images then say what the default is worth to a head
that learnt from all train images. Writes votes.csv, means over the seeds."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from benchmarks.learning_curves import Trial, one_thread, open_trials
from imgsearch_utils.asking import Pool, automatic_zeros, choose_pairs
from imgsearch_utils.asking.pool import NO_PAIRS
from imgsearch_utils.grades.pairs import LIST, canonical, key
from imgsearch_utils.images import Images
from imgsearch_utils.learning import Model, head_training, train_head
from imgsearch_utils.learning.learner import CANDIDATES, candidates_of

WEIGHTS = (0.1, head_training.VOTE, 1.0, 3.0)
GRADES, SEARCHES = (60, 120), (10, 30)
EACH, WRONG = 3, 0.1  # votes up and down on one search at most; the share of them that is wrong


def halves(trial: Trial) -> Trial:
    """The trial, with one half of its train images as train and the other as test."""
    train = trial.images.train
    folds = GroupKFold(2, shuffle=True, random_state=trial.seed).split(
        train.table, groups=train.table.group
    )
    judging = train.table.image.iloc[next(folds)[1]]
    table = train.table.assign(side=np.where(train.table.image.isin(judging), "test", "train"))
    halved = replace(trial, images=Images(table, train.embeddings))
    names, group = np.sort(judging.to_numpy(object)), dict(zip(table.image, table.group))
    i, j = np.triu_indices(len(names), 1)
    apart = [group[one] != group[two] for one, two in zip(names[i], names[j])]
    pairs = pd.DataFrame({"image1": names[i[apart]], "image2": names[j[apart]]})
    return replace(
        halved, test=trial.grade(pairs.assign(same_class=halved.images.same_class(pairs)))
    )


def votes_of(trial: Trial, searches: int, rng: np.random.Generator) -> pd.DataFrame:
    """What a person votes on the encoder's first results of random train images: image1, image2,
    similarity (3, 0).
    """
    train = trial.images.train
    names, unit, group = (
        np.array(train.names, object),
        Model().vectors(train.vectors),
        train.table.group.to_numpy(),
    )
    parts = []
    for row in rng.choice(len(names), searches, replace=False):
        others = np.flatnonzero(group != group[row])
        first = others[np.argsort(-(unit[others] @ unit[row]), kind="stable")[:LIST]]
        shown = trial.grade(pd.DataFrame({"image1": names[row], "image2": names[first]}))
        parts += [
            shown[shown.similarity == 3].head(EACH),
            shown[shown.similarity <= 1].head(EACH).assign(similarity=0),
        ]
    votes = canonical(pd.concat(parts)).drop_duplicates(["image1", "image2"], ignore_index=True)
    return votes.assign(
        similarity=votes.similarity.where(rng.random(len(votes)) >= WRONG, 3 - votes.similarity)
    )


def measured(trial: Trial, weights: tuple[float, ...]) -> Iterator[dict]:
    """A row for each number of grades and of searches and each weight; those without votes have
    weight 0.
    """
    study, train, seed = trial.study, trial.images.train, trial.seed * 1000
    rng, recipe = np.random.default_rng(seed), CANDIDATES[candidates_of(train)[0]]
    asked = trial.grade(choose_pairs(Pool.of(train, Model(), NO_PAIRS), "lists", max(GRADES), seed))
    zeros = automatic_zeros(train, study.zeros_per_round, seed) if train.has_classes else NO_PAIRS
    for n in GRADES:
        graded = pd.concat(
            [part for part in (asked.head(n), zeros) if len(part)], ignore_index=True
        )
        known = {key(*pair) for pair in zip(graded.image1, graded.image2)}
        for searches in (0, *SEARCHES):
            votes = votes_of(trial, searches, rng) if searches else asked[:0]
            votes = votes[
                np.array([pair not in known for pair in zip(votes.image1, votes.image2)], bool)
            ]
            for weight in weights if searches else (0.0,):
                with mock.patch.object(head_training, "VOTE", weight):
                    head, _ = train_head(train, graded, study.head, trial.seed, recipe, votes=votes)
                found = trial.measure(Model.with_head(head))
                yield {
                    "study": trial.name,
                    "grades": n,
                    "searches": searches,
                    "weight": weight,
                    "seed": trial.seed,
                    "votes": len(votes),
                    "ap": found["ap"],
                    "ndcg": found["ndcg"],
                }


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", nargs="+", default=["synthetic_houses", "grocery"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder of votes.csv"
    )
    chosen = parser.parse_args(arguments)
    one_thread()
    rows = []
    for name in chosen.studies:
        trials = [
            trial for classes in (True, False) for trial in open_trials(name, chosen.seeds, classes)
        ]
        for trial in tqdm(trials, desc=name, disable=None):
            for judged_by, each, weights in (
                ("train", halves(trial), WEIGHTS),
                ("test", trial, (head_training.VOTE,)),
            ):
                rows += [{**row, "judged_by": judged_by} for row in measured(each, weights)]
    by = ["judged_by", "study", "grades", "searches", "weight"]
    table = (
        pd.DataFrame(rows)
        .groupby(by, sort=False)
        .agg(
            seeds=("seed", "nunique"),
            votes=("votes", "mean"),
            ap=("ap", "mean"),
            ndcg=("ndcg", "mean"),
        )
        .reset_index()
    )
    table.sort_values(by[:2], kind="stable").to_csv(
        chosen.out / "votes.csv", index=False, float_format="%.4f", lineterminator="\n"
    )
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()

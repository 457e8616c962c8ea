"""What a person's minutes teach: pairs against lists, with and without classes, measured on images
nobody graded.

    python -m benchmarks.teaching [--studies synthetic_houses grocery] [--seeds 0 1 2 3 4] [--out
    FOLDER]

The study's oracle sits in the person's place: it gets the pairs or the lists in the order of the
teaching page, and answers a list as people do there: a key for each result that is not different,
one for all the rest. What was learnt from the first 20, 40, 60, 120, 240 and 480 grades is measured
on all pairs of test images. Where classes are known, row 0 is what these teach before anybody
grades. Appends to teaching.csv and goes on where it stopped; prints the means over the seeds and
writes them to teaching_means.csv, with the minutes that a person would take. No person's time was
measured: assumed are `PER_PAIR` seconds a pair, `PER_LIST` a list and `PER_KEY` a key."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.acquisition import stamp
from benchmarks.learning_curves import Log, Trial, one_thread, open_trials, read_rows
from imgsearch_utils.asking import Pool, automatic_zeros, choose_pairs, first_strategy
from imgsearch_utils.asking.pool import NO_PAIRS
from imgsearch_utils.grades.pairs import key
from imgsearch_utils.learning import Model
from imgsearch_utils.steps.learning_round import class_pairs
from imgsearch_utils.web.pair_order import Item, make_queue

GRADES = (20, 40, 60, 120, 240, 480)
ROUND = 120
# assumed seconds: a pair; a list that is looked over, and each key on it
PER_PAIR, PER_LIST, PER_KEY = (3.0, 4.0, 1.0)


def person_seconds(items: list[Item], grades: dict[tuple[str, str], float]) -> float:
    """Seconds that a person is assumed to take for these items; on a list, a key for each result
    that is not different and one.
    """
    seconds = 0.0
    for number, together in groupby(items, lambda item: item.list):
        shown = list(together)
        keys = sum(grades[item.pair] > 0 for item in shown) + 1
        seconds += PER_PAIR * len(shown) if number < 0 else PER_LIST + PER_KEY * keys
    return seconds


def sitting(trial: Trial, asks: str) -> Iterator[dict]:
    """Teach from nothing to the last of ``GRADES``: a row for each of them."""
    study, images = trial.study, trial.images
    train, encoder = images.train, trial.measure(Model())
    model, seconds, asked, zeros, in_search = Model(), 0.0, NO_PAIRS, NO_PAIRS, False
    if images.has_classes:
        model, row = _learnt(trial, class_pairs(images, study).query("side == 'train'"), in_search)
        yield {**_row(trial, asks, 0, 0, encoder), **row}
    for number, last in enumerate(range(ROUND, GRADES[-1] + 1, ROUND)):
        in_search = bool((images.has_classes or number) and row["promoted"])  # of the round before
        seed = trial.seed * 1000 + 10 * number
        lists, first = asks == "lists", not (number or images.has_classes)
        strategy = (
            "lists"
            if lists
            else first_strategy(train)
            if first or images.has_classes
            else "uncertainty"
        )
        pairs = choose_pairs(
            Pool.of(train, model, asked), strategy, ROUND, seed, study.max_per_image
        )
        pairs = trial.grade(pairs).assign(drawn=pairs.strategy.isin(["random", "stratified"]))
        grades = {
            key(*pair): grade
            for *pair, grade in pairs[["image1", "image2", "similarity"]].to_numpy(object)
        }
        queue = make_queue(pairs, study.seed + number, "person", 0)
        order = {item.pair: place for place, item in enumerate(queue)}
        pairs = pairs.assign(
            place=[order[key(*pair)] for pair in zip(pairs.image1, pairs.image2)]
        ).sort_values("place")
        more = (
            automatic_zeros(train, study.zeros_per_round, seed, exclude=asked)
            if images.has_classes
            else NO_PAIRS
        )
        zeros = pd.concat(
            [part for part in (zeros, more.assign(drawn=True)) if len(part)] or [NO_PAIRS]
        )
        for n in [n for n in GRADES if last - ROUND < n <= last]:
            given = n - (last - ROUND)
            graded = [part for part in (asked, pairs.head(given), zeros) if len(part)]
            spent = seconds + person_seconds(queue[:given], grades)
            model, row = _learnt(trial, pd.concat(graded, ignore_index=True), in_search)
            yield {**_row(trial, asks, n, spent, encoder), **row}
        seconds += person_seconds(queue, grades)
        asked = pd.concat([part for part in (asked, pairs) if len(part)], ignore_index=True)


def _learnt(trial, graded, in_search):
    """What was learnt, and its measures; the encoder's where the grades are too few."""
    try:
        learnt = trial.learn(graded.reset_index(drop=True), in_search)
    except ValueError:
        return Model(), {"promoted": False}
    found = trial.measure(learnt.models["head"])
    return learnt.models["head"], {
        "learnt_ap": found["ap"],
        "learnt_ndcg": found["ndcg"],
        "promoted": learnt.promoted,
        "candidate": learnt.chosen,
    }


def _row(trial, asks, grades, seconds, encoder):
    return {
        "study": trial.name,
        "asks": asks,
        "seed": trial.seed,
        "labels": grades,
        "minutes": seconds / 60,
        "encoder_ap": encoder["ap"],
        "encoder_ndcg": encoder["ndcg"],
        "learnt_ap": float("nan"),
        "learnt_ndcg": float("nan"),
        "promoted": False,
        "candidate": "",
    }


def whole_sitting(trial: Trial, asks: str) -> list[dict]:
    """The rows of a sitting; a function of the module, so that another process can be told to call
    it.
    """
    return list(sitting(trial, asks))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds by study, asks and grades; `used_...` is what search uses after the
    promotion.
    """
    for name in ("ap", "ndcg"):
        rows = rows.assign(
            **{f"used_{name}": rows[f"learnt_{name}"].where(rows.promoted, rows[f"encoder_{name}"])}
        )
    columns = [
        "minutes",
        "encoder_ap",
        "learnt_ap",
        "used_ap",
        "encoder_ndcg",
        "learnt_ndcg",
        "used_ndcg",
        "promoted",
    ]
    return (
        rows.groupby(["study", "asks", "labels"])[columns]
        .mean()
        .join(rows.groupby(["study", "asks", "labels"]).seed.nunique().rename("seeds"))
        .reset_index()
    )


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", nargs="+", default=["synthetic_houses", "grocery"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder of teaching.csv"
    )
    chosen = parser.parse_args(arguments)
    one_thread()
    log = Log(chosen.out / "teaching.csv", "asks")
    for name in chosen.studies:
        trials = [
            trial
            for classes in (True, False)
            for trial in open_trials(name, max(chosen.seeds) + 1, classes)
        ]
        trials = [replace(trial) for trial in trials if trial.seed in chosen.seeds]
        for trial in tqdm(sorted(trials, key=lambda trial: trial.seed), desc=name, disable=None):
            for asks in ("pairs", "lists"):
                if log.lacks(stamp(trial, list(GRADES)), trial.name, asks, trial.seed, GRADES[-1]):
                    log.append_missing(whole_sitting(trial, asks), stamp(trial, list(GRADES)))
    means = summary(read_rows(log.file))
    means.to_csv(chosen.out / "teaching_means.csv", index=False, float_format="%.4f")
    print(means.round(3).to_string(index=False))


if __name__ == "__main__":
    main()

"""What a person's minutes teach: pairs, lists or comparisons, with and without classes, measured on
images nobody graded.

    python -m benchmarks.teaching [--studies synthetic_houses grocery] [--seeds 0 1 2 3 4]
    [--asks pairs lists comparisons] [--out FOLDER]

The study's oracle sits in the person's place: it gets the pairs or the lists in the order of the
teaching page, and answers a list as people do there: a key for each result that is not different,
one for all the rest. Of a comparison it says that the candidate of the higher grade is closer, or
"neither" where both have one grade. What was learnt from the first 20, 40, 60, 120, 240 and 480
grades or answers is measured on all pairs of test images; of comparisons, from them alone. Where classes are known, row 0 is what these teach before anybody
grades. Appends to teaching.csv and goes on where it stopped; prints the means over the seeds and
writes them to teaching_means.csv, with the person's minutes. These are assumed, not measured:
`PER_PAIR` seconds a pair, `PER_LIST` a list and `PER_KEY` a key on it, `PER_COMPARISON` a
comparison."""

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
from imgsearch_utils.asking.comparison_questions import choose_questions
from imgsearch_utils.asking.pool import NO_PAIRS
from imgsearch_utils.grades.pairs import key
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.comparisons import learn_from_comparisons
from imgsearch_utils.learning.evidence import LISTS, Rival
from imgsearch_utils.steps.learning_round import class_pairs
from imgsearch_utils.study import AUTOMATIC
from imgsearch_utils.web.pair_order import Item, make_queue

GRADES = (20, 40, 60, 120, 240, 480)
ROUND = 120
# seconds, assumed: a pair; a list that is looked over, and each key on it; three pictures, one key
PER_PAIR, PER_LIST, PER_KEY, PER_COMPARISON = (3.0, 4.0, 1.0, 4.0)
ASKS = ("pairs", "lists", "comparisons")


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
    model, seconds, asked, zeros, rival = Model(), 0.0, NO_PAIRS, NO_PAIRS, Rival()
    before = encoder  # measures of the rival
    if images.has_classes:
        model, row = _learnt(trial, class_pairs(images, study).query("side == 'train'"), rival)
        if row["promoted"]:
            rival, before = Rival(model, "what the classes taught"), trial.measure(model)
        yield {**_row(trial, asks, 0, 0, encoder, encoder), **row}
    for number, last in enumerate(range(ROUND, GRADES[-1] + 1, ROUND)):
        if number:  # of the round before
            rival = replace(rival, in_search=row["promoted"])
        seed = trial.seed * 1000 + 10 * number
        lists, first = asks == "lists", not (number or images.has_classes)
        strategy = (
            "lists"
            if lists
            else first_strategy(train)
            if first or images.has_classes
            else "uncertainty"
        )
        pool = Pool.of(train, model, asked, rival.model if number else None)
        pairs = choose_pairs(pool, strategy, ROUND, seed, study.max_per_image)
        drawn = pairs.strategy.isin(["random", "stratified"])
        pairs = trial.grade(pairs).assign(drawn=drawn, round=number)
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
            [part for part in (zeros, more.assign(drawn=True, strategy=AUTOMATIC)) if len(part)]
            or [NO_PAIRS]
        )
        for n in [n for n in GRADES if last - ROUND < n <= last]:
            given = n - (last - ROUND)
            graded = [part for part in (asked, pairs.head(given), zeros) if len(part)]
            spent = seconds + person_seconds(queue[:given], grades)
            graded = pd.concat(graded, ignore_index=True)
            compared = graded[graded.place_learnt.notna()] if "place_learnt" in graded else LISTS
            rival = replace(rival, lists=compared, look=number + 1)
            model, row = _learnt(trial, graded, rival)
            yield {**_row(trial, asks, n, spent, encoder, before), **row}
        seconds += person_seconds(queue, grades)
        asked = pd.concat([part for part in (asked, pairs) if len(part)], ignore_index=True)


def comparing(trial: Trial) -> Iterator[dict]:
    """Teach by comparisons alone, from nothing to the last of ``GRADES`` answers: a row for each of
    them.

    Questions are made by the encoder, and once something is learnt by encoder and head together.
    """
    train, encoder = trial.images.train, trial.measure(Model())
    models, triplets, answered, row = [Model()], [], [], {"promoted": False}
    if trial.images.has_classes:
        taught = class_pairs(trial.images, trial.study).query("side == 'train'")
        _, row = _learnt(trial, taught, Rival())
        yield {**_row(trial, "comparisons", 0, 0, encoder, encoder), **row}
    for last in range(ROUND, GRADES[-1] + 1, ROUND):
        seed, known = trial.seed * 1000 + last, [*map(question_key, answered)]
        questions = choose_questions(train, models, ROUND, seed, known)
        answers, in_search = compared(trial, questions), bool(row["promoted"])
        for n in [n for n in GRADES if last - ROUND < n <= last]:
            so_far = pd.concat([*triplets, answers.head(n - (last - ROUND))], ignore_index=True)
            model, row = _learnt_from(trial, so_far[~so_far.neither], in_search)
            yield {**_row(trial, "comparisons", n, n * PER_COMPARISON, encoder, encoder), **row}
        triplets.append(answers)
        answered += questions.to_numpy(object).tolist()
        models = [Model(), model] if model.name == "head" else [Model()]


def question_key(question: list[str]) -> tuple[str, str, str]:
    """A question by which it is known, whatever the order of its candidates."""
    return question[0], *key(*question[1:])


def compared(trial: Trial, questions: pd.DataFrame) -> pd.DataFrame:
    """The oracle's answers: query, closer, farther, and neither, where both have one grade."""
    one, two = (
        trial.grade(questions.rename(columns={"query": "image1", name: "image2"})).similarity
        for name in ("candidate1", "candidate2")
    )
    first, second = questions.candidate1, questions.candidate2
    return pd.DataFrame(
        {
            "query": questions["query"],
            "closer": first.where(one >= two, second),
            "farther": second.where(one >= two, first),
            "neither": one == two,
        }
    )


def _learnt_from(trial, triplets, in_search):
    """``_learnt`` of comparisons."""
    try:
        learnt = learn_from_comparisons(
            trial.images.train, triplets, trial.study.head, trial.seed, in_search
        )
    except ValueError:
        return Model(), {"promoted": False}
    return _measured(trial, learnt)


def _learnt(trial, graded, rival):
    """What was learnt, and its measures; the encoder's where the grades are too few."""
    try:
        learnt = trial.learn(graded.reset_index(drop=True), rival)
    except ValueError:
        return Model(), {"promoted": False}
    return _measured(trial, learnt)


def _measured(trial, learnt):
    found = trial.measure(learnt.models["head"])
    return learnt.models["head"], {
        "learnt_ap": found["ap"],
        "learnt_ndcg": found["ndcg"],
        "promoted": learnt.promoted,
        "candidate": learnt.chosen,
    }


def _row(trial, asks, grades, seconds, encoder, before):
    return {
        "study": trial.name,
        "asks": asks,
        "seed": trial.seed,
        "labels": grades,
        "minutes": seconds / 60,
        "encoder_ap": encoder["ap"],
        "encoder_ndcg": encoder["ndcg"],
        "before_ap": before["ap"],
        "before_ndcg": before["ndcg"],
        "learnt_ap": float("nan"),
        "learnt_ndcg": float("nan"),
        "promoted": False,
        "candidate": "",
    }


def whole_sitting(trial: Trial, asks: str) -> list[dict]:
    """The rows of a sitting; a function of the module, so that another process can be told to call
    it.
    """
    return list(comparing(trial) if asks == "comparisons" else sitting(trial, asks))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds by study, asks and grades; `used_...` is what search uses after the
    promotion.
    """
    for name in ("ap", "ndcg"):
        rows = rows.assign(
            **{f"used_{name}": rows[f"learnt_{name}"].where(rows.promoted, rows[f"before_{name}"])}
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
    parser.add_argument("--asks", nargs="+", default=list(ASKS), choices=ASKS)
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
            for asks in chosen.asks:
                if log.lacks(stamp(trial, list(GRADES)), trial.name, asks, trial.seed, GRADES[-1]):
                    log.append_missing(whole_sitting(trial, asks), stamp(trial, list(GRADES)))
    means = summary(read_rows(log.file))
    means.to_csv(chosen.out / "teaching_means.csv", index=False, float_format="%.4f")
    print(means.round(3).to_string(index=False))


if __name__ == "__main__":
    main()

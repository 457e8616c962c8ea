"""What to ask first, and whether what is learnt from it may be trusted: each strategy in rounds,
measured on test.

    python -m benchmarks.acquisition [--studies synthetic_houses grocery] [--full] [--jobs N] [--out
    FOLDER]

Each study is measured twice: with its classes known (pairs are asked within a class, pairs across
classes are automatic zeros), and without. A round is the study's: pairs asked by the strategy (a
tenth at random), the candidates learnt from scratch on all grades so far, the choice between them
and the promotion by cross-fitting. Where a strategy needs a calibrated model, its first round is
chosen as a study's own first round is. Lists are asked as the teaching page asks them: from the
beginning, and drafted anew by a head that is trained after each ``EVERY`` grades. A seed draws the split, the first round and the first
weights; gains are paired by it. Appends to acquisition.csv a row for each study, strategy, seed and
number of labels (the model that was learnt; `used_...`: what search uses after the promotion;
`encoder_...`), goes on where it stopped, and writes acquisition_gains.csv, acquisition_labels.csv
and acquisition_trust.csv from it."""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.learning_curves import (
    Log,
    Trial,
    gains,
    labels_to_match,
    one_thread,
    open_trials,
    per_seed,
    read_rows,
)
from imgsearch_utils.asking import (
    COLD,
    STRATEGIES,
    Pool,
    automatic_zeros,
    choose_pairs,
    first_strategy,
)
from imgsearch_utils.asking.pool import NO_PAIRS
from imgsearch_utils.asking.strategies import UNCAPPED
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.evidence import LISTS, Rival
from imgsearch_utils.learning.learner import candidates_of, train_candidate
from imgsearch_utils.steps.teaching_session import EVERY
from imgsearch_utils.study import AUTOMATIC

RIVALS = ("random", "stratified")
SMALL, FULL = [60, 120, 240], [60, 120, 240, 400, 600]  # labels after each round
WORSE = 0.01  # AP or nDCG@10 that search may lose by what it learnt before it counts


def stamp(trial: Trial, budgets: list[int]) -> str:
    """What a curve depends on but its strategy and seed, as a short digest."""
    names = {
        "images",
        "encoder",
        "oracle",
        "head",
        "zeros_per_round",
        "test_share",
        "max_per_image",
    }
    settings = f"{trial.study.model_dump_json(include=names)} {trial.name} {budgets}"
    return sha256(settings.encode()).hexdigest()[:8]


def curve(trial: Trial, strategy: str, budgets: list[int]) -> Iterator[dict]:
    """Ask, learn and measure, round by round: a row for each of the budgets."""
    study, train = trial.study, trial.images.train
    graded, model, encoder = NO_PAIRS, Model(), trial.measure(Model())
    in_search, lists, used, candidate = False, [], encoder, candidates_of(train)[0]
    for number, labels in enumerate(budgets):
        step = labels - (budgets[number - 1] if number else 0)
        seed = trial.seed * 1000 + 10 * number
        name = strategy
        if not number and strategy not in COLD | UNCAPPED:
            name = first_strategy(train)
        parts = range(0, step, EVERY) if strategy == "lists" else [0]
        for start in parts:
            asks = min(EVERY, step - start) if strategy == "lists" else step
            before = Model() if len(graded) else None
            if start:  # what the page has learnt meanwhile
                head = train_candidate(
                    trial.images, trial.known_of(graded), study.head, trial.seed, candidate
                )
                model = Model.with_head(head)
            pool = Pool.of(train, model, graded, before)
            draw = [seed, start] if start else seed
            asked = choose_pairs(pool, name, asks, draw, study.max_per_image)
            asked["drawn"] = asked.audit | (name in ("random", "stratified"))
            asked = trial.grade(asked).assign(asked=True, round=labels + start / step)
            if "place_learnt" in asked:
                lists.append(asked[asked.place_learnt.notna()])
            graded = _joined(graded, asked)
        n_zeros = round(step * study.zeros_per_round / study.asked_per_round)
        zeros = automatic_zeros(train, n_zeros, seed, exclude=graded)
        zeros = zeros.assign(asked=False, drawn=True, strategy=AUTOMATIC)
        graded = _joined(graded, zeros)
        rival = Rival(
            lists=pd.concat(lists) if lists else LISTS, look=number + 1, in_search=in_search
        )
        learnt = trial.learn(graded, rival)
        model, in_search, candidate = learnt.models["head"], learnt.promoted, learnt.chosen
        found, before = trial.measure(model), used
        used = found if learnt.promoted else encoder
        yield {
            "study": trial.name,
            "strategy": strategy,
            "seed": trial.seed,
            "labels": labels,
            "similar": int((graded.similarity[graded.asked.astype(bool)] == 3).sum()),
            **found,
            "candidate": learnt.chosen,
            "promoted": learnt.promoted,
            "answer": learnt.decision.answer,
            "chance": learnt.decision.evidence.chance,
            **{f"used_{name}": used[name] for name in ("ap", "ndcg")},
            **{f"encoder_{name}": encoder[name] for name in ("ap", "ndcg")},
            **{f"before_{name}": before[name] for name in ("ap", "ndcg")},
        }


def _joined(one, two):
    parts = [part for part in (one, two) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else one


def one_core(started) -> None:
    """Keep a process to one processor, the next one that is free; `started` counts the
    processes.
    """
    one_thread()
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    if hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[number % len(mine)]})


def whole_curve(trial: Trial, strategy: str, budgets: list[int]) -> list[dict]:
    """The rows of a curve; a function of the module, so that another process can be told to call
    it.
    """
    return list(curve(trial, strategy, budgets))


def curves(
    steps: list[tuple[Trial, str]], budgets: list[int], jobs: int
) -> Iterator[tuple[Trial, list[dict]]]:
    """The curve of each trial and strategy, as it is finished; by several processes where there are
    several jobs.
    """
    if jobs == 1:
        yield from ((trial, whole_curve(trial, name, budgets)) for trial, name in steps)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, one_core, (context.Value("i", 0),)) as pool:
        running = {pool.submit(whole_curve, trial, name, budgets): trial for trial, name in steps}
        yield from ((running[done], done.result()) for done in as_completed(running))


def trust(rows: pd.DataFrame) -> pd.DataFrame:
    """Never worse? By study, strategy and labels: what search uses after the decision, against the
    encoder and against what it used before the round.

    A case is one seed. Only cases in which search uses what was learnt can be worse, so harm is
    told as a share of these. Rows that an earlier rule decided (without `answer`) are left out.

    Returns study, strategy, labels, cases, used (cases in which search uses what was learnt),
    shown (of these, how many as shown to be better), worse and worse_than_before (how many lose
    more than ``WORSE`` of AP or nDCG@10), used_ap, used_ndcg (mean gains of search over all cases),
    and kept, the share of the head's gain in AP that search has"""
    rows = rows[rows.answer.notna()]
    gain = {name: rows[f"used_{name}"] - rows[f"encoder_{name}"] for name in ("ap", "ndcg")}
    table = rows.assign(
        **{f"used_{name}": values for name, values in gain.items()},
        used=rows.promoted.astype(bool),
        shown=rows.answer == "shown",
        worse=np.minimum(gain["ap"], gain["ndcg"]) < -WORSE,
        worse_than_before=rows.promoted.astype(bool)
        & (np.minimum(rows.used_ap - rows.before_ap, rows.used_ndcg - rows.before_ndcg) < -WORSE),
        head_ap=rows.ap - rows.encoder_ap,
    )
    table = (
        table.groupby(["study", "strategy", "labels"])
        .agg(
            cases=("seed", "nunique"),
            used=("used", "sum"),
            shown=("shown", "sum"),
            worse=("worse", "sum"),
            worse_than_before=("worse_than_before", "sum"),
            used_ap=("used_ap", "mean"),
            used_ndcg=("used_ndcg", "mean"),
            head_ap=("head_ap", "mean"),
        )
        .reset_index()
    )
    return table.assign(kept=table.used_ap / table.head_ap).drop(columns="head_ap")


def harm(trusted: pd.DataFrame) -> pd.DataFrame:
    """By study: cases, used, worse, worse_than_before, and `share`, the worse ones of the used; NaN
    where none is used.

    trusted : of ``trust``
    """
    table = trusted.groupby("study")[["cases", "used", "worse", "worse_than_before"]].sum()
    return table.assign(share=table.worse / table.used.where(table.used > 0)).reset_index()


def summarise(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Write and return the paired gains; write the labels needed to match random's end, and what
    may be trusted, and print how often search was harmed.
    """
    found = gains(per_seed(rows, "strategy"), "strategy", RIVALS)
    found.to_csv(folder / "acquisition_gains.csv", index=False, float_format="%.4f")
    matched = labels_to_match(rows, "strategy")
    matched.to_csv(folder / "acquisition_labels.csv", index=False, float_format="%.0f")
    trusted = trust(rows)
    trusted.to_csv(folder / "acquisition_trust.csv", index=False, float_format="%.4f")
    print(f"search lost more than {WORSE} of AP or nDCG@10, of the cases in which it uses a head:")
    print(harm(trusted).round(3).to_string(index=False))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, seed by seed; summarise; print the gains in area."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", nargs="+", default=["synthetic_houses", "grocery"])
    parser.add_argument(
        "--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES)
    )
    parser.add_argument(
        "--full", action="store_true", help="10 seeds and 600 labels instead of 2 and 240"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="which seeds, instead of 0 and 1, or 0 to 9"
    )
    parser.add_argument("--labels", type=int, nargs="+", help="labels after each round")
    parser.add_argument("--jobs", type=int, default=1, help="processes; a curve each")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder of the CSVs"
    )
    chosen = parser.parse_args(arguments)
    seeds = chosen.seeds or range(10 if chosen.full else 2)
    budgets = sorted(chosen.labels or (FULL if chosen.full else SMALL))
    log = Log(chosen.out / "acquisition.csv", "strategy")
    studies = [
        open_trials(name, max(seeds) + 1, classes)
        for name in chosen.studies
        for classes in (True, False)
    ]
    steps = [
        (trials[seed], name) for seed in seeds for name in chosen.strategies for trials in studies
    ]
    steps = [
        (trial, name)
        for trial, name in steps
        if any(
            log.lacks(stamp(trial, budgets), trial.name, name, trial.seed, labels)
            for labels in budgets
        )
    ]
    for trial, rows in tqdm(
        curves(steps, budgets, chosen.jobs), desc="curves", total=len(steps), disable=None
    ):
        log.append_missing(rows, stamp(trial, budgets))
    found = summarise(chosen.out, read_rows(log.file))
    print(found[found.measure == "area"].round(4).to_string(index=False))


if __name__ == "__main__":
    main()

"""What to ask first: each strategy in rounds, its AP on test pairs against the number of pairs asked.

    python -m benchmarks.acquisition [--studies synthetic_houses grocery] [--full] [--out FOLDER]

A round is the study's: pairs asked by the strategy (a tenth at random) and automatic zeros; the head is trained from
scratch on all grades so far. Where a strategy needs a head to choose, its first round is random, the same for all of
one seed. A seed draws the split, the dev pairs, the first round and the head's first weights; gains are paired by it.
Appends to acquisition.csv a row for each study, strategy, seed and number of labels, goes on where it stopped, and
writes acquisition_gains.csv and acquisition_labels.csv from it. Two studies may run side by side, a process each.
"""

import argparse
from hashlib import sha256
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.learning_curves import Log, Trial, gains, labels_to_match, one_thread, open_trials, per_seed, read_rows
from imgsearch_utils.asking import COLD, STRATEGIES, Pool, automatic_zeros, choose_pairs
from imgsearch_utils.asking.pool import NO_PAIRS
from imgsearch_utils.learning import Model

RIVALS = ("random", "stratified")
DOUBLED_AFTER = 480  # labels: from here on, a round asks twice as many


def rounds_of(size: int, most: int) -> list[int]:
    """Numbers of labels after each round: `size` pairs a round, twice as many once ``DOUBLED_AFTER`` are asked."""
    numbers = [size]
    while (following := numbers[-1] + (size if numbers[-1] < DOUBLED_AFTER else 2 * size)) <= most:
        numbers.append(following)
    return numbers


def run_strategy(trial: Trial, strategy: str, budgets: list[int], log: Log) -> None:
    """Ask, train and measure, round by round; only what the log lacks is written."""
    study, train = trial.study, trial.images.train
    names = {"images", "encoder", "oracle", "head", "zeros_per_round", "dev_asked", "dev_share", "test_share",
             "max_per_image"}
    settings = study.model_dump_json(include=names)
    settings = sha256(f"{settings} {budgets[0]} {DOUBLED_AFTER}".encode()).hexdigest()[:8]
    todo = [n for n in budgets if log.lacks(settings, study.study, strategy, trial.seed, n)]
    graded, model = NO_PAIRS, Model()
    for number, labels in enumerate([n for n in budgets if todo and n <= todo[-1]]):
        step = labels - (budgets[number - 1] if number else 0)
        seed = trial.seed * 1000 + 10 * number
        name = strategy if number or strategy in COLD else "random"
        asked = choose_pairs(Pool.of(train, model, graded), name, step, seed, study.max_per_image)
        n_zeros = round(step * study.zeros_per_round / study.asked_per_round)
        zeros = automatic_zeros(train, n_zeros, seed, exclude=graded)
        new = pd.concat([trial.grade(asked).assign(asked=True), zeros.assign(asked=False)])
        graded = pd.concat([graded, new], ignore_index=True) if len(graded) else new
        model = trial.fit(graded, study.head)
        if labels in todo:
            similar = int((graded.similarity[graded.asked.astype(bool)] == 3).sum())
            log.append({"study": study.study, "strategy": strategy, "seed": trial.seed, "labels": labels,
                        "similar": similar, **trial.measure(model), "settings": settings})


def summarise(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Write and return the paired gains; write the labels needed to match random's end."""
    found = gains(per_seed(rows, "strategy"), "strategy", RIVALS)
    found.to_csv(folder / "acquisition_gains.csv", index=False, float_format="%.4f")
    matched = labels_to_match(rows, "strategy")
    matched.to_csv(folder / "acquisition_labels.csv", index=False, float_format="%.0f")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, seed by seed; summarise; print the gains in area."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", default=["synthetic_houses", "grocery"])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--full", action="store_true", help="10 seeds and 1,200 labels instead of 2 and 480")
    parser.add_argument("--seeds", type=int, help="instead of 2 or 10")
    parser.add_argument("--labels", type=int, help="instead of 480 or 1,200")
    parser.add_argument("--round", type=int, default=120, help="pairs asked in a round, twice as many after 480")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the CSVs")
    chosen = parser.parse_args(arguments)
    seeds = chosen.seeds or (10 if chosen.full else 2)
    most = chosen.labels or (1200 if chosen.full else 480)
    one_thread()
    log, budgets = Log(chosen.out / "acquisition.csv", "strategy"), rounds_of(chosen.round, most)
    studies = [open_trials(name, seeds) for name in chosen.studies]
    steps = [(trials[seed], name) for seed in range(seeds) for name in chosen.strategies for trials in studies]
    for trial, strategy in tqdm(steps, desc="curves", disable=None):
        run_strategy(trial, strategy, budgets, log)
    found = summarise(chosen.out, read_rows(log.file))
    print(found[found.measure == "area"].round(4).to_string(index=False))


if __name__ == "__main__":
    main()

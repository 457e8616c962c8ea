"""What to learn with: each loss, and rivals of the whole head, on the same random pairs; their AP on
test pairs against the number of pairs.

    python -m benchmarks.losses [--rivals] [--studies synthetic_houses grocery] [--full] [--out
    FOLDER]

The head is the study's but for the loss, trained from scratch on the first 100, 300, 600 and 1,200
of one random draw and three automatic zeros for each; "none" is the encoder, which learns nothing.
With --rivals: the study's head, the same from the pairs alone, and ``benchmarks.rivals``, on the
first 480, as many as four rounds ask. A seed draws the split, the pairs and the first weights;
gains are paired by it, and their intervals allow for what the splits share
(``learning_curves.gains``). Appends to losses.csv or rivals.csv a row for each study, loss or
model, seed and number of labels, goes on where it stopped, and writes losses_gains.csv or
rivals_gains.csv from it."""

import argparse
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.learning_curves import (
    Log,
    Trial,
    gains,
    one_thread,
    open_trials,
    per_seed,
    random_pairs,
    read_rows,
)
from benchmarks.rivals import RIVALS
from imgsearch_utils.asking.choice import automatic_zeros
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.losses import LOSSES
from imgsearch_utils.study import HeadSettings

OURS = "our head, with classes"
# what the gains are over: the encoder; and the published study's loss, or our head
AGAINST = {"loss": ("none", "contrastive"), "model": ("none", OURS)}
#: what is trained -> its settings, and what trains it on a trial's pairs
Fits = dict[str, tuple[HeadSettings, Callable[[Trial, pd.DataFrame], Model]]]


def losses_of(settings: HeadSettings, names: list[str]) -> Fits:
    """The study's head by each of the losses; "none" learns nothing."""
    fits = {}
    for name in names:
        own = settings.model_copy(update={"loss": name})
        fits[name] = own, _head(own) if name != "none" else lambda *_: Model()
    return fits


def rivals_of(settings: HeadSettings) -> Fits:
    """The encoder, the study's head with classes and without, and the rivals."""
    alone = settings.model_copy(update={"class_share": 0.0})
    fits = {"none": (settings, lambda *_: Model()), OURS: (settings, _head(settings))}
    fits["our head, pairs alone"] = alone, _head(alone)
    return fits | {name: (settings, _rival(fit, settings)) for name, fit in RIVALS.items()}


def _head(settings):
    return lambda trial, pairs: trial.fit(pairs, settings)


def _rival(fit, settings):
    return lambda trial, pairs: fit(trial.images.train, pairs, settings, trial.seed)


def run_fits(trial: Trial, kind: str, fits: Fits, budgets: list[int], log: Log) -> None:
    """Train and measure what the log lacks of one trial."""
    study, train = trial.study, trial.images.train
    names = {"images", "encoder", "oracle", "zeros_per_round", "test_share"}
    settings = study.model_dump_json(include=names)
    asked = trial.grade(random_pairs(train, 1200, trial.seed))
    asked = asked.sample(frac=1, random_state=trial.seed)
    share = study.zeros_per_round / study.asked_per_round
    zeros = automatic_zeros(train, round(1200 * share), trial.seed)
    for name, (own, fit) in fits.items():
        stamp = sha256((settings + own.model_dump_json()).encode()).hexdigest()[:8]
        for labels in budgets:
            if log.lacks(stamp, study.study, name, trial.seed, labels):
                pairs = pd.concat(
                    [asked[:labels], zeros[: round(labels * share)]], ignore_index=True
                )
                log.append(
                    {
                        "study": study.study,
                        kind: name,
                        "seed": trial.seed,
                        "labels": labels,
                        "similar": int((pairs.similarity == 3).sum()),
                        **trial.measure(fit(trial, pairs)),
                        "settings": stamp,
                    }
                )


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, seed by seed; summarise; print the gains."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", nargs="+", default=["synthetic_houses", "grocery"])
    parser.add_argument("--losses", nargs="+", default=["none", *LOSSES], choices=["none", *LOSSES])
    parser.add_argument("--rivals", action="store_true", help="rivals of the head, not losses")
    parser.add_argument(
        "--full",
        action="store_true",
        help="10 seeds, and 100 to 1,200 labels for losses; else 2, and 100 and 300",
    )
    parser.add_argument("--seeds", type=int, help="instead of 2 or 10")
    parser.add_argument(
        "--labels", type=int, nargs="+", help="instead of 100 300 [600 1200]; at most 1200"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder of the CSVs"
    )
    chosen = parser.parse_args(arguments)
    kind, file = ("model", "rivals") if chosen.rivals else ("loss", "losses")
    seeds = chosen.seeds or (10 if chosen.full else 2)
    usual = [480] if chosen.rivals else [100, 300, 600, 1200] if chosen.full else [100, 300]
    one_thread()
    log = Log(chosen.out / f"{file}.csv", kind)
    studies = [open_trials(name, seeds) for name in chosen.studies]
    steps = [trials[seed] for seed in range(seeds) for trials in studies]
    for trial in tqdm(steps, desc="seeds", disable=None):
        head = trial.study.head
        fits = rivals_of(head) if chosen.rivals else losses_of(head, chosen.losses)
        run_fits(trial, kind, fits, sorted(chosen.labels or usual), log)
    rows = read_rows(log.file)
    curves = (
        per_seed(rows, kind, (480,)).drop(columns="area") if chosen.rivals else per_seed(rows, kind)
    )
    found = gains(curves, kind, AGAINST[kind])
    found.to_csv(chosen.out / f"{file}_gains.csv", index=False, float_format="%.4f")
    shown = found if chosen.rivals else found[found.measure == "area"]
    print(shown.round(4).to_string(index=False))


if __name__ == "__main__":
    main()

"""What to learn with: each loss on the same random pairs, its AP on test pairs against their
number.

    python -m benchmarks.losses [--studies synthetic_houses grocery] [--full] [--out FOLDER]

The head is the study's but for the loss, trained from scratch on the first 100, 300, 600 and 1,200
of one random draw and three automatic zeros for each; "none" is the encoder, which learns nothing.
A seed draws the split, the pairs and the head's first weights; gains are paired by it. Appends to
losses.csv a row for each study, loss, seed and number of labels, goes on where it stopped, and
writes losses_gains.csv from it."""

import argparse
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
from imgsearch_utils.asking.choice import automatic_zeros
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.losses import LOSSES

RIVALS = ("none", "contrastive")  # the encoder, and the published study's loss


def run_losses(trial: Trial, losses: list[str], budgets: list[int], log: Log) -> None:
    """Train and measure what the log lacks of one trial."""
    study, train = trial.study, trial.images.train
    names = {"images", "encoder", "oracle", "zeros_per_round", "test_share"}
    settings = study.model_dump_json(include=names)
    asked = trial.grade(random_pairs(train, 1200, trial.seed))
    asked = asked.sample(frac=1, random_state=trial.seed)
    share = study.zeros_per_round / study.asked_per_round
    zeros = automatic_zeros(train, round(1200 * share), trial.seed)
    for loss in losses:
        head_settings = study.head.model_copy(update={"loss": loss})
        stamp = sha256((settings + head_settings.model_dump_json()).encode()).hexdigest()[:8]
        for labels in budgets:
            if log.lacks(stamp, study.study, loss, trial.seed, labels):
                pairs = pd.concat(
                    [asked[:labels], zeros[: round(labels * share)]], ignore_index=True
                )
                model = Model() if loss == "none" else trial.fit(pairs, head_settings)
                log.append(
                    {
                        "study": study.study,
                        "loss": loss,
                        "seed": trial.seed,
                        "labels": labels,
                        "similar": int((pairs.similarity == 3).sum()),
                        **trial.measure(model),
                        "settings": stamp,
                    }
                )


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, seed by seed; summarise; print the gains in area."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", nargs="+", default=["synthetic_houses", "grocery"])
    parser.add_argument("--losses", nargs="+", default=["none", *LOSSES], choices=["none", *LOSSES])
    parser.add_argument(
        "--full",
        action="store_true",
        help="10 seeds and 100 to 1,200 labels; else 2, and 100 and 300",
    )
    parser.add_argument("--seeds", type=int, help="instead of 2 or 10")
    parser.add_argument(
        "--labels", type=int, nargs="+", help="instead of 100 300 [600 1200]; at most 1200"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder of the CSVs"
    )
    chosen = parser.parse_args(arguments)
    seeds = chosen.seeds or (10 if chosen.full else 2)
    budgets = sorted(chosen.labels or ([100, 300, 600, 1200] if chosen.full else [100, 300]))
    one_thread()
    log = Log(chosen.out / "losses.csv", "loss")
    studies = [open_trials(name, seeds) for name in chosen.studies]
    steps = [trials[seed] for seed in range(seeds) for trials in studies]
    for trial in tqdm(steps, desc="seeds", disable=None):
        run_losses(trial, chosen.losses, budgets, log)
    found = gains(per_seed(read_rows(log.file), "loss"), "loss", RIVALS)
    found.to_csv(chosen.out / "losses_gains.csv", index=False, float_format="%.4f")
    print(found[found.measure == "area"].round(4).to_string(index=False))


if __name__ == "__main__":
    main()

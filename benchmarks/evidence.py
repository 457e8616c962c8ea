"""How often search is told wrong: decisions about two models of which neither is better, and about
one that is worse.

    python -m benchmarks.evidence [--runs 40] [--studies synthetic_houses grocery] [--out FOLDER]

Nothing is learnt here. What search uses is a random half of the encoder's dimensions, what was
learnt is the other half ("equal"), or a part of it that is worse ("worse"). A run asks 60, 120, 240,
400 and 600 pairs as a study does (lists, strata, at random; classes known or not), its oracle
grades, and after each a decision is made by ``learning.promotion``. A run draws its split, its
halves and its pairs by its number. Writes evidence.csv, a row for each study, way of asking and
kind: of how many runs it was ever said "shown to be better", how often "probably better", and in
how many looks search used it; `lost` is the mean average precision on all test pairs that its use
costs. Resumes nothing: it takes some minutes."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.learning_curves import Trial, one_thread, open_trials
from imgsearch_utils.asking import Pool, automatic_zeros, choose_pairs, first_strategy
from imgsearch_utils.asking.pool import NO_PAIRS
from imgsearch_utils.asking.strategies import COLD
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.evidence import LISTS, Rival, evidence_of, fair_weights
from imgsearch_utils.learning.learner import with_unlabelled
from imgsearch_utils.learning.promotion import Decision, decide
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import AUTOMATIC, BY_CHANCE

LOOKS = (60, 120, 240, 400, 600)  # grades when a decision is made
WORSE = 8  # the part of its half that a worse model keeps: one of so many dimensions


class SomeDimensions:
    """Stands where a head does: some of the encoder's dimensions."""

    def __init__(self, rows: np.ndarray):
        self.rows = rows

    def embed(self, vectors: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, len(rows)), of length 1."""
        return normalised(np.ascontiguousarray(np.asarray(vectors)[:, self.rows]))

    def check_fits(self, _) -> None:
        """Any vectors fit."""


def decisions(trial: Trial, strategy: str, before: Model, learnt: Model) -> list[Decision]:
    """The decision after each of ``LOOKS``, of a run that asks by this strategy."""
    study, train, in_search = trial.study, trial.images.train, False
    graded, lists, made = NO_PAIRS, [], []
    for number, labels in enumerate(LOOKS):
        step, seed = labels - (LOOKS[number - 1] if number else 0), 1000 * trial.seed + number
        name = strategy if number or strategy in COLD else first_strategy(train)
        pool = Pool.of(train, learnt if number else Model(), graded, before if number else None)
        asked = trial.grade(choose_pairs(pool, name, step, seed, study.max_per_image))
        if "place_learnt" in asked:
            lists.append(asked[asked.place_learnt.notna()].assign(round=number))
        n_zeros = round(step * study.zeros_per_round / study.asked_per_round)
        zeros = automatic_zeros(train, n_zeros, seed, exclude=graded).assign(strategy=AUTOMATIC)
        parts = [part for part in (graded, asked, zeros) if len(part)]
        graded = pd.concat(parts, ignore_index=True)
        scored = _scored(trial, graded, before, learnt)
        rival = Rival(before, lists=pd.concat(lists) if lists else LISTS, look=number + 1)
        made.append(decide(evidence_of(scored, rival), in_search))
        in_search = made[-1].used
    return made


def _scored(trial, graded, before, learnt):
    """The graded pairs as ``evidence_of`` wants them."""
    images = trial.images.train
    group1, group2 = images.of_pairs(graded, "group")
    graded = graded.assign(
        group1=group1,
        group2=group2,
        same_class=images.same_class(graded),
        drawn=graded.strategy.isin(BY_CHANCE),
    )
    table = with_unlabelled(images, graded, trial.seed)
    table = table.assign(cosine=Model().cosines(images, table))
    known, unknown = table[table.similarity.notna()], table[table.similarity.isna()]
    known = known.astype({"drawn": bool, "same_class": bool})
    return known.assign(
        score=learnt.cosines(images, known),
        before=before.cosines(images, known),
        weight=fair_weights(known, unknown.astype({"same_class": bool})),
    )


def one_run(trial: Trial, strategy: str, kind: str) -> dict:
    """What was decided in one run, and what following it costs on the test pairs."""
    dims = trial.images.embeddings.vectors.shape[1]
    halves = np.random.default_rng(trial.seed).permutation(dims)
    rows = halves[: dims // 2], halves[dims // 2 :]
    if kind == "worse":
        rows = rows[0], rows[1][: len(rows[1]) // WORSE]
    before, learnt = (Model.with_head(SomeDimensions(part)) for part in rows)
    made = decisions(trial, strategy, before, learnt)
    used = np.mean([decision.used for decision in made])
    lost = trial.measure(before)["ap"] - trial.measure(learnt)["ap"]
    return {
        "shown": any(decision.answer == "shown" for decision in made),
        "probable": np.mean([decision.answer == "probable" for decision in made]),
        "used": used,
        "difference": -lost,
        "lost": used * lost,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run, write and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--studies", nargs="+", default=["synthetic_houses", "grocery"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    chosen = parser.parse_args(arguments)
    one_thread()
    rows = []
    for study in chosen.studies:
        for classes in (True, False):
            trials = open_trials(study, chosen.runs, classes)
            for asks in ("lists", "stratified", "random"):
                for kind in ("equal", "worse"):
                    about = f"{trials[0].name}, {asks}, {kind}"
                    runs = pd.DataFrame(
                        [one_run(trial, asks, kind) for trial in tqdm(trials, about, disable=None)]
                    )
                    means = runs.mean().to_dict()
                    about = {"study": trials[0].name, "asks": asks, "kind": kind}
                    rows.append({**about, "runs": len(runs), **means})
                    table = pd.DataFrame(rows)
                    table.to_csv(chosen.out / "evidence.csv", index=False, float_format="%.4f")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()

"""What votes on the first results are worth at once: nDCG@10 of the other images when examples move
a query.

    python -m benchmarks.examples [--studies synthetic_houses grocery] [--seeds 5] [--out
    benchmarks]

Each image of a side asks for the others of it. The study's oracle votes in the person's place: up
for the first results of grade 3, down for the first of grade 0 or 1, all among the first ``SEEN``.
Then the query is moved (``searcher.moved``), and what was not voted on is ranked anew. The weight
of what is voted down is compared on train images (its default was chosen there); test images say
what the default is worth. By the encoder, and by a head that learnt from the classes alone. Writes
examples.csv: means over the queries of all seeds, and the paired gain over the query alone with its
95 % bootstrap interval (groups of near-duplicates are drawn together)."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.learning_curves import Trial, one_thread, open_trials
from imgsearch_utils.learning import Model
from imgsearch_utils.metrics import bootstrap
from imgsearch_utils.search import searcher
from imgsearch_utils.steps.learning_round import class_pairs

SEEN = 24  # results that the person looks at
WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.8)
VOTES = ((1, 0), (2, 0), (4, 0), (0, 2), (1, 1), (2, 2), (4, 4))  # up, down


class Gallery(NamedTuple):
    """The images of one side of a trial: unit vectors (n, d) of a model, groups (n,), the oracle's
    grades (n, n).
    """

    seed: int
    unit: np.ndarray
    group: np.ndarray
    grades: np.ndarray

    @classmethod
    def of(cls, trial: Trial, split: str, model: Model) -> "Gallery":
        images = trial.images.split(split)
        names, (i, j) = np.array(images.names, object), np.triu_indices(len(images), 1)
        grades = np.zeros((len(images), len(images)))
        grades[i, j] = trial.grade(
            pd.DataFrame({"image1": names[i], "image2": names[j]})
        ).similarity
        return cls(
            trial.seed,
            model.vectors(images.vectors),
            images.table.group.to_numpy(),
            grades + grades.T,
        )

    def gains(self, ups: int, downs: int, weight: float) -> Iterator[dict]:
        """For each image that gets all these votes: nDCG@10 of the rest, by the query alone and by
        the moved one.
        """
        for row, unit in enumerate(self.unit):
            others = np.flatnonzero(self.group != self.group[row])
            cosine, grades = self.unit[others] @ unit, self.grades[row, others]
            seen = np.argsort(-cosine, kind="stable")[:SEEN]
            up, down = seen[grades[seen] == 3][:ups], seen[grades[seen] <= 1][:downs]
            rest = np.setdiff1d(np.arange(len(others)), [*up, *down])
            if (len(up), len(down)) != (ups, downs) or not grades[rest].any():
                continue
            with mock.patch.object(searcher, "UNLIKE", weight):
                asked = searcher.moved(unit[None], self.unit[others[up]], self.unit[others[down]])[
                    0
                ]
            yield {
                "group": f"{self.seed} {self.group[row]}",
                "alone": ndcg_at_10(grades[rest], cosine[rest]),
                "moved": ndcg_at_10(grades[rest], self.unit[others[rest]] @ asked),
            }


def ndcg_at_10(grades: np.ndarray, scores: np.ndarray) -> float:
    """nDCG@10 of one ranking, gains 2^grade - 1; in scikit-learn's, checks of a single row take
    most of the time.
    """
    gains, discounts = 2**grades - 1, 1 / np.log2(np.arange(2, 12))
    found, ideal = (
        gains[np.argsort(-by, kind="stable")[:10]] @ discounts for by in (scores, grades)
    )
    return found / ideal


def measure(trials: list[Trial]) -> Iterator[dict]:
    """The rows of one study."""
    heads = {
        trial.seed: trial.fit(
            class_pairs(trial.images, trial.study).query("side == 'train'"), trial.study.head
        )
        for trial in trials
    }
    for split, weights in (("train", WEIGHTS), ("test", (searcher.UNLIKE,))):
        for model in ("encoder", "head"):
            galleries = [
                Gallery.of(trial, split, heads[trial.seed] if model == "head" else Model())
                for trial in trials
            ]
            for ups, downs in tqdm(VOTES, desc=f"{trials[0].name}, {split}, {model}", disable=None):
                for weight in weights if downs else (searcher.UNLIKE,):
                    found = pd.DataFrame(
                        [row for gallery in galleries for row in gallery.gains(ups, downs, weight)]
                    )
                    gain, low, high = bootstrap(found.moved - found.alone, found.group)
                    yield {
                        "study": trials[0].name,
                        "side": split,
                        "model": model,
                        "up": ups,
                        "down": downs,
                        "weight": weight,
                        "queries": len(found),
                        "alone": found.alone.mean(),
                        "moved": found.moved.mean(),
                        "gain": gain,
                        "gain_low": low,
                        "gain_high": high,
                    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", nargs="+", default=["synthetic_houses", "grocery"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder of examples.csv"
    )
    chosen = parser.parse_args(arguments)
    one_thread()
    table = pd.DataFrame(
        [row for name in chosen.studies for row in measure(open_trials(name, chosen.seeds))]
    )
    table.to_csv(chosen.out / "examples.csv", index=False, float_format="%.5f", lineterminator="\n")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()

"""What a number of labels is worth: the trial that the benchmarks of acquisition and of losses
share.

A trial is a study under one seed: its images split by near-duplicate group, all test pairs for the
curve. Its oracle grades. Results are kept a row at a time, so a run that was stopped goes on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import ndcg_score
from tqdm import tqdm

from imgsearch_utils.asking import Pool, choose_pairs
from imgsearch_utils.asking.pool import NO_PAIRS
from imgsearch_utils.encoders.embed_collection import embed_run
from imgsearch_utils.grades import oracles
from imgsearch_utils.grades.oracles import known_to_oracle
from imgsearch_utils.images import Images, open_collection
from imgsearch_utils.learning import Model, learn, train_head
from imgsearch_utils.learning.evidence import Rival
from imgsearch_utils.learning.learner import LearningResult
from imgsearch_utils.metrics import over_splits, pair_metrics
from imgsearch_utils.steps.tagging import take_part
from imgsearch_utils.study import HeadSettings, Study, read_study
from imgsearch_utils.workspace import Run, find_study

MEASURES = ("ap", "roc_auc", "same_class_ap", "same_class_roc_auc", "ndcg")


@dataclass(frozen=True)
class Trial:
    """A study under one seed: images with group and side, all test pairs with their grades.

    name : the study's, and "no classes" where its classes are hidden from everything but the oracle
    """

    name: str
    study: Study
    images: Images
    known: pd.DataFrame
    seed: int
    test: pd.DataFrame

    def grade(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """The pairs with the oracle's grades."""
        return pairs.assign(similarity=oracles.answer(self.study.oracle, pairs, self.known))

    def learn(self, pairs: pd.DataFrame, rival: Rival | None = None) -> LearningResult:
        """What the package learns from graded pairs of train images; `rival` as of
        ``learning.learn``.
        """
        pairs = self.known_of(pairs)
        return learn(self.images, pairs, self.study.head, self.seed, rival=rival)

    def known_of(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """The pairs of train images with what ``grades.graded_pairs`` says of their images."""
        group1, group2 = self.images.of_pairs(pairs, "group")
        same_class = self.images.same_class(pairs)
        return pairs.assign(side="train", same_class=same_class, group1=group1, group2=group2)

    def fit(self, pairs: pd.DataFrame, settings: HeadSettings) -> Model:
        """A head trained on graded pairs, without a choice between candidates."""
        return Model.with_head(train_head(self.images.train, pairs, settings, self.seed)[0])

    def measure(self, model: Model) -> dict[str, float]:
        """MEASURES of a model on all test pairs; nDCG@10 is the mean over test images that ask for
        the others.
        """
        test, n = self.images.split("test"), len(self.images.split("test"))
        unit = model.vectors(test.vectors)
        row = {name: place for place, name in enumerate(test.names)}
        i, j = (self.test[column].map(row).to_numpy() for column in ("image1", "image2"))
        cosine, grades = unit @ unit.T, np.zeros((n, n))
        grades[i, j] = grades[j, i] = self.test.similarity
        found = pair_metrics(self.test.similarity, cosine[i, j], same_class=self.test.same_class)
        gains, others = 2**grades - 1, ~np.eye(n, dtype=bool)
        gains, scores = (table[others].reshape(n, n - 1) for table in (gains, cosine))
        some = gains.any(1)
        return {name: found[name] for name in MEASURES[:-1]} | {
            "ndcg": ndcg_score(gains[some], scores[some], k=10)
        }


def open_trials(name: str, seeds: int, classes: bool = True) -> list[Trial]:
    """The trials of a study, one a seed. Pictures are embedded once, into
    ``vector_dbs/benchmarks_<study>/encoder``.
    """
    study = read_study(find_study(name))
    run = Run(f"benchmarks_{study.study}", study)
    collection = open_collection(run)
    embeddings, _ = embed_run(run, collection, tqdm)
    known = known_to_oracle(run, collection)
    return [
        _trial(study, take_part(run, collection, embeddings, seed)[0], known, seed, classes)
        for seed in range(seeds)
    ]


def _trial(study, images, known, seed, classes):
    test = images.split("test")
    table = test.table.sort_values("image")
    i, j = np.triu_indices(len(table), 1)
    apart = table.group.to_numpy()[i] != table.group.to_numpy()[j]
    names = table.image.to_numpy()
    pairs = pd.DataFrame({"image1": names[i[apart]], "image2": names[j[apart]]})
    pairs = pairs.assign(same_class=test.same_class(pairs))
    if not classes:
        images = replace(images, table=images.table.drop(columns=images.class_columns))
    name = study.study if classes else f"{study.study}, no classes"
    empty = Trial(name, study, images, known, seed, NO_PAIRS)
    return replace(empty, test=empty.grade(pairs))


def random_pairs(images: Images, n: int, seed: int) -> pd.DataFrame:
    """`n` random pairs of one class of `images`, whatever their side, without a cap an image."""
    return choose_pairs(Pool.of(images), "random", n, seed)


class Log:
    """The rows of a benchmark so far, in a CSV: one is appended as soon as it is known, none is
    made twice.
    """

    def __init__(self, file: Path, kind: str):
        self.file, self.key = file, ["study", kind, "seed", "labels"]
        self.rows = (
            read_rows(file) if file.is_file() else pd.DataFrame(columns=[*self.key, "settings"])
        )

    def lacks(self, settings: str, *key) -> bool:
        """Whether there is no row of this key; ValueError where there is one that was made with
        other settings.
        """
        rows = self.rows[(self.rows[self.key] == list(key)).all(axis=1)]
        if (rows.settings != settings).any():
            raise ValueError(
                f"{self.file} has rows of {key[0]} made with other settings than the study's; "
                "remove them, or choose another folder (--out)"
            )
        return rows.empty

    def append_missing(self, rows: list[dict], settings: str) -> None:
        """Those of the rows that are not in the file."""
        for row in rows:
            if self.lacks(settings, *(row[name] for name in self.key)):
                self.append({**row, "settings": settings})

    def append(self, row: dict) -> None:
        """Write one row to the end of the file; ValueError where its columns are others."""
        if self.file.is_file() and list(self.rows) != list(row):
            raise ValueError(
                f"{self.file} has other columns than this version writes; choose another folder "
                "(--out)"
            )
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = pd.DataFrame([row]).to_csv(
            index=False, header=not self.file.is_file(), float_format="%.5f", lineterminator="\n"
        )
        with self.file.open("a", encoding="utf-8", newline="") as file:
            file.write(text)
        self.rows = read_rows(self.file)


def read_rows(file: Path) -> pd.DataFrame:
    """The rows of a ``Log``'s file."""
    return pd.read_csv(file, dtype={"settings": str})


def per_seed(rows: pd.DataFrame, kind: str, at=(300, 600)) -> pd.DataFrame:
    """One row a finished curve: `area` (mean AP over its labels, by trapezoids) and AP at numbers
    of labels.

    Curves with fewer points than the study's longest are left out; AP outside the measured labels
    is NaN."""
    found = []
    longest = rows.groupby("study").labels.nunique()
    for (study, name, seed), curve in rows.sort_values("labels").groupby(["study", kind, "seed"]):
        if len(curve) == longest[study]:
            labels, ap = curve.labels.to_numpy(float), curve.ap.to_numpy()
            width = labels[-1] - labels[0]
            area = np.trapezoid(ap, labels) / width if width else ap[0]
            points = {f"ap_{n}": np.interp(n, labels, ap, np.nan, np.nan) for n in at}
            found.append({"study": study, kind: name, "seed": seed, "area": area, **points})
    return pd.DataFrame(found)


def share_of_test(name: str) -> float:
    """Share of the images on the test side of a study, named as in the CSVs (perhaps with ", no
    classes" behind).
    """
    return read_study(find_study(name.split(", ")[0])).test_share


def gains(
    curves: pd.DataFrame,
    kind: str,
    rivals: tuple[str, ...],
    test_share: Callable[[str], float] = share_of_test,
) -> pd.DataFrame:
    """Paired gain over each rival: mean over common seeds and its 95 % interval.

    A seed splits the same images anew, so what two seeds measure is correlated; the interval is
    corrected for it (``metrics.over_splits``). It is of the gain on another split of such a
    collection, and not of the gain on other collections. Where the data come with a split, which
    all seeds then share, it says nothing of other test images.

    curves : of ``per_seed``
    test_share : the share of a study's images that test

    Returns study, `kind`, rival, measure, seeds, won (in how many the gain is above 0), gain, low,
    high."""
    rows = []
    for study, part in curves.groupby("study"):
        for measure in [name for name in curves if name == "area" or name.startswith("ap_")]:
            wide = part.pivot(index="seed", columns=kind, values=measure)
            for rival in [name for name in rivals if name in wide]:
                for name in wide.columns.drop(rival):
                    gain = (wide[name] - wide[rival]).dropna().to_numpy()
                    if len(gain):
                        found = over_splits(gain, test_share(study))
                        won = (gain > 0).sum()
                        rows.append([study, name, rival, measure, len(gain), won, *found])
    columns = ["study", kind, "rival", "measure", "seeds", "won", "gain", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def labels_to_match(rows: pd.DataFrame, kind: str, rival: str = "random") -> pd.DataFrame:
    """Labels at which each mean curve first reaches the rival's last mean AP (NaN: never), by
    straight lines between.

    Only seeds that both have finished count.
    """
    found = []
    for study, part in rows.groupby("study"):
        wide = part.pivot_table(index=["seed", "labels"], columns=kind, values="ap")
        for name in wide.columns if rival in wide else []:
            curves = (
                wide[[name, rival]]
                .loc[:, ~wide[[name, rival]].columns.duplicated()]
                .unstack("labels")
                .dropna()
            )
            if len(curves):
                mean, end = curves.mean().loc[name], curves.mean().loc[rival].iloc[-1]
                found.append(
                    [
                        study,
                        name,
                        len(curves),
                        _first_at(mean.index.to_numpy(float), mean.to_numpy(), end),
                    ]
                )
    return pd.DataFrame(found, columns=["study", kind, "seeds", "labels_to_match"])


def _first_at(labels, ap, end):
    reached = np.flatnonzero(ap >= end)
    if not len(reached):
        return np.nan
    k = reached[0]
    return labels[0] if k == 0 else float(np.interp(end, ap[k - 1 : k + 1], labels[k - 1 : k + 1]))


def one_thread() -> None:
    """Let torch use one thread: small networks gain nothing from more, and two studies can run side
    by side.
    """
    torch.set_num_threads(1)

"""What a number of labels is worth: the trial that the benchmarks of acquisition and of losses share.

A trial is a study under one seed: its images split by near-duplicate group, graded dev pairs for choices, all test
pairs for the curve. Its oracle grades. Results are kept a row at a time, so a run that was stopped goes on.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from imgsearch_utils.asking.choice import automatic_zeros, choose_pairs
from imgsearch_utils.geometry import pair_cosines
from imgsearch_utils.labels import oracles
from imgsearch_utils.labels.oracles import known_to_oracle
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.heads import Head
from imgsearch_utils.learning.training import train_head
from imgsearch_utils.metrics import pair_metrics
from imgsearch_utils.pictures.collection import open_collection
from imgsearch_utils.pictures.duplicates import near_duplicate_groups
from imgsearch_utils.study import HeadSettings, Study, read_study
from imgsearch_utils.vectors.embedding import embed
from imgsearch_utils.vectors.embeddings import Embeddings
from imgsearch_utils.vectors.encoders import get_encoder
from imgsearch_utils.vectors.sides import balanced_sample, split_by_group
from imgsearch_utils.workspace import Run, find_study

MEASURES = ("ap", "roc_auc", "same_class_ap", "same_class_roc_auc")
NONE = pd.DataFrame(columns=["image1", "image2"], dtype=str)


@dataclass(frozen=True)
class Trial:
    """A study under one seed: images with group and side, graded dev pairs, all test pairs."""

    study: Study
    embeddings: Embeddings
    images: pd.DataFrame
    class_column: str
    known: pd.DataFrame
    seed: int
    dev: pd.DataFrame
    test: pd.DataFrame

    def grade(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """The pairs with the oracle's grades."""
        return pairs.assign(similarity=oracles.answer(self.study.oracle, pairs, self.known))

    def train(self) -> pd.DataFrame:
        """The images of the train side."""
        return self.images[self.images.side == "train"]

    def fit(self, pairs: pd.DataFrame, settings: HeadSettings) -> tuple[Head, Calibration]:
        """Train a head from scratch on graded pairs; epoch and calibration by the dev pairs."""
        teaching = self.train().set_index("image")
        head, _ = train_head(self.embeddings, pairs, self.dev, settings, self.seed, train_images=teaching.index,
                             classes=teaching[self.class_column])
        return head, Calibration.fit(self._cosines(head, self.dev), self.dev.similarity)

    def measure(self, head: Head | None) -> dict[str, float]:
        """MEASURES on all test pairs, of a head or (None) of the encoder."""
        found = pair_metrics(self.test.similarity, self._cosines(head, self.test), same_class=self.test.same_class)
        return {name: found[name] for name in MEASURES}

    def _cosines(self, head, pairs):
        vectors = self.embeddings.vectors
        unit = head.embed(vectors) if head else vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return pair_cosines(unit, self.embeddings.rows(pairs.image1), self.embeddings.rows(pairs.image2))


def open_trials(name: str, seeds: int) -> list[Trial]:
    """The trials of a study, one a seed. Pictures are embedded once, into ``vector_dbs/benchmarks_<study>/encoder``."""
    study = read_study(find_study(name))
    run = Run(f"benchmarks_{study.study}", study)
    collection = open_collection(run)
    embeddings, _ = embed(collection, get_encoder(study.encoder), run.vectors / "encoder", progress=tqdm)
    images = collection.images[collection.images.image.isin(embeddings.names)]
    images = balanced_sample(images, collection.class_column, study.images.per_class, study.seed)
    images = images.assign(group=near_duplicate_groups(embeddings.of(images.image), study.duplicate_cosine)[0])
    embeddings = embeddings.subset(images.image)
    known = known_to_oracle(run, collection)
    return [_trial(study, embeddings, images, collection.class_column, known, seed) for seed in range(seeds)]


def _trial(study, embeddings, images, class_column, known, seed):
    images = split_by_group(images, study.dev_share, study.test_share, seed, class_column)
    dev, test = (images[images.side == side].sort_values("image") for side in ("dev", "test"))
    asked = random_pairs(embeddings, dev, class_column, study.dev_asked, seed)
    n_zeros = round(study.dev_asked * study.zeros_per_round / study.asked_per_round)
    zeros = automatic_zeros(dev, class_column, n_zeros, seed)
    i, j = np.triu_indices(len(test), 1)
    apart = test.group.to_numpy()[i] != test.group.to_numpy()[j]
    i, j = i[apart], j[apart]
    names, classes = test.image.to_numpy(), test[class_column].to_numpy()
    pairs = pd.DataFrame({"image1": names[i], "image2": names[j], "same_class": classes[i] == classes[j]})
    empty = Trial(study, embeddings, images, class_column, known, seed, NONE, NONE)
    dev_pairs = pd.concat([empty.grade(asked), zeros])[["image1", "image2", "similarity"]]
    return Trial(study, embeddings, images, class_column, known, seed, dev_pairs.reset_index(drop=True),
                 empty.grade(pairs))


def random_pairs(embeddings: Embeddings, images: pd.DataFrame, class_column: str, n: int, seed: int) -> pd.DataFrame:
    """`n` random pairs of one class of `images`, whatever their side, without a cap an image."""
    return choose_pairs("random", embeddings, None, None, NONE, images.assign(side="train"), class_column, n,
                        len(images), seed)


class Log:
    """The rows of a benchmark so far, in a CSV: one is appended as soon as it is known, none is made twice."""

    def __init__(self, file: Path, kind: str):
        self.file, self.key = file, ["study", kind, "seed", "labels"]
        self.rows = read_rows(file) if file.is_file() else pd.DataFrame(columns=[*self.key, "settings"])

    def lacks(self, settings: str, *key) -> bool:
        """Whether there is no row of this key; ValueError where there is one that was made with other settings."""
        rows = self.rows[(self.rows[self.key] == list(key)).all(axis=1)]
        if (rows.settings != settings).any():
            raise ValueError(f"{self.file} has rows of {key[0]} made with other settings than the study's; "
                             "remove them, or choose another folder (--out)")
        return rows.empty

    def append(self, row: dict) -> None:
        """Write one row to the end of the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = pd.DataFrame([row]).to_csv(index=False, header=not self.file.is_file(), float_format="%.5f",
                                          lineterminator="\n")
        with self.file.open("a", encoding="utf-8", newline="") as file:
            file.write(text)
        self.rows = read_rows(self.file)


def read_rows(file: Path) -> pd.DataFrame:
    """The rows of a ``Log``'s file."""
    return pd.read_csv(file, dtype={"settings": str})


def per_seed(rows: pd.DataFrame, kind: str, at=(300, 600)) -> pd.DataFrame:
    """One row a finished curve: `area` (mean AP over its labels, by trapezoids) and AP at numbers of labels.

    Curves with fewer points than the study's longest are left out; AP outside the measured labels is NaN.
    """
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


def gains(curves: pd.DataFrame, kind: str, rivals: tuple[str, ...], n: int = 10_000) -> pd.DataFrame:
    """Paired gain over each rival: mean over common seeds and its 95 % bootstrap interval over seeds.

    curves : of ``per_seed``

    Returns study, `kind`, rival, measure, seeds, won (in how many the gain is above 0), gain, low, high.
    """
    rows = []
    for study, part in curves.groupby("study"):
        for measure in [name for name in curves if name == "area" or name.startswith("ap_")]:
            wide = part.pivot(index="seed", columns=kind, values=measure)
            for rival in [name for name in rivals if name in wide]:
                for name in wide.columns.drop(rival):
                    gain = (wide[name] - wide[rival]).dropna().to_numpy()
                    if len(gain):
                        draws = np.random.default_rng(0).integers(0, len(gain), (n, len(gain)))
                        low, high = np.quantile(gain[draws].mean(1), [0.025, 0.975])
                        rows.append([study, name, rival, measure, len(gain), (gain > 0).sum(), gain.mean(), low, high])
    columns = ["study", kind, "rival", "measure", "seeds", "won", "gain", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def labels_to_match(rows: pd.DataFrame, kind: str, rival: str = "random") -> pd.DataFrame:
    """Labels at which each mean curve first reaches the rival's last mean AP (NaN: never), by straight lines between.

    Only seeds that both have finished count.
    """
    found = []
    for study, part in rows.groupby("study"):
        wide = part.pivot_table(index=["seed", "labels"], columns=kind, values="ap")
        for name in wide.columns if rival in wide else []:
            curves = wide[[name, rival]].loc[:, ~wide[[name, rival]].columns.duplicated()].unstack("labels").dropna()
            if len(curves):
                mean, end = curves.mean().loc[name], curves.mean().loc[rival].iloc[-1]
                found.append([study, name, len(curves), _first_at(mean.index.to_numpy(float), mean.to_numpy(), end)])
    return pd.DataFrame(found, columns=["study", kind, "seeds", "labels_to_match"])


def _first_at(labels, ap, end):
    reached = np.flatnonzero(ap >= end)
    if not len(reached):
        return np.nan
    k = reached[0]
    return labels[0] if k == 0 else float(np.interp(end, ap[k - 1 : k + 1], labels[k - 1 : k + 1]))


def one_thread() -> None:
    """Let torch use one thread: small networks gain nothing from more, and two studies can run side by side."""
    torch.set_num_threads(1)

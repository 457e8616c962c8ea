"""Grades of house photographs that the head never saw: 20 fixed splits by image, each model trained
on its own side.

    python -m benchmarks.house_styles --predictions predictions.csv [--table table.csv] [--rows
    rows.csv] [--splits 20] [--json]

Reads the study `house_styles` from datasets/ or the folder named by IMGSEARCH_DATA. Only pairs
wholly on a split's training side teach; a model that says so also knows the classes of every image
that is not on the test side. Calibrations and thresholds come from image-disjoint resamplings of
the training side. Writes split, image1, image2, score, p_similar of our head for every test pair,
and prints each model's mean and standard deviation over the splits, with the paired gain over the
cosine, our learner's lead, and their 95 % intervals, which are corrected for what the splits share
(``metrics.over_splits``). With --rows each split is written down as it is done, and a run that was
stopped goes on with the splits and models that are missing."""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from benchmarks import rivals
from imgsearch_utils.grades.pairs import canonical, read_pair_files
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.images.image_split import group_near_duplicates
from imgsearch_utils.images.listed_names import read_labels
from imgsearch_utils.learning import HEADS, Model, learn
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.learner import LearningResult
from imgsearch_utils.metrics import over_splits, pair_metrics, retrieval_metrics
from imgsearch_utils.metrics.geometry import normalised, pair_cosines
from imgsearch_utils.study import HeadSettings
from imgsearch_utils.workspace import data_folder

METRICS = (
    "roc_auc",
    "ap",
    "same_class_roc_auc",
    "query_ndcg_5",
    "query_ap",
    "f1",
    "accuracy",
    "ece",
)
Scorer = Callable[[pd.DataFrame], np.ndarray]


@dataclass(frozen=True)
class Data:
    """The study: its images with classes and near-duplicate groups, graded pairs, the sides of each
    split.
    """

    images: Images
    pairs: pd.DataFrame
    splits: pd.DataFrame


def read(folder: Path) -> Data:
    """Read the study's files; of a pair that recurs the first grade counts."""
    table = read_labels(folder / "labels.csv")
    vectors = np.load(folder / "clip_vitb32_vectors.npy", allow_pickle=False)
    images, _ = group_near_duplicates(
        Images(table, Embeddings(table.image.tolist(), vectors, {})), 0.98
    )
    pairs = canonical(read_pair_files(folder / f"round_{number}.csv" for number in range(4)))
    pairs = images.both_of(
        pairs.drop_duplicates(["image1", "image2"])[["image1", "image2", "similarity", "file"]]
    )
    pairs["group1"], pairs["group2"] = images.of_pairs(pairs, "group")
    return Data(
        images,
        pairs.reset_index(drop=True),
        pd.read_csv(folder / "splits.csv", dtype={"file_label": str}),
    )


def cosine(images: Images, train: pd.DataFrame, known: Images) -> Scorer:
    """The encoder as it is."""
    return partial(Model().cosines, images)


def whitening(images: Images, train: pd.DataFrame, known: Images) -> Scorer:
    """Cosine after linear discriminant analysis: whitened by the covariance within classes
    (shrunk), two dimensions.
    """
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(
        known.vectors, known.classes
    )
    unit = normalised(model.transform(images.embeddings.vectors))
    return lambda pairs: pair_cosines(unit, *images.rows_of(pairs))


def logistic(images: Images, train: pd.DataFrame, known: Images, absolute: bool = False) -> Scorer:
    """Logistic regression on the standardised a * b (or |a - b|) of the two centred vectors;
    positive is grade 3.
    """
    vectors = images.embeddings.vectors
    mean = normalised(images.vectors_of(np.unique(train[["image1", "image2"]]))).mean(0)
    unit = normalised(normalised(vectors) - mean)

    def features(pairs):
        i, j = images.rows_of(pairs)
        return np.abs(unit[i] - unit[j]) if absolute else unit[i] * unit[j]

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000))
    model.fit(features(train), train.similarity == 3)
    return lambda pairs: model.decision_function(features(pairs))


def published(images: Images, train: pd.DataFrame, known: Images, epochs: int = 20) -> Scorer:
    """The published recipe: raw vectors, 512-256-128 with a ReLU, contrastive loss, margin 1, Adam
    0.01.

    The score is 1 - distance: above 0 the recipe says "similar", for its threshold is its margin.
    Epochs and batch (64) are not part of what was published."""
    settings = HeadSettings(head="mlp", hidden=256)
    i, j = map(torch.tensor, images.rows_of(train))
    vectors, grades = (
        torch.tensor(images.embeddings.vectors),
        torch.tensor(train.similarity.to_numpy(int)),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HEADS["mlp"](vectors.shape[1], settings)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(epochs):
            for batch in torch.randperm(len(i)).split(64):
                optimizer.zero_grad()
                # of any length: the published loss does not normalise them
                embedded = network(vectors)
                distance = torch.sqrt(
                    ((embedded[i[batch]] - embedded[j[batch]]) ** 2).sum(1) + 1e-12
                )
                wrong = torch.where(grades[batch] == 3, distance, torch.relu(1 - distance))
                (wrong**2).mean().backward()
                optimizer.step()
    embedded = network(vectors).detach().numpy()
    return lambda pairs: (
        1 - np.linalg.norm(np.subtract(*(embedded[rows] for rows in images.rows_of(pairs))), axis=1)
    )


def published_last_round(images: Images, train: pd.DataFrame, known: Images) -> Scorer:
    """The published recipe as published: on the last round's pairs only."""
    return published(images, train[train.file == "round_3.csv"], known)


def rival(images: Images, train: pd.DataFrame, known: Images, fit: Callable) -> Scorer:
    """One of ``benchmarks.rivals``, with the package's own settings where it has none."""
    return partial(fit(known, train, HeadSettings(), 0).cosines, images)


def our_learner(images: Images, train: pd.DataFrame, known: Images) -> LearningResult:
    """What the package learns with its own settings: the candidate that the training pairs choose,
    calibrated.
    """
    graded = train.assign(
        side="train", same_class=known.same_class(train), drawn=True, strategy="replay"
    )
    return learn(replace(known, table=known.table.assign(side="train")), graded, HeadSettings(), 0)


MODELS = {
    "cosine of the CLIP vectors": cosine,
    "linear discriminants of the types": whitening,
    "logistic regression on a*b": logistic,
    "logistic regression on |a-b|": partial(logistic, absolute=True),
    "published recipe, last round": published_last_round,
    "published recipe, all rounds": published,
    **{name: partial(rival, fit=fit) for name, fit in rivals.RIVALS.items()},
}
OURS, PAIRS_ALONE = "our learner", "our learner, pairs alone"


def calibrate(
    model: Callable, images: Images, train: pd.DataFrame, known: Images, side: Images
) -> Calibration:
    """Fit the calibration on pairs that the model did not learn from: 4 resamplings of the training
    images, 75 : 25.
    """
    scores, grades = [], []
    folds = GroupShuffleSplit(4, train_size=0.75, random_state=0).split(
        side.names, groups=side.table.group
    )
    for teach, hold in folds:
        teaching, held_out = (side.among(side.table.image.iloc[rows]) for rows in (teach, hold))
        judged_pairs = held_out.both_of(train)
        if len(judged_pairs):
            scores.append(
                model(
                    images,
                    teaching.both_of(train),
                    known.among(set(known.names) - set(held_out.names)),
                )(judged_pairs)
            )
            grades.append(judged_pairs.similarity)
    return Calibration.fit(np.concatenate(scores), np.concatenate(grades))


def run_split(
    data: Data, split: int, done: frozenset[str] = frozenset()
) -> dict[str, pd.DataFrame]:
    """Test pairs of each model that is not `done`, with score, p_similar and whether the model calls
    them similar; NaN where it does not say.
    """
    names = data.splits[data.splits.split == split].set_index("file_label").side
    side, test_side = (data.images.among(names.index[names == name]) for name in ("train", "test"))
    train, test, known = (
        side.both_of(data.pairs),
        test_side.both_of(data.pairs),
        data.images.among(set(data.images.names) - set(test_side.names)),
    )
    scored = {}
    for name in [name for name in MODELS if name not in done]:
        model = MODELS[name]
        score = model(data.images, train, known)(test)
        if name.startswith("published"):  # knows no probability; its own threshold
            decision = {"p_similar": np.nan, "similar": score > 0}
        elif name in rivals.RIVALS:  # compared by their order alone
            decision = {"p_similar": np.nan, "similar": np.nan}
        else:
            calibration = calibrate(model, data.images, train, known, side)
            p = calibration.predict(score)[:, 3]
            decision = {"p_similar": p, "similar": p >= calibration.threshold}
        scored[name] = test.assign(split=split, score=score, **decision)
    learners = {PAIRS_ALONE: rivals.without_classes(known), OURS: known}
    for name in [name for name in learners if name not in done]:
        learnt = our_learner(data.images, train, learners[name])
        score = learnt.models["head"].cosines(data.images, test)
        p = learnt.models["head"].p_similar(score)
        scored[name] = test.assign(
            split=split,
            score=score,
            p_similar=p,
            similar=p >= learnt.models["head"].threshold,
            candidate=learnt.chosen,
            promoted=learnt.promoted,
        )
    return scored


def by_query(scored: pd.DataFrame) -> tuple[float, float]:
    """Mean nDCG@5 and AP of the order that a user sees: of each test image with at least three
    judged pairs that are not all of one grade.
    """
    both = pd.concat(
        [
            scored.rename(columns={"image1": "query", "image2": "image"}),
            scored.rename(columns={"image2": "query", "image1": "image"}),
        ]
    ).assign(grade=lambda table: table.similarity)
    of_query = both.groupby("query").grade
    both = both[(of_query.transform("size") >= 3) & (of_query.transform("nunique") > 1)]
    found = retrieval_metrics(
        both[["query", "image", "score"]], both[["query", "image", "grade"]], [5]
    )
    ordered = found[found.n_relevant < found.n_judged]
    return found["nDCG@5"].mean(), ordered.AP.mean()


def measure(scored: pd.DataFrame) -> list[float]:
    """The METRICS of one model on one split; pairs graded above 0 are of one class."""
    p = None if scored.p_similar.isna().any() else scored.p_similar
    found = pair_metrics(scored.similarity, scored.score, p, same_class=scored.similarity > 0)
    decided = dict.fromkeys(METRICS, np.nan)
    if scored.similar.notna().all():
        decided = pair_metrics(scored.similarity, scored.score, scored.similar.astype(float), 0.5)
    ndcg, ap = by_query(scored)
    found = {**decided, "ece": np.nan, **found, "query_ndcg_5": ndcg, "query_ap": ap}
    return [found[name] for name in METRICS]


def table(rows: pd.DataFrame, test_share: float) -> pd.DataFrame:
    """One row a model and metric: mean, sd, its gain over the cosine and our learner's lead over
    it, each with its 95 % interval over splits.

    rows : split, model and METRICS
    test_share : of the images
    """
    wide, found = rows.pivot(index="split", columns="model", values=list(METRICS)), []
    for model in (*MODELS, PAIRS_ALONE, OURS):
        for name in METRICS:
            values, cosine, ours = (
                wide[name][one].to_numpy(float) for one in (model, next(iter(MODELS)), OURS)
            )
            gain, lead = (over_splits(of, test_share) for of in (values - cosine, ours - values))
            found.append([model, name, values.mean(), values.std(), *gain, *lead])
    columns = [f"{name}{end}" for name in ("gain", "lead") for end in ("", "_low", "_high")]
    return pd.DataFrame(found, columns=["model", "metric", "mean", "sd", *columns])


def append(table: pd.DataFrame, file: Path) -> None:
    """Add rows to the end of a CSV, which gets its header with the first of them."""
    table.to_csv(file, mode="a", header=not file.is_file(), index=False, float_format="%.7g")


def main(arguments: list[str] | None = None) -> None:
    """Run the splits, write the predictions, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", type=Path, required=True, help="CSV to write")
    parser.add_argument("--table", type=Path, help="CSV of the printed table to write")
    parser.add_argument(
        "--rows", type=Path, help="CSV of each split's measures, to which what is missing is added"
    )
    parser.add_argument("--splits", type=int, default=20, help="only the first of the 20 splits")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    folder = data_folder("house_styles")
    if not (folder / "splits.csv").is_file():
        parser.error(
            f"{folder} has no splits.csv; set IMGSEARCH_DATA to the folder that holds house_styles"
        )
    data = read(folder)
    splits = sorted(data.splits.split.unique())[: chosen.splits]
    begun = chosen.rows is not None and chosen.rows.is_file()
    rows = pd.read_csv(chosen.rows) if begun else pd.DataFrame(columns=["split", "model"])
    if rows.empty:
        chosen.predictions.unlink(missing_ok=True)
    for split in tqdm(splits, disable=None):
        run = run_split(data, split, frozenset(rows.model[rows.split == split]))
        if OURS in run:
            columns = ["split", "image1", "image2", "score", "p_similar"]
            append(run[OURS][columns], chosen.predictions)
        new = pd.DataFrame([measure(scored) for scored in run.values()], columns=METRICS)
        new.insert(0, "model", list(run))
        new.insert(0, "split", split)
        if chosen.rows and len(new):
            append(new, chosen.rows)
        rows = pd.concat([rows, new]) if len(rows) else new
    found = table(rows[rows.split.isin(splits)], (data.splits.side == "test").mean())
    if chosen.table:
        shown(found).to_csv(chosen.table, index_label="model")
    if chosen.json:
        records = found.astype(object).where(found.notna(), None).to_dict("records")
        print(json.dumps({"splits": len(splits), "results": records}))
    else:
        print(shown(found).to_string())


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """The table for people: models by metrics, mean ± sd; gain and lead in AP with intervals."""
    text = found["mean"].map("{:.3f}".format) + " ± " + found.sd.map("{:.3f}".format)
    wide = found.assign(text=text.where(found["mean"].notna(), ""))
    wide = wide.pivot(index="model", columns="metric", values="text")
    wide = wide.loc[[*MODELS, PAIRS_ALONE, OURS], list(METRICS)]
    ap = found[found.metric == "ap"].set_index("model")
    for name, title in (("gain", "ap_gain"), ("lead", "ours_over_it_ap")):
        mean, low, high = (
            ap[f"{name}{end}"].map("{:+.3f}".format) for end in ("", "_low", "_high")
        )
        wide[title] = mean + " [" + low + ", " + high + "]"
    return wide.rename_axis(index=None, columns=None)


if __name__ == "__main__":
    main()

"""One round of active learning: its pairs, the answers, what the labels are worth, the log of all rounds."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupShuffleSplit

from imgsearch_utils import agreement, oracles
from imgsearch_utils.acquisition import automatic_zeros, choose_pairs
from imgsearch_utils.agreement import Ceiling
from imgsearch_utils.calibration import Calibration, score_pairs
from imgsearch_utils.embeddings import Embeddings
from imgsearch_utils.images import Collection
from imgsearch_utils.journal import AUTOMATIC, Journal
from imgsearch_utils.metrics import bootstrap_difference, pair_metrics, trivial_baselines
from imgsearch_utils.pairs import canonical, check_no_leak, key, merge, read_pair_files, read_pairs, usable
from imgsearch_utils.siamese import Head, load_head, train_head
from imgsearch_utils.workspace import Run, read_json, write_atomic

UNCALIBRATED = Calibration((0, 0, 0), (0, 0, 0), 0.5)  # where the score alone is wanted
LOGGED = ("roc_auc", "ap", "same_class_roc_auc", "same_class_ap", "f1", "accuracy", "ece")


def read_images(run: Run) -> pd.DataFrame:
    """The images that take part: `image`, class columns, `group`, `side`, as notebook 01 wrote them."""
    file = run.labels / "images.csv"
    if not file.is_file():
        raise ValueError(f"run {run.name} has no images.csv yet; run 01_data_tagging first")
    return pd.read_csv(file, dtype=str, keep_default_na=False).astype({"group": int})


def first_pairs(run: Run, embeddings: Embeddings, images: pd.DataFrame, class_column: str | None) -> pd.DataFrame:
    """Round 0: random pairs to ask on each side, and automatic zeros across classes in the rounds' proportion.

    Returns
    -------
    image1, image2, similarity (0 where automatic, else NaN), side, automatic, strategy
    """
    study, tables = run.study, []
    if study.oracle == "replay":
        return _replayed(run, images, class_column, lambda table: (table["round"] == 0) | (table.side != "train"))
    budgets = {"train": study.asked_per_round, "dev": study.dev_asked, "test": study.test_asked}
    for number, (side, budget) in enumerate(budgets.items()):
        here = images[images.side == side]
        if here.empty:  # a study without a dev side
            continue
        seed = study.seed * 1000 + number
        asked = choose_pairs("random", embeddings, None, None, pd.DataFrame(columns=["image1", "image2"], dtype=str),
                             here.assign(side="train"), class_column, budget, len(images), seed)
        zeros = round(budget * study.zeros_per_round / study.asked_per_round)
        tables.append(_round_table(asked, here, class_column, zeros, seed, None).assign(side=side))
    return pd.concat(tables, ignore_index=True)


def next_pairs(run: Run, number: int, embeddings: Embeddings, head: Head, calibration: Calibration,
               images: pd.DataFrame, class_column: str | None) -> pd.DataFrame:
    """The pairs to ask in round `number`, chosen by the study's strategy; columns as in `first_pairs`."""
    study, train = run.study, images[images.side == "train"]
    if study.oracle == "replay":
        return _replayed(run, images, class_column, lambda table: (table["round"] == number) & (table.side == "train"))
    labelled = Journal(run.journal).labels()
    seed = study.seed * 1000 + 10 * number
    asked = choose_pairs(study.strategy, embeddings, head, calibration, labelled, train, class_column,
                         study.asked_per_round, study.max_per_image, seed)
    return _round_table(asked, train, class_column, study.zeros_per_round, seed, labelled).assign(side="train")


def _round_table(asked, images, class_column, n_zeros, seed, labelled) -> pd.DataFrame:
    zeros = pd.DataFrame(columns=["image1", "image2", "similarity"])
    if class_column and n_zeros:
        zeros = automatic_zeros(images, class_column, n_zeros, seed, exclude=labelled)
    parts = [asked[["image1", "image2", "strategy"]].assign(similarity=float("nan"), automatic=False),
             zeros.assign(strategy=AUTOMATIC, automatic=True)]
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return table[["image1", "image2", "similarity", "automatic", "strategy"]]


def people_pairs(run: Run) -> pd.DataFrame:
    """All pairs of the study's label files as they stand: `round` is the file's number, `file` and `row` its place."""
    table = read_pair_files([run.data / name for name in run.study.labels])
    return table.assign(round=table.file.map({Path(name).name: n for n, name in enumerate(run.study.labels)}))


def human_ceiling(run: Run) -> Ceiling:
    """Between the first two gradings of the pairs that people graded twice, in the label files of a replay too."""
    if run.study.oracle != "replay":
        return agreement.human_ceiling(*agreement.graded_twice(Journal(run.journal)))
    twice = [list(map(float, grades.split()[:2])) for grades in merge(people_pairs(run)).recurring.grades]
    twice = [grades for grades in twice if len(grades) == 2]
    return agreement.human_ceiling([one for one, _ in twice], [two for _, two in twice])


def _replayed(run, images, class_column, wanted) -> pd.DataFrame:
    """People's pairs that stand on one side and are `wanted`; a pair comes in the round where it was first graded."""
    by_image = images.set_index("image")
    table = usable(merge(people_pairs(run)).pairs, images)
    one, two = (by_image.loc[table[column]].reset_index(drop=True) for column in ("image1", "image2"))
    table = table.assign(side=one.side)[one.side == two.side]
    automatic = (table.similarity == 0) & (one[class_column] != two[class_column]) if class_column else False
    table = table.assign(automatic=automatic)
    table = table.assign(strategy=table.automatic.map({True: AUTOMATIC, False: "replay"}),
                         similarity=table.similarity.where(table.automatic))
    return table[wanted(table)][["image1", "image2", "similarity", "automatic", "strategy", "side"]]


def asked(folder: Path) -> pd.DataFrame:
    """The pairs in a round's folder that are for people, in their order: all but the automatic zeros."""
    table = read_pairs(folder / "pairs.csv")
    return table[table.strategy != AUTOMATIC]


def waiting(run: Run, folder: Path) -> pd.DataFrame:
    """Those of a round's pairs that nobody has answered yet; "skip" and "unsure" are answers too, without a grade."""
    answered = {(act.image1, act.image2) for act in Journal(run.journal).standing()}
    left = _unanswered(run, asked(folder))
    open_ = [key(one, two) not in answered for one, two in zip(left.image1, left.image2)]
    return left[np.array(open_, bool)]


def _unanswered(run: Run, pairs: pd.DataFrame) -> pd.DataFrame:
    graded = Journal(run.journal).labels()
    keys = pd.MultiIndex.from_frame(graded[["image1", "image2"]])
    return pairs[~pd.MultiIndex.from_frame(canonical(pairs)[["image1", "image2"]]).isin(keys)]


def known_to_oracle(run: Run, collection: Collection) -> pd.DataFrame | None:
    """What the study's oracle answers from; None where only people know."""
    if run.study.oracle == "rubric":
        return pd.read_csv(run.data / "attributes.csv")
    if run.study.oracle == "hierarchy":
        return collection.images
    return people_pairs(run) if run.study.oracle == "replay" else None


def answer(run: Run, number: int, folder: Path, collection: Collection, annotator: str) -> int:
    """Get a round's missing grades: from the oracle, or see that a person gave them.

    Parameters
    ----------
    folder : holds the round's pairs.csv; its automatic zeros go to the journal too
    annotator : "oracle" or "person"

    Returns
    -------
    how many pairs the oracle graded now

    Raises
    ------
    ValueError
        when pairs wait for a person, or for an annotator that is neither.
    """
    if annotator not in ("oracle", "person"):
        raise ValueError(f"ANNOTATOR must be oracle or person, got {annotator!r}")
    journal, table = Journal(run.journal), read_pairs(folder / "pairs.csv")
    journal.append_many(_unanswered(run, table[table.strategy == AUTOMATIC]), AUTOMATIC, AUTOMATIC, number)
    missing = waiting(run, folder)
    if annotator == "oracle" and run.study.oracle != "person":
        grades = oracles.answer(run.study.oracle, missing, known_to_oracle(run, collection))
        return journal.append_many(missing.assign(similarity=grades), f"oracle:{run.study.oracle}", run.study.oracle,
                                   number)
    if len(missing):
        raise ValueError(f"{len(missing)} pairs of round {number} wait for a person's grade; give them in the "
                         f"notebook's widget, or by: make tag STUDY={run.study.study} ROUND={number}; then run this "
                         "again")
    return 0


def labels(run: Run, number: int, images: pd.DataFrame, class_column: str | None) -> pd.DataFrame:
    """All current grades up to a round: image1, image2, similarity, round, side, automatic, same_class, groups.

    Only pairs whose images stand on one side are returned; near-duplicates on train and another side are refused by
    name (ValueError): both would be a leak.
    """
    table = Journal(run.journal).labels(up_to_round=number)
    by_image = images.set_index("image")
    table = table[table.image1.isin(by_image.index) & table.image2.isin(by_image.index)]
    one, two = (by_image.loc[table[column]].reset_index(drop=True) for column in ("image1", "image2"))
    same_class = one[class_column] == two[class_column] if class_column else True
    table = table.reset_index(drop=True).assign(
        side=one.side, automatic=lambda t: t.source == AUTOMATIC, same_class=same_class, group1=one.group,
        group2=two.group)
    table = table[one.side == two.side].reset_index(drop=True)
    for side in ("dev", "test"):
        check_no_leak(table[table.side == "train"], table[table.side == side], images)
    return table


def cross_fitted(run: Run, number: int, embeddings: Embeddings, graded: pd.DataFrame, images: pd.DataFrame,
                 class_column: str | None) -> pd.Series | None:
    """What heads that saw neither image say of the train pairs, for a study without a dev side.

    ``study.cross_fits`` times a third of the train images, whole groups, is held out, a head learns from the pairs
    among the others, and scores the pairs among the held out (repeated cross-fitting: Chernozhukov et al. 2018).

    Returns
    -------
    the mean score by the index of `graded`, without the pairs that were never held out; None where there is a dev side
    """
    study, train = run.study, images[images.side == "train"].set_index("image")
    if not study.cross_fits:
        return None
    pairs, scores = graded[graded.side == "train"], []
    for learn, _ in GroupShuffleSplit(study.cross_fits, test_size=1 / 3, random_state=study.seed).split(
            train, groups=train.group):
        seen = train.iloc[learn]
        inside = pairs.image1.isin(seen.index).astype(int) + pairs.image2.isin(seen.index)
        if (inside == 2).any() and (inside == 0).any():
            head, _ = train_head(embeddings, pairs[inside == 2], pairs[:0], study.head, study.seed + number,
                                 train_images=seen.index, classes=seen[class_column] if class_column else None)
            scores.append(score_pairs(embeddings, head, UNCALIBRATED, pairs[inside == 0]).score)
    if not scores:
        raise ValueError(f"{len(pairs)} graded train pairs are too few to hold any out; grade more")
    return pd.concat(scores).groupby(level=0).mean()


def score_sides(embeddings: Embeddings, head: Head, graded: pd.DataFrame,
                crossed: pd.Series | None = None) -> tuple[pd.DataFrame, dict[str, Calibration]]:
    """Score the dev and test pairs by the encoder and by the head, each calibrated on the dev pairs.

    crossed : of ``cross_fitted``; where it is not None, its pairs with its scores are the dev pairs

    Returns
    -------
    the pairs with the head's scored columns, `cosine` and `encoder_p_similar`; the calibrations by model
    """
    if crossed is not None:
        graded = graded.assign(side=graded.side.mask(graded.index.isin(crossed.index), "dev"))
    pairs = graded[graded.side != "train"]
    dev = pairs.side == "dev"
    calibrations, tables = {}, {}
    for model, network in (("encoder", None), ("head", head)):
        raw = score_pairs(embeddings, network, UNCALIBRATED, pairs)
        if network and crossed is not None:
            raw = raw.assign(score=crossed.reindex(raw.index).fillna(raw.score))
        calibrations[model] = Calibration.fit(raw.score[dev], raw.similarity[dev])
        tables[model] = raw.assign(**calibrations[model].columns(raw.score)).reset_index(drop=True)
    return tables["head"].assign(encoder_p_similar=tables["encoder"].p_similar), calibrations


def evaluate(scored: pd.DataFrame, calibrations: dict[str, Calibration], seed: int) -> dict[str, Any]:
    """Measure encoder and head on dev and test, with the paired gain in AP and the trivial baselines.

    The intervals are 95 % bootstrap over image groups. The head is promoted when on dev its AP beats the
    encoder's and that of "same class", both intervals above 0; test decides nothing.
    """
    found: dict[str, Any] = {}
    for side, part in scored.groupby("side"):
        columns = {"encoder": ("cosine", "encoder_p_similar"), "head": ("score", "p_similar")}
        measured = {model: pair_metrics(part.similarity, part[score], part[p], calibrations[model].threshold,
                                        part.same_class) for model, (score, p) in columns.items()}
        rivals = {"encoder": part.cosine, "same-class": part.same_class.astype(float)}
        gains = {name: bootstrap_difference(average_precision_score, part.similarity, part.score, rival, part.group1,
                                            part.group2, seed=seed) for name, rival in rivals.items()}
        found[side] = {**measured, "trivial": trivial_baselines(part.similarity, part.same_class).T.to_dict(),
                       "ap_gain_over": gains}
    gains = found["dev"]["ap_gain_over"]
    found["promoted"] = all(gain["low"] > 0 for gain in gains.values())
    return _without_nan(found)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def latest_round(run: Run) -> int:
    """The last finished round's number; ValueError where none is finished."""
    finished = [number for number in range(run.study.rounds) if (run.results / f"round_{number:02d}").is_dir()]
    if not finished:
        raise ValueError(f"run {run.name} has no finished round yet; run the study first")
    return finished[-1]


def score_file(run: Run, file: Path) -> tuple[pd.DataFrame, list[str], dict[str, Any]]:
    """Score any CSV of pairs by the run's latest head.

    Returns
    -------
    the scored pairs (see ``calibration.score_pairs``), empty cells where an image is unknown; the unknown images; and
    `round`, `promoted`, `threshold` of the head
    """
    number = latest_round(run)
    folder = run.models / f"round_{number:02d}"
    head, embeddings = load_head(folder), Embeddings.load(run.vectors / "encoder")
    calibration = Calibration.from_dict(read_json(folder / "calibration.json")["head"])
    pairs = read_pairs(file, need_grades=False)
    known = pairs.image1.isin(embeddings.names) & pairs.image2.isin(embeddings.names)
    scored = score_pairs(embeddings, head, calibration, pairs[known]).reindex(pairs.index)
    scored[list(pairs)] = pairs
    unknown = sorted({*pairs.image1, *pairs.image2} - set(embeddings.names))
    metrics = read_json(run.results / f"round_{number:02d}" / "metrics.json")
    return scored, unknown, {"round": number, "promoted": metrics["promoted"], "threshold": calibration.threshold}


def log_rounds(run: Run) -> pd.DataFrame:
    """Write results_log.csv from the finished rounds' metrics, one row a round, and return it."""
    rows = []
    for number in range(run.study.rounds):
        file = run.results / f"round_{number:02d}" / "metrics.json"
        if not file.is_file():
            break
        found = read_json(file)
        row = {"round": number, **found["labels"], "promoted": found["promoted"]}
        for side in ("dev", "test"):
            for model in ("encoder", "head"):
                row |= {f"{side}_{model}_{name}": found[side][model].get(name) for name in LOGGED}
            gain = found[side]["ap_gain_over"]["encoder"]
            row |= {f"{side}_ap_gain": gain["difference"], f"{side}_ap_gain_low": gain["low"],
                    f"{side}_ap_gain_high": gain["high"]}
        rows.append(row)
    log = pd.DataFrame(rows).replace({None: float("nan")}).infer_objects()
    write_atomic(run.results / "results_log.csv", log.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    return log


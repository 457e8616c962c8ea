"""Notebook 13: encoders compared by what each finds as it is, with two naive baselines, before
anything is taught.
"""

import re
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.semi_supervised import LabelSpreading

from imgsearch_utils.encoders.embed_collection import embed
from imgsearch_utils.encoders.encoder_names import NoWeights, get_encoder
from imgsearch_utils.encoders.onnx_encoder import LITE
from imgsearch_utils.evaluation.baselines import baselines, with_vectors
from imgsearch_utils.evaluation.example_queries import grades_so_far
from imgsearch_utils.evaluation.relevance import (
    Judge,
    compare_rankings,
    mean_ap,
    of_all,
    rank,
    some_queries,
)
from imgsearch_utils.images import Collection, Images, open_collection
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.learning.model import Model
from imgsearch_utils.metrics import bootstrap
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.workspace import Run, atomic_path
from imgsearch_utils.workspace.tables import read_table, write_table

EMBEDDED = tuple(LITE)  # whose weights come with the installation
CUTS = (1, 5, 10)
TIMED = 48  # pictures that say how fast an encoder is
# of the first of two joined encoders, compared on the train images
SHARES = np.linspace(0.1, 0.9, 9)
# labelled images of a class, how often they are drawn, neighbours that spread a label
FEW, DRAWS, NEAR = (5, 5, 10)


class Comparison(NamedTuple):
    """What encoders are worth on a run's test images.

    encoders : encoder, dimension, images_per_s, megabytes (of the vectors of all images), missing
        (why it could not be measured, and what to do; else empty)
    retrieval : encoder, class (of the queries; empty for all), measure, mean, low, high (95 % over
        image groups), queries; of all queries also gain, gain_low, gain_high over the first encoder
    few_labels : encoder, method, labelled (images of each class), accuracy, low, high
    """

    encoders: pd.DataFrame
    retrieval: pd.DataFrame
    few_labels: pd.DataFrame

    @property
    def left_out(self) -> list[str]:
        """Why encoders could not be measured, a sentence each."""
        return self.encoders.missing[self.encoders.missing != ""].tolist()


def advise(comparison: Comparison, names: Sequence[str], study: str) -> list[str]:
    """Whether another encoder is better than the first in mAP, and the command that takes one."""
    scores = of_all(comparison.retrieval)
    scores = scores[scores.measure == "AP"]
    better = scores.encoder[scores.gain_low > 0].tolist()
    single = [name for name in better if name in names]  # not two that are joined
    return [
        f"Better than {scores.encoder.iloc[0]} in mAP, by intervals above 0: "
        f"{', '.join(better) or 'none'}.",
        "To take one in a run of its own:"
        if single
        else "No single other encoder, so there is no reason to change it; to try one anyway:",
        f"  imgsearch run {study} --run another --set encoder={[*single, names[-1]][0]}",
    ]


def compare_encoders(
    run: Run, names: Sequence[str], say: Callable[[str], None] = lambda _: None
) -> Comparison:
    """Rank a run's test images for each other by each encoder, and measure what comes first.

    Vectors are kept in ``vector_dbs/<run>/encoders/`` and not made twice. Similar is what the run's
    oracle, its grades, or else its classes say (``relevance.Judge``). Beside the named encoders
    stand a random ranking, a colour histogram, and the two best on the train images, joined
    (``joined``).

    Parameters
    ----------
    names : encoders as of ``get_encoder``
    say : gets a line for each encoder

    Raises
    ------
    ValueError for a run without splits or pictures, names that are no encoder's, and where nobody
        says what is similar.
    """
    collection, table = open_collection(run), read_split(run)
    if collection.folder is None:
        raise ValueError(
            f"run {run.name} has vectors only; to compare encoders, place its pictures"
        )
    judge = Judge(run, collection, grades_so_far(run))
    if judge.source == "nobody":
        raise ValueError(
            f"nobody says what is similar in run {run.name}: it has no classes, and no test pair "
            f"is graded; first: imgsearch tag {run.study.study}{run.named} --queue check"
        )
    with_vectors_of, rows = {}, []
    for name in dict.fromkeys(names):
        began = time.monotonic()
        row = {"encoder": name, "images_per_s": np.nan, "missing": ""}
        try:
            with_vectors_of[name], speed = _vectors(run, collection, table, name)
        except NoWeights as error:
            rows.append(row | {"missing": str(error)})
            say(f"{name}: left out: {error}")
            continue
        rows.append(row | {"images_per_s": round(speed, 1)})
        say(f"{name}: {time.monotonic() - began:.0f} s")
    if not with_vectors_of:
        raise ValueError("none of the encoders has its weights here; " + rows[0]["missing"])
    measured = with_vectors_of | joined(with_vectors_of, judge)
    measured |= baselines(next(iter(with_vectors_of.values())), collection, run.study.seed)
    width = {name: images.vectors.shape[1] for name, images in measured.items()}
    about = pd.DataFrame(rows).set_index("encoder")
    about = about.reindex([*about.index, *(name for name in measured if name not in about.index)])
    about = about.assign(
        dimension=pd.Series(width).reindex(about.index).astype("Int64"),
        megabytes=(pd.Series(width).reindex(about.index) * len(table) * 4 / 1e6).round(2),
        missing=about.missing.fillna(""),
    )
    rankings = {name: (images.split("test"), Model()) for name, images in measured.items()}
    retrieval = compare_rankings(rankings, judge, CUTS, more=True)
    return Comparison(
        about[["dimension", "images_per_s", "megabytes", "missing"]].reset_index(),
        retrieval.rename(columns={"model": "encoder"}).drop(columns="judged_by"),
        few_labels(measured, run.study.seed),
    )


def kept_comparison(
    run: Run, names: Sequence[str], say: Callable[[str], None] = lambda _: None
) -> Comparison:
    """``compare_encoders``, kept in ``active_learning_results/<run>/encoders/``; of a published run
    what is there.
    """
    folder = run.results / "encoders"
    files = {name: folder / f"{name}.csv" for name in Comparison._fields}
    if not (run.published and all(file.is_file() for file in files.values())):
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in compare_encoders(run, names, say)._asdict().items():
            with atomic_path(files[name]) as partial:
                write_table(table, partial)
    tables = {name: read_table(file) for name, file in files.items()}
    # a file knows no empty text
    for name, column in (("encoders", "missing"), ("retrieval", "class")):
        tables[name][column] = tables[name][column].astype(object).fillna("")
    return Comparison(**tables)


def _vectors(
    run: Run, collection: Collection, table: pd.DataFrame, name: str
) -> tuple[Images, float]:
    """The run's images with an encoder's vectors, and how many pictures it encodes in a second."""
    encoder, ours = get_encoder(name), collection.images.image.isin(table.image)
    readable = re.sub("[^A-Za-z0-9]+", "_", name)[:60]
    folder = run.vectors / "encoders" / f"{readable}_{zlib.crc32(name.encode()):08x}"
    embeddings, _ = embed(replace(collection, images=collection.images[ours]), encoder, folder)
    paths = [collection.path(image) for image in table.image.head(TIMED)]
    encoder.encode_files(paths[:1], many=True)  # the first call also loads
    began = time.perf_counter()
    encoder.encode_files(paths, many=True)
    return Images(table, embeddings), len(paths) / (time.perf_counter() - began)


def joined(with_vectors_of: dict[str, Images], judge: Judge) -> dict[str, Images]:
    """The two encoders that are best on the train images, concatenated; empty where there are not
    two.

    The first one's share of the cosine is that of ``SHARES`` which is best there.
    """
    if len(with_vectors_of) < 2:
        return {}
    train = next(iter(with_vectors_of.values())).train
    grades = judge.grades(rank(train, Model(), some_queries(train)))
    best = sorted(with_vectors_of, key=lambda name: -mean_ap(with_vectors_of[name].train, grades))
    first, second = best[:2]

    def join(share: float) -> Images:
        # a product of unit vectors is their cosine, so a part's weight counts by its square root
        parts = [
            weight**0.5 * normalised(with_vectors_of[name].vectors)
            for name, weight in ((first, share), (second, 1 - share))
        ]
        return with_vectors(with_vectors_of[first], f"{first} + {second}", np.concatenate(parts, 1))

    share = max(SHARES, key=lambda share: mean_ap(join(share).train, grades))
    return {f"{first} + {second} ({share:.1f} : {1 - share:.1f})": join(share)}


def few_labels(measured: dict[str, Images], seed: int) -> pd.DataFrame:
    """How many test images get their class from ``FEW`` labelled images of each: by the nearest, or
    by label spreading.

    Label spreading (Zhou et al., NIPS 2003) also uses the images without a label. Means over
    ``DRAWS`` of the labelled ones; empty for a study without two classes."""
    rows, columns = [], ["encoder", "method", "labelled", "accuracy", "low", "high"]
    first = next(iter(measured.values()))
    table = first.table
    if not first.class_columns or table[first.class_columns[-1]].nunique() < 2:
        return pd.DataFrame(columns=columns)
    truth = table[first.class_columns[-1]].to_numpy(object)
    classes, codes = np.unique(truth, return_inverse=True)
    train, test = (table.side.to_numpy(object) == split for split in ("train", "test"))
    for name, images in measured.items():
        unit, right = normalised(images.vectors), {"nearest": [], "label spreading": []}
        for draw in range(DRAWS):
            rng = np.random.default_rng([seed, draw])
            members = [np.flatnonzero((codes == code) & train) for code in range(len(classes))]
            drawn = [rng.permutation(rows_)[:FEW] for rows_ in members if len(rows_)]
            labelled = np.concatenate(drawn)
            known = np.full(len(truth), -1)  # what label spreading takes for "no label"
            known[labelled] = codes[labelled]
            spreading = LabelSpreading(
                kernel="knn", n_neighbors=min(NEAR, len(truth) - 1), max_iter=100
            ).fit(unit, known)
            guesses = {
                "nearest": codes[labelled][(unit @ unit[labelled].T).argmax(1)],
                "label spreading": spreading.transduction_,
            }
            for method, guess in guesses.items():
                right[method].append((guess == codes)[test])
        for method, of_draws in right.items():
            score = bootstrap(np.mean(of_draws, 0), table.group.to_numpy()[test])
            rows.append((name, method, FEW, *score))
    return pd.DataFrame(rows, columns=columns)

"""The collection as a map: where its images lie, what is known of each, and what somebody selected
on it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from imgsearch_utils.asking import Pool, choose_pairs
from imgsearch_utils.encoders.embed_collection import open_images
from imgsearch_utils.grades.journal import AUTOMATIC, Journal
from imgsearch_utils.images import Collection, Embeddings, Images, thumbnails
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.learning.model import Model, model_in_use, model_vectors
from imgsearch_utils.steps.map_layout import kept_layout, spread_out
from imgsearch_utils.workspace import Run, shown
from imgsearch_utils.workspace.tables import read_table, write_table

NAMES = {"pca": "principal components", "umap": "UMAP"}
SMALL = 96  # pixels, a thumbnail on a map
FACTS = ("grades", "best grade", "judged wrongly")  # a class column of such a name gets another
# in a run's labels: the images that somebody selected on the map last
SELECTION = "map_selection.csv"


def points_of(
    run: Run, model: str, names: Sequence[str], vectors: np.ndarray, method: str
) -> Embeddings:
    """The points of a model's vectors: made once, and kept with the run.

    method : one of ``map_layout.LAYOUTS``
    """
    return kept_layout(
        run.vectors / "maps" / f"{model}_{method}", names, vectors, method, run.study.seed
    )


def map_tables(
    run: Run, images: Images, models: dict[str, Model], collection: Collection, method: str = "pca"
) -> dict[str, pd.DataFrame]:
    """What ``plots.picture_map`` draws: the images by each model's vectors, some of them as
    pictures.

    images : with vectors; every image that has one is on the map, also one that takes no part in
        the run

    Returns
    -------
    title (model, method, the share of the variance that is seen) -> `image`, `x`, `y`, `class`,
    `picture`"""
    names, tables = images.embeddings.names, {}
    classes = images.classes.reindex(names).fillna("").to_numpy(object)
    for model, layout in layouts(run, images, models, method).items():
        explained, pictures = layout.config["explained"], np.full(len(names), None, object)
        if collection.folder is not None:
            rows = spread_out(layout.vectors)
            pictures[rows] = thumbnails(collection, [names[row] for row in rows], SMALL)
        seen = f", {sum(explained[:2]):.0%} of the variance" if explained else ""
        x, y = layout.vectors.T
        tables[f"{model}: {NAMES[method]}{seen}"] = pd.DataFrame(
            {"image": names, "x": x, "y": y, "class": classes, "picture": pictures}
        )
    return tables


def layouts(
    run: Run, images: Images, models: dict[str, Model], method: str = "pca"
) -> dict[str, Embeddings]:
    """The points of all images with vectors, by each model's vectors; see ``points_of``."""
    embeddings = images.embeddings
    points = {}
    for name, model in models.items():
        vectors = model_vectors(run, embeddings, model)
        points[name] = points_of(run, name, embeddings.names, vectors, method)
    return points


def explained_variance(points: dict[str, Embeddings]) -> pd.DataFrame:
    """`model`, `component` (from 1), `share` of the variance, and `sum` of the shares so far, of
    principal components.

    points : as of ``layouts``
    """
    tables = [
        pd.DataFrame({"model": model, "share": layout.config["explained"]})
        for model, layout in points.items()
    ]
    table = pd.concat(tables).rename_axis("component").reset_index()
    return table.assign(component=table.component + 1, sum=table.groupby("model").share.cumsum())


def facts(run: Run, names: Sequence[str], labels: pd.DataFrame) -> pd.DataFrame:
    """What is known of each image, a column each: by these the points of a map are coloured.

    Parameters
    ----------
    labels : the classes, one row an image, in the order of the names

    Returns
    -------
    the class columns; side, the split (empty for an image that takes no part in the run); grades
    (how many of its pairs people or the oracle graded); best grade (empty without); judged wrongly
    (the share of its graded pairs that the model in use called similar and are not, or the other
    way round, by the last round; train pairs were judged by heads that did not see one image; NaN
    without)"""
    about = labels.set_axis(list(names), axis=0).rename(
        columns={name: f"label_{name}" for name in FACTS}
    )
    about["side"] = _split_of(run, names).fillna("") if _is_split(run) else ""
    graded = Journal(run.journal).labels()
    by_image = _by_image(graded[graded.source != AUTOMATIC]).groupby("image")
    about["grades"] = by_image.size().reindex(names).fillna(0).astype(int)
    best = by_image.similarity.max().reindex(names)
    about["best grade"] = [f"grade {grade:.0f}" if grade == grade else "" for grade in best]
    about["judged wrongly"] = _judged_wrongly(run).reindex(names)
    return about.reset_index(drop=True)


def _is_split(run: Run) -> bool:
    return (run.labels / "images.csv").is_file()


def _split_of(run: Run, names: Sequence[str]) -> pd.Series:
    """train, dev or test by image; NaN for one that takes no part."""
    return read_split(run).set_index("image").side.reindex(names)


def _by_image(pairs: pd.DataFrame) -> pd.DataFrame:
    """Each pair twice: once for each of its images, `image`."""
    return pd.concat(
        [pairs.assign(image=pairs[name]) for name in ("image1", "image2")], ignore_index=True
    )


def _judged_wrongly(run: Run) -> pd.Series:
    last = run.rounds_made[-1] if run.rounds_made else None
    if last is None or not last.finished or not (last.results / "scored_pairs.csv").is_file():
        return pd.Series(dtype=float)
    last.as_stage().check("results/scored_pairs.csv")
    scored, model = read_table(last.results / "scored_pairs.csv"), model_in_use(run)
    scored = scored[~scored.automatic.astype(bool)]
    p_similar = scored.p_similar if model.name == "head" else scored.encoder_p_similar
    wrong = (p_similar >= model.threshold) != (scored.similarity == 3)
    return _by_image(scored.assign(wrong=wrong.astype(float))).groupby("image").wrong.mean()


def keep_selection(run: Run, images: Sequence[str]) -> int:
    """Keep what somebody selected, in place of an earlier selection; how many of it may be asked
    about.

    Only pairs of train images are asked: those of dev and test images are drawn by chance, or they
    would say nothing.

    Raises
    ------
    ValueError
        for a published run, and where fewer than two train images are selected.
    """
    if run.published:
        raise ValueError(
            f"run {run.name} is published and never written again; select in a run of your own"
        )
    if not _is_split(run):
        raise ValueError(f"run {run.name} has not chosen its images yet; run the study first")
    n_train = int((_split_of(run, images) == "train").sum())
    if n_train < 2:
        raise ValueError(
            f"{n_train} of the {len(images)} selected images are train images of the run; pairs "
            "to grade need two (dev and test pairs are drawn by chance, or they would say nothing)"
        )
    write_table(pd.DataFrame({"image": list(images)}, dtype=object), run.labels / SELECTION)
    return n_train


def selected_pairs(run: Run) -> pd.DataFrame:
    """Pairs of the train images that somebody selected on the map, to grade: lists of first results
    among them.

    At most as many as a round asks; none that has a grade.
    """
    file = run.labels / SELECTION
    if not file.is_file():
        raise ValueError(
            f"nothing was selected on the map of run {run.name} yet; it stands beside the search "
            f"page: imgsearch serve{run.options}"
        )
    try:
        names = set(read_table(file).image.astype(str))
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{shown(file)}: not a selection of the map ({' '.join(str(error).split())}); select "
            "again"
        ) from None
    images = open_images(run).train
    chosen = images.among([name for name in images.names if name in names])
    if len(chosen) < 2:
        raise ValueError(
            f"{shown(file)} holds {len(chosen)} train images of the run, and pairs need two; "
            "select again"
        )
    pool = Pool.of(chosen, model_in_use(run), Journal(run.journal).labels())
    return choose_pairs(pool, "lists", run.study.asked_per_round, run.study.seed)

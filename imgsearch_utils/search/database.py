"""A run's database: the images with their vectors, and the index that answers for a model's
vectors.
"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils import indexes, workspace
from imgsearch_utils.encoders.embed_collection import NETWORK, embed_command, load_embeddings
from imgsearch_utils.encoders.onnx_encoder import KeptEncoder, open_kept
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.label_conditions import Metadata
from imgsearch_utils.images.listed_names import label_tables
from imgsearch_utils.images.near_pairs import MANY
from imgsearch_utils.images.vector_store import drop_page_cache, plain
from imgsearch_utils.learning.model import Model, model_in_use, model_vectors
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import difference
from imgsearch_utils.workspace import Run, folder_lock, stamp

if TYPE_CHECKING:
    from imgsearch_utils.encoders.encoder import Encoder


def encoder_of(run: Run, database: Embeddings) -> "Encoder | KeptEncoder":
    """The study's encoder, as it was kept where it was; ValueError where the database was made by
    another.
    """
    theirs = database.config
    if str(theirs["encoder"]).startswith("vectors from"):
        raise ValueError(
            f"run {run.name} came as {theirs['encoder']}, made elsewhere: pictures and words "
            "cannot be "
            "compared with them; run the study on its pictures (images.vectors: null)"
        )
    if theirs["encoder"] == run.study.encoder and (
        kept_encoder := open_kept(run.vectors / NETWORK, theirs)
    ):
        return kept_encoder
    from imgsearch_utils.encoders.encoder_names import shared_encoder  # and torch with it

    encoder = shared_encoder(run.study.encoder)
    if changed := difference(theirs, plain(encoder.config)):
        raise ValueError(
            f"the database of run {run.name} was made by another encoder ({'; '.join(changed)}); "
            "make it "
            f"again: {embed_command(run)}"
        )
    return encoder


def open_metadata(run: Run, database: Embeddings) -> Metadata:
    """What labels.csv, or the pictures' folders, say of a database's images; read again when
    labels.csv changed.
    """
    tables = [file for file in label_tables(run.data) if file.is_file()]
    source = " ".join(f"{file.resolve()} {stamp(file)}" for file in tables)

    def read() -> tuple[pd.DataFrame, list[str]]:
        collection = open_collection(run)
        return collection.labels, collection.class_columns

    # a setting that runs of before had not
    absent = {"split"} if run.study.images.split is None else set()
    settings = run.study.images.model_dump_json(exclude=absent)
    known_as_now = f"{database.sha256} {settings} {source}"
    return Metadata.open(run.vectors / "labels.arrow", known_as_now, database.names, read)


def known_as(database: Embeddings, model: Model) -> str:
    """What tells a model's vectors of a database from all others; empty where nothing does."""
    return (
        database.sha256 and f"{model.name} {getattr(model.head, 'sha256', '')} of {database.sha256}"
    )


def open_index(
    run: Run, model: str, name: str, vectors: np.ndarray, known: str
) -> tuple[indexes.Index, dict]:
    """A saved index that was made of exactly these vectors, else a new one; and its query
    arguments.

    Where none is saved and exact search is wanted among many vectors, they are read as they lie on
    disk.

    name : a registered one; when empty, what notebook 03 recommends for this model, else exact
        search
    known : what tells these vectors from all others, see ``known_as``; empty, and they are compared
    each time"""
    choice = _chosen(run, model, name)
    for path in (
        _index_file(run, model, choice["index"]),
        run.vectors / "indexes" / choice.get("file", "none"),
    ):
        if path.is_file():
            index = _load_index(path)
            if indexes.is_made_of(index, path, known, lambda: normalised(vectors)):
                return index, choice["query"]
    if choice["index"] == "exact" and len(vectors) > MANY:
        return indexes.Scan(vectors), {}
    return indexes.find(choice["index"])().build(normalised(vectors), **choice["build"]), choice[
        "query"
    ]


class Kept(NamedTuple):
    """What ``keep_index`` did: the model, the index and its file, and how many vectors it took
    in.
    """

    model: Model
    index: indexes.Index
    file: Path
    new: int


def keep_index(run: Run, model: str = "", name: str = "") -> Kept:
    """Keep a run's index, and the head's vectors, for search to load.

    One that is kept already takes the vectors that came since; what was removed, changed or learnt
    anew, and as many new vectors as there were at first, make it built anew.

    model, name : as for ``model_in_use`` and ``open_index``
    """
    database, chosen = load_embeddings(run), model_in_use(run, model)
    choice, vectors = (
        _chosen(run, chosen.name, name),
        model_vectors(run, database, chosen, keep=True),
    )
    unit = normalised(vectors)
    drop_page_cache(vectors)
    file = _index_file(run, chosen.name, choice["index"])
    file.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(file.parent):
        index, new = _grown(file, choice["build"], unit), len(unit)
        if index is None:
            index = indexes.find(choice["index"])().build(unit, **choice["build"])
        else:
            new -= index.count
            if new:
                index.add(unit[index.count :])
        if new:
            index.save(file)
        # the first search need not
        indexes.is_made_of(index, file, known_as(database, chosen), lambda: unit)
    return Kept(chosen, index, file, new)


def _grown(file: Path, build: dict, unit: np.ndarray) -> indexes.Index | None:
    """The index in `file` where all its vectors are the first of these, and adding the others is as
    good as building.

    Lists, codes and centres were learnt from its first vectors alone.
    """
    try:
        index = indexes.load(file)
    except indexes.IndexFileError:
        return None
    same = index.build_arguments == build and indexes.made_of(index, unit[: index.count])
    all_there = same and index.count == len(unit)
    can_take = same and "add" in index.can() and len(unit) <= 2 * index.parts[0][0]
    return index if all_there or can_take else None


def _load_index(file: Path) -> indexes.Index:
    """A saved index. Its two files take their places one after the other, so a second look waits
    for who writes.
    """
    try:
        return indexes.load(file)
    except indexes.IndexFileError:
        # read-only: there is none
        with contextlib.suppress(OSError), folder_lock(file.parent).acquire(timeout=60):
            return indexes.load(file)
        raise


def _chosen(run: Run, model: str, name: str) -> dict:
    """The index of this name, `index`, `build` and `query` arguments and perhaps `file`; the
    recommended when empty.
    """
    if name:
        indexes.find(name)
    file = run.vectors / "indexes" / "index.json"
    choice = workspace.read_json(file, "model", "index", "build", "query") if file.is_file() else {}
    if choice.get("model") == model and name in ("", choice["index"]):
        return choice
    return {"index": name or "exact", "build": {}, "query": {}}


def _index_file(run, model, name):
    return run.vectors / "search" / f"{model}.{name}.index"

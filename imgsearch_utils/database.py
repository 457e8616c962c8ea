"""A run's database: finding it, making its vectors, the model that search uses, the index."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils import indexes, workspace
from imgsearch_utils.embeddings import Embeddings, embed, read_vectors
from imgsearch_utils.encoders import Encoder, get_encoder
from imgsearch_utils.heads import Head, load_head
from imgsearch_utils.images import open_collection
from imgsearch_utils.relevance import head_embeddings
from imgsearch_utils.rounds import latest_round
from imgsearch_utils.study import difference, nearest, read_study
from imgsearch_utils.workspace import Run

MODELS = ("encoder", "head")
shared_encoder = functools.cache(get_encoder)  # one network a process, however many databases


def find_database(study: str, run: str = "") -> Run:
    """A run that was begun; ValueError for any other, with the nearest name."""
    name = run or read_study(workspace.find_study(study)).study
    begun = sorted(folder.name for folder in (workspace.home() / "active_learning_labels").glob("*/"))
    if name not in begun:
        given, advice = run and f" --run {run}", f". {nearest(run, begun)}" if run and begun else ""
        raise ValueError(f"no run is called {name} here; begin it: imgsearch run {study}{given}{advice}")
    return workspace.find_run(study, run)


def embed_run(run: Run, progress=iter) -> tuple[Embeddings, int, pd.DataFrame]:
    """Make a run's vectors; where some are there already, of the new pictures alone.

    Returns
    -------
    the embeddings, how many of them are new, and a table `image`, `reason` of the pictures set aside
    """
    folder, collection = run.vectors / "encoder", open_collection(run, progress)
    before = set(Embeddings.load(folder).names) if (folder / "config.json").is_file() else set()
    if collection.vectors:
        embeddings, aside = read_vectors(collection), collection.set_aside
        embeddings.save(folder)
    else:
        embeddings, unreadable = embed(collection, shared_encoder(run.study.encoder), folder, progress)
        aside = pd.concat([collection.set_aside, unreadable], ignore_index=True)
    return embeddings, len(set(embeddings.names) - before), aside


def load_database(run: Run) -> Embeddings:
    """The encoder's vectors of a run's images; ValueError where there are none yet."""
    if not (run.vectors / "encoder" / "config.json").is_file():
        raise ValueError(f"run {run.name} has no vectors yet; make them: {_embed_command(run)}")
    return Embeddings.load(run.vectors / "encoder")


def encoder_of(run: Run, database: Embeddings) -> Encoder:
    """The study's encoder; ValueError where the database was made by another."""
    theirs = database.config
    if str(theirs["encoder"]).startswith("vectors from"):
        raise ValueError(f"run {run.name} came as {theirs['encoder']}, made elsewhere: pictures and words cannot be "
                         "compared with them; run the study on its pictures (images.vectors: null)")
    encoder = shared_encoder(run.study.encoder)
    if changed := difference(theirs, json.loads(json.dumps(encoder.config, default=str))):
        raise ValueError(f"the database of run {run.name} was made by another encoder ({'; '.join(changed)}); make it "
                         f"again: {_embed_command(run)}")
    return encoder


def _embed_command(run):
    return f"imgsearch embed --study {run.study.study}" + (f" --run {run.name}" if run.name != run.study.study else "")


def latest_model(run: Run, model: str = "") -> tuple[str, Head | None, Path | None]:
    """The model that search uses, its head, and the latest finished round's model folder.

    model : "encoder" or "head"; when empty, the head where the latest round promoted it and it is at hand, else the
        encoder
    """
    if model not in ("", *MODELS):
        raise ValueError(f"no model is called {model}. {nearest(model, MODELS)}")
    try:
        name = f"round_{latest_round(run):02d}"
    except ValueError:
        if model == "head":
            raise
        return "encoder", None, None
    promoted = workspace.read_json(run.results / name / "metrics.json")["promoted"]
    usable = promoted and (run.models / name / "head.safetensors").is_file()
    model = model or ("head" if usable else "encoder")
    return model, load_head(run.models / name) if model == "head" else None, run.models / name


def model_vectors(run: Run, database: Embeddings, head: Head | None) -> np.ndarray:
    """The model's vectors of the database: a head's saved ones where a sample of them is what this head makes."""
    if head is None:
        return database.vectors
    if (run.vectors / "head" / "config.json").is_file():
        saved = Embeddings.load(run.vectors / "head")
        some = np.linspace(0, len(database.names) - 1, 16).astype(int)
        if (saved.names, saved.digests) == (database.names, database.digests):
            made = head.embed(np.asarray(database.vectors[some]))
            if made.shape[1] == saved.vectors.shape[1] and np.allclose(made, saved.vectors[some], atol=1e-4):
                return saved.vectors
    return head.embed(np.asarray(database.vectors))


def open_index(run: Run, model: str, name: str, vectors: np.ndarray) -> tuple[indexes.Index, dict]:
    """A saved index that was made of exactly these vectors, else a new one; and its query arguments.

    name : a registered one; when empty, what notebook 03 recommends for this model, else exact search
    """
    choice, unit = _chosen(run, model, name), indexes.normalised(vectors)
    for path in (_index_file(run, model, choice["index"]), run.vectors / "indexes" / choice.get("file", "none")):
        if path.is_file():
            index = indexes.load(path)
            if [tuple(part) for part in index.parts] == [(len(unit), indexes.fingerprint(unit))]:
                return index, choice["query"]
    return indexes.find(choice["index"])().build(unit, **choice["build"]), choice["query"]


def keep_index(run: Run, model: str = "", name: str = "") -> tuple[str, indexes.Index, Path]:
    """Keep a run's index, and the head's vectors, for search to load; returns the model, the index and its file.

    model, name : as for ``latest_model`` and ``open_index``
    """
    database, (model, head, _) = load_database(run), latest_model(run, model)
    choice = _chosen(run, model, name)
    vectors = database.vectors
    if head:
        made = head_embeddings(database, head)
        made.save(run.vectors / "head")
        vectors = made.vectors
    index = indexes.find(choice["index"])().build(indexes.normalised(vectors), **choice["build"])
    file = _index_file(run, model, index.name)
    index.save(file)
    return model, index, file


def _chosen(run: Run, model: str, name: str) -> dict:
    """The index of this name, `index`, `build` and `query` arguments and perhaps `file`; the recommended when empty."""
    if name:
        indexes.find(name)
    file = run.vectors / "indexes" / "index.json"
    choice = workspace.read_json(file) if file.is_file() else {}
    if choice.get("model") == model and name in ("", choice["index"]):
        return choice
    return {"index": name or "exact", "build": {}, "query": {}}


def _index_file(run, model, name):
    return run.vectors / "search" / f"{model}.{name}.index"

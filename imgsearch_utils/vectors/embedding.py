"""From a collection to its embeddings: encoding what is new, reading what came as vectors."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from filelock import FileLock

from imgsearch_utils.pictures.collection import Collection
from imgsearch_utils.vectors.embeddings import Embeddings, check_health, plain
from imgsearch_utils.vectors.kept import BULK, keep
from imgsearch_utils.workspace import Run, digest

if TYPE_CHECKING:
    from imgsearch_utils.vectors.encoder import Encoder  # and torch with it, which reading vectors does not need

NETWORK = "network"  # the folder beside the vectors in which their network is kept
EMBED_LOCK = ".embed.lock"  # beside the vectors: held by the process that encodes pictures


def embed_run(run: Run, collection: Collection, progress=iter) -> tuple[Embeddings, pd.DataFrame]:
    """A run's embeddings, kept in its folder: pictures are encoded once, vectors from elsewhere are checked and copied.

    progress : wraps the batches that are encoded, e.g. ``tqdm``

    Returns
    -------
    embeddings, and a table `image`, `reason` of all pictures set aside
    """
    from imgsearch_utils.vectors.encoders import shared_encoder

    folder = run.vectors / "encoder"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(run.vectors / EMBED_LOCK):  # two notebooks may ask at once
        if collection.vectors:
            embeddings, aside = read_vectors(collection), collection.set_aside
            embeddings.save(folder)
        else:
            encoder = shared_encoder(run.study.encoder)
            embeddings, unreadable = embed(collection, encoder, folder, progress)
            if len(embeddings.names) >= BULK:
                keep(run.vectors / NETWORK, embeddings.config, lambda: getattr(encoder.bulk(), "graph", None))
            aside = pd.concat([collection.set_aside, unreadable], ignore_index=True)
    return Embeddings.load(folder), aside


def load_embeddings(run: Run) -> Embeddings:
    """The encoder's vectors of a run's images; ValueError where there are none yet."""
    folder = run.vectors / "encoder"
    if not (folder / "config.json").is_file():
        raise ValueError(f"run {run.name} has no vectors yet; make them: {embed_command(run)}")
    return Embeddings.load(folder)


def embed_command(run: Run) -> str:
    """What to type to make a run's vectors."""
    return f"imgsearch embed{run.options}"


def read_vectors(collection: Collection) -> Embeddings:
    """Embeddings of a study that comes as vectors: its .npy, checked, in labels.csv's order."""
    try:
        vectors = np.lib.format.open_memmap(collection.vectors, mode="r").astype(np.float32, "C", copy=False)
        check_health(vectors, len(collection.images))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{collection.vectors}: no usable .npy file: {' '.join(str(error).split())}") from None
    config = {"encoder": f"vectors from {collection.vectors.name}", "sha256": digest(collection.vectors)}
    return Embeddings(collection.images.image.tolist(), vectors, config)


def embed(collection: Collection, encoder: "Encoder", folder: Path, progress=iter) -> tuple[Embeddings, pd.DataFrame]:
    """Encode a collection's pictures, once: what `folder` already holds of the same encoder is used again.

    A picture is recognised by its content (SHA-256), so adding pictures encodes only the new ones, and a
    run that was stopped goes on after the last saved part, to the same bytes. Unreadable pictures are set aside.

    Parameters
    ----------
    folder : where the embeddings are kept
    progress : wraps the batches, e.g. ``tqdm``

    Returns
    -------
    embeddings, and a table `image`, `reason` of the pictures set aside
    """
    names = collection.images.image.tolist()
    paths = [collection.path(name) for name in names]
    digests = [digest(path) for path in paths]
    place = dict(zip(digests, paths))
    saved = Embeddings.load(folder) if (folder / "config.json").is_file() else None
    many = len(place) >= BULK  # decides which network encodes, so all pictures are encoded anew where it changes
    if saved and (saved.config != plain(encoder.config) or many != (len(saved.names) >= BULK)):
        saved = None
    known = dict(zip(saved.digests, np.array(saved.vectors))) if saved else {}
    reasons: dict[str, str] = {}

    def gather() -> Embeddings:
        there = [i for i, content in enumerate(digests) if content in known]
        vectors = np.stack([known[digests[i]] for i in there]) if there else np.empty((0, 0), np.float32)
        return Embeddings([names[i] for i in there], vectors, encoder.config, [digests[i] for i in there])

    todo = [content for content in place if content not in known]
    while todo:
        part, todo = todo[: max(512, len(known) // 4)], todo[max(512, len(known) // 4) :]
        vectors, failures = encoder.encode_files([place[content] for content in part], progress, many)
        known |= {content: vectors[j] for j, content in enumerate(part) if j not in failures}
        reasons |= {part[j]: reason.removeprefix(f"{str(place[part[j]])!r}: ") for j, reason in failures.items()}
        if known and todo:
            gather().save(folder)
    embeddings = gather()
    if not embeddings.names:
        raise ValueError(f"{collection.folder}: none of {len(names)} pictures could be read; "
                         f"first: {names[0]!r}: {reasons[digests[0]]}")
    if not (saved and saved.sha256) or (saved.names, saved.digests) != (embeddings.names, embeddings.digests):
        embeddings.save(folder)
    check_health(embeddings.vectors, len(embeddings.names))
    aside = [(name, reasons[content]) for name, content in zip(names, digests) if content in reasons]
    return embeddings, pd.DataFrame(aside, columns=["image", "reason"], dtype=str)

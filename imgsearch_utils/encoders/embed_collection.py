"""From a collection to its embeddings: encoding what is new, reading what came as vectors."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from filelock import FileLock

from imgsearch_utils.encoders.onnx_encoder import BULK, keep
from imgsearch_utils.images.collection import Collection, open_collection
from imgsearch_utils.images.embeddings import Embeddings, check_health
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.images.vector_store import plain
from imgsearch_utils.workspace import Run, atomic_path, digest

if TYPE_CHECKING:
    from imgsearch_utils.encoders.encoder import (
        Encoder,
    )  # and torch with it, which reading vectors does not need
    from imgsearch_utils.encoders.with_ray import EncodeFiles

NETWORK = "network"  # the folder beside the vectors in which their network is kept
# beside the vectors: size and times (of change, of status change) of each picture when read
STAMPS = ".pictures.npy"
LATELY = 2_000_000_000  # nanoseconds; clocks of file systems are coarse
ACCOUNT = "account.json"  # beside the vectors: what became of all files of the data set
EMBED_LOCK = ".embed.lock"  # beside the vectors: held by the process that encodes pictures


def embed_run(
    run: Run, collection: Collection, progress=iter, encode: "EncodeFiles | None" = None
) -> tuple[Embeddings, pd.DataFrame]:
    """A run's embeddings, kept in its folder: pictures are encoded once, vectors from elsewhere are
    checked and copied. The account of the data set is kept beside them.

    progress : wraps the batches that are encoded, e.g. ``tqdm``
    encode : does the work of the encoder's ``encode_files`` elsewhere, see ``with_ray.by_ray``

    Returns
    -------
    embeddings, and a table `image`, `reason` of all pictures set aside
    """
    from imgsearch_utils.encoders.encoder_names import shared_encoder

    folder = run.vectors / "encoder"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(run.vectors / EMBED_LOCK):  # two notebooks may ask at once
        if collection.vectors:
            embeddings, aside = read_vectors(collection), collection.set_aside
            embeddings.save(folder)
        else:
            encoder = shared_encoder(run.study.encoder)
            embeddings, unreadable = embed(collection, encoder, folder, progress, encode)
            if len(embeddings.names) >= BULK:
                keep(
                    run.vectors / NETWORK,
                    embeddings.config,
                    lambda: getattr(encoder.bulk(), "graph", None),
                )
            aside = pd.concat([collection.set_aside, unreadable], ignore_index=True)
        if not run.published:
            account = collection.account_of(embeddings.names, lambda _: "not a readable picture")
            account.write(run.vectors / ACCOUNT)
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
        vectors = np.lib.format.open_memmap(collection.vectors, mode="r").astype(
            np.float32, "C", copy=False
        )
        check_health(vectors, len(collection.images))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{collection.vectors}: no usable .npy file: {' '.join(str(error).split())}"
        ) from None
    config = {
        "encoder": f"vectors from {collection.vectors.name}",
        "sha256": digest(collection.vectors),
    }
    return Embeddings(collection.images.image.tolist(), vectors, config)


def embed(
    collection: Collection,
    encoder: "Encoder",
    folder: Path,
    progress=iter,
    encode: "EncodeFiles | None" = None,
) -> tuple[Embeddings, pd.DataFrame]:
    """Encode a collection's pictures, once: what `folder` already holds of the same encoder is used
    again.

    A picture is recognised by its content (SHA-256), which is read again where its size or its
    times changed. Adding pictures encodes the new ones alone and appends their vectors; after
    others were removed, renamed or changed, what is left is written anew. A run that was stopped
    goes on after the last saved part, to the same bytes. Unreadable pictures are set aside.

    Parameters
    ----------
    folder : where the embeddings are kept
    progress : wraps the batches, e.g. ``tqdm``
    encode : as of ``embed_run``

    Returns
    -------
    embeddings, and a table `image`, `reason` of the pictures set aside
    """
    names, began = collection.images.image.tolist(), time.time_ns()
    saved = Embeddings.load(folder) if (folder / "config.json").is_file() else None
    paths = {name: collection.path(name) for name in names}
    contents, stamps = _contents(paths, saved, folder)
    place = {contents[name]: path for name, path in paths.items()}
    # decides which network encodes, so all pictures are encoded anew where it changes
    many = len(place) >= BULK
    if saved and (saved.config != plain(encoder.config) or many != (len(saved.names) >= BULK)):
        saved = None
    row = {content: row for row, content in enumerate(saved.digests)} if saved else {}
    as_before = row and all(
        contents.get(name) == content for name, content in zip(saved.names, saved.digests)
    )
    now = saved if as_before else None

    def add(some: list[str], vectors: np.ndarray) -> Embeddings:
        more = Embeddings(some, vectors, encoder.config, [contents[name] for name in some])
        if now:
            return now.append(folder, more)
        more.save(folder)
        return Embeddings.load(folder)

    has_vector, reasons = {*now.names} if now else set(), {}
    reusable = [name for name in names if name not in has_vector and contents[name] in row]
    if reusable:  # what is left of a folder of other pictures, or copies of a picture that is there
        now = add(reusable, saved.vectors[[row[contents[name]] for name in reusable]])
    new = [name for name in names if contents[name] not in row]
    todo, done = list(dict.fromkeys(contents[name] for name in new)), len(row)
    while todo:
        part, todo = todo[: max(512, done // 4)], todo[max(512, done // 4) :]
        vectors, failures = (encode or encoder.encode_files)(
            [place[content] for content in part], progress, many
        )
        reasons |= {
            part[j]: reason.removeprefix(f"{str(place[part[j]])!r}: ")
            for j, reason in failures.items()
        }
        encoded_rows = {content: j for j, content in enumerate(part) if j not in failures}
        added, done = (
            [name for name in new if contents[name] in encoded_rows],
            done + len(encoded_rows),
        )
        if added:
            now = add(added, vectors[[encoded_rows[contents[name]] for name in added]])
    if not now:
        raise ValueError(
            f"{collection.folder}: none of {len(names)} pictures could be read; "
            f"first: {names[0]!r}: {reasons[contents[names[0]]]}"
        )
    _keep_stamps(folder, now.names, stamps, began)
    check_health(now.vectors, len(now.names))
    aside = [(name, reasons[contents[name]]) for name in names if contents[name] in reasons]
    return now, pd.DataFrame(aside, columns=["image", "reason"], dtype=str)


def _contents(paths: dict[str, Path], saved: Embeddings | None, folder: Path) -> tuple[dict, dict]:
    """Each picture's SHA-256, and its stamp: size and times, as they were when its content was
    read.
    """
    stamp_and_content, contents, stamps = {}, {}, {}
    if saved and saved.digests and (folder / STAMPS).is_file():
        try:
            kept_stamps = np.load(folder / STAMPS, allow_pickle=False)
        except (
            OSError,
            EOFError,
            ValueError,
        ):  # it is read again whether the pictures are the same
            kept_stamps = np.empty(0)
        if kept_stamps.shape == (len(saved.names), 3):
            stamp_and_content = dict(
                zip(saved.names, zip(map(tuple, kept_stamps.tolist()), saved.digests))
            )
    for name, path in paths.items():
        about = path.stat()
        stamps[name] = stamp = about.st_size, about.st_mtime_ns, about.st_ctime_ns
        before, content = stamp_and_content.get(name, (None, ""))
        contents[name] = content if stamp == before else digest(path)
    return contents, stamps


def _keep_stamps(folder: Path, names: list[str], stamps: dict[str, tuple], began: int) -> None:
    """Keep the stamps in the vectors' order; not of pictures changed so lately that a further
    change may look the same.

    began : nanoseconds; when the first stamp was taken
    """
    table = np.array([stamps[name] for name in names], np.int64)
    table[table[:, 1:].max(1) > began - LATELY] = 0
    with atomic_path(folder / STAMPS) as partial, partial.open("wb") as file:
        np.save(file, table)


def open_images(run: Run) -> Images:
    """The images that take part with their vectors, which are made again where a published run
    leaves them out. Pictures that were removed since, and have no vector any more, are left out.
    """
    table = read_split(run)
    has_vectors = (run.vectors / "encoder" / "config.json").is_file()
    embeddings = load_embeddings(run) if has_vectors else embed_run(run, open_collection(run))[0]
    images = Images(table, embeddings)
    return images.among(embeddings.names) if gone(table.image, embeddings) else images


def gone(names: Iterable[str], embeddings: Embeddings) -> list[str]:
    """Those of a run's images that have no vector any more, as their pictures were removed or
    renamed.
    """
    there = set(embeddings.names)
    return [name for name in names if name not in there]

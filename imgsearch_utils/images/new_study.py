"""A study's settings for a folder of one's own pictures, after a look at it."""

from collections import Counter
from pathlib import Path

import yaml

from imgsearch_utils.images.collection import read_collection
from imgsearch_utils.images.decoding import why_not_decoded
from imgsearch_utils.images.folder_levels import NO_SPLIT
from imgsearch_utils.study import ImageSettings, listed


def describe_folder(
    study: str,
    folder: Path,
    classes: list[str] | None = None,
    split: str | None = None,
    flat: bool = False,
) -> tuple[str, list[str]]:
    """Look at a folder of pictures and write a study for it.

    classes : columns of its labels.csv, or levels of its folders, from coarse to fine; all of them
        where none are given and they are plainly classes
    split : as of ``ImageSettings.split``
    flat : no classes and no split, whatever the folders are called

    Returns
    -------
    the study's YAML, with the lines as comments; and lines that say what was found, and the account

    Raises
    ------
    ValueError as ``read_collection``; for options that contradict each other; for several files of
        vectors, of which nobody can know which is meant
    """
    if flat and (classes or split):
        raise ValueError("--flat takes no classes and no split; leave --classes and --split out")
    if flat:
        classes, split = [], NO_SPLIT
    split = NO_SPLIT if split == "" else split
    vectors = sorted(path.name for path in folder.glob("*.npy"))
    pictures = any(not why_not_decoded(path.suffix) for path in folder.rglob("*"))
    if len(vectors) > 1 and not pictures:
        raise ValueError(
            f"{folder}: {len(vectors)} files hold vectors ({listed(vectors)}), and nobody can know "
            "which is meant; keep one there"
        )
    source = {"source": str(folder)} | ({"vectors": vectors[0]} if vectors and not pictures else {})
    source |= {} if classes is None else {"class_columns": classes}
    source |= {} if split is None else {"split": split}
    collection = read_collection(folder, ImageSettings(**source))
    sizes = {column: collection.images[column].nunique() for column in collection.class_columns}
    line = f"{len(collection.images):,} {'pictures' if pictures else 'vectors'}"
    if len(sizes) == 1:
        [n] = sizes.values()
        line += f" in {n} classes" if n > 1 else ", all of one class"
    elif sizes:
        line += (
            f", classes by level: {', '.join(f'{n} by {column}' for column, n in sizes.items())}"
        )
    if collection.split:
        counts = Counter(collection.split.values())
        line += (
            f"; its split is kept: {', '.join(f'{n:,} {side}' for side, n in counts.most_common())}"
        )
    coarsest = next(iter(sizes.values()), 1)
    who = "you, after the classes taught what they can" if coarsest > 1 else "you"
    settings = {"study": study, "images": source}
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    told = [line, *collection.account.lines()]
    if vectors and pictures:
        told.append(f"left unread: {listed(vectors)}; pictures are there, which are encoded anew")
    comments = "".join(f"# {each}\n" for each in told)
    return f"{comments}{text}oracle: person  # {who}\n", told

"""A study's settings for a folder of one's own pictures, after a look at it."""

from collections import Counter
from pathlib import Path

import yaml

from imgsearch_utils.images.collection import read_collection
from imgsearch_utils.images.decoding import SUFFIXES
from imgsearch_utils.study import ImageSettings

FEW = 10  # values of a column that are never too many


def describe_folder(study: str, folder: Path, classes: list[str] | None = None) -> tuple[str, str]:
    """Look at a folder of pictures and write a study for it.

    classes : columns of its labels.csv, from coarse to fine; all of them where none are given

    Returns
    -------
    the study's YAML, and a line that says what was found

    Raises
    ------
    ValueError as ``read_collection``; and for a column that cannot be one of classes, as hardly two
        images share a value
    """
    vectors = next((path.name for path in sorted(folder.glob("*.npy"))), None)
    pictures = any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
    source = {"source": str(folder)} | ({"vectors": vectors} if vectors and not pictures else {})
    source |= {} if classes is None else {"class_columns": classes}
    collection = read_collection(folder, ImageSettings(**source))
    sizes = {column: collection.images[column].nunique() for column in collection.class_columns}
    too_many = [
        column
        for column, n in sizes.items()
        if classes is None and n > max(len(collection.images) / 2, FEW)
    ]
    if too_many:
        raise ValueError(
            f"{folder / 'labels.csv'}: the column {too_many[0]!r} has {sizes[too_many[0]]:,} "
            "values for "
            f"{len(collection.images):,} images, which is no class: nearly every pair would be "
            "graded 0 "
            "unseen. Name the columns that are classes, coarse to fine (--classes kind --classes "
            "fine_kind), or none (--classes '')"
        )
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
    return f"# {line}\n{text}oracle: person  # {who}\n", line

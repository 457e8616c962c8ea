"""A study's settings for a folder of one's own pictures, after a look at it."""

from collections import Counter
from pathlib import Path

import yaml

from imgsearch_utils.pictures.collection import read_collection
from imgsearch_utils.pictures.decoding import SUFFIXES
from imgsearch_utils.study import ImageSettings


def describe_folder(study: str, folder: Path) -> tuple[str, str]:
    """Look at a folder of pictures and write a study for it.

    Returns
    -------
    the study's YAML, and a line that says what was found

    Raises
    ------
    ValueError
        as ``read_collection``
    """
    vectors = next((path.name for path in sorted(folder.glob("*.npy"))), None)
    pictures = any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
    source = {"source": str(folder)} | ({"vectors": vectors} if vectors and not pictures else {})
    found = read_collection(folder, ImageSettings(**source))
    sizes = {column: found.images[column].nunique() for column in found.class_columns}
    line = f"{len(found.images):,} {'pictures' if pictures else 'vectors'}"
    if len(sizes) == 1:
        [n] = sizes.values()
        line += f" in {n} classes" if n > 1 else ", all of one class"
    elif sizes:
        line += f", classes by level: {', '.join(f'{n} by {column}' for column, n in sizes.items())}"
    if found.split:
        counts = Counter(found.split.values())
        line += f"; its split is kept: {', '.join(f'{n:,} {side}' for side, n in counts.most_common())}"
    coarsest = next(iter(sizes.values()), 1)
    who = "you, after the classes taught what they can" if coarsest > 1 else "you"
    return (f"# {line}\n{yaml.safe_dump({'study': study, 'images': source}, sort_keys=False, allow_unicode=True)}"
            f"oracle: person  # {who}\n"), line

"""A study's settings for a folder of one's own pictures, after a look at it."""

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
    sizes = [f"{found.images[column].nunique()} {column}" for column in found.class_columns]
    line = f"{len(found.images):,} {'pictures' if pictures else 'vectors'}" + (f": {', '.join(sizes)}" if sizes else "")
    who = ("you, after the classes taught what they can" if sizes else "you")
    return (f"# {line}\n{yaml.safe_dump({'study': study, 'images': source}, sort_keys=False, allow_unicode=True)}"
            f"oracle: person  # {who}\n"), line

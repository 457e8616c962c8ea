"""What is asked of a search: one picture, several together, words; or each picture of a folder."""

from collections.abc import Sequence
from pathlib import Path

from imgsearch_utils.images.decoding import picture_files


def questions(pictures: Sequence[Path], text: str) -> list[list[Path]]:
    """The files of each question; none where words alone are asked.

    Raises
    ------
    ValueError where nothing is asked, for paths that are not there, and for a folder beside other
        pictures.
    """
    if not (pictures or text):
        raise ValueError("give a picture, a folder of pictures, or --text WORDS")
    if len(pictures) == 1:
        return [[file] for file in picture_files(pictures[0])]
    if folders := [path for path in pictures if path.is_dir()]:
        raise ValueError(
            f"{folders[0]} is a folder; several pictures are one question, so give a folder by "
            "itself"
        )
    return [[file for path in pictures for file in picture_files(path)]]


def named(files: Sequence[Path], unlike: Sequence[Path], text: str) -> str:
    """A question as it is shown; the file or the words themselves where there is nothing else."""
    wanted = [*map(str, files), *([f"“{text}”" if files else text] if text else [])]
    return " - ".join([" + ".join(wanted), *map(str, unlike)])

"""Which images take part, which are near-duplicates, and the side (train, dev, test) on which each
stands.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.images.listed_names import read_labels
from imgsearch_utils.images.near_duplicates import near_duplicate_groups
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.workspace import Run, shown

SPLITS = ("train", "dev", "test")


def named_sample(images: Images, file: Path) -> Images:
    """The images that a CSV with a column file_label names; ValueError where it names one that is
    not there.
    """
    names = read_labels(file).image
    unknown = names[~names.isin(images.names)]
    if len(unknown):
        raise ValueError(
            f"{file}: {len(unknown)} image(s) are not in the collection, first: {unknown.iloc[0]!r}"
        )
    return images.among(names)


def balanced_sample(images: Images, per_class: int | None, seed: int) -> Images:
    """At most `per_class` images of each class, in the table's order; all of them when it is
    None.
    """
    if per_class is None:
        return images
    shuffled = images.table.sample(frac=1, random_state=seed)
    groups = shuffled.groupby(images.class_column) if images.class_column else shuffled
    return replace(images, table=groups.head(per_class).sort_index())


def group_near_duplicates(images: Images, cosine: float) -> tuple[Images, pd.DataFrame]:
    """The images with their `group`, and the pairs image1, image2 whose vectors are at least so
    similar.
    """
    groups, twins = near_duplicate_groups(images.vectors, cosine)
    names = images.table.image.to_numpy(object)
    duplicates = pd.DataFrame(
        {"image1": names[twins[:, 0]], "image2": names[twins[:, 1]]}, dtype=object
    )
    return replace(images, table=images.table.assign(group=groups)), duplicates


def split_by_group(images: Images, dev_share: float, test_share: float, seed: int) -> Images:
    """Put whole groups of near-duplicates on the train, dev or test side, each class in the same
    shares.

    Within a class (that of most of a group's images), groups come in random order, the largest
    first, and each goes to the side that lacks most images; what a class leaves unbalanced is
    carried to the next.

    Parameters
    ----------
    images : with their groups
    dev_share, test_share : of the images; the rest is train; a side whose share is 0 stays empty

    Returns
    -------
    the images with their `side`: "train", "dev" or "test"

    Raises
    ------
    ValueError
        when a side would hold fewer than the two images that make a pair.
    """
    rng = np.random.default_rng(seed)
    table, stratum = images.table, images.classes.to_numpy(str)
    groups = pd.DataFrame({"stratum": stratum, "group": table.group, "image": table.image})
    groups = groups.groupby("group").agg(
        stratum=("stratum", lambda classes: classes.mode()[0]),
        first=("image", "min"),
        n=("image", "size"),
    )
    groups = groups.sort_values("first").iloc[rng.permutation(len(groups))]
    groups = groups.sort_values(["stratum", "n"], ascending=[True, False], kind="stable")
    share = np.array([1 - dev_share - test_share, dev_share, test_share])
    lacking, sides = np.zeros(3), {}
    for _, members in groups.groupby("stratum"):
        lacking += share * members.n.sum()
        for group, size in members.n.items():
            side = int(lacking.argmax())
            lacking[side] -= size
            sides[group] = SPLITS[side]
    split = table.assign(side=table.group.map(sides))
    for side in np.take(SPLITS, np.flatnonzero(share)):
        if (count := int((split.side == side).sum())) < 2:
            raise ValueError(
                f"expected at least 2 images on each of train, dev and test, got {count} on "
                f"{side}: "
                f"{len(images)} images in {len(groups)} groups of near-duplicates; add images or "
                f"raise the {side} share"
            )
    return replace(images, table=split)


def keep_split(images: Images, sides: dict[str, str]) -> tuple[Images, pd.DataFrame]:
    """Put images on the sides that the data came with.

    Near-duplicates on two sides would let a test image be learnt: then those on the test side stay,
    else those on dev, and the others are left out.

    Parameters
    ----------
    images : with their groups
    sides : by image

    Returns
    -------
    the images with their `side`, and those that are left out (`image`, `reason`)

    Raises
    ------
    ValueError
        when train or test would hold fewer than two images.
    """
    table = images.table.assign(side=images.table.image.map(sides))
    place = table.side.map({side: place for place, side in enumerate(SPLITS)})
    leaks = place < place.groupby(table.group).transform("max")
    without_leaks = table[~leaks]
    for side in ("train", "test"):
        if (count := int((without_leaks.side == side).sum())) < 2:
            raise ValueError(
                "the data come with a split, and a study needs at least 2 images on its train "
                "and test "
                f"sides, got {count} on {side}; add images there, or rename the folders (or the "
                "column "
                "split) to have the images split anew"
            )
    left_out = (
        table.image[leaks]
        .to_frame()
        .assign(
            reason="a near-duplicate of an image on a side that is to be measured; the given "
            "split is kept without it"
        )
    )
    return replace(images, table=without_leaks.reset_index(drop=True)), left_out.reset_index(
        drop=True
    )


def read_split(run: Run) -> pd.DataFrame:
    """The images that take part: `image`, class columns, `group`, `side`, as notebook 01 wrote
    them.

    Raises
    ------
    ValueError
        where they are not there yet, or the file is another than it wrote
    """
    file = run.labels / "images.csv"
    if not file.is_file():
        raise ValueError(f"run {run.name} has no images.csv yet; run 01_data_tagging first")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        if missing := [name for name in ("image", "group", "side") if name not in table]:
            raise ValueError(f"no column {', '.join(missing)}")
        return table.astype({"group": int})
    except ValueError as error:
        raise ValueError(
            f"{shown(file)}: expected the run's images, got {' '.join(str(error).split())}; "
            "restore it "
            f"from a copy, or see what to do: imgsearch check{run.options}"
        ) from None

"""`imgsearch duplicates`: which pictures of a collection are nearly the same, as a table and as a
page.
"""

import base64
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from imgsearch_utils.images import SAME_PICTURE, Collection, Images, thumbnails
from imgsearch_utils.images.decoding import jpeg
from imgsearch_utils.images.image_split import group_near_duplicates
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.workspace import Run, atomic_path, shown
from imgsearch_utils.workspace.tables import write_table

MOST_GROUPS = 200  # on the page
MOST_SHOWN = 12  # pictures of a group
PIXELS = 150  # of a picture's longer side


def find_duplicates(images: Images, cosine: float) -> pd.DataFrame:
    """Groups of near-duplicates: images whose vectors are joined by cosines of at least `cosine`.

    Returns
    -------
    group (1, 2, ...: those across classes first, then the most alike), image, the class columns,
    nearest (the most similar other image of the group), cosine (with it), same_picture (that is at
    least ``SAME_PICTURE``), across (which class columns the group's images differ in, or nothing);
    no row for an image that has no near-duplicate"""
    grouped, _ = group_near_duplicates(images, cosine)
    table = grouped.table[grouped.table.groupby("group").image.transform("size") > 1].drop(
        columns="side", errors="ignore"
    )
    rows = []
    for _, part in table.groupby("group"):
        unit = normalised(images.vectors_of(part.image))
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -1)
        nearest = cosines.argmax(1)
        across = [name for name in images.class_columns if part[name].nunique() > 1]
        rows.append(
            part.assign(
                nearest=part.image.to_numpy()[nearest],
                cosine=cosines.max(1).round(6),
                same_picture=cosines.max(1) >= SAME_PICTURE,
                across=", ".join(across),
            )
        )
    if not rows:
        return table.assign(nearest="", cosine=0.0, same_picture=False, across="")
    rows.sort(key=lambda part: (part.across.iloc[0] == "", -part.cosine.max(), part.image.min()))
    return pd.concat(
        [part.assign(group=number) for number, part in enumerate(rows, 1)], ignore_index=True
    )[["group", "image", *images.class_columns, "nearest", "cosine", "same_picture", "across"]]


def write_duplicates(
    run: Run, collection: Collection, table: pd.DataFrame, cosine: float, folder: Path
) -> Path:
    """Write duplicates.csv and, where there are pictures, index.html; return the latter, or else
    the former.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_table(table, folder / "duplicates.csv")
    if collection.folder is None:
        return folder / "duplicates.csv"
    groups = []
    for number, part in table[table.group <= MOST_GROUPS].groupby("group"):
        first = part.head(MOST_SHOWN)
        classes = [name for name in collection.class_columns if name in part]
        pictures = [
            {
                "name": row["image"],
                "cosine": row["cosine"],
                "nearest": row["nearest"],
                "classes": " / ".join(map(str, row[classes])),
                "data": base64.b64encode(jpeg(tile, PIXELS)).decode(),
            }
            for (_, row), tile in zip(first.iterrows(), thumbnails(collection, first.image, PIXELS))
        ]
        groups.append(
            {
                "number": number,
                "across": part.across.iloc[0],
                "pictures": pictures,
                "more": len(part) - len(first),
                "same": bool(part.same_picture.all()),
            }
        )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imgsearch_utils", "evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with atomic_path(folder / "index.html") as partial:
        partial.write_text(
            environment.get_template("duplicate_report.html.j2").render(
                title=run.study.title or run.study.study,
                run=run,
                groups=groups,
                cosine=cosine,
                n_groups=table.group.nunique(),
                n_images=len(table),
                n_across=table[table.across != ""].group.nunique(),
                csv=shown(folder / "duplicates.csv"),
            ),
            encoding="utf-8",
        )
    return folder / "index.html"

"""Figures that show pictures."""

import itertools
from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle
from PIL import Image

from imgsearch_utils.plots.canvas import axes_grid, legend_below, literal


def picture_grid(pictures: Sequence[Image.Image], titles: Sequence[str], columns: int = 6, side: float = 1.7,
                 frames: Sequence[str | None] = (), title: str = "") -> Figure:
    """Pictures in rows, a title above each, in frames of these colours (None: without), perhaps a title above all."""
    rows = max(1, -(-len(pictures) // columns))
    tallest = max((picture.height / picture.width for picture in pictures), default=1.0)
    figure, axes = axes_grid(columns, side, side * tallest + 0.22, rows)
    for place in axes.flat:
        place.axis("off")
    for place, picture, words, frame in itertools.zip_longest(axes.flat[: len(pictures)], pictures, titles, frames):
        place.imshow(picture)
        place.set_title(literal(words), fontsize=9, fontweight="normal", y=1.0)  # else its place is sought for seconds
        if frame:
            place.add_patch(Rectangle((0, 0), 1, 1, transform=place.transAxes, fill=False, ec=frame, lw=4))
    if title:
        figure.suptitle(literal(title), fontsize=13, fontweight="bold")
    return figure


def picture_map(layouts: dict[str, pd.DataFrame]) -> Figure:
    """Images as points, some of them as pictures; a panel each layout, the classes in the same colours in all.

    layouts : title -> `x`, `y`, `class` (one and the same where there are none), `picture` (a thumbnail, or None)
    """
    figure, [panels] = axes_grid(len(layouts), 6.2, 5.6)
    classes = pd.concat(layouts.values())["class"].value_counts()
    told = classes.index[:8] if len(classes) > 1 else []  # more colours tell nothing apart
    colours = dict(zip(told, sns.color_palette("colorblind", len(told))))
    for axes, (title, table) in zip(panels, layouts.items()):
        kinds = table["class"].where(table["class"].isin(told), "")
        for name, part in table.groupby(kinds):
            axes.scatter(part.x, part.y, s=14, color=colours.get(name, "#999999"), lw=0,
                         label=literal(name or "other classes") if len(told) else None)
        for x, y, kind, picture in zip(table.x, table.y, kinds, table.picture):
            if picture is not None:
                frame = {"edgecolor": colours.get(kind, "#999999"), "lw": 2, "boxstyle": "square,pad=0"}
                axes.add_artist(AnnotationBbox(OffsetImage(picture, zoom=36 / max(picture.size)), (x, y), pad=0,
                                               bboxprops=frame))
        axes.set(title=literal(title), xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        axes.margins(0.07)
        sns.despine(ax=axes, left=True, bottom=True)
    if len(told):
        legend_below(figure, *panels)
    return figure

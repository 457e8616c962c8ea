"""Figures that show pictures."""

import itertools
from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle
from PIL import Image

from imgsearch_utils.plots.canvas import Plot, axes_grid, legend_below, literal

FINEST = 160  # pixels of pictures in an inch


def picture_grid(
    pictures: Sequence[Image.Image],
    titles: Sequence[str],
    columns: int = 6,
    split: float = 1.7,
    frames: Sequence[str | None] = (),
    title: str = "",
) -> Plot:
    """Pictures in rows, a title above each, in frames of these colours (None: without), perhaps a
    title above all.

    side : inches from one picture to the next
    """
    wide, line = split - 0.1, 0.16  # inches of a picture, and of a line of its title
    tallest = max((picture.height / picture.width for picture in pictures), default=1.0)
    above = line * (1 + max((words.count("\n") for words in titles), default=0)) + 0.08
    high, top = above + wide * tallest + 0.06, 0.35 if title else 0.0
    width, height = columns * split, max(1, -(-len(pictures) // columns)) * high + top
    fine = min(FINEST, max((picture.width for picture in pictures), default=0) / wide or FINEST)
    # one image draws fastest
    sheet = Image.new("RGB", (round(width * fine), round(height * fine)), "white")
    figure = Plot(figsize=(width, height))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.axis("off")
    for number, (picture, words, frame) in enumerate(
        itertools.zip_longest(pictures, titles, frames)
    ):
        x, y, tall = (
            number % columns * split,
            top + number // columns * high + above,
            picture.height / picture.width,
        )
        sheet.paste(
            picture.resize((round(wide * fine), round(wide * tall * fine))),
            (round(x * fine), round(y * fine)),
        )
        axes.text(x + wide / 2, y - 0.04, literal(words), ha="center", va="bottom", fontsize=9)
        if frame:
            axes.add_patch(Rectangle((x, y), wide, wide * tall, fill=False, ec=frame, lw=4))
    axes.imshow(sheet, extent=(0, width, height, 0), aspect="auto")
    if title:
        axes.text(
            (width - 0.1) / 2,
            0.1,
            literal(title),
            ha="center",
            va="center",
            fontsize=13,
            fontweight="bold",
        )
    return figure


def picture_map(layouts: dict[str, pd.DataFrame]) -> Figure:
    """Images as points, some of them as pictures; a panel each layout, the classes in the same
    colours in all.

    layouts : title -> `x`, `y`, `class` (one and the same where there are none), `picture` (a
    thumbnail, or None)"""
    figure, [panels] = axes_grid(len(layouts), 6.2, 5.6)
    classes = pd.concat(layouts.values())["class"].value_counts()
    coloured_classes = (
        classes.index[:8] if len(classes) > 1 else []
    )  # more colours tell nothing apart
    colours = dict(zip(coloured_classes, sns.color_palette("colorblind", len(coloured_classes))))
    for axes, (title, table) in zip(panels, layouts.items()):
        kinds = table["class"].where(table["class"].isin(coloured_classes), "")
        for name, part in table.groupby(kinds):
            axes.scatter(
                part.x,
                part.y,
                s=14,
                color=colours.get(name, "#999999"),
                lw=0,
                label=literal(name or "other classes") if len(coloured_classes) else None,
            )
        for x, y, kind, picture in zip(table.x, table.y, kinds, table.picture):
            if picture is not None:
                frame = {
                    "edgecolor": colours.get(kind, "#999999"),
                    "lw": 2,
                    "boxstyle": "square,pad=0",
                }
                axes.add_artist(
                    AnnotationBbox(
                        OffsetImage(picture, zoom=36 / max(picture.size)),
                        (x, y),
                        pad=0,
                        bboxprops=frame,
                    )
                )
        axes.set(title=literal(title), xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        axes.margins(0.07)
        sns.despine(ax=axes, left=True, bottom=True)
    if len(coloured_classes):
        legend_below(figure, *panels)
    return figure

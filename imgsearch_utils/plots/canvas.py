"""What all figures share: the theme, fixed colours, panels, legends, and how a figure is kept.

The encoder is grey-blue and the head orange, whatever the figure. Neither by them nor by the
colours of sides and grades need red be told from green."""

import functools
import io
import re

import pandas as pd
import seaborn as sns
from matplotlib import rcParams
from matplotlib.figure import Figure
from PIL import Image

from imgsearch_utils.workspace import Stage

sns.set_theme(
    style="whitegrid",
    context="notebook",
    rc={
        "figure.dpi": 80,
        "savefig.dpi": 110,
        "savefig.bbox": "tight",
        "figure.constrained_layout.use": True,
        "axes.titlesize": "medium",
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "imgsearch",
    },
)

MODELS = {"encoder": "#5b7a99", "head": "#e07b39"}
GRADES = dict(zip(range(4), sns.color_palette("YlGnBu", 6)[1:5]))
SPLITS = {"train": "#2d6a5f", "dev": "#e3b23c", "test": "#c58bb5"}
DASHES = ("-", "--", "-.", ":", (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))


class Plot(Figure):
    """A figure that shows itself in a notebook, in 256 colours, without pyplot and its state."""

    box = None  # what is drawn on, in inches, once that is settled

    def settle(self) -> None:
        """Keep the layout as it is now; else it is sought at each drawing, which takes longer than
        to draw.
        """
        self.draw_without_rendering()
        self.box = self.get_tightbbox().padded(rcParams["savefig.pad_inches"])
        self.set_layout_engine("none")

    def savefig(self, file, **options) -> None:
        super().savefig(file, **({"bbox_inches": self.box} if self.box else {}) | options)

    def _repr_png_(self) -> bytes:
        buffer, small = io.BytesIO(), io.BytesIO()
        self.savefig(buffer, dpi=self.dpi, pil_kwargs={"compress_level": 1})
        Image.open(buffer).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
        return small.getvalue()


def literal(text: object) -> str:
    """A text from data as matplotlib draws it letter by letter: no formula between dollars, no
    control characters.
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\ufffd", str(text)).replace("$", r"\$")


def axes_grid(columns: int = 1, width: float = 5.0, height: float = 3.6, rows: int = 1):
    figure = Plot(figsize=(width * columns, height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False)


def of_rows(draw):
    """Draw a frame that says so where the table has no row."""

    @functools.wraps(draw)
    def drawn(table: pd.DataFrame, *rest):
        if len(table):
            return draw(table, *rest)
        figure, [[axes]] = axes_grid()
        axes.text(0.5, 0.5, "nothing to show", ha="center")
        axes.axis("off")
        return figure

    return drawn


def legend_beside(axes) -> None:
    axes.legend(title="", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


def legend_below(figure: Figure, *panels) -> None:
    """One legend for all panels, below them, where it covers no curve; what they share stands in it
    once.
    """
    handle_of_label = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())
    }
    for axes in panels:
        if axes.get_legend():
            axes.get_legend().remove()
    figure.legend(
        handle_of_label.values(),
        handle_of_label.keys(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=10,
    )


def save(figure: Plot, stage: Stage, name: str, table: pd.DataFrame | None = None) -> Plot:
    """Keep a figure (PNG and SVG) and its table (CSV) with an unfinished stage, and return the
    figure to show it.
    """
    folder = stage[stage.last] / "figures"
    if not stage.finished:
        folder.mkdir(exist_ok=True)
        figure.settle()
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        if table is not None:
            table.to_csv(folder / f"{name}.csv", index=False)
    return figure

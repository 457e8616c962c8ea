"""Figures that set models side by side: candidates, encoders, the encoder and the head."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from imgsearch_utils.plots.canvas import MODELS, axes_grid, legend_below, literal, of_rows


@of_rows
def candidates(table: pd.DataFrame) -> Figure:
    """Gains over the encoder of each candidate, with their intervals, in AP of all pairs and in
    nDCG@10 of a query's.

    table : `candidates` of ``LearningResult``; the one that search uses is drawn in the
    head's colour"""
    shown = table[table.candidate != "encoder"].iloc[::-1]
    figure, [axes] = axes_grid(2, 4.6, 0.6 + 0.5 * len(shown))
    for one, (name, title) in zip(
        axes, {"ap": "AP of all pairs", "ndcg": "nDCG@10 within a query"}.items()
    ):
        for place, row in enumerate(shown.itertuples()):
            low, gain, high = (getattr(row, f"{name}_gain{part}") for part in ("_low", "", "_high"))
            colour = MODELS["head"] if row.use in ("search", "chosen") else "#999999"
            one.plot([low, high], [place, place], color=colour, lw=2)
            one.plot(gain, place, "o", color=colour)
        one.axvline(0, color=MODELS["encoder"], lw=1.5)
        one.set(
            yticks=range(len(shown)),
            yticklabels=shown.candidate,
            ylim=(-0.5, len(shown) - 0.5),
            title=title,
            xlabel="gain over the encoder",
        )
    axes[1].set_yticklabels([])
    return figure


def retrieval(table: pd.DataFrame) -> Figure:
    """Retrieval measures of each model with 95 % intervals (columns model, measure, mean, low,
    high).

    What is no model, a baseline, is a line across the bars of a measure.
    """
    measures, models = (
        list(dict.fromkeys(table.measure)),
        [name for name in MODELS if name in set(table.model)],
    )
    figure, [[axes]] = axes_grid(width=7)
    for number, model in enumerate(models):
        part = table[table.model == model].set_index("measure").reindex(measures)
        axes.bar(
            np.arange(len(measures)) + 0.36 * (number - (len(models) - 1) / 2),
            part["mean"],
            0.34,
            color=MODELS[model],
            hatch="//" * (model == "encoder"),
            edgecolor="white",
            label=model,
            yerr=[part["mean"] - part.low, part.high - part["mean"]],
            capsize=3,
            ecolor="#444444",
        )
    for name, dashes in zip(
        [name for name in dict.fromkeys(table.model) if name not in MODELS], ("-", ":")
    ):
        part, places = (
            table[table.model == name].set_index("measure").reindex(measures),
            np.arange(len(measures)),
        )
        axes.hlines(
            part["mean"],
            places - 0.45,
            places + 0.45,
            "#222222",
            dashes,
            lw=1.6,
            label=literal(name),
        )
    axes.set_xticks(range(len(measures)), measures)
    axes.set(
        ylim=(0, 1.02),
        ylabel="mean over queries",
        title="Ranking by the grades, test images as queries",
    )
    legend_below(figure, axes)
    return figure


def class_confusion(
    matrix: pd.DataFrame, title: str, of_encoder: pd.DataFrame | None = None
) -> Figure:
    """Share of results (columns) of each class among the first k for queries of each class (rows);
    12 classes at most.

    matrix : of the head, or of the only model
    of_encoder : the same by the encoder; with it, both stand side by side on one scale
    """
    matrix_of_title = (
        {"": matrix} if of_encoder is None else {"encoder: ": of_encoder, "head: ": matrix}
    )
    names = list(
        dict.fromkeys(
            name for shares in matrix_of_title.values() for axis in shares.axes for name in axis
        )
    )[:12]
    size = 2.6 + 0.5 * len(names)
    figure, [axes] = axes_grid(len(matrix_of_title), size + 0.6, size - 0.4)
    for place, (whose, shares) in zip(axes, matrix_of_title.items()):
        shown = shares.reindex(index=shares.index[:12], columns=names, fill_value=0.0)
        sns.heatmap(
            shown.rename(index=literal, columns=literal),
            annot=True,
            fmt=".2f",
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            ax=place,
            annot_kws={"fontsize": 9},
        )
        place.set(
            xlabel="class of the results", ylabel="class of the query", title=literal(whose + title)
        )
    for place in axes[1:]:
        place.set(ylabel="", yticklabels=[])
    return figure


def encoders(table: pd.DataFrame, measures: Sequence[str] = ("AP", "P@10", "nDCG@10")) -> Figure:
    """What encoders reach in each measure, with 95 % intervals (columns encoder, measure, mean,
    low, high).

    The encoders stand in the table's order, the first on top.
    """
    names = list(dict.fromkeys(table.encoder))[::-1]
    figure, [axes] = axes_grid(len(measures), 4.2, 1.2 + 0.42 * len(names))
    for place, measure in zip(axes, measures):
        part = table[table.measure == measure].set_index("encoder").reindex(names)
        spread = [part["mean"] - part.low, part.high - part["mean"]]
        place.errorbar(
            part["mean"],
            range(len(names)),
            xerr=spread,
            fmt="o",
            color=MODELS["encoder"],
            capsize=3,
        )
        place.set(
            xlim=(0, 1.02),
            title="mAP" if measure == "AP" else measure,
            ylim=(-0.6, len(names) - 0.4),
        )
        place.set_yticks(
            range(len(names)), [literal(name) for name in names] if place is axes[0] else []
        )
        place.grid(axis="y", visible=False)
    return figure


def by_class(table: pd.DataFrame, title: str) -> Figure:
    """A measure for each ranking (the first column; rows) and class of the queries (columns, at
    most 20).
    """
    rows = table.columns[0]
    wide = table.pivot(index=rows, columns="class", values="mean").reindex(
        list(dict.fromkeys(table[rows]))
    )
    wide = wide.iloc[:, :20].rename(index=literal, columns=literal)
    figure, [[axes]] = axes_grid(width=4.5 + 0.55 * wide.shape[1], height=1.4 + 0.42 * len(wide))
    sns.heatmap(wide, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axes)
    axes.set(xlabel="class of the queries", ylabel="", title=title)
    return figure

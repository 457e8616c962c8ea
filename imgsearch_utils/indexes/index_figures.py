"""Figures of a comparison of indexes: tables in, matplotlib figures out, one fixed colour and mark
an index.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from imgsearch_utils.indexes import index_choice
from imgsearch_utils.plots import MODELS, axes_grid, legend_below, legend_beside, of_rows

#: the mark of each index; the place in this order gives its colour, so a new one comes last
MARKS = {
    "annoy": "o",
    "faiss_hnsw": "s",
    "faiss_hnsw_sq": "^",
    "faiss_ivf": "v",
    "faiss_ivf_disk": "D",
    "faiss_ivfpq": "P",
    "faiss_lsh": "<",
    "faiss_gpu_exact": ">",
    "faiss_gpu_ivf": "*",
    "hnswlib": "X",
    "milvus": "p",
    "pynndescent": "h",
    "torch": "d",
    "usearch": "H",
    "lancedb": "8",
    "pgvector": "$P$",
    "faiss_ivf_rabitq": "$R$",
    "scann": "$S$",
}


def index_colours(names: Sequence[str]) -> dict[str, tuple]:
    """One fixed colour an index, whatever the table at hand holds."""
    colours = dict(zip(MARKS, [*sns.color_palette("Dark2"), *sns.color_palette("tab10")]))
    return {name: colours.get(name, "black") for name in names}


def index_marks(names: Sequence[str]) -> dict[str, str]:
    """One fixed mark an index, so that nobody needs to tell the colours apart."""
    return {name: MARKS.get(name, ".") for name in names}


def _same_scale(panels):
    """One scale for panels that are compared."""
    first, *others = panels
    for place in others:
        place.sharex(first)
        place.sharey(first)


def recall_curves(table: pd.DataFrame) -> Figure:
    """Recall@k of each index by the columns recall@..., one panel a model: its quickest query
    setting drawn, its most thorough one dotted.
    """
    models = list(dict.fromkeys(table.model))
    figure, axes = axes_grid(len(models), 4.8)
    _same_scale(axes.flat)
    columns = [name for name in table if name.startswith("recall@")]
    ks = [int(name.removeprefix("recall@")) for name in columns]
    for place, model in zip(axes.flat, models):
        part = table[table.model == model].sort_values(columns[-1], kind="stable")
        for name, colour in index_colours(sorted(part["index"].unique())).items():
            settings = part.loc[part["index"] == name, columns]
            place.plot(
                ks, settings.iloc[0], marker=index_marks([name])[name], color=colour, label=name
            )
            place.plot(ks, settings.iloc[-1], ls=":", color=colour)
        place.set(
            xlabel="k",
            ylabel="recall@k",
            title=f"Vectors of the {model}",
            ylim=(None, 1.02),
            xticks=ks,
        )
    legend_below(figure, *axes.flat)
    return figure


def pareto(table: pd.DataFrame, recall: str, speed: str = "single_qps") -> Figure:
    """Recall against queries per second: every point measured, and the front of those that none
    beats in both.
    """
    models = list(dict.fromkeys(table.model))
    figure, axes = axes_grid(len(models), 4.8)
    _same_scale(axes.flat)
    for place, model in zip(axes.flat, models):
        part = table[table.model == model].sort_values(recall)
        for name, colour in index_colours(sorted(part["index"].unique())).items():
            points = part[part["index"] == name]
            place.plot(
                points[recall],
                points[speed],
                marker=index_marks([name])[name],
                ms=6,
                lw=1,
                color=colour,
                label=name,
            )
        front = index_choice.pareto(part, recall, speed)
        place.plot(
            front[recall],
            front[speed],
            color="grey",
            lw=7,
            alpha=0.25,
            zorder=0,
            marker="o",
            ms=12,
            mew=0,
            label="front",
        )
        queries_asked = "one at a time" if speed == "single_qps" else "in one batch"
        place.set(
            xlabel=recall,
            ylabel=f"queries/s, {queries_asked}",
            yscale="log",
            title=f"Vectors of the {model}",
        )
    legend_below(figure, *axes.flat)
    return figure


@of_rows
def latency(table: pd.DataFrame) -> Figure:
    """Milliseconds of single queries, p50 to p99: a row an index and model (columns p50_ms, p95_ms,
    p99_ms).
    """
    models = [model for model in MODELS if model in set(table.model)]
    decades = (
        10.0 ** np.floor(np.log10(table.p50_ms.min())),
        10.0 ** np.ceil(np.log10(table.p99_ms.max())),
    )
    figure, axes = axes_grid(len(models), 4.8, 1.3 + 0.36 * table["index"].nunique())
    for place, model in zip(axes.flat, models):
        part = table[table.model == model].sort_values("p95_ms", ascending=False)
        colours = list(index_colours(part["index"]).values())
        place.hlines(part["index"], part.p50_ms, part.p99_ms, color=colours, lw=2)
        for column, marker in (("p50_ms", "o"), ("p95_ms", "D"), ("p99_ms", ">")):
            place.scatter(part[column], part["index"], color=colours, marker=marker, zorder=3)
            place.scatter([], [], color="grey", marker=marker, label=column[:3])
        place.set(
            xlabel="ms a query, one at a time",
            xscale="log",
            xlim=decades,
            title=f"Vectors of the {model}",
        )
        # within one decade they would cover each other
        place.xaxis.set_minor_formatter(NullFormatter())
        place.margins(y=0.15)
    legend_below(figure, *axes.flat)
    return figure


def index_costs(table: pd.DataFrame, costs: dict[str, str]) -> Figure:
    """What each index costs whatever it is asked, encoder's and head's vectors (columns model,
    index, and `costs`).

    costs : column -> what its axis is called
    """
    figure, axes = axes_grid(len(costs), 4.8, 1.1 + 0.42 * table["index"].nunique())
    once = table.drop_duplicates(["model", "index"])
    for place, (column, label) in zip(axes.flat, costs.items()):
        sns.barplot(once, y="index", x=column, hue="model", palette=MODELS, ax=place, width=0.7)
        place.set(xlabel=label, ylabel="")
        place.get_legend().remove()
    legend_beside(place)
    return figure


@of_rows
def relevance_lost(table: pd.DataFrame, recall: str) -> Figure:
    """nDCG and AP lost against exact search, with 95 % intervals, by recall: a row of panels a
    model.

    table : from ``steps.comparison.lost_by_indexes``, with `model` and the recall of each point
    """
    models = list(dict.fromkeys(table.model))
    figure, axes = axes_grid(2, 4.8, 3.4, len(models))
    for column in axes.T:
        _same_scale(column)
    for places, model in zip(axes, models):
        part = table[table.model == model].sort_values(recall)
        for place, name in zip(places, ("nDCG", "AP")):
            for index, colour in index_colours(sorted(part["index"].unique())).items():
                points = part[part["index"] == index]
                lost = points[f"{name}_lost"]
                place.plot(
                    points[recall],
                    lost,
                    marker=index_marks([index])[index],
                    ms=6,
                    lw=1,
                    color=colour,
                    label=index,
                )
                place.vlines(
                    points[recall],
                    points[f"{name}_low"],
                    points[f"{name}_high"],
                    color=colour,
                    alpha=0.5,
                )
            place.axhline(0, color="grey", ls=":")
            place.set(xlabel=recall, ylabel=f"{name} lost", title=f"{name}, vectors of the {model}")
    legend_below(figure, *axes.flat)
    return figure


def filtered(table: pd.DataFrame, recall: str) -> Figure:
    """Recall and milliseconds of searches among a part of the vectors, by its share (columns share,
    ms).
    """
    figure, axes = axes_grid(2, 4.8)
    panels = (recall, f"{recall} among the part"), ("ms", "ms, median of single queries")
    for place, (column, label) in zip(axes.flat, panels):
        for name, colour in index_colours(sorted(table["index"].unique())).items():
            points = table[table["index"] == name].sort_values("share")
            place.plot(
                points.share,
                points[column],
                marker=index_marks([name])[name],
                ms=6,
                lw=1,
                color=colour,
                label=name,
            )
        ticks = sorted(table.share.unique())
        place.set(xlabel="share of the vectors that are searched among", ylabel=label, xscale="log")
        place.set_xticks(ticks, [f"1/{1 / share:g}" if share < 1 else "all" for share in ticks])
        place.minorticks_off()
    axes.flat[1].set_yscale("log")
    legend_below(figure, *axes.flat)
    return figure


def index_sizes(table: pd.DataFrame) -> Figure:
    """95 % of single queries are answered within so many milliseconds, by number of vectors
    (columns n, p95_ms).
    """
    figure, [[axes]] = axes_grid(width=6.5)
    for name, colour in index_colours(sorted(table["index"].unique())).items():
        points = table[table["index"] == name].sort_values("n")
        axes.plot(
            points.n, points.p95_ms, marker=index_marks([name])[name], color=colour, label=name
        )
    axes.axhline(1, color="grey", ls=":", label="1 ms")
    axes.set(
        xlabel="vectors",
        ylabel="ms, p95 of single queries",
        xscale="log",
        yscale="log",
        title="The study's size, and drawn sets",
    )
    legend_beside(axes)
    return figure

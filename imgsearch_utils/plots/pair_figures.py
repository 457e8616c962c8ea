"""Figures of images and pairs: how many there are, and how scores fit their grades."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import PrecisionRecallDisplay, confusion_matrix

from imgsearch_utils.metrics import calibration_by_chance
from imgsearch_utils.plots.canvas import (
    GRADES,
    MODELS,
    SPLITS,
    axes_grid,
    legend_below,
    legend_beside,
    literal,
    of_rows,
)

ENOUGH = 5  # pairs, to say how many of them are similar


@of_rows
def class_counts(images: pd.DataFrame) -> Figure:
    """Images of each class on each side (columns class, side); the 15 largest classes."""
    counts = images.groupby(["class", "side"]).size().unstack(fill_value=0).rename(index=literal)
    counts = counts.loc[
        counts.sum(1).nlargest(15).index, [split for split in SPLITS if split in counts]
    ]
    return _counted(counts, SPLITS, "images", "Images of each class, by side")


@of_rows
def grade_counts(pairs: pd.DataFrame) -> Figure:
    """Pairs of each grade on each side, people's and automatic ones apart."""
    graded = pairs.dropna(subset="similarity")
    kinds = np.where(
        graded.automatic, "0 across classes", "grade " + graded.similarity.astype(int).astype(str)
    )
    counts = pd.crosstab(graded.side, kinds).reindex([s for s in SPLITS if s in set(graded.side)])
    colours = {
        "0 across classes": "#dddddd",
        **{f"grade {grade}": colour for grade, colour in GRADES.items()},
    }
    return _counted(counts, colours, "pairs", "Graded pairs, by side")


def _counted(counts, colours, what, title):
    """A bar each row of a table, of parts for its columns."""
    figure, [[axes]] = axes_grid(width=6.5)
    counts.plot.barh(stacked=True, ax=axes, color=[colours[name] for name in counts], width=0.7)
    axes.invert_yaxis()
    axes.set(xlabel=what, ylabel="", title=title)
    legend_beside(axes)
    return figure


@of_rows
def score_distributions(scored: pd.DataFrame) -> Figure:
    """Cosine of the encoder and of the head for the pairs of each grade (columns similarity,
    cosine, score).
    """
    figure, axes = axes_grid(2, 4.6)
    scored = scored.assign(grade=scored.similarity.astype(int))
    axes.flat[1].sharey(axes.flat[0])
    for place, column, name in zip(axes.flat, ("cosine", "score"), MODELS):
        sns.violinplot(
            scored,
            x="grade",
            y=column,
            hue="grade",
            palette=GRADES,
            legend=False,
            ax=place,
            inner="quart",
            cut=0,
            density_norm="width",
        )
        place.set(xlabel="grade", ylabel="cosine", title=f"By the {name}")
    return figure


@of_rows
def confusion(scored: pd.DataFrame, threshold: float, of_encoder: float | None = None) -> Figure:
    """Confusion matrix of "similar" at the calibrated threshold, and the reliability of P(similar).

    Reliability is drawn for tenths of P(similar) in which at least ``ENOUGH`` pairs lie, with what
    chance alone would do to a head whose P(similar) is right.

    threshold : of the head's P(similar)
    of_encoder : of the encoder's (column encoder_p_similar); with it, the encoder is drawn beside
    the head"""
    similar = scored.similarity == 3
    of_head = {"head": (scored.p_similar, threshold)}
    models = (
        of_head
        if of_encoder is None
        else {"encoder": (scored.encoder_p_similar, of_encoder)} | of_head
    )
    figure, [[*matrices, reliability]] = axes_grid(len(models) + 1, 3.9)
    reliability.plot([0, 1], [0, 1], color="grey", ls=":", label="as often as predicted")
    for place, (name, (p, least)) in zip(matrices, models.items()):
        counts = confusion_matrix(similar, p >= least, labels=[False, True])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        text = [
            [f"{count:,}\n{share:.0%}" for count, share in zip(*row)] for row in zip(counts, shares)
        ]
        words = ["not similar", "similar"]
        sns.heatmap(
            shares,
            annot=text,
            fmt="",
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            ax=place,
            square=True,
            xticklabels=words,
            yticklabels=words,
        )
        place.set(title=f"{name}, at P(similar) ≥ {least:.2f}", xlabel="predicted", ylabel="graded")
        bins = pd.DataFrame({"predicted": p, "observed": similar}).groupby(
            (p.clip(0, 0.999) * 10).astype(int)
        )
        told = bins.mean()[bins.size() >= ENOUGH]
        if name == "head" and len(told):
            chance = calibration_by_chance(p)
            reliability.vlines(
                told.predicted,
                chance.low[told.index],
                chance.high[told.index],
                color="lightgrey",
                lw=6,
                label="where chance puts a perfect head (95 %)",
            )
        reliability.plot(
            told.predicted,
            told.observed,
            marker="os"[name == "encoder"],
            color=MODELS[name],
            label=name,
        )
    reliability.set(
        xlabel="predicted P(similar)",
        ylabel="share graded 3",
        title="Calibration",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    legend_below(figure, reliability)
    return figure


@of_rows
def precision_recall(scored: pd.DataFrame) -> Figure:
    """Precision against recall of grade 3, encoder and head, with the share of grade 3 as the
    baseline.
    """
    figure, [[axes]] = axes_grid(width=6.5)
    similar = scored.similarity == 3
    for column, name, dash in zip(("cosine", "score"), MODELS, ("--", "-")):
        PrecisionRecallDisplay.from_predictions(
            similar,
            scored[column],
            name=name,
            ax=axes,
            curve_kwargs={"color": MODELS[name], "ls": dash},
        )
    axes.axhline(
        similar.mean(), color="grey", ls=":", label=f"share of grade 3 ({similar.mean():.2f})"
    )
    axes.set(
        title="Finding grade 3", xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02)
    )
    legend_below(figure, axes)
    return figure

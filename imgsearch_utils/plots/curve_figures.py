"""Figures of quality and cost as something grows: epochs, rounds, grades, components, images."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imgsearch_utils.metrics import Ceiling, over_splits
from imgsearch_utils.plots.canvas import (
    DASHES,
    MODELS,
    SPLITS,
    axes_grid,
    legend_below,
    literal,
    of_rows,
)


def training_curves(history: pd.DataFrame) -> Figure:
    """Loss on the pairs learnt from and on those held out, and AP on those held out, by epoch."""
    figure, [[loss, quality]] = axes_grid(2, 4.6)
    mark = "o" if len(history) < 3 else None
    for name, split, label, dash in (
        ("train", "train", "learnt from", "-"),
        ("dev", "dev", "held out", "--"),
    ):
        loss.plot(
            history.epoch,
            history[f"{name}_loss"],
            dash,
            color=SPLITS[split],
            label=label,
            marker=mark,
        )
    quality.plot(history.epoch, history.dev_ap, "--", color=SPLITS["dev"], marker=mark)
    for axes in (loss, quality):
        axes.set(xlabel="epoch", xlim=(history.epoch.min() - 0.5, history.epoch.max() + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    loss.set(ylabel="loss", title="Loss")
    quality.set(ylabel="average precision", title="Quality on the pairs held out")
    legend_below(figure, loss)
    return figure


@of_rows
def finetuning_curve(history: pd.DataFrame) -> Figure:
    """Loss and the mAP on the validation images by epoch; a ring marks the epoch whose weights are
    kept.

    history : epoch, loss (NaN before the first), validation, best
    """
    figure, [[loss, quality]] = axes_grid(2, 4.6)
    mark = "o" if len(history) < 10 else None
    loss.plot(history.epoch, history.loss, color=SPLITS["train"], marker=mark)
    quality.plot(history.epoch, history.validation, "--", color=SPLITS["dev"], marker=mark)
    kept_epoch = history[history.best].tail(1)
    quality.plot(
        kept_epoch.epoch, kept_epoch.validation, "o", ms=12, mfc="none", mec=MODELS["head"], mew=2
    )
    for axes, name, title in (
        (loss, "loss", "Loss on what is learnt from"),
        (quality, "mAP", "Quality on validation"),
    ):
        axes.set(
            xlabel="epoch",
            ylabel=name,
            title=title,
            xlim=(history.epoch.min() - 0.5, history.epoch.max() + 0.5),
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


@of_rows
def explained_variance(table: pd.DataFrame) -> Figure:
    """Shares of the variance that the first principal components explain, added up.

    table : model, component (from 1), sum
    """
    figure, [[axes]] = axes_grid(width=5.5)
    for name, mark in zip(MODELS, "so"):
        part = table[table.model == name]
        axes.plot(
            part.component,
            part["sum"],
            marker=mark,
            color=MODELS[name],
            label=name if len(part) else None,
        )
    axes.set(
        xlabel="principal components",
        ylabel="share of the variance",
        ylim=(0, 1.02),
        title="What a map can show",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes)
    return figure


def rounds(log: pd.DataFrame, split: str = "test", ceiling: Ceiling | None = None) -> Figure:
    """Quality by number of labels on one side: AP, same-class ROC-AUC, F1, and the head's gain in
    AP with its band.

    log : results_log.csv, one row a round
    ceiling : how well people's grades predict people's; its F1 is drawn where it is known
    """
    measures = {
        "ap": "average precision",
        "same_class_roc_auc": "same-class ROC-AUC",
        "f1": "F1 at the threshold",
    }
    figure, axes = axes_grid(2, 4.8, 3.2, 2)
    for place, (measure, title) in zip(axes.flat, measures.items()):
        for name, mark in zip(MODELS, "so"):
            place.plot(
                log.labels,
                log[f"{split}_{name}_{measure}"],
                marker=mark,
                color=MODELS[name],
                label=name,
            )
        if measure == "f1" and ceiling is not None and np.isfinite(ceiling.f1):
            place.axhline(
                ceiling.f1,
                color="grey",
                ls="--",
                label=f"people ({ceiling.pairs} pairs graded twice)",
            )
        place.set(title=f"{title}, {split}")
    gain = axes.flat[-1]
    gain.axhline(0, color="grey", ls=":")
    gain.errorbar(
        log.labels,
        log[f"{split}_ap_gain"],
        marker="o",
        color=MODELS["head"],
        capsize=3,
        label="head",
        yerr=[
            log[f"{split}_ap_gain"] - log[f"{split}_ap_gain_low"],
            log[f"{split}_ap_gain_high"] - log[f"{split}_ap_gain"],
        ],
    )
    gain.set(title=f"gain in average precision, {split}")
    for place in axes.flat:
        place.set(xlabel="graded training pairs", xticks=log.labels)
    legend_below(figure, *axes.flat[:-1])
    return figure


def curves_with_bands(
    table: pd.DataFrame, kind: str, measures: dict[str, str], test_share: float = 0.2
) -> Figure:
    """Means over seeds against `labels`, one line each `kind`, with 95 % intervals
    (``metrics.over_splits``); a row a study.

    The kinds stand a little beside each other at each number of labels, so that no interval hides
    another, and are named where their lines end.

    table : study, `kind`, seed, labels and the columns of `measures` (column -> name on the axis)
    test_share : of the images that each seed splits anew
    """
    table = table.assign(**{kind: table[kind].map(literal)})
    studies, kinds = sorted(table.study.unique()), list(dict.fromkeys(table[kind]))
    colours = sns.color_palette("colorblind", len(kinds))
    step = 0.012 * (np.ptp(table.labels) or 1)
    figure, axes = axes_grid(len(measures), 5.6, 3.4, len(studies))
    for row, study in zip(axes, studies):
        for place, (measure, title) in zip(row, measures.items()):
            ends = []
            for number, (name, colour) in enumerate(zip(kinds, colours)):
                part = table[(table.study == study) & (table[kind] == name)]
                if part.empty:
                    continue
                points = [
                    (labels, *over_splits(values, test_share))
                    for labels, values in part.groupby("labels")[measure]
                ]
                labels, mean, low, high = np.reshape(points, (-1, 4)).T
                style = {
                    "color": colour,
                    "ls": DASHES[number % len(DASHES)],
                    "marker": "osD^vP"[number % 6],
                    "ms": 5,
                }
                place.errorbar(
                    labels + step * (number - (len(kinds) - 1) / 2),
                    mean,
                    [mean - low, high - mean],
                    elinewidth=1.2,
                    capsize=2,
                    **style,
                )
                ends += [(mean[-1], name, colour)] if np.isfinite(mean[-1]) else []
            if table[measure].min() < 0:
                place.axhline(0, color="grey", ls=":")
            _name_ends(place, ends, table.labels.max() + (len(kinds) / 2 + 2.5) * step)
            place.set(xlabel="pairs asked", ylabel=title, title=literal(study))
    return figure


def _name_ends(axes, ends, beside):
    """Write names (height, name, colour) right of a panel's curves, so far apart that none covers
    another.
    """
    low, high = axes.get_ylim()
    least, at = (high - low) * 0.085, -np.inf
    for height, name, colour in sorted(ends, key=lambda end: end[0]):
        at = max(height, at + least)
        axes.annotate(
            name,
            (beside, at),
            color=colour,
            fontsize=10,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )


def costs(table: pd.DataFrame, measures: dict[str, str]) -> Figure:
    """What steps cost by the number of images, on logarithmic axes (columns n, step, and the
    measures).

    measures : column -> the axis's label; a column's empty cells are left out
    """
    steps = list(dict.fromkeys(table.step))
    colours = sns.color_palette("husl", len(steps))
    figure, [axes] = axes_grid(len(measures), 5.2, 5.0)
    for place, (column, label) in zip(axes, measures.items()):
        for number, step in enumerate(steps):
            part = table[table.step == step].dropna(subset=column).sort_values("n")
            place.plot(
                part.n,
                part[column],
                "o",
                linestyle=DASHES[number % len(DASHES)],
                color=colours[number],
                label=step,
            )
        place.set(xscale="log", yscale="log", xlabel="images", ylabel=label)
    legend_below(figure, *axes)
    return figure

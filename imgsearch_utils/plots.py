"""Figures from tables. Each function takes data and returns a matplotlib figure; notebooks save them.

Colours are fixed: the encoder is grey-blue and the head orange, whatever the figure. Neither by them nor by those of
sides and grades need red be told from green.
"""

import functools
import io
import itertools
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import PrecisionRecallDisplay, confusion_matrix

from imgsearch_utils.metrics import Ceiling, bootstrap
from imgsearch_utils.workspace import Stage

sns.set_theme(style="whitegrid", context="notebook", rc={
    "figure.dpi": 80, "savefig.dpi": 110, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
    "axes.titlesize": "medium", "axes.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "imgsearch"})
MODELS = {"encoder": "#5b7a99", "head": "#e07b39"}
GRADES = dict(zip(range(4), sns.color_palette("YlGnBu", 6)[1:5]))
SIDES = {"train": "#2d6a5f", "dev": "#e3b23c", "test": "#c58bb5"}
ENOUGH = 5  # pairs, to say how many of them are similar
DASHES = ("-", "--", "-.", ":", (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))


class Plot(Figure):
    """A figure that shows itself in a notebook, in 256 colours, without pyplot and its state."""

    def _repr_png_(self) -> bytes:
        buffer, small = io.BytesIO(), io.BytesIO()
        self.savefig(buffer, dpi=self.dpi)
        Image.open(buffer).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
        return small.getvalue()


def literal(text: object) -> str:
    """A text from data as matplotlib draws it letter by letter: no formula between dollars, no control characters."""
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
    """One legend for all panels, below them, where it covers no curve; what they share stands in it once."""
    named = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
    for axes in panels:
        if axes.get_legend():
            axes.get_legend().remove()
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=10)


def save(figure: Figure, stage: Stage, name: str, table: pd.DataFrame | None = None) -> Figure:
    """Keep a figure (PNG and SVG) and its table (CSV) with an unfinished stage, and return the figure to show it."""
    folder = stage[stage.last] / "figures"
    if not stage.finished:
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.set_layout_engine("none")  # what was laid out stays so, here and in the notebook: it takes longest
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        if table is not None:
            table.to_csv(folder / f"{name}.csv", index=False)
    return figure


@of_rows
def class_counts(images: pd.DataFrame) -> Figure:
    """Images of each class on each side (columns class, side); the 15 largest classes."""
    figure, [[axes]] = axes_grid(width=6.5)
    counts = images.groupby(["class", "side"]).size().unstack(fill_value=0).rename(index=literal)
    counts = counts.loc[counts.sum(1).nlargest(15).index, [side for side in SIDES if side in counts]]
    counts.plot.barh(stacked=True, ax=axes, color=SIDES, width=0.7)
    axes.invert_yaxis()
    axes.set(xlabel="images", ylabel="", title="Images of each class, by side")
    legend_beside(axes)
    return figure


@of_rows
def grade_counts(pairs: pd.DataFrame) -> Figure:
    """Pairs of each grade on each side, people's and automatic ones apart."""
    figure, [[axes]] = axes_grid(width=6.5)
    graded = pairs.dropna(subset="similarity")
    kinds = np.where(graded.automatic, "0 across classes", "grade " + graded.similarity.astype(int).astype(str))
    counts = pd.crosstab(graded.side, kinds).reindex([s for s in SIDES if s in set(graded.side)])
    colours = {"0 across classes": "#dddddd", **{f"grade {grade}": colour for grade, colour in GRADES.items()}}
    counts.plot.barh(stacked=True, ax=axes, color=[colours[name] for name in counts], width=0.7)
    axes.invert_yaxis()
    axes.set(xlabel="pairs", ylabel="", title="Graded pairs, by side")
    legend_beside(axes)
    return figure


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


@of_rows
def explained_variance(table: pd.DataFrame) -> Figure:
    """Shares of the variance that the first principal components explain, added up.

    table : model, component (from 1), sum
    """
    figure, [[axes]] = axes_grid(width=5.5)
    for name, mark in zip(MODELS, "so"):
        part = table[table.model == name]
        axes.plot(part.component, part["sum"], marker=mark, color=MODELS[name], label=name if len(part) else None)
    axes.set(xlabel="principal components", ylabel="share of the variance", ylim=(0, 1.02), title="What a map can show")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes)
    return figure


def training_curves(history: pd.DataFrame) -> Figure:
    """Loss on the pairs learnt from and on those held out, and AP on those held out, by epoch."""
    figure, [[loss, quality]] = axes_grid(2, 4.6)
    mark = "o" if len(history) < 3 else None
    for name, side, label, dash in (("train", "train", "learnt from", "-"), ("dev", "dev", "held out", "--")):
        loss.plot(history.epoch, history[f"{name}_loss"], dash, color=SIDES[side], label=label, marker=mark)
    quality.plot(history.epoch, history.dev_ap, "--", color=SIDES["dev"], marker=mark)
    for axes in (loss, quality):
        axes.set(xlabel="epoch", xlim=(history.epoch.min() - 0.5, history.epoch.max() + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    loss.set(ylabel="loss", title="Loss")
    quality.set(ylabel="average precision", title="Quality on the pairs held out")
    legend_below(figure, loss)
    return figure


@of_rows
def finetuning_curve(history: pd.DataFrame) -> Figure:
    """Loss and the mAP on the validation images by epoch; a ring marks the epoch whose weights are kept.

    history : epoch, loss (NaN before the first), validation, best
    """
    figure, [[loss, quality]] = axes_grid(2, 4.6)
    mark = "o" if len(history) < 10 else None
    loss.plot(history.epoch, history.loss, color=SIDES["train"], marker=mark)
    quality.plot(history.epoch, history.validation, "--", color=SIDES["dev"], marker=mark)
    kept = history[history.best].tail(1)
    quality.plot(kept.epoch, kept.validation, "o", ms=12, mfc="none", mec=MODELS["head"], mew=2)
    for axes, name, title in ((loss, "loss", "Loss on what is learnt from"), (quality, "mAP", "Quality on validation")):
        axes.set(xlabel="epoch", ylabel=name, title=title, xlim=(history.epoch.min() - 0.5, history.epoch.max() + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


@of_rows
def candidates(table: pd.DataFrame) -> Figure:
    """Gains over the encoder of each candidate, with their intervals, in AP of all pairs and in nDCG@10 of a query's.

    table : `candidates` of ``learning.learner.Learnt``; the one that search uses is drawn in the head's colour
    """
    shown = table[table.candidate != "encoder"].iloc[::-1]
    figure, [axes] = axes_grid(2, 4.6, 0.6 + 0.5 * len(shown))
    for one, (name, title) in zip(axes, {"ap": "AP of all pairs", "ndcg": "nDCG@10 within a query"}.items()):
        for place, row in enumerate(shown.itertuples()):
            low, gain, high = (getattr(row, f"{name}_gain{part}") for part in ("_low", "", "_high"))
            colour = MODELS["head"] if row.use in ("search", "chosen") else "#999999"
            one.plot([low, high], [place, place], color=colour, lw=2)
            one.plot(gain, place, "o", color=colour)
        one.axvline(0, color=MODELS["encoder"], lw=1.5)
        one.set(yticks=range(len(shown)), yticklabels=shown.candidate, ylim=(-0.5, len(shown) - 0.5), title=title,
                xlabel="gain over the encoder")
    axes[1].set_yticklabels([])
    return figure


@of_rows
def score_distributions(scored: pd.DataFrame) -> Figure:
    """Cosine of the encoder and of the head for the pairs of each grade (columns similarity, cosine, score)."""
    figure, axes = axes_grid(2, 4.6)
    scored = scored.assign(grade=scored.similarity.astype(int))
    axes.flat[1].sharey(axes.flat[0])
    for place, column, name in zip(axes.flat, ("cosine", "score"), MODELS):
        sns.violinplot(scored, x="grade", y=column, hue="grade", palette=GRADES, legend=False, ax=place,
                       inner="quart", cut=0, density_norm="width")
        place.set(xlabel="grade", ylabel="cosine", title=f"By the {name}")
    return figure


@of_rows
def confusion(scored: pd.DataFrame, threshold: float, of_encoder: float | None = None) -> Figure:
    """Confusion matrix of "similar" at the calibrated threshold, and the reliability of P(similar).

    Reliability is drawn for tenths of P(similar) in which at least ``ENOUGH`` pairs lie.

    threshold : of the head's P(similar)
    of_encoder : of the encoder's (column encoder_p_similar); with it, the encoder is drawn beside the head
    """
    similar = scored.similarity == 3
    of_head = {"head": (scored.p_similar, threshold)}
    models = of_head if of_encoder is None else {"encoder": (scored.encoder_p_similar, of_encoder)} | of_head
    figure, [[*matrices, reliability]] = axes_grid(len(models) + 1, 3.9)
    reliability.plot([0, 1], [0, 1], color="grey", ls=":", label="as often as predicted")
    for place, (name, (p, least)) in zip(matrices, models.items()):
        counts = confusion_matrix(similar, p >= least, labels=[False, True])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        text = [[f"{count:,}\n{share:.0%}" for count, share in zip(*row)] for row in zip(counts, shares)]
        words = ["not similar", "similar"]
        sns.heatmap(shares, annot=text, fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=place, square=True,
                    xticklabels=words, yticklabels=words)
        place.set(title=f"{name}, at P(similar) ≥ {least:.2f}", xlabel="predicted", ylabel="graded")
        bins = pd.DataFrame({"predicted": p, "observed": similar}).groupby((p.clip(0, 0.999) * 10).astype(int))
        told = bins.mean()[bins.size() >= ENOUGH]
        reliability.plot(told.predicted, told.observed, marker="os"[name == "encoder"], color=MODELS[name], label=name)
    reliability.set(xlabel="predicted P(similar)", ylabel="share graded 3", title="Calibration", xlim=(-0.02, 1.02),
                    ylim=(-0.02, 1.02))
    legend_below(figure, reliability)
    return figure


@of_rows
def precision_recall(scored: pd.DataFrame) -> Figure:
    """Precision against recall of grade 3, encoder and head, with the share of grade 3 as the baseline."""
    figure, [[axes]] = axes_grid(width=6.5)
    similar = scored.similarity == 3
    for column, name, dash in zip(("cosine", "score"), MODELS, ("--", "-")):
        PrecisionRecallDisplay.from_predictions(similar, scored[column], name=name, ax=axes,
                                                curve_kwargs={"color": MODELS[name], "ls": dash})
    axes.axhline(similar.mean(), color="grey", ls=":", label=f"share of grade 3 ({similar.mean():.2f})")
    axes.set(title="Finding grade 3", xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    legend_below(figure, axes)
    return figure


def rounds(log: pd.DataFrame, side: str = "test", ceiling: Ceiling | None = None) -> Figure:
    """Quality by number of labels on one side: AP, same-class ROC-AUC, F1, and the head's gain in AP with its band.

    log : results_log.csv, one row a round
    ceiling : how well people's grades predict people's; its F1 is drawn where it is known
    """
    measures = {"ap": "average precision", "same_class_roc_auc": "same-class ROC-AUC", "f1": "F1 at the threshold"}
    figure, axes = axes_grid(2, 4.8, 3.2, 2)
    for place, (measure, title) in zip(axes.flat, measures.items()):
        for name, mark in zip(MODELS, "so"):
            place.plot(log.labels, log[f"{side}_{name}_{measure}"], marker=mark, color=MODELS[name], label=name)
        if measure == "f1" and ceiling is not None and np.isfinite(ceiling.f1):
            place.axhline(ceiling.f1, color="grey", ls="--", label=f"people ({ceiling.pairs} pairs graded twice)")
        place.set(title=f"{title}, {side}")
    gain = axes.flat[-1]
    gain.axhline(0, color="grey", ls=":")
    gain.errorbar(log.labels, log[f"{side}_ap_gain"], marker="o", color=MODELS["head"], capsize=3, label="head",
                  yerr=[log[f"{side}_ap_gain"] - log[f"{side}_ap_gain_low"],
                        log[f"{side}_ap_gain_high"] - log[f"{side}_ap_gain"]])
    gain.set(title=f"gain in average precision, {side}")
    for place in axes.flat:
        place.set(xlabel="graded training pairs", xticks=log.labels)
    legend_below(figure, *axes.flat[:-1])
    return figure


def curves_with_bands(table: pd.DataFrame, kind: str, measures: dict[str, str]) -> Figure:
    """Means over seeds against `labels`, one line each `kind`, with 95 % bootstrap intervals; a row a study.

    The kinds stand a little beside each other at each number of labels, so that no interval hides another, and are
    named where their lines end.

    table : study, `kind`, seed, labels and the columns of `measures` (column -> name on the axis)
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
                points = [(labels, *bootstrap(values)) for labels, values in part.groupby("labels")[measure]]
                labels, mean, low, high = np.reshape(points, (-1, 4)).T
                style = {"color": colour, "ls": DASHES[number % len(DASHES)], "marker": "osD^vP"[number % 6], "ms": 5}
                place.errorbar(labels + step * (number - (len(kinds) - 1) / 2), mean, [mean - low, high - mean],
                               elinewidth=1.2, capsize=2, **style)
                ends += [(mean[-1], name, colour)] if np.isfinite(mean[-1]) else []
            if table[measure].min() < 0:
                place.axhline(0, color="grey", ls=":")
            _name_ends(place, ends, table.labels.max() + (len(kinds) / 2 + 2.5) * step)
            place.set(xlabel="pairs asked", ylabel=title, title=literal(study))
    return figure


def _name_ends(axes, ends, beside):
    """Write names (height, name, colour) right of a panel's curves, so far apart that none covers another."""
    low, high = axes.get_ylim()
    least, at = (high - low) * 0.085, -np.inf
    for height, name, colour in sorted(ends, key=lambda end: end[0]):
        at = max(height, at + least)
        axes.annotate(name, (beside, at), color=colour, fontsize=10, fontweight="bold", va="center",
                      annotation_clip=False)


def retrieval(table: pd.DataFrame) -> Figure:
    """Retrieval measures of each model with 95 % intervals (columns model, measure, mean, low, high).

    What is no model, a baseline, is a line across the bars of a measure.
    """
    measures, models = list(dict.fromkeys(table.measure)), [name for name in MODELS if name in set(table.model)]
    figure, [[axes]] = axes_grid(width=7)
    for number, model in enumerate(models):
        part = table[table.model == model].set_index("measure").reindex(measures)
        axes.bar(np.arange(len(measures)) + 0.36 * (number - (len(models) - 1) / 2), part["mean"], 0.34,
                 color=MODELS[model], hatch="//" * (model == "encoder"), edgecolor="white", label=model,
                 yerr=[part["mean"] - part.low, part.high - part["mean"]], capsize=3, ecolor="#444444")
    for name, dashes in zip([name for name in dict.fromkeys(table.model) if name not in MODELS], ("-", ":")):
        part, places = table[table.model == name].set_index("measure").reindex(measures), np.arange(len(measures))
        axes.hlines(part["mean"], places - 0.45, places + 0.45, "#222222", dashes, lw=1.6, label=literal(name))
    axes.set_xticks(range(len(measures)), measures)
    axes.set(ylim=(0, 1.02), ylabel="mean over queries", title="Ranking by the grades, test images as queries")
    legend_below(figure, axes)
    return figure


def class_confusion(matrix: pd.DataFrame, title: str, of_encoder: pd.DataFrame | None = None) -> Figure:
    """Share of results (columns) of each class among the first k for queries of each class (rows); 12 classes at most.

    matrix : of the head, or of the only model
    of_encoder : the same by the encoder; with it, both stand side by side on one scale
    """
    named = {"": matrix} if of_encoder is None else {"encoder: ": of_encoder, "head: ": matrix}
    names = list(dict.fromkeys(name for shares in named.values() for axis in shares.axes for name in axis))[:12]
    size = 2.6 + 0.5 * len(names)
    figure, [axes] = axes_grid(len(named), size + 0.6, size - 0.4)
    for place, (whose, shares) in zip(axes, named.items()):
        shown = shares.reindex(index=shares.index[:12], columns=names, fill_value=0.0)
        sns.heatmap(shown.rename(index=literal, columns=literal), annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1,
                    cbar=False, ax=place, annot_kws={"fontsize": 9})
        place.set(xlabel="class of the results", ylabel="class of the query", title=literal(whose + title))
    for place in axes[1:]:
        place.set(ylabel="", yticklabels=[])
    return figure


def encoders(table: pd.DataFrame, measures: Sequence[str] = ("AP", "P@10", "nDCG@10")) -> Figure:
    """What encoders reach in each measure, with 95 % intervals (columns encoder, measure, mean, low, high).

    The encoders stand in the table's order, the first on top.
    """
    names = list(dict.fromkeys(table.encoder))[::-1]
    figure, [axes] = axes_grid(len(measures), 4.2, 1.2 + 0.42 * len(names))
    for place, measure in zip(axes, measures):
        part = table[table.measure == measure].set_index("encoder").reindex(names)
        spread = [part["mean"] - part.low, part.high - part["mean"]]
        place.errorbar(part["mean"], range(len(names)), xerr=spread, fmt="o", color=MODELS["encoder"], capsize=3)
        place.set(xlim=(0, 1.02), title="mAP" if measure == "AP" else measure, ylim=(-0.6, len(names) - 0.4))
        place.set_yticks(range(len(names)), [literal(name) for name in names] if place is axes[0] else [])
        place.grid(axis="y", visible=False)
    return figure


def by_class(table: pd.DataFrame, title: str) -> Figure:
    """A measure for each ranking (the first column; rows) and class of the queries (columns, at most 20)."""
    rows = table.columns[0]
    wide = table.pivot(index=rows, columns="class", values="mean").reindex(list(dict.fromkeys(table[rows])))
    wide = wide.iloc[:, :20].rename(index=literal, columns=literal)
    figure, [[axes]] = axes_grid(width=4.5 + 0.55 * wide.shape[1], height=1.4 + 0.42 * len(wide))
    sns.heatmap(wide, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axes)
    axes.set(xlabel="class of the queries", ylabel="", title=title)
    return figure


def costs(table: pd.DataFrame, measures: dict[str, str]) -> Figure:
    """What steps cost by the number of images, on logarithmic axes (columns n, step, and the measures).

    measures : column -> the axis's label; a column's empty cells are left out
    """
    steps = list(dict.fromkeys(table.step))
    colours = sns.color_palette("husl", len(steps))
    figure, [axes] = axes_grid(len(measures), 5.2, 5.0)
    for place, (column, label) in zip(axes, measures.items()):
        for number, step in enumerate(steps):
            part = table[table.step == step].dropna(subset=column).sort_values("n")
            place.plot(part.n, part[column], "o", linestyle=DASHES[number % len(DASHES)], color=colours[number],
                       label=step)
        place.set(xscale="log", yscale="log", xlabel="images", ylabel=label)
    legend_below(figure, *axes)
    return figure

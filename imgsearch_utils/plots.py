"""Figures from tables. Each function takes data and returns a matplotlib figure; notebooks save them.

Colours are fixed: the encoder is grey-blue and the head orange, whatever the figure.
"""

import functools
import io
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay

from imgsearch_utils.metrics import Ceiling
from imgsearch_utils.workspace import Stage

sns.set_theme(style="whitegrid", context="notebook", rc={
    "figure.dpi": 80, "savefig.dpi": 110, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
    "axes.titlesize": "medium", "axes.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "imgsearch"})
MODELS = {"encoder": "#5b7a99", "head": "#e07b39"}
GRADES = dict(zip(range(4), sns.color_palette("YlGnBu", 6)[1:5]))
SIDES = {"train": "#7f9c6d", "dev": "#d9b44a", "test": "#a65d57"}


class Plot(Figure):
    """A figure that shows itself in a notebook, without pyplot and its state."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, dpi=self.dpi)
        return buffer.getvalue()


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


def save(figure: Figure, stage: Stage, name: str, table: pd.DataFrame | None = None) -> Figure:
    """Keep a figure (PNG and SVG) and its table (CSV) with an unfinished stage, and return the figure to show it."""
    folder = stage[stage.last] / "figures"
    if not stage.finished:
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
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


def picture_grid(pictures: Sequence[Image.Image], titles: Sequence[str], columns: int = 6,
                 side: float = 1.7) -> Figure:
    """Pictures in rows, a title above each."""
    rows = max(1, -(-len(pictures) // columns))
    tallest = max((picture.height / picture.width for picture in pictures), default=1.0)
    figure, axes = axes_grid(columns, side, side * tallest + 0.22, rows)
    for place in axes.flat:
        place.axis("off")
    for place, picture, title in zip(axes.flat, pictures, titles):
        place.imshow(picture)
        place.set_title(literal(title), fontsize=8, fontweight="normal")
    return figure


def training_curves(history: pd.DataFrame) -> Figure:
    """Loss on the pairs learnt from and on those held out, and AP on those held out, by epoch."""
    figure, [[loss, quality]] = axes_grid(2, 4.6)
    mark = "o" if len(history) == 1 else None
    for column, side, label in (("train_loss", "train", "learnt from"), ("dev_loss", "dev", "held out")):
        loss.plot(history.epoch, history[column], color=SIDES[side], label=label, marker=mark)
    quality.plot(history.epoch, history.dev_ap, color=SIDES["dev"], marker=mark)
    for axes in (loss, quality):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    loss.legend()
    loss.set(ylabel="loss", title="Loss")
    quality.set(ylabel="average precision", title="Quality on the pairs held out")
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
    for place, column, name in zip(axes.flat, ("cosine", "score"), MODELS):
        sns.violinplot(scored, x="grade", y=column, hue="grade", palette=GRADES, legend=False, ax=place,
                       inner="quart", cut=0, density_norm="width")
        place.set(xlabel="grade", ylabel="cosine", title=f"By the {name}")
    return figure


@of_rows
def confusion(scored: pd.DataFrame, threshold: float) -> Figure:
    """Confusion matrix of "similar" at the calibrated threshold, and the reliability of P(similar)."""
    figure, [[matrix, reliability]] = axes_grid(2, 4.2)
    similar = scored.similarity == 3
    ConfusionMatrixDisplay.from_predictions(similar, scored.p_similar >= threshold, labels=[False, True],
                                            ax=matrix, cmap="Blues", colorbar=False,
                                            display_labels=["not similar", "similar"])
    matrix.grid(False)
    matrix.set(title=f"At P(similar) ≥ {threshold:.2f}", xlabel="predicted", ylabel="graded")
    observed, predicted = calibration_curve(similar, scored.p_similar.clip(0, 1), n_bins=10)
    reliability.plot([0, 1], [0, 1], color="grey", ls=":")
    reliability.plot(predicted, observed, marker="o", color=MODELS["head"])
    reliability.set(xlabel="predicted P(similar)", ylabel="share graded 3", title="Calibration", xlim=(0, 1),
                    ylim=(0, 1))
    return figure


@of_rows
def precision_recall(scored: pd.DataFrame) -> Figure:
    """Precision against recall of grade 3, encoder and head, with the share of grade 3 as the baseline."""
    figure, [[axes]] = axes_grid()
    similar = scored.similarity == 3
    for column, name in zip(("cosine", "score"), MODELS):
        PrecisionRecallDisplay.from_predictions(similar, scored[column], name=name, ax=axes,
                                                curve_kwargs={"color": MODELS[name]})
    axes.axhline(similar.mean(), color="grey", ls=":", label=f"share of grade 3 ({similar.mean():.2f})")
    axes.legend(loc="upper right", fontsize=9)
    axes.set(title="Finding grade 3", xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    return figure


def rounds(log: pd.DataFrame, side: str = "test", ceiling: Ceiling | None = None) -> Figure:
    """Quality by number of labels on one side: AP, same-class ROC-AUC, F1, and the head's gain in AP with its band.

    log : results_log.csv, one row a round
    ceiling : how well people's grades predict people's; its F1 is drawn where it is known
    """
    measures = {"ap": "average precision", "same_class_roc_auc": "same-class ROC-AUC", "f1": "F1 at the threshold"}
    figure, axes = axes_grid(len(measures) + 1, 3.6, 3.4)
    for place, (measure, title) in zip(axes.flat, measures.items()):
        for name, colour in MODELS.items():
            place.plot(log.labels, log[f"{side}_{name}_{measure}"], marker="o", color=colour, label=name)
        if measure == "f1" and ceiling is not None and np.isfinite(ceiling.f1):
            place.axhline(ceiling.f1, color="grey", ls="--", label=f"people ({ceiling.pairs} pairs graded twice)")
        place.set(xlabel="graded training pairs", ylabel=title, title=f"{title}, {side}")
        place.legend(fontsize=9)
    gain = axes.flat[-1]
    gain.axhline(0, color="grey", ls=":")
    gain.plot(log.labels, log[f"{side}_ap_gain"], marker="o", color=MODELS["head"])
    gain.fill_between(log.labels, log[f"{side}_ap_gain_low"], log[f"{side}_ap_gain_high"], alpha=0.18,
                      color=MODELS["head"], lw=0, label="95 % band")
    gain.set(xlabel="graded training pairs", ylabel="AP, head − encoder", title=f"Gain in AP, {side}")
    gain.legend(fontsize=9)
    return figure


def curves_with_bands(table: pd.DataFrame, kind: str, measures: dict[str, str]) -> Figure:
    """Means over seeds against `labels`, one line each `kind`, with the 95 % bootstrap band; a row a study.

    table : study, `kind`, seed, labels and the columns of `measures` (column -> name on the axis)
    """
    table = table.assign(**{kind: table[kind].map(literal)})
    studies, kinds = sorted(table.study.unique()), list(dict.fromkeys(table[kind]))
    colours = dict(zip(kinds, sns.color_palette("colorblind", len(kinds))))
    figure, axes = axes_grid(len(measures), 4.8, 3.4, len(studies))
    for row, study in zip(axes, studies):
        for place, (measure, title) in zip(row, measures.items()):
            sns.lineplot(table[table.study == study], x="labels", y=measure, hue=kind, palette=colours, marker="o",
                         hue_order=kinds, errorbar=("ci", 95), seed=0, legend=place is row[-1], ax=place)
            place.set(xlabel="pairs asked", ylabel=title, title=literal(study))
        legend_beside(row[-1])
    return figure


def retrieval(table: pd.DataFrame) -> Figure:
    """Retrieval measures of encoder and head with 95 % intervals (columns model, measure, mean, low, high)."""
    figure, [[axes]] = axes_grid(width=7)
    measures = list(dict.fromkeys(table.measure))
    for shift, (model, colour) in zip((-0.18, 0.18), MODELS.items()):
        part = table[table.model == model].set_index("measure").reindex(measures)
        axes.bar(np.arange(len(measures)) + shift, part["mean"], 0.34, color=colour, label=model,
                 yerr=[part["mean"] - part.low, part.high - part["mean"]], capsize=3, ecolor="#444444")
    axes.set_xticks(range(len(measures)), measures)
    axes.set(ylim=(0, 1), ylabel="mean over queries", title="Ranking by the grades, test images as queries")
    axes.legend()
    return figure


def class_confusion(matrix: pd.DataFrame, title: str) -> Figure:
    """Share of results (columns) of each class among the first k for queries of each class (rows)."""
    matrix = matrix.iloc[:12, :12].rename(index=literal, columns=literal)
    size = 2.6 + 0.5 * len(matrix)
    figure, [[axes]] = axes_grid(width=size + 0.6, height=size - 0.4)
    sns.heatmap(matrix, annot=len(matrix) <= 12, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axes,
                annot_kws={"fontsize": 9})
    axes.set(xlabel="class of the results", ylabel="class of the query", title=literal(title))
    return figure

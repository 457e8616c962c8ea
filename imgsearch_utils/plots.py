"""Figures from tables. Each function takes data and returns a matplotlib figure; notebooks save them.

Colours are fixed: the encoder is grey-blue and the head orange, whatever the figure; an index keeps its
colour by its place in the registry.
"""

import functools
import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay

from imgsearch_utils.agreement import Ceiling
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


def _axes(columns: int = 1, width: float = 5.0, height: float = 3.6, rows: int = 1):
    figure = Plot(figsize=(width * columns, height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False)


def _of_rows(draw):
    """Draw a frame that says so where the table has no row."""

    @functools.wraps(draw)
    def drawn(table: pd.DataFrame, *rest):
        if len(table):
            return draw(table, *rest)
        figure, [[axes]] = _axes()
        axes.text(0.5, 0.5, "nothing to show", ha="center")
        axes.axis("off")
        return figure

    return drawn


def _legend_beside(axes) -> None:
    axes.legend(title="", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


def index_colours(names: Sequence[str]) -> dict[str, tuple]:
    """One fixed colour an index: by its place in the registry, not in the table at hand."""
    from imgsearch_utils.indexes import INDEXES

    palette = [*sns.color_palette("Dark2"), *sns.color_palette("tab10")]
    colours = dict(zip((name for name in INDEXES if name != "exact"), palette))
    return {name: colours.get(name, "black") for name in names}


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


@_of_rows
def class_counts(images: pd.DataFrame, class_column: str | None) -> Figure:
    """Images of each class on each side; the 15 largest classes."""
    figure, [[axes]] = _axes(width=6.5)
    column = images[class_column] if class_column else pd.Series("all images", index=images.index)
    counts = images.groupby([column.rename("class"), "side"]).size().unstack(fill_value=0)
    counts = counts.loc[counts.sum(1).nlargest(15).index, [side for side in SIDES if side in counts]]
    counts.plot.barh(stacked=True, ax=axes, color=SIDES, width=0.7)
    axes.invert_yaxis()
    axes.set(xlabel="images", ylabel="", title="Images of each class, by side")
    _legend_beside(axes)
    return figure


@_of_rows
def grade_counts(pairs: pd.DataFrame) -> Figure:
    """Pairs of each grade on each side, people's and automatic ones apart."""
    figure, [[axes]] = _axes(width=6.5)
    graded = pairs.dropna(subset="similarity")
    kinds = np.where(graded.automatic, "0 across classes", "grade " + graded.similarity.astype(int).astype(str))
    counts = pd.crosstab(graded.side, kinds).reindex([s for s in SIDES if s in set(graded.side)])
    colours = {"0 across classes": "#dddddd", **{f"grade {grade}": colour for grade, colour in GRADES.items()}}
    counts.plot.barh(stacked=True, ax=axes, color=[colours[name] for name in counts], width=0.7)
    axes.invert_yaxis()
    axes.set(xlabel="pairs", ylabel="", title="Graded pairs, by side")
    _legend_beside(axes)
    return figure


def picture_grid(pictures: Sequence[Image.Image], titles: Sequence[str], columns: int = 6,
                 side: float = 1.7) -> Figure:
    """Pictures in rows, a title above each."""
    rows = max(1, -(-len(pictures) // columns))
    tallest = max((picture.height / picture.width for picture in pictures), default=1.0)
    figure, axes = _axes(columns, side, side * tallest + 0.22, rows)
    for place in axes.flat:
        place.axis("off")
    for place, picture, title in zip(axes.flat, pictures, titles):
        place.imshow(picture)
        place.set_title(title, fontsize=8, fontweight="normal")
    return figure


def training_curves(history: pd.DataFrame) -> Figure:
    """Loss on train and dev, and AP on dev, by epoch, the kept one marked; the train loss alone without dev pairs."""
    has_dev = history.dev_loss.notna().any()
    figure, [[loss, *quality]] = _axes(1 + has_dev, 4.6)
    kept = history.epoch[history.dev_loss.idxmin()] if has_dev else history.epoch.max()
    for column, side in (("train_loss", "train"), ("dev_loss", "dev"))[: 1 + has_dev]:
        loss.plot(history.epoch, history[column], color=SIDES[side], label=side)
    for axes in quality:
        axes.plot(history.epoch, history.dev_ap, color=SIDES["dev"], label="dev AP, grade 3")
        axes.set(ylabel="average precision", title="Quality on dev")
    for axes in (loss, *quality):
        axes.axvline(kept, color="grey", ls=":", label=f"kept: epoch {kept}")
        axes.set_xlabel("epoch")
        axes.legend()
    loss.set(ylabel="loss", title="Training and validation loss" if has_dev else "Training loss")
    return figure


@_of_rows
def score_distributions(scored: pd.DataFrame) -> Figure:
    """Cosine of the encoder and of the head for the pairs of each grade (columns similarity, cosine, score)."""
    figure, axes = _axes(2, 4.6)
    scored = scored.assign(grade=scored.similarity.astype(int))
    for place, column, name in zip(axes.flat, ("cosine", "score"), MODELS):
        sns.violinplot(scored, x="grade", y=column, hue="grade", palette=GRADES, legend=False, ax=place,
                       inner="quart", cut=0, density_norm="width")
        place.set(xlabel="grade", ylabel="cosine", title=f"By the {name}")
    return figure


@_of_rows
def confusion(scored: pd.DataFrame, threshold: float) -> Figure:
    """Confusion matrix of "similar" at the calibrated threshold, and the reliability of P(similar)."""
    figure, [[matrix, reliability]] = _axes(2, 4.2)
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


@_of_rows
def precision_recall(scored: pd.DataFrame) -> Figure:
    """Precision against recall of grade 3, encoder and head, with the share of grade 3 as the baseline."""
    figure, [[axes]] = _axes()
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
    figure, axes = _axes(len(measures) + 1, 3.6, 3.4)
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
    studies, kinds = sorted(table.study.unique()), list(dict.fromkeys(table[kind]))
    colours = dict(zip(kinds, sns.color_palette("colorblind", len(kinds))))
    figure, axes = _axes(len(measures), 4.8, 3.4, len(studies))
    for row, study in zip(axes, studies):
        for place, (measure, title) in zip(row, measures.items()):
            sns.lineplot(table[table.study == study], x="labels", y=measure, hue=kind, palette=colours, marker="o",
                         hue_order=kinds, errorbar=("ci", 95), seed=0, legend=place is row[-1], ax=place)
            place.set(xlabel="pairs asked", ylabel=title, title=study)
        _legend_beside(row[-1])
    return figure


def recall_curves(table: pd.DataFrame, ks: Sequence[int]) -> Figure:
    """Recall@k of each index, one panel a model: its quickest query setting drawn, its most thorough one dotted."""
    models = list(dict.fromkeys(table.model))
    figure, axes = _axes(len(models), 4.8)
    columns = [f"recall@{k}" for k in ks]
    for place, model in zip(axes.flat, models):
        part = table[table.model == model].sort_values(columns[-1], kind="stable")
        for name, colour in index_colours(sorted(part["index"].unique())).items():
            settings = part.loc[part["index"] == name, columns]
            place.plot(ks, settings.iloc[0], marker="o", color=colour, label=name)
            place.plot(ks, settings.iloc[-1], ls=":", color=colour)
        place.set(xlabel="k", ylabel="recall@k", title=f"Vectors of the {model}", ylim=(None, 1.02), xticks=ks)
        place.legend(fontsize=8)
    return figure


def pareto(table: pd.DataFrame, recall: str, speed: str = "single_qps") -> Figure:
    """Recall against queries per second: every point measured, and the front of those that none beats in both."""
    from imgsearch_utils import ann

    models = list(dict.fromkeys(table.model))
    figure, axes = _axes(len(models), 4.8)
    for place, model in zip(axes.flat, models):
        part = table[table.model == model].sort_values(recall)
        for name, colour in index_colours(sorted(part["index"].unique())).items():
            points = part[part["index"] == name]
            place.plot(points[recall], points[speed], marker="o", ms=5, lw=1, color=colour, label=name)
        front = ann.pareto(part, recall, speed)
        place.plot(front[recall], front[speed], color="grey", lw=7, alpha=0.25, zorder=0, marker="o", ms=12, mew=0,
                   label="front")
        how = "one at a time" if speed == "single_qps" else "in one batch"
        place.set(xlabel=recall, ylabel=f"queries per second, {how}", yscale="log",
                  title=f"Vectors of the {model}")
    _legend_beside(place)
    return figure


@_of_rows
def latency(table: pd.DataFrame) -> Figure:
    """Milliseconds of single queries, p50 to p99: a row an index and model (columns p50_ms, p95_ms, p99_ms)."""
    models = [model for model in MODELS if model in set(table.model)]
    decades = 10.0 ** np.floor(np.log10(table.p50_ms.min())), 10.0 ** np.ceil(np.log10(table.p99_ms.max()))
    figure, axes = _axes(len(models), 4.8, 1.3 + 0.36 * table["index"].nunique())
    for place, model in zip(axes.flat, models):
        part = table[table.model == model].sort_values("p95_ms", ascending=False)
        colours = list(index_colours(part["index"]).values())
        place.hlines(part["index"], part.p50_ms, part.p99_ms, color=colours, lw=2)
        for column, marker in (("p50_ms", "o"), ("p95_ms", "D"), ("p99_ms", ">")):
            place.scatter(part[column], part["index"], color=colours, marker=marker, zorder=3)
            place.scatter([], [], color="grey", marker=marker, label=column[:3])
        place.set(xlabel="ms a query, one at a time", xscale="log", xlim=decades, title=f"Vectors of the {model}")
        place.margins(y=0.15)
        place.legend(fontsize=8)
    return figure


def index_costs(table: pd.DataFrame, costs: dict[str, str]) -> Figure:
    """What each index costs whatever it is asked, encoder's and head's vectors (columns model, index, and `costs`).

    costs : column -> what its axis is called
    """
    figure, axes = _axes(len(costs), 4.8, 1.1 + 0.42 * table["index"].nunique())
    once = table.drop_duplicates(["model", "index"])
    for place, (column, label) in zip(axes.flat, costs.items()):
        sns.barplot(once, y="index", x=column, hue="model", palette=MODELS, ax=place, width=0.7)
        place.set(xlabel=label, ylabel="")
        place.get_legend().remove()
    _legend_beside(place)
    return figure


@_of_rows
def relevance_lost(table: pd.DataFrame, recall: str) -> Figure:
    """nDCG and AP lost against exact search, with 95 % intervals, by recall: a row of panels a model.

    table : from ``ann.relevance_lost``, with `model` and the recall of each point
    """
    models = list(dict.fromkeys(table.model))
    figure, axes = _axes(2, 4.8, 3.4, len(models))
    for places, model in zip(axes, models):
        part = table[table.model == model].sort_values(recall)
        for place, name in zip(places, ("nDCG", "AP")):
            for index, colour in index_colours(sorted(part["index"].unique())).items():
                points = part[part["index"] == index]
                lost = points[f"{name}_lost"]
                place.plot(points[recall], lost, marker="o", ms=5, lw=1, color=colour, label=index)
                place.vlines(points[recall], points[f"{name}_low"], points[f"{name}_high"], color=colour, alpha=0.5)
            place.axhline(0, color="grey", ls=":")
            place.set(xlabel=recall, ylabel=f"{name} lost", title=f"{name}, vectors of the {model}")
        _legend_beside(place)
    return figure


def index_sizes(table: pd.DataFrame) -> Figure:
    """95 % of single queries are answered within so many milliseconds, by number of vectors (columns n, p95_ms)."""
    figure, [[axes]] = _axes(width=6.5)
    for name, colour in index_colours(sorted(table["index"].unique())).items():
        points = table[table["index"] == name].sort_values("n")
        axes.plot(points.n, points.p95_ms, marker="o", color=colour, label=name)
    axes.axhline(1, color="grey", ls=":", label="1 ms")
    axes.set(xlabel="vectors", ylabel="ms, p95 of single queries", xscale="log", yscale="log",
             title="The study's size, and drawn sets")
    _legend_beside(axes)
    return figure


def retrieval(table: pd.DataFrame) -> Figure:
    """Retrieval measures of encoder and head with 95 % intervals (columns model, measure, mean, low, high)."""
    figure, [[axes]] = _axes(width=7)
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
    matrix = matrix.iloc[:12, :12]
    size = 2.6 + 0.5 * len(matrix)
    figure, [[axes]] = _axes(width=size + 0.6, height=size - 0.4)
    sns.heatmap(matrix, annot=len(matrix) <= 12, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axes,
                annot_kws={"fontsize": 9})
    axes.set(xlabel="class of the results", ylabel="class of the query", title=title)
    return figure

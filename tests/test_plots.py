"""Figures from tables, tiny and degenerate ones too; nothing that is given is changed."""

import importlib
import inspect
import pkgutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from imgsearch_utils import plots
from imgsearch_utils.workspace import Stage

SPLITS = ["train", "dev", "test"]


def images(n=12, classes=3):
    return pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(n)],
            "class": [f"t{i % max(classes, 1)}" for i in range(n)],
            "group": range(n),
            "side": [SPLITS[i % 3] for i in range(n)],
        }
    )


def scored(grades=(0, 0, 1, 2, 3, 3, 0, 1), seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "similarity": np.array(grades, float),
            "cosine": rng.random(len(grades)),
            "score": rng.random(len(grades)),
            "p_similar": rng.random(len(grades)),
            "encoder_p_similar": rng.random(len(grades)),
            "automatic": [grade == 0 for grade in grades],
            "side": [SPLITS[i % 3] for i in range(len(grades))],
        }
    )


def log(n=4, value=0.5):
    names = [
        f"{split}_{model}_{name}"
        for split in ("dev", "test")
        for model in ("encoder", "head")
        for name in ("ap", "same_class_roc_auc", "f1")
    ]
    gains = [
        f"{split}_ap_gain{part}" for split in ("dev", "test") for part in ("", "_low", "_high")
    ]
    return pd.DataFrame(
        {
            "round": range(n),
            "labels": [120 * (i + 1) for i in range(n)],
            **{name: [value] * n for name in [*names, *gains]},
        }
    )


def history(n=3, dev=0.5):
    return pd.DataFrame(
        {
            "epoch": range(1, n + 1),
            "train_loss": np.linspace(1, 0.5, n),
            "dev_loss": [dev] * n,
            "dev_ap": [dev] * n,
        }
    )


def untrained():
    """The history of a candidate that trains no network."""
    return history(1).assign(epoch=0, train_loss=np.nan)


def candidates(names=("whitened head, pull 0.3", "centred"), gain=0.1, width=0.05, use="search"):
    rows = [
        {
            "candidate": name,
            "ap": 0.5,
            "ndcg": 0.5,
            "use": "",
            **{
                f"{measure}_gain{part}": gain + shift
                for measure in ("ap", "ndcg")
                for part, shift in (("_low", -width), ("", 0), ("_high", width))
            },
        }
        for name in ("encoder", *names)
    ]
    table = pd.DataFrame(rows)
    table.loc[1:1, "use"] = use
    return table


def retrieval(models=("encoder", "head"), mean=0.5):
    return pd.DataFrame(
        [
            {
                "model": model,
                "measure": measure,
                "mean": mean,
                "low": mean - 0.1,
                "high": mean + 0.1,
            }
            for model in models
            for measure in ("P@5", "AP")
        ]
    )


def learning(studies=2, seeds=3, budgets=2, ap=0.5):
    return pd.DataFrame(
        [
            {
                "study": f"s{s}",
                "loss": loss,
                "seed": seed,
                "labels": 100 * n,
                "ap": ap,
                "auc": 0.1 * n,
            }
            for s in range(studies)
            for loss in ("b", "a")
            for seed in range(seeds)
            for n in range(1, budgets + 1)
        ]
    )


def shares(rows, columns):
    return pd.DataFrame(1 / len(columns), list(rows), list(columns))


ONE = Image.new("RGB", (20, 10), "red")


def encoders(n, **columns):
    rows = [(f"e{i}", measure) for i in range(n) for measure in ("AP", "P@10", "nDCG@10")]
    return pd.DataFrame(rows, columns=["encoder", "measure"]).assign(
        **{"mean": 0.5, "low": 0.4, "high": 0.6} | columns
    )


def by_class(n, classes):
    rows = [(f"e{i}", f"c{j}", i / n) for i in range(n) for j in range(classes)]
    return pd.DataFrame(rows, columns=["encoder", "class", "mean"])


def on_a_map(n, classes=2, pictures=2):
    places = np.linspace(0, 1, n)
    return pd.DataFrame(
        {
            "x": places,
            "y": places**2,
            "class": [f"c{i % classes}" for i in range(n)],
            "picture": [ONE] * pictures + [None] * (n - pictures),
        }
    )


def epochs(n, best):
    return pd.DataFrame(
        {
            "epoch": range(n),
            "loss": [np.nan] + [0.5] * (n - 1),
            "validation": 0.3,
            "best": [number == best for number in range(n)],
        }
    )


def shares_of_variance(*models):
    return pd.DataFrame(
        [(model, n, 0.1 * n) for model in models for n in (1, 2, 3)],
        columns=["model", "component", "sum"],
    )


STEPS = pd.DataFrame(
    {
        "n": [10, 100, 10, 100, 10],
        "step": ["a", "a", "b", "b", "c"],
        "seconds": [1, 9, 2, 0.5, 3],
        "mb": [1, 2, np.nan, np.nan, 5],
    }
)
CASES = {
    "costs": [
        (STEPS, {"seconds": "seconds", "mb": "MB"}),
        (STEPS[:1], {"mb": "MB"}),
        (STEPS[:0], {"seconds": "s"}),
    ],
    "class_counts": [
        (images(),),
        (images(classes=1),),
        (images(1, 1),),
        (images(60, 40),),
        (images()[:0],),
        (images().query("side == 'test'"),),
    ],
    "grade_counts": [
        (scored(),),
        (scored([0, 0]),),
        (scored([3]),),
        (scored()[:0],),
        (scored().assign(side="test"),),
    ],
    "picture_grid": [
        ([ONE] * 7, list("abcdefg")),
        ([ONE], ["line\nend, $5, ü"]),
        ([], []),
        ([ONE] * 3, "abc", 3, 3.2),
        ([ONE] * 2, "ab", 2, 1.4, ["red", None], "$1 of {"),
    ],
    "training_curves": [(history(),), (history(1),), (history(dev=np.nan),), (untrained(),)],
    "candidates": [
        (candidates(),),
        (candidates(["head"]),),
        (candidates(()),),
        (candidates(width=np.nan),),
        (candidates(gain=np.nan),),
        (candidates(use="chosen"),),
        (candidates()[:0],),
    ],
    "score_distributions": [
        (scored(),),
        (scored([3]),),
        (scored([0, 0, 1]),),
        (scored()[:0],),
        (scored([2] * 9),),
        (scored().assign(score=0.5, cosine=1.0),),
    ],
    "confusion": [
        (scored(), 0.5),
        (scored([0, 1, 2]), 0.5),
        (scored([3, 3]), 0.5),
        (scored(), 2.0),
        (scored(), 0.0),
        (scored([0, 0]), 1.0),
        (scored([3]), 0.0),
        (scored()[:0], 0.5),
        (scored(), 0.5, 0.3),
        (scored([3]), 0.0, 2.0),
    ],
    "precision_recall": [
        (scored(),),
        (scored([0, 1, 2]),),
        (scored([3, 3]),),
        (scored([0]),),
        (scored()[:0],),
    ],
    "rounds": [(log(),), (log(1), "dev"), (log(2, np.nan),)],
    "curves_with_bands": [
        (learning(), "loss", {"ap": "AP"}),
        (learning(1, 1, 1), "loss", {"ap": "AP", "auc": "AUC"}),
        (learning(ap=np.nan), "loss", {"ap": "AP"}),
        (learning(ap=-0.1), "loss", {"ap": "AP"}),
        (learning().query("study == 's0' or loss == 'a'"), "loss", {"ap": "AP"}),
    ],
    "retrieval": [(retrieval(),), (retrieval(["encoder"]),), (retrieval(mean=np.nan),)],
    "class_confusion": [
        (pd.DataFrame(np.eye(n), [f"t{i}" for i in range(n)], [f"t{i}" for i in range(n)]), "title")
        for n in (1, 3, 30)
    ]
    + [(shares("ab", "ab"), "title", shares("ab", "c"))],
    "encoders": [(encoders(1),), (encoders(5),), (encoders(3, low=np.nan),), (encoders(2), ["AP"])],
    "picture_map": [
        ({"a": on_a_map(9)},),
        ({"a": on_a_map(40, 12), "$b$": on_a_map(40, 12)},),
        ({"a": on_a_map(3, 1, 0)},),
        ({"a": on_a_map(2).assign(x=0.0, y=0.0)},),
    ],
    "finetuning_curve": [(epochs(4, 2),), (epochs(1, -1),), (epochs(30, 7),)],
    "explained_variance": [
        (shares_of_variance("encoder", "head"),),
        (shares_of_variance("encoder"),),
        (shares_of_variance(),),
    ],
    "by_class": [(by_class(1, 1), "title"), (by_class(4, 3), "title"), (by_class(2, 30), "title")],
}


def same(one, other):
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    else:
        assert one == other


def test_every_figure_of_the_room_is_tested():
    public = {name for name in plots.__all__ if inspect.isfunction(getattr(plots, name))}
    assert public - {
        "save",
        "axes_grid",
        "of_rows",
        "legend_beside",
        "legend_below",
        "literal",
    } == set(CASES)


@pytest.mark.parametrize("file", [module.name for module in pkgutil.iter_modules(plots.__path__)])
def test_the_room_offers_every_figure_of_its_files(file):
    module = importlib.import_module(f"{plots.__name__}.{file}")
    figures = {
        name
        for name, thing in vars(module).items()
        if inspect.isfunction(thing)
        and thing.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert figures and figures <= set(plots.__all__)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name, number", [(name, n) for name, cases in CASES.items() for n in range(len(cases))]
)
def test_a_figure_is_drawn_and_its_data_stay_as_they_were(name, number):
    given = CASES[name][number]
    before = [thing.copy() if isinstance(thing, pd.DataFrame | list) else thing for thing in given]
    figure = getattr(plots, name)(*given)
    assert isinstance(figure, Figure) and figure.axes
    figure.savefig("/dev/null", format="png", dpi=20)
    for one, other in zip(given, before):
        same(one, other)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_confusion_matrix_counts_what_was_said_and_graded():
    table = scored([3, 3, 0, 1, 2]).assign(
        p_similar=[0.9, 0.1, 0.9, 0.9, 0.1], encoder_p_similar=[0.3, 0.3, 0.1, 0, 0]
    )
    figure = plots.confusion(table, 0.5)
    assert texts(figure) == ["1\n33%", "2\n67%", "1\n50%", "1\n50%"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        "not similar",
        "similar",
    ]
    encoder, head, calibration = plots.confusion(table, 0.5, 0.2).axes
    assert [text.get_text() for text in encoder.texts] == ["3\n100%", "0\n0%", "0\n0%", "2\n100%"]
    assert [text.get_text() for text in head.texts] == texts(figure)
    assert {*calibration.get_legend_handles_labels()[1]} == {
        "as often as predicted",
        "encoder",
        "head",
    }


def test_classes_of_results_stand_side_by_side_on_one_scale():
    encoder, head = plots.class_confusion(shares("ab", "ab"), "by kind", shares("ab", "bc")).axes
    assert [text.get_text() for text in encoder.texts] == ["0.00", "0.50", "0.50"] * 2
    assert [text.get_text() for text in head.texts] == ["0.50", "0.50", "0.00"] * 2
    assert encoder.collections[0].get_clim() == head.collections[0].get_clim() == (0, 1)


@pytest.mark.parametrize(
    "name", ["rounds", "precision_recall", "training_curves", "confusion", "retrieval"]
)
def test_a_legend_covers_no_curve(name):
    figure = getattr(plots, name)(*CASES[name][0])
    figure.canvas.draw()
    [legend] = figure.legends
    assert not any(axes.get_legend() for axes in figure.axes)
    assert not any(
        legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes
    )


@pytest.mark.parametrize("epochs", [1, 2, 16])
def test_epochs_are_whole(epochs):
    for axes in plots.training_curves(history(epochs)).axes:
        ticks = [
            tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]
        ]
        assert ticks and all(tick == int(tick) for tick in ticks)


def test_panels_that_are_compared_have_one_scale():
    one, other = plots.score_distributions(scored().assign(score=lambda t: t.score / 5 - 3)).axes
    assert one.get_ylim() == other.get_ylim()


def test_each_curve_is_named_at_its_end_and_has_its_own_dashes():
    table = learning(1, 3, 3).assign(ap=lambda t: 0.1 * t.seed + 0.001 * (t.loss == "a"))
    figure = plots.curves_with_bands(table, "loss", {"ap": "AP"})
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == ["b", "a"]  # the lower one first
    figure.canvas.draw()
    one, other = (text.get_window_extent() for text in axes.texts)
    assert not one.overlaps(other)
    lines = [bars.lines[0] for bars in axes.containers]
    assert (
        len({line.get_linestyle() for line in lines})
        == len({line.get_color() for line in lines})
        == 2
    )
    assert lines[0].get_ydata() == pytest.approx([0.1] * 3)


def test_axes_carry_names_and_models_their_colours():
    axes = plots.retrieval(retrieval(["encoder", "head", "at random"])).axes[0]
    bars = axes.patches
    # a baseline is a line across each measure's bars
    assert len(axes.collections[-1].get_segments()) == 2
    assert {to_hex(bar.get_facecolor()) for bar in bars} == set(plots.MODELS.values())
    for name in ("rounds", "precision_recall", "training_curves", "candidates"):
        for axes in getattr(plots, name)(*CASES[name][0]).axes:
            assert axes.get_xlabel() and (axes.get_ylabel() or axes.get_title())


def test_each_candidate_has_its_interval_and_the_chosen_one_the_heads_colour():
    table = candidates(["head", "whitened", "centred"]).assign(ap_gain=[0, 0.1, 0.2, 0.3])
    table.loc[2, "use"], table.loc[1, "use"] = "chosen", ""
    left, right = plots.candidates(table).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["centred", "whitened", "head"]
    lines, dots = (
        [line for line in left.lines if line.get_marker() == marker] for marker in ("None", "o")
    )
    assert [dot.get_xdata()[0] for dot in dots] == [0.3, 0.2, 0.1]
    for dot in dots:
        of_head = to_hex(dot.get_color()) == to_hex(plots.MODELS["head"])
        assert of_head == (dot.get_ydata()[0] == 1)  # "whitened"
    assert [list(line.get_xdata()) for line in lines[:3]] == [pytest.approx([0.05, 0.15])] * 3
    assert len(right.lines) == len(left.lines) == 7  # with the encoder's own, at 0


def test_figures_are_saved_with_an_unfinished_stage_only(tmp_path):
    stage = Stage({"model": tmp_path / "model", "results": tmp_path / "results"}, "results").start()
    table = pd.DataFrame({"image": ["ü\n,.png"], "score": [0.5]})
    figure = plots.training_curves(history())
    assert plots.save(figure, stage, "curves", table) is figure
    plots.save(figure, stage, "alone")
    folder = stage["results"] / "figures"
    names = {path.name for path in folder.iterdir()}
    assert names == {"curves.png", "curves.svg", "curves.csv", "alone.png", "alone.svg"}
    assert Image.open(folder / "curves.png").width > 300
    pd.testing.assert_frame_equal(pd.read_csv(folder / "curves.csv"), table)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    plots.save(plots.training_curves(history()), stage, "curves", table)
    # the same data, the same bytes
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    stage.publish()
    assert plots.save(figure, stage, "late", table) is figure
    assert {
        path.name: path.read_bytes() for path in (tmp_path / "results" / "figures").iterdir()
    } == first

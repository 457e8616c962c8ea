"""Figures of a comparison, tiny and degenerate tables too; nothing that is given is changed."""

import inspect

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from imgsearch_utils.indexes import INDEXES, index_figures


def points(names=("exact", "faiss_hnsw"), models=("encoder", "head"), settings=2):
    return pd.DataFrame(
        [
            {
                "model": model,
                "index": name,
                "recall@1": 0.9,
                "recall@10": 0.5 + 0.1 * n,
                "single_qps": 100.0 * n,
                "build_seconds": 0.1,
                "megabytes": 2.0,
                "n": 50 * n,
                "p50_ms": 0.1,
                "p95_ms": 0.2,
                "p99_ms": 0.9,
                "nDCG_lost": 0.1,
                "nDCG_low": 0.0,
                "nDCG_high": 0.2,
                "AP_lost": 0.0,
                "AP_low": np.nan,
                "AP_high": np.nan,
            }
            for model in models
            for name in names
            for n in range(1, settings + 1)
        ]
    )


ALONE, EVERY = points(["exact"], ["head"], 1), points(list(INDEXES))
PARTS = pd.DataFrame(
    [
        {"index": name, "share": share, "recall@10": 1 - share / 9, "ms": 3 * share}
        for name in ("exact", "faiss_ivf")
        for share in (1, 0.5, 0.02)
    ]
)
CASES = {
    "recall_curves": [(points(),), (ALONE,), (EVERY,)],
    "pareto": [(points(), "recall@10"), (ALONE, "recall@1"), (EVERY, "recall@1")],
    "latency": [(points(settings=1),), (ALONE,), (EVERY[::2],), (points()[:0],)],
    "index_costs": [
        (points(), {"megabytes": "on disk (MB)", "build_seconds": "s"}),
        (ALONE, {"build_seconds": "s"}),
        (EVERY.assign(megabytes=np.nan), {"megabytes": "on disk (MB)"}),
    ],
    "relevance_lost": [(points(), "recall@10"), (ALONE, "recall@1"), (points()[:0], "recall@1")],
    "filtered": [
        (PARTS, "recall@10"),
        (PARTS[PARTS.share == 1], "recall@10"),
        (PARTS[:0], "recall@10"),
    ],
    "index_sizes": [(points(),), (ALONE,), (EVERY,)],
}


def test_every_figure_of_the_room_is_tested():
    public = {
        name
        for name, thing in vars(index_figures).items()
        if inspect.isfunction(thing)
        and thing.__module__ == index_figures.__name__
        and not name.startswith("_")
    }
    assert public - {"index_colours", "index_marks"} == {*CASES}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name, number", [(name, n) for name, cases in CASES.items() for n in range(len(cases))]
)
def test_a_figure_is_drawn_and_its_data_stay_as_they_were(name, number):
    table, *others = CASES[name][number]
    before = table.copy()
    figure = getattr(index_figures, name)(table, *others)
    assert isinstance(figure, Figure) and figure.axes
    figure.savefig("/dev/null", format="png", dpi=20)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("name", ["recall_curves", "pareto"])
def test_axes_carry_names(name):
    for axes in getattr(index_figures, name)(*CASES[name][0]).axes:
        assert axes.get_xlabel() and axes.get_ylabel()


@pytest.mark.parametrize("name", ["recall_curves", "pareto", "relevance_lost"])
def test_panels_of_two_models_have_one_scale_and_no_legend_within(name):
    table = points().assign(
        **{name: np.geomspace(1, 5e3, 8) for name in ("single_qps", "nDCG_lost")}
    )
    axes = getattr(index_figures, name)(table, *CASES[name][0][1:]).axes
    one, other = axes[0], axes[len(axes) // 2]
    assert one.get_xlim() == other.get_xlim() and one.get_ylim() == other.get_ylim()
    assert not any(place.get_legend() for place in axes)


def test_an_index_keeps_its_colour_whatever_else_is_drawn():
    alone, together = (
        index_figures.index_colours(["faiss_hnsw"]),
        index_figures.index_colours(list(INDEXES)),
    )
    assert alone["faiss_hnsw"] == together["faiss_hnsw"] and len(set(together.values())) == min(
        len(INDEXES), 20
    )
    marks = index_figures.index_marks(list(INDEXES))
    assert len({*marks.values()}) == len(INDEXES) and index_figures.index_marks(["annoy"]) == {
        "annoy": marks["annoy"]
    }

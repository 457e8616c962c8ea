"""The benchmarks of search run, on a tiny study, and measure what they say."""

import json

import pandas as pd
import pytest

from benchmarks import pair_scoring, query_options, search_latency, startup
from imgsearch_utils.drawn_houses import draw_house, sample_houses
from tests import tiny_study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny study with six more houses: a mixture is fitted to no fewer than 40 vectors."""
    home = tmp_path_factory.mktemp("home")
    for house in sample_houses(15, seed=5).to_dict("records"):
        if house["file_label"].endswith(("14.jpg", "15.jpg")):
            file = tiny_study.picture_of(home, house)
            file.parent.mkdir(parents=True, exist_ok=True)
            draw_house(house, 160).save(file)
    tiny_study.make(home)
    with tiny_study.living_in(home):
        yield home


def test_a_search_is_timed_from_the_file_and_among_many_vectors(tiny, capsys):
    search_latency.main(
        [
            "--study",
            "tiny",
            "--run",
            "tiny",
            "--vectors",
            "1500",
            "--queries",
            "5",
            "--index",
            "faiss_hnsw",
            "--json",
        ]
    )
    measured = json.loads(capsys.readouterr().out)
    assert measured["file_to_names"]["pictures"] == 42 and measured["file_to_names"]["ms"] > 0
    exact, graph = measured["search"]
    assert (exact["index"], exact["recall"], graph["index"]) == (
        "exact",
        1.0,
        "faiss_hnsw",
    ) and graph["recall"] > 0.8


def test_a_plain_query_gains_nothing_and_others_are_compared_with_it(tiny, tmp_path):
    query_options.main(["--study", "tiny", "--out", str(tmp_path)])
    rows = pd.read_csv(tmp_path / "query_options.csv")
    plain = rows[(rows.crops == 1) & (rows.expand == 0) & rows.rerank.isna()]
    kinds = sum(len(query_options.settings(model)) for model in ("encoder", "head"))
    assert (
        len(rows) == 2 * kinds
        and len(plain) == 4
        and set(rows.rerank.dropna()) == {"reciprocal", "head"}
    )
    assert (plain.gain == 0).all() and rows["mean"].between(0, 1).all()
    assert (
        rows["mean"] - rows.groupby(["model", "measure"])["mean"].transform("first") - rows.gain
    ).abs().max() < 2e-5


def test_choosing_pairs_is_compared_with_the_bare_product(capsys):
    pair_scoring.main(
        ["--images", "600", "--dim", "16", "--chosen", "20", "--threads", "1", "--json"]
    )
    measured = json.loads(capsys.readouterr().out)
    assert measured["pairs"] == 600 * 599 // 2 and measured["ratio_to_matmul"] > 0


def test_starts_are_timed_and_what_needs_no_network_imports_none(tiny, capsys):
    startup.main(
        ["--study", "tiny", "--runs", "1", "--only", "help", "labels summary", "search", "--json"]
    )
    measured = json.loads(capsys.readouterr().out)
    assert set(measured) == {"help", "labels summary", "search"}
    assert all(row["seconds"] > row["imports"] * 0.2 > 0 for row in measured.values())
    assert not any(measured[name]["torch"] for name in ("help", "labels summary"))

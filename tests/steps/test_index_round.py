"""The comparison of a run: what indexes miss and lose is what the run's own vectors and grades
say.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils import indexes, workspace
from imgsearch_utils.images import open_collection
from imgsearch_utils.learning.model import load_models
from imgsearch_utils.metrics import retrieval_metrics
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.steps.index_round import IndexRound, abilities
from imgsearch_utils.workspace.tables import read_table


@pytest.fixture
def compared(finished, monkeypatch):
    """The comparison of the tiny run, and what notebook 03 measured of its indexes."""
    monkeypatch.setenv("IMGSEARCH_HOME", str(finished))
    run = workspace.find_run(str(finished / "tiny.yaml"))
    this = IndexRound(run, open_collection(run), 10, 0.9)
    return this, read_table(run.results / "ann_comparison" / "indexes.csv")


def test_the_fastest_point_is_taken_among_those_that_find_enough(compared):
    this, measured = compared
    assert this.recall == "recall@10" in measured
    table = pd.DataFrame(
        {
            "index": ["a", "a", "a", "b"],
            "recall@10": [0.95, 0.9, 0.5, 0.89],
            "single_qps": [10.0, 20.0, 99.0, 50.0],
        }
    )
    best = this.fastest(table, "index")
    assert best["index"].tolist() == ["a"] and best.single_qps.tolist() == [20.0]


def test_the_choice_is_built_of_the_vectors_that_search_uses(compared):
    this, measured = compared
    choice = this.choose(measured, 0)
    assert choice["model"] == this.searched and choice["k"] == 10
    stage = this.run.comparison_stage()
    kept = json.loads((stage["indexes"] / "index.json").read_text())
    assert kept["model"] == this.searched
    index = indexes.load(stage["indexes"] / kept["file"])
    unit = this.unit_vectors[this.searched]
    assert index.query(unit[:5], 1)[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_larger_sets_are_those_of_the_study(compared):
    run = compared[0].run
    larger = replace(run, study=run.study.model_copy(update={"sizes": (300,)}))
    [(gallery, queries)] = IndexRound(larger, open_collection(run), 10, 0.9).larger_sets()
    assert gallery.shape[0] == 300 and queries.shape[0] == 100
    np.testing.assert_allclose(np.linalg.norm(gallery, axis=1), 1, atol=1e-5)


def test_an_index_of_the_previous_head_finds_what_a_plain_loop_says(compared):
    this, measured = compared
    exact = measured[(measured["index"] == "exact")]
    table = this.survival(exact)
    assert table["built again"].tolist() == [1.0]
    vectors = np.asarray(this.images.embeddings.vectors)
    old = load_models(this.run.round(0))["head"].vectors(vectors)
    new = load_models(this.run.round(1))["head"].vectors(vectors)
    hits = []
    for query in this.queries:
        of_old = np.argsort(-old[this.gallery] @ new[query])[:10]
        of_new = np.argsort(-new[this.gallery] @ new[query])[:10]
        hits.append(len({*of_old} & {*of_new}) / 10)
    assert table["of the previous head"][0] == pytest.approx(np.mean(hits), abs=1e-6)


def test_what_an_index_loses_is_the_difference_of_what_it_and_exact_search_find(compared):
    this, measured = compared
    lost = this.relevance_lost(measured)
    assert len(lost) == len(measured) and set(lost.model) == {"encoder", "head"}
    exact = lost[lost["index"] == "exact"]
    assert (exact[["nDCG_lost", "AP_lost"]].to_numpy() == 0).all() and (exact.nDCG > 0).all()
    row = lost[(lost.model == "encoder") & (lost["index"] == "annoy")].iloc[0]
    names, unit = np.array(this.images.names), normalised(this.images.vectors)
    asked = this.images.split("test").names
    index = indexes.find("annoy")().build(unit, **json.loads(row["build"]))
    ranked = []
    for query in asked:
        ids = index.query(unit[names == query], 11, **json.loads(row["query"]))[0]
        found = [name for name in names[ids[ids >= 0]] if name != query][:10]
        ranked += [(query, name, -place) for place, name in enumerate(found)]
    ranked = pd.DataFrame(ranked, columns=["query", "image", "score"])
    every = pd.MultiIndex.from_product([asked, names], names=["query", "image"]).to_frame(False)
    grades = this.judge.grades(every[every["query"] != every["image"]])
    expected = retrieval_metrics(ranked, grades, [10])
    assert row.nDCG == pytest.approx(expected["nDCG@10"].mean(), abs=1e-6)
    assert row.nDCG_lost == pytest.approx(exact.nDCG.iloc[0] - row.nDCG, abs=1e-6)


def test_what_an_index_can_do_is_said_once_of_each():
    table = abilities(["exact", "annoy", "exact"])
    assert table.to_dict("index") == {
        "exact": {"add": "yes", "filter": "yes"},
        "annoy": {"add": "–", "filter": "–"},
    }

"""Which example queries are shown: by chance, by the grades, by the difference of the models."""

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.evaluation import example_queries


def table(lists: dict[str, dict[str, list[float]]], shared: bool = True) -> pd.DataFrame:
    """Results of each query and model by their grades in order; a name is one image's for both
    models, or not.
    """
    rows = []
    for query, by_model in lists.items():
        for model, grades in by_model.items():
            for place, grade in enumerate(grades, 1):
                image = f"{query}-{grade}-{grades[:place].count(grade)}{'' if shared else model}"
                rows.append((query, model, place, image, 1 - place / 10, grade, query == "q0"))
    return pd.DataFrame(
        rows, columns=["query", "model", "rank", "image", "score", "grade", "drawn"]
    )


def grades(found: pd.DataFrame, **unseen: float) -> pd.DataFrame:
    """What is known of the results; and of an image that nobody found, for some queries."""
    known = found.dropna(subset="grade").drop_duplicates(["query", "image"])[
        ["query", "image", "grade"]
    ]
    return pd.concat(
        [
            known,
            pd.DataFrame(
                [(query, "unseen", grade) for query, grade in unseen.items()], columns=[*known]
            ),
        ],
        ignore_index=True,
    )


LISTS = {
    "q0": {"encoder": [3, 0, 0], "head": [3, 0, 0]},
    "better": {"encoder": [0, 0, 3], "head": [3, 0, 0]},
    "best": {"encoder": [0, 0, 1], "head": [3, 2, 1]},
    "worse": {"encoder": [3, 1, 0], "head": [0, 0, 1]},
    "poor": {"encoder": [0, 1, 3], "head": [0, 1, 3]},
}


def test_improved_and_failed_queries_are_those_that_the_grades_name():
    found = table(LISTS)
    chosen = example_queries.choose_queries(found, example_queries.compared(found, grades(found)))
    assert chosen["examples"] == ["q0"]
    assert chosen["examples_improved"] == ["best", "better"]
    assert chosen["examples_failed"] == ["worse", "poor"]
    assert "examples_different" not in chosen  # no other query has a difference


def test_a_list_is_worth_its_ndcg_over_all_that_is_known():
    found, discounts = table({"worse": LISTS["worse"]}), 1 / np.log2([2, 3, 4])
    worth = example_queries.compared(found, grades(found, worse=3)).loc["worse"]
    gains = np.array([7, 7, 1])
    assert worth.encoder == pytest.approx(np.array([7, 1, 0]) @ discounts / (gains @ discounts))
    assert worth["head"] == pytest.approx(1 * discounts[2] / (gains @ discounts))
    assert worth.other == pytest.approx(1 / 3)  # 3-1 and 0-2; 0-1 and 1-1 are in both


@pytest.mark.parametrize("known", [0, 1])
def test_without_enough_grades_only_the_difference_counts(known):
    found = table(LISTS, shared=False)
    found.loc[(found["rank"] > known) | (found.model == "head"), "grade"] = np.nan
    chosen = example_queries.choose_queries(
        found, example_queries.compared(found, grades(found)), 3
    )
    assert set(chosen) == {"examples", "examples_different"}
    assert chosen["examples_different"] == ["best", "better", "poor"]


def test_an_encoder_alone_has_failures_and_no_improvement():
    found = table({name: {"encoder": lists["encoder"]} for name, lists in LISTS.items()})

    def chosen(**unseen):
        return example_queries.choose_queries(
            found, example_queries.compared(found, grades(found, **unseen)), 1
        )

    poor = {"examples": ["q0"], "examples_failed": ["best"]}
    assert chosen() == poor
    found.loc[found["query"] == "poor", "grade"] = 0.0
    assert chosen(poor=1) == poor | {"examples_failed": ["poor"]}
    assert chosen() == poor  # nothing is similar to it, so it did not fail


def test_equal_models_differ_nowhere():
    same = table(
        {name: {"encoder": lists["head"], "head": lists["head"]} for name, lists in LISTS.items()}
    )
    assert set(
        example_queries.choose_queries(same, example_queries.compared(same, grades(same)))
    ) == {"examples", "examples_failed"}

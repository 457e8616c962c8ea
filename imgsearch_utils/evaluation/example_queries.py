"""Example queries: at random, and where the models differ, where the head helps most, where it
fails worst.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from imgsearch_utils import plots
from imgsearch_utils.evaluation.relevance import Judge
from imgsearch_utils.grades.usable_grades import graded_pairs
from imgsearch_utils.images import Collection, Embeddings, Images, thumbnails
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.metrics import retrieval_metrics
from imgsearch_utils.workspace import Run
from imgsearch_utils.workspace.tables import read_table

ENOUGH_JUDGED = 0.5  # of each model's first results, or a query is not compared by the grades
KINDS = {
    "examples": "Drawn at random",
    "examples_improved": "Most improved by the head",
    "examples_failed": "Worst failures",
    "examples_different": "Where encoder and head differ most, good or bad",
}
GRADED = {grade: f"grade {grade}" for grade in range(4)}
BY_CLASS = {0: "other class", 3: "same class"}  # where nobody graded a test pair


def grades_so_far(run: Run) -> pd.DataFrame:
    """All grades of the run, as ``grades.graded_pairs`` gives them; needs no vectors."""
    last = run.last_round if run.rounds_made else run.round(0)
    no_vectors = Embeddings([], np.empty((0, 0), np.float32), {})
    return graded_pairs(last, Images(read_split(run), no_vectors))


def read_examples(run: Run, collection: Collection) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The example results of notebook 03, and what is known of their queries.

    Returns
    -------
    query, model, rank, image, score, drawn (all of them where an older run did not say), and
    `grade`, NaN where nobody knows it; then the grades `query`, `image`, `grade` of all test images
    for these queries, as far as they are known"""
    examples = read_table(run.results / "ann_comparison" / "examples.csv")
    examples = examples if "drawn" in examples else examples.assign(drawn=True)
    splits = read_split(run)
    queries = pd.DataFrame({"query": examples["query"].unique()})
    pairs = queries.merge(splits.loc[splits.side == "test", ["image"]], how="cross")
    grades = Judge(run, collection, grades_so_far(run)).grades(pairs[pairs["query"] != pairs.image])
    return examples.merge(grades, on=["query", "image"], how="left"), grades


def compared(examples: pd.DataFrame, grades: pd.DataFrame) -> pd.DataFrame:
    """What each query's first results are worth by each model, and how far the models' results
    differ.

    examples : query, model, rank, image, score
    grades : query, image, grade

    Returns
    -------
    by query: a column of each model, the nDCG of its results, ideal over all judged of the query
    (NaN where fewer than half of the results are judged, or nothing is similar at all), and
    `other`, the share of a model's results that the other model does not show"""
    table = pd.DataFrame(index=pd.Index(examples["query"].unique(), name="query").sort_values())
    shown = {}
    for model, results in examples.groupby("model"):
        k = int(results["rank"].max())
        shown[model] = results.groupby("query").image.agg(set)
        table[model] = np.nan
        if len(grades):
            scored = retrieval_metrics(results[["query", "image", "score"]], grades, [k])
            scored = scored.set_index("query")
            table[model] = scored[f"nDCG@{k}"].where(scored[f"judged@{k}"] >= ENOUGH_JUDGED)
    table["other"] = 0.0
    if {"encoder", "head"} <= shown.keys():
        table["other"] = [
            1 - len(by_encoder & by_head) / max(len(by_encoder), 1)
            for by_encoder, by_head in zip(shown["encoder"], shown["head"])
        ]
    return table


def choose_queries(examples: pd.DataFrame, worth: pd.DataFrame, n: int = 2) -> dict[str, list[str]]:
    """Which queries to show: kind (of ``KINDS``) -> n names at most; no kind without any.

    Improved is where the head gains most nDCG over the encoder; failed is where the first results
    of the head (of the encoder where it is alone) are worth least. Without grades only the
    difference of the models is known.

    worth : of ``compared``
    """
    chosen = {"examples": sorted(examples["query"][examples.drawn].unique())[:n]}
    last = "head" if "head" in worth else "encoder"
    if last == "head":
        gained = (worth["head"] - worth.encoder).sort_values(ascending=False, kind="stable")
        chosen["examples_improved"] = gained.index[gained > 0][:n].tolist()
    left = worth.drop(chosen.get("examples_improved", []))
    worst = left[last].sort_values(kind="stable")
    chosen["examples_failed"] = worst.index[worst < 1][:n].tolist()
    left = left.drop(chosen["examples_failed"]).sort_values("other", ascending=False, kind="stable")
    chosen["examples_different"] = left.index[left.other > 0][:n].tolist()
    return {kind: names for kind, names in chosen.items() if names}


def example_figure(
    collection: Collection, examples: pd.DataFrame, title: str = "", words: dict[int, str] = GRADED
) -> Figure:
    """Example queries with the first results of each model, a row each; frame and words tell a
    known grade.

    examples : query, model, rank, image, score, from ``relevance.example_results``; perhaps
        grade, and ndcg, what the row is worth
    words : how a grade is called
    """
    names, titles, frames = [], [], []
    for query, rows in examples.groupby("query", sort=False):
        for model, results in rows.sort_values("rank", kind="stable").groupby("model"):
            grades = results.get("grade", pd.Series(np.nan, results.index))
            names += [query, *results.image]
            worth = results.ndcg.iloc[0] if "ndcg" in results else np.nan
            titles.append(f"{model}: nDCG {worth:.2f}" if worth >= 0 else f"query · {model}")
            titles += [
                f"{score:.2f}" + (f" · {words[int(grade)]}" if grade >= 0 else "")
                for score, grade in zip(results.score, grades)
            ]
            frames += [plots.MODELS.get(model), *(plots.GRADES.get(grade) for grade in grades)]
    columns = 1 + int(examples["rank"].max())
    return plots.picture_grid(
        thumbnails(collection, names, 160), titles, columns, 1.4, frames, title
    )


def example_figures(run: Run, collection: Collection) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """The figure of each kind of example, and its table; empty for a study without pictures."""
    if collection.folder is None:
        return {}
    examples, grades = read_examples(run, collection)
    worth, figures = compared(examples, grades), {}
    ndcg = worth.drop(columns="other").rename_axis(columns="model").stack().rename("ndcg")
    examples = examples.join(ndcg, on=["query", "model"])
    words = BY_CLASS if Judge(run, collection, grades_so_far(run)).source == "classes" else GRADED
    for kind, names in choose_queries(examples, worth).items():
        rows = pd.concat([examples[examples["query"] == name] for name in names])
        figures[kind] = example_figure(collection, rows, KINDS[kind], words), rows
    return figures

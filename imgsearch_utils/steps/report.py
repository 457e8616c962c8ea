"""The report: one page with a run's result, examples, figures, tables, settings and versions.

A part without data is left out of the page, with a line that says why.
"""

import shutil
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from imgsearch_utils import plots
from imgsearch_utils.evaluation.example_queries import (
    KINDS,
    example_figure,
    example_figures,
    grades_so_far,
)
from imgsearch_utils.evaluation.relevance import QUERIES, of_all
from imgsearch_utils.grades.agreement import human_ceiling
from imgsearch_utils.images.collection import Collection
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.indexes.index_choice import EXACT
from imgsearch_utils.steps import findings
from imgsearch_utils.steps.rounds_log import LOGGED
from imgsearch_utils.steps.run_results import RunResults
from imgsearch_utils.steps.tagging import asked_pairs
from imgsearch_utils.workspace import VERSIONS, Stage, shown, source
from imgsearch_utils.workspace.tables import read_table

__all__ = ["FIGURES", "draw_rounds", "example_figure", "example_figures", "write_page"]

#: part of the page -> figure -> what it shows, and how to read it; in the page's order
FIGURES = {
    "rounds": {
        "rounds_test": (
            "Quality on the test images by number of graded training pairs, encoder and head.",
            "Higher is better. These pairs decided nothing; the curves are shown even where they "
            "fall. "
            "Bars: 95 % intervals over image groups. Where pairs were graded twice, a dashed "
            "line shows "
            "how well one grading predicts the other.",
        ),
        "rounds_dev": (
            "The same on dev, the pairs that decide what is learnt, its threshold and its "
            "promotion.",
            "They choose, and so flatter a little. There are more of them each round, so the "
            "encoder's "
            "quality changes too.",
        ),
    },
    "examples": {
        "examples": (
            "Test images as queries, and the first results of each model, a row each, with their "
            "cosines.",
            "Chance drew the queries. What is known of a result stands above it; the darker its "
            "frame, the "
            "more similar. nDCG says what the row is worth by that; 1 is the best there is.",
        ),
        "examples_improved": (
            "The queries to which the head brought most (nDCG).",
            "Compare the lower row with the upper one: more dark frames, and further left.",
        ),
        "examples_failed": (
            "The queries whose first results are worth least (nDCG).",
            "A picture with a pale frame should not stand left of one with a darker frame.",
        ),
        "examples_different": (
            "Queries for which encoder and head share the fewest first results.",
            "Chosen by the difference alone; which row is better, the frames say, or you.",
        ),
    },
    "labels": {
        "class_counts": (
            "Images of each class on each side.",
            "Near-duplicates stand on one side together. Nothing is learnt from test images.",
        ),
        "grade_counts": (
            "All pairs graded up to the last round, by grade and side.",
            "Grey: 0 because the classes differ, without asking anybody.",
        ),
    },
    "learnt": {
        "candidates": (
            "What could be learnt in the last round: each candidate's gain over the encoder.",
            "Right of the line is better than the encoder; beyond chance where the whole "
            "interval is. "
            "Judged on "
            "pairs whose images the heads did not see. Orange: the chosen one.",
        ),
        "training_curves": (
            "Training of the chosen candidate, in the mean over its cross-fits.",
            "Where the loss of the pairs held out rises while the other falls, more epochs do "
            "harm.",
        ),
        "score_distributions": (
            "Cosines of the dev pairs of each grade, by the encoder and by the head.",
            "The further apart the grades' shapes lie, the better. Dashes: quartiles.",
        ),
        "precision_recall": (
            "Finding the similar ones among the test pairs.",
            "From left to right more of them are found; higher means fewer wrong ones among them.",
        ),
        "confusion": (
            "The decision “similar” at each model's calibrated threshold on the test pairs, and "
            "how far "
            "P(similar) can be trusted.",
            "Lower right: similar pairs that were found, with their share. Right panel: on the "
            "dotted line, "
            "P(similar) says what is observed; drawn where at least five pairs lie. Within the "
            "grey bars, "
            "the head is off by no more than chance.",
        ),
    },
    "neighbours": {
        "retrieval": (
            "Ranking quality by the grades, all test images ranked for each query.",
            "P@k: share of grade 3 among the first k. nDCG uses all grades, 1 is the best order "
            "there is. "
            "Bars: 95 % intervals over queries. Lines: what needs no network, a ranking by "
            "colour and one "
            "at random.",
        ),
        "retrieval_by_class": (
            "Mean average precision of the queries of each class, by each ranking.",
            "Darker is better. A class that the colours alone find is an easy one.",
        ),
        "map": (
            "The images as a map: by the encoder's vectors, and by the head's.",
            "Each point is an image, at its first two principal components; what is near on the "
            "map is near by the "
            "vectors, as far as two dimensions can tell.",
        ),
        "class_confusion": (
            "Classes of the first ten results, for queries of each class.",
            "Each row adds up to 1; on the diagonal stands the query's own class.",
        ),
    },
    "indexes": {
        "recall": (
            "Share of the true neighbours found by each index.",
            "At its quickest setting, and dotted at its most thorough one. 1.0 is what exact "
            "search finds.",
        ),
        "recall_and_speed": (
            "Recall and speed of each query setting, one query at a time.",
            "Up and to the right is better. Grey: the front of settings that no other beats in "
            "both.",
        ),
        "recall_and_batch_speed": (
            "The same with all queries in one batch, on all threads.",
            "As above.",
        ),
        "latency": (
            "Milliseconds of single queries, each index at its fastest setting with the wanted "
            "recall.",
            "Left is better; p95: 95 % of queries take less.",
        ),
        "build_time": ("What an index costs before the first query.", "Shorter is better."),
        "memory": (
            "Bytes on disk, and of memory in a fresh process that has loaded and asked the index.",
            "Shorter is better.",
        ),
        "index_sizes": (
            "Up to which size exact search is quick enough.",
            "Below the dotted line nobody waits. All sizes but the study's own are synthetic: "
            "drawn from a "
            "mixture fitted to its vectors.",
        ),
        "relevance_lost": (
            "What people would miss, by the grades, with an index in place of exact search.",
            "0 is no loss; upwards is worse. Bars: 95 % intervals over queries.",
        ),
    },
}

#: columns of results_log.csv in the page's table of rounds, and what they are called there
ROUNDS = {
    "round": "round",
    "labels": "graded pairs",
    "asked": "of them asked",
    "similar": "similar",
    "test_encoder_ap": "AP encoder",
    "test_head_ap": "AP head",
    "test_ap_gain": "gain in AP",
    "test_head_same_class_roc_auc": "same-class ROC-AUC",
    "test_head_f1": "F1",
    "test_head_ece": "ECE",
    "candidate": "learnt",
    "promoted": "promoted",
}
#: measures of pairs, and what they are called in the page
MEASURES = {
    "roc_auc": "ROC-AUC",
    "ap": "AP",
    "same_class_roc_auc": "same-class ROC-AUC",
    "same_class_ap": "same-class AP",
    "f1": "F1",
    "accuracy": "accuracy",
    "ece": "ECE",
}


def draw_rounds(found: RunResults, split: str, stage: Stage) -> Figure | None:
    """Draw and keep the rounds' quality on a side, "test" or "dev"; None where the log has nothing
    of it.
    """
    if not found.logged(split):
        return None
    ceiling = human_ceiling(found.run) if split == "test" else None
    return plots.save(plots.rounds(found.log, split, ceiling), stage, f"rounds_{split}", found.log)


def _table(table: pd.DataFrame) -> str:
    """HTML, escaped; columns and rows that say nothing are left out."""
    numbers = table.select_dtypes("number").columns
    silent = table[numbers].isna().all(axis=1) if len(numbers) else pd.Series(False, table.index)
    return (
        table[~silent]
        .dropna(axis=1, how="all")
        .to_html(index=False, border=0, na_rep="–", float_format=lambda value: f"{value:.3f}")
    )


def _with_intervals(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """A gain and its interval (`..._low`, `..._high`) in one cell, as people read them."""
    cells = {
        name: [
            findings.interval(row)
            for row in table[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
        ]
        for name in names
        if name in table
    }
    return table.assign(**cells)


def _rounds(found: RunResults) -> pd.DataFrame:
    split = "test" if found.logged("test") else "dev"
    columns = {name.replace("test_", f"{split}_", 1): title for name, title in ROUNDS.items()}
    table = _with_intervals(found.log, f"{split}_ap_gain")
    return table[[name for name in columns if name in table]].rename(columns=columns)


def _last_round(found: RunResults) -> pd.DataFrame:
    """The measures of the last round: encoder and head on dev and test, then what needs no
    model.
    """
    metrics, splits = found.metrics, [split for split in ("dev", "test") if found.measures(split)]
    rows = [
        (split, model, metrics[split][model]) for split in splits for model in ("encoder", "head")
    ]
    rows += [
        (split, name, values)
        for split in splits[-1:]
        for name, values in metrics[split]["trivial"].items()
    ]
    table = pd.DataFrame(
        [
            {"side": split, "model": model, **{name: values.get(name) for name in LOGGED}}
            for split, model, values in rows
        ],
        columns=["side", "model", *LOGGED],
    )
    return table.astype(dict.fromkeys(LOGGED, float))


def _candidates(found: RunResults) -> pd.DataFrame:
    """The last round's candidates; the encoder gains nothing over itself."""
    table = _with_intervals(found.candidates, "ap_gain", "ndcg_gain")
    table.loc[table.candidate == "encoder", ["ap_gain", "ndcg_gain"]] = ""
    titles = {
        "candidate": "candidate",
        "ap": "AP",
        "ap_gain": "AP gained",
        "ndcg_gain": "nDCG@10 within a query gained",
        "use": "use",
    }
    return table[[*titles]].rename(columns=titles).fillna({"use": ""})


def _retrieval(found: RunResults) -> pd.DataFrame:
    """Retrieval measures as people read them: a row a measure, a column a model."""
    table = of_all(found.ranked)
    cells = [
        f"{row['mean']:.3f} [{row.low:.3f}, {row.high:.3f}]"
        if np.isfinite(row.low)
        else f"{row['mean']:.3f}"
        for _, row in table.iterrows()
    ]
    wide = table.assign(cell=cells).pivot(index="measure", columns="model", values="cell")
    wide = wide.loc[table.measure.unique(), table.model.unique()]
    return (
        wide.assign(queries=table.groupby("measure").queries.max())
        .reset_index()
        .rename_axis(columns=None)
    )


def _indexes(found: RunResults) -> pd.DataFrame:
    table = found.compared("indexes.csv")
    recalls = [name for name in table if name.startswith("recall@")]
    titles = {
        "model": "vectors",
        "index": "index",
        "query": "asked with",
        **{name: name for name in recalls},
        "build_seconds": "build (s)",
        "single_qps": "queries/s",
        "batch_qps": "in a batch",
        "p95_ms": "p95 (ms)",
        "megabytes": "MB",
    }
    return table[[*titles]].rename(columns=titles)


def _draw(found: RunResults, stage: Stage) -> None:
    """Draw the figures that belong to no notebook before: of all rounds, or of encoder and head
    side by side.
    """
    graded = grades_so_far(found.run)
    if len(graded):
        plots.save(plots.grade_counts(graded), stage, "grade_counts", graded)
    test = found.scored[found.scored.side == "test"]
    if len(test):
        thresholds = found.thresholds
        plots.save(
            plots.confusion(test, thresholds["head"], thresholds["encoder"]), stage, "confusion"
        )
    matrices = [found.compared(f"confusion_{name}.csv") for name in ("head", "encoder")]
    matrices = [matrix.set_index("query class") for matrix in matrices if len(matrix)]
    if matrices:
        head, *encoder = matrices
        plots.save(
            plots.class_confusion(head, "first 10 results", *encoder),
            stage,
            "class_confusion",
            pd.concat(
                matrices, keys=["head", "encoder"][-len(matrices) :], names=["model"]
            ).reset_index(),
        )


def _without_data(found: RunResults) -> set[str]:
    """Figures of the stages that would show empty axes."""
    empty = {"training_curves": found.history.empty, "retrieval": found.retrieval.empty}
    none = {name for name, is_empty in empty.items() if is_empty}
    if not len(found.candidates) or (found.candidates.candidate == "encoder").all():
        none.add("candidates")
    for split, names in {
        "test": ("precision_recall", "confusion"),
        "dev": ("score_distributions",),
    }.items():
        if not (found.scored.side == split).any():
            none.update(names)
    return none


def _copy_figures(found: RunResults, folder: Path) -> list[dict]:
    """Bring the stages' figures and their tables here; return what the page shows of all figures,
    in its order.
    """
    run, means, shown_, none = found.run, findings.meanings(found), [], _without_data(found)
    kept = [
        run.results / "tagging" / "figures",
        run.results / "ann_comparison" / "figures",
        *([found.last.results / "figures"] if found.last else []),
    ]
    for part, figures in FIGURES.items():
        for name, (shows, read) in figures.items():
            for place in kept:
                if (folder / "figures" / f"{name}.png").is_file() or not (
                    place / f"{name}.png"
                ).is_file():
                    continue
                table = place / f"{name}.csv"
                if name in none or table.is_file() and not len(read_table(table)):
                    continue
                for file in filter(
                    Path.is_file, (place / f"{name}.png", place / f"{name}.svg", table)
                ):
                    shutil.copy(file, folder / "figures")
            if (folder / "figures" / f"{name}.png").is_file():
                shown_.append(
                    {
                        "part": part,
                        "name": name,
                        "shows": shows,
                        "read": read,
                        "means": means.get(name, ""),
                        "table": (folder / "figures" / f"{name}.csv").is_file(),
                    }
                )
    return shown_


def _next(found: RunResults) -> list[tuple[str, str]]:
    """What a reader can do now, and the command for it."""
    run, study = found.run, found.run.study
    if study.images.vectors:  # made elsewhere, so no picture can be compared with them
        steps = [("Score any pairs of its images", f"imgsearch score pairs.csv{run.options}")]
    else:
        steps = [
            ("Find pictures like one of yours", f"imgsearch search picture.jpg{run.options}"),
            ("Search on a page, and vote", f"imgsearch serve{run.options}"),
        ]
    if run.published:
        return [*steps, ("Teach it yourself, in a run of your own", f"imgsearch run {study.study}")]
    if found.metrics and not found.by_classes:
        steps.append(
            (
                "Look again at the grades that seem doubtful to what was learnt",
                f"imgsearch tag {study.study}{run.named} --queue suspected_errors",
            )
        )
    if run.taught:
        return [
            ("Teach it what you mean by similar", f"imgsearch teach {study.study}{run.named}"),
            *steps,
            (
                "Grade random test pairs, to know honestly how good it is",
                f"imgsearch tag {study.study}{run.named} --queue check",
            ),
        ]
    rounds = (
        min(study.rounds + 2, len(study.labels)) if study.oracle == "replay" else study.rounds + 2
    )
    if rounds > study.rounds:
        steps.append(
            (
                "Teach it more: a finished run is never changed, so begin another with more rounds",
                f"imgsearch run {study.study} --run {run.name}_more --set rounds={rounds}",
            )
        )
    return steps


def _places(found: RunResults) -> list[tuple[str, str]]:
    """Which file holds what."""
    run, last = found.run, found.last
    places = [
        ("every grade, a line each", run.journal),
        ("the images and their sides", run.labels / "images.csv"),
    ]
    if last:
        places += [
            ("what was learnt last", last.model),
            ("the last round's pairs with their scores", last.results / "scored_pairs.csv"),
            ("a row for each round", run.results / "results_log.csv"),
        ]
    return [
        (what, shown(path))
        for what, path in [*places, ("vectors, and the chosen index", run.vectors)]
    ]


def write_page(found: RunResults, collection: Collection, stage: Stage) -> Path:
    """Write index.html, figures/ and tables/ of a run, where they are not there yet; return the
    page.

    Needs every round that the run has, and the comparison, to be finished. The figures of rounds
    and examples are those that the stage holds already (`draw_rounds`, `example_figures`)."""
    run, folder = found.run, stage["report"]
    if stage.finished:
        return folder / "index.html"
    for name in ("tables", "figures"):
        (folder / name).mkdir(exist_ok=True)
    _draw(found, stage)
    figures = _copy_figures(found, folder)
    tables = {
        "results_log": found.log,
        "last_round": _last_round(found),
        "retrieval": found.compared("retrieval.csv"),
        "examples": found.compared("examples.csv"),
        "indexes": found.compared("indexes.csv"),
    }
    for name, table in tables.items():
        if len(table):
            table.to_csv(folder / "tables" / f"{name}.csv", index=False)
    aside = pd.concat(
        [
            read_table(file)
            for name in ("set_aside", "left_out")
            if (file := run.results / "tagging" / f"{name}.csv").is_file()
        ],
        ignore_index=True,
    )
    own = run.results / "ann_comparison/own_protocol.json"
    own = pd.read_json(own) if own.is_file() else pd.DataFrame()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imgsearch_utils", "steps"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = {
        name: _table(table) if len(table) else ""
        for name, table in {
            "rounds": _rounds(found) if found.metrics else [],
            "last": tables["last_round"].rename(columns=MEASURES),
            "candidates": _candidates(found) if len(found.candidates) else [],
            "quality": _retrieval(found) if len(tables["retrieval"]) else [],
            "indexes": _indexes(found),
            "own": own,
            "aside": aside,
        }.items()
    }
    strategies = sorted(set(asked_pairs(found.last).strategy)) if found.last else []
    page, splits = folder / "index.html", read_split(run).side
    n_test = int((splits == "test").sum())
    page.write_text(
        environment.get_template("report.html.j2").render(
            run=run,
            encoder=findings.encoder(run),
            title=run.study.title or run.study.study,
            n_images=len(splits),
            figures=figures,
            result=findings.result(found),
            decision=findings.decision(found),
            by_classes=found.by_classes,
            findings=findings.findings(found, human_ceiling(run)),
            missing=findings.missing(found, bool(collection.folder)),
            n_rounds=len(found.log),
            strategy=", ".join(strategies),
            next=_next(found),
            places=_places(found),
            html=html,
            n_aside=len(aside),
            kinds=KINDS,
            exact_wins=found.choice["index"] in EXACT,
            choice=found.choice,
            tables=[
                {**table.model_dump(), "html": _table(pd.read_csv(source() / table.file))}
                for table in run.study.tables
            ],
            settings=yaml.safe_dump(
                run.study.model_dump(mode="json"), sort_keys=False, allow_unicode=True
            ),
            versions=", ".join(f"{name} {version(name)}" for name in VERSIONS),
            n_test=n_test,
            n_asked=min(n_test, QUERIES),
        ),
        encoding="utf-8",
    )
    return page

"""The report: one page with a run's result, examples, figures, tables, settings and versions.

A part without data is left out of the page, with a line that says why. The page's text stands in
report.html.j2, and what each figure shows in report_figures.yaml.
"""

import itertools
import shutil
from importlib.metadata import version
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from matplotlib.figure import Figure

from imgsearch_utils import plots
from imgsearch_utils.encoders.embed_collection import ACCOUNT
from imgsearch_utils.evaluation.example_queries import grades_so_far
from imgsearch_utils.evaluation.relevance import QUERIES, in_words, of_all
from imgsearch_utils.grades.agreement import human_ceiling
from imgsearch_utils.images.collection import Collection
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.indexes.index_choice import EXACT
from imgsearch_utils.steps import findings, rounds_log
from imgsearch_utils.steps.run_results import RunResults
from imgsearch_utils.steps.tagging import asked_pairs
from imgsearch_utils.study import read_yaml
from imgsearch_utils.workspace import VERSIONS, Stage, shown, source
from imgsearch_utils.workspace.account import Account
from imgsearch_utils.workspace.tables import read_table

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
    "side": "split",
    "roc_auc": "ROC-AUC",
    "ap": "AP",
    "same_class_roc_auc": "same-class ROC-AUC",
    "same_class_ap": "same-class AP",
    "f1": "F1",
    "accuracy": "accuracy",
    "ece": "ECE",
}
CANDIDATES = {
    "candidate": "candidate",
    "ap": "AP",
    "ap_gain": "AP gained",
    "ndcg_gain": "nDCG@10 within a query gained",
    "use": "use",
}


def draw_rounds(results: RunResults, split: str, stage: Stage) -> Figure | None:
    """Draw and keep the rounds' quality on test or dev; None where the log has nothing of it."""
    if not results.logged(split):
        return None
    ceiling = human_ceiling(results.run) if split == "test" else None
    figure = plots.rounds(results.log, split, ceiling)
    return plots.save(figure, stage, f"rounds_{split}", results.log)


def _html(table: pd.DataFrame) -> str:
    """HTML, escaped; columns and rows that say nothing are left out."""
    if table.empty:
        return ""
    numbers = table.select_dtypes("number").columns
    silent = table[numbers].isna().all(axis=1) if len(numbers) else pd.Series(False, table.index)
    table = table[~silent].dropna(axis=1, how="all")
    return table.to_html(index=False, border=0, na_rep="–", float_format="{:.3f}".format)


def _with_intervals(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """A gain and its interval (`..._low`, `..._high`) in one cell, as people read them."""
    for name in names:
        gains = table[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
        table = table.assign(**{name: [findings.interval(gain) for gain in gains]})
    return table


def _rounds(results: RunResults) -> pd.DataFrame:
    split = "test" if results.logged("test") else "dev"
    columns = {name.replace("test_", f"{split}_", 1): title for name, title in ROUNDS.items()}
    return _with_intervals(results.log, f"{split}_ap_gain")[[*columns]].rename(columns=columns)


def _candidates(results: RunResults) -> pd.DataFrame:
    """The last round's candidates; the encoder gains nothing over itself."""
    table = _with_intervals(results.candidates, "ap_gain", "ndcg_gain")
    table.loc[table.candidate == "encoder", ["ap_gain", "ndcg_gain"]] = ""
    return table[[*CANDIDATES]].rename(columns=CANDIDATES).fillna({"use": ""})


def _retrieval(results: RunResults) -> pd.DataFrame:
    """Retrieval measures as people read them: a row a measure, a column a model."""
    table = of_all(results.ranked)
    queries = table.groupby("measure").queries.max()
    wide = in_words(table, "measure", "model").assign(queries=queries)
    return wide.reset_index().rename_axis(columns=None)


def _indexes(results: RunResults) -> pd.DataFrame:
    table = results.compared("indexes.csv")
    titles = {
        "model": "vectors",
        "index": "index",
        "query": "asked with",
        **{name: name for name in table if name.startswith("recall@")},
        "build_seconds": "build (s)",
        "single_qps": "queries/s",
        "batch_qps": "in a batch",
        "p95_ms": "p95 (ms)",
        "megabytes": "MB",
    }
    return table[[*titles]].rename(columns=titles)


def _draw(results: RunResults, stage: Stage) -> None:
    """Draw the figures that belong to no notebook before: of all rounds, or of encoder and head
    side by side.
    """
    graded = grades_so_far(results.run)
    if len(graded):
        plots.save(plots.grade_counts(graded), stage, "grade_counts", graded)
    test = results.scored[results.scored.side == "test"]
    if len(test):
        thresholds = results.thresholds
        figure = plots.confusion(test, thresholds["head"], thresholds["encoder"])
        plots.save(figure, stage, "confusion")
    confusions = {name: results.compared(f"confusion_{name}.csv") for name in ("head", "encoder")}
    confusions = {name: table for name, table in confusions.items() if len(table)}
    if confusions:
        shares = [table.set_index("query class") for table in confusions.values()]
        figure = plots.class_confusion(shares[0], "first 10 results", *shares[1:])
        table = pd.concat(confusions, names=["model"]).reset_index("model")
        plots.save(figure, stage, "class_confusion", table)


def _without_data(results: RunResults) -> set[str]:
    """Figures of the stages that would show empty axes."""
    candidates, scored = results.candidates, set(results.scored.side)
    is_empty = {
        "training_curves": results.history.empty,
        "retrieval": results.retrieval.empty,
        "candidates": candidates.empty or (candidates.candidate == "encoder").all(),
        "precision_recall": "test" not in scored,
        "confusion": "test" not in scored,
        "score_distributions": "dev" not in scored,
    }
    return {name for name, empty in is_empty.items() if empty}


def _bring_figures(results: RunResults, folder: Path) -> list[dict]:
    """Bring the stages' figures and their tables into a folder; return what the page shows of all
    figures there, in its order.
    """
    about = read_yaml(Path(__file__).with_name("report_figures.yaml"))
    names = {name for figures in about.values() for name in figures} - _without_data(results)
    stages = [results.run.results / "tagging", results.run.results / "ann_comparison"]
    if results.last:
        stages.append(results.last.results)
    for stage, name in itertools.product(stages, names):
        picture = stage / "figures" / f"{name}.png"
        table = picture.with_suffix(".csv")
        no_rows = table.is_file() and read_table(table).empty
        # what was drawn for the report itself stays
        if picture.is_file() and not no_rows and not (folder / picture.name).is_file():
            for file in filter(Path.is_file, (picture, picture.with_suffix(".svg"), table)):
                shutil.copy(file, folder)
    means = findings.meanings(results)
    return [
        {
            "part": part,
            "name": name,
            **texts,
            "means": means.get(name, ""),
            "table": (folder / f"{name}.csv").is_file(),
        }
        for part, figures in about.items()
        for name, texts in figures.items()
        if (folder / f"{name}.png").is_file()
    ]


def write_page(results: RunResults, collection: Collection, stage: Stage) -> Path:
    """Write index.html, figures/ and tables/ of a run, where they are not there yet; return the
    page.

    Needs every round that the run has, and the comparison, to be finished. The figures of rounds
    and examples are those that the stage holds already (`draw_rounds`, `example_figures`)."""
    run, folder = results.run, stage["report"]
    page = folder / "index.html"
    if stage.finished:
        return page
    for name in ("tables", "figures"):
        (folder / name).mkdir(exist_ok=True)
    _draw(results, stage)
    tables = {
        "results_log": results.log,
        "last_round": rounds_log.quality(results.metrics).reset_index(),
        "retrieval": results.compared("retrieval.csv"),
        "examples": results.compared("examples.csv"),
        "indexes": results.compared("indexes.csv"),
    }
    for name, table in tables.items():
        if len(table):
            table.to_csv(folder / "tables" / f"{name}.csv", index=False)
    set_aside = [run.results / "tagging" / f"{name}.csv" for name in ("set_aside", "left_out")]
    set_aside = pd.concat(map(read_table, filter(Path.is_file, set_aside)))
    account = run.vectors / ACCOUNT
    own_protocol = run.results / "ann_comparison/own_protocol.json"
    nothing = pd.DataFrame()
    html = {
        "rounds": _rounds(results) if results.metrics else nothing,
        "last": tables["last_round"].rename(columns=MEASURES),
        "candidates": _candidates(results) if len(results.candidates) else nothing,
        "quality": _retrieval(results) if len(tables["retrieval"]) else nothing,
        "indexes": _indexes(results),
        "own": pd.read_json(own_protocol) if own_protocol.is_file() else nothing,
        "aside": set_aside,
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imgsearch_utils", "steps"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    strategies = sorted(set(asked_pairs(results.last).strategy)) if results.last else []
    splits = read_split(run).side
    n_test = int((splits == "test").sum())
    text = environment.get_template("report.html.j2").render(
        run=run,
        study=run.study,
        results=results,
        shown=shown,
        encoder=findings.encoder(run),
        title=run.study.title or run.study.study,
        n_images=len(splits),
        figures=_bring_figures(results, folder / "figures"),
        result=findings.result(results),
        decision=findings.decision(results),
        findings=findings.findings(results, human_ceiling(run)),
        missing=findings.missing(results, bool(collection.folder)),
        n_rounds=len(results.log),
        strategy=", ".join(strategies),
        html={name: _html(table) for name, table in html.items()},
        n_aside=len(set_aside),
        account=Account.read(account).lines() if account.is_file() else [],
        exact_wins=results.choice["index"] in EXACT,
        choice=results.choice,
        tables=[
            {**table.model_dump(), "html": _html(pd.read_csv(source() / table.file))}
            for table in run.study.tables
        ],
        settings=yaml.safe_dump(
            run.study.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        ),
        versions=", ".join(f"{name} {version(name)}" for name in VERSIONS),
        n_test=n_test,
        n_asked=min(n_test, QUERIES),
    )
    page.write_text(text, encoding="utf-8")
    return page

"""The report: one page with a run's figures, tables, example results, settings and versions."""

import shutil
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from imgsearch_utils import plots
from imgsearch_utils.labels.agreement import human_ceiling
from imgsearch_utils.metrics import Ceiling
from imgsearch_utils.pictures.collection import Collection, thumbnails
from imgsearch_utils.steps.learning import LOGGED, log_rounds
from imgsearch_utils.steps.relevance import QUERIES
from imgsearch_utils.steps.tagging import asked_pairs
from imgsearch_utils.study import Study
from imgsearch_utils.tables import read_own
from imgsearch_utils.vectors.sides import read_sides
from imgsearch_utils.workspace import VERSIONS, Run, Stage, read_json, source

#: stage folder -> figure -> caption, in the page's order
FIGURES = {
    "tagging": {"class_counts": "Images of each class on each side; near-duplicates stand on one side together.",
                "grade_counts": "Pairs by grade. Grey: 0 because the classes differ, without asking anybody."},
    "last round": {"candidates": "What was learnt in the last round: each candidate's gain over the encoder on pairs "
                                 "whose images its heads did not see, with 95 % intervals. Orange: the chosen one.",
                   "training_curves": "Training of the chosen candidate, in the mean over its cross-fits.",
                   "score_distributions": "Cosines of the dev pairs of each grade, before and after the head.",
                   "precision_recall": "Finding pairs of grade 3 among the test pairs.",
                   "confusion": "The decision at the calibrated threshold, and how far its probability can be trusted "
                                "(test pairs)."},
    "ann_comparison": {"recall": "Share of the true neighbours found: at each index's quickest setting, and dotted "
                                 "at its most thorough one.",
                       "recall_and_speed": "Each point is a query setting; up and to the right is better. Grey: the "
                                           "front of settings that no other beats in both.",
                       "recall_and_batch_speed": "The same with all queries in one batch, on all threads.",
                       "latency": "Single queries on one thread, each index at its fastest setting with the wanted "
                                  "recall.",
                       "build_time": "What an index costs before the first query.",
                       "memory": "Bytes on disk, and of memory in a fresh process that has loaded and asked the index.",
                       "index_sizes": "Up to which size exact search is quick enough. All sizes but the study's own "
                                      "are synthetic: drawn from a mixture fitted to its vectors.",
                       "relevance_lost": "What people would miss, by the grades, with an index in place of exact "
                                         "search; 95 % intervals over queries.",
                       "retrieval": "Ranking quality by the grades, with 95 % intervals over queries.",
                       "class_confusion": "Classes of the first ten results."},
}

#: columns of results_log.csv in the page's table of rounds, and what they are called there
ROUNDS = {"round": "round", "labels": "graded pairs", "asked": "asked", "similar": "of grade 3",
          "test_encoder_ap": "AP encoder", "test_head_ap": "AP head", "test_ap_gain": "gain", "test_ap_gain_low": "low",
          "test_ap_gain_high": "high", "test_head_same_class_roc_auc": "same-class AUC", "test_head_f1": "F1",
          "test_head_ece": "ECE", "candidate": "learnt", "promoted": "promoted"}


def example_figure(collection: Collection, examples: pd.DataFrame) -> Figure:
    """Example queries with the first results of encoder (upper row) and head (lower row).

    examples : query, model, rank, image, score, from ``steps.relevance.example_results``
    """
    names, titles = [], []
    for query, rows in examples.groupby("query", sort=False):
        for model, found in rows.groupby("model", sort=False):
            names += [query, *found.image]
            titles += [f"query · {model}", *found.score.map("{:.2f}".format)]
    columns = 1 + examples["rank"].max()
    return plots.picture_grid(thumbnails(collection, names, 128), titles, columns=columns, side=1.5)


def _table(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, na_rep="–", float_format=lambda value: f"{value:.3f}")


def _findings(study: Study, log: pd.DataFrame, quality: pd.DataFrame, choice: dict, ceiling: Ceiling) -> list[str]:
    last = log.iloc[-1]
    twice = []
    if ceiling.pairs:
        known = f"F1 of one grading by the other is {ceiling.f1:.3f}, as much as a model can reach"
        unknown = "none was called similar, so how far people agree on it is not known"
        twice = [f"{ceiling.pairs} pairs were graded twice; {known if np.isfinite(ceiling.f1) else unknown}."]
    sure = ("which is more than chance" if last.test_ap_gain_low > 0 else
            "which is worse than the encoder" if last.test_ap_gain_high < 0 else "which chance can explain")
    means = quality.pivot(index="measure", columns="model", values="mean")
    return [
        f"After {last.labels:.0f} graded training pairs ({last.asked:.0f} asked), average precision for grade 3 on the "
        f"test pairs is {last.test_head_ap:.3f} with the head and {last.test_encoder_ap:.3f} with the encoder alone: "
        f"{last.test_ap_gain:+.3f} [{last.test_ap_gain_low:+.3f}, {last.test_ap_gain_high:+.3f}], {sure}.",
        f"F1 at the threshold chosen on dev: {last.test_head_f1:.3f} (encoder {last.test_encoder_f1:.3f}); "
        f"calibration error {last.test_head_ece:.3f}.",
        f"nDCG@10 over the test images: {means['head']['nDCG@10']:.3f} (encoder {means['encoder']['nDCG@10']:.3f}), "
        f"with {means['head']['judged@10']:.0%} of the head's first ten results judged.",
        f"{last.candidate[0].upper()}{last.candidate[1:]} was chosen and is {'' if last.promoted else 'not '}promoted, "
        f"so search uses {'it' if last.promoted else 'the encoder as it is'}. That is decided on "
        + ("the dev images." if study.dev_share else "the train pairs, each judged by heads that saw neither image."),
        *twice,
        f"Recommended index: {choice['index']}. {choice['reason'][0].upper()}{choice['reason'][1:]}.",
    ]


def _copied_figures(run: Run, folder: Path) -> list[dict]:
    """Copy the stages' figures and their tables; return what the page shows of them, in its order."""
    shown = []
    for part, captions in FIGURES.items():
        kept = (run.last_round.results if part == "last round" else run.results / part) / "figures"
        for name, caption in captions.items():
            if not (kept / f"{name}.png").is_file():
                continue
            table = kept / f"{name}.csv"
            for file in (kept / f"{name}.png", kept / f"{name}.svg"):
                shutil.copy(file, folder / "figures")
            if table.is_file():
                shutil.copy(table, folder / "tables")
            shown.append({"part": part, "name": name, "caption": caption, "table": table.is_file()})
    return shown


def _last_round(run: Run) -> pd.DataFrame:
    """The measures of the last round: encoder and head on dev and test, then what needs no model."""
    metrics = run.last_round.metrics
    rows = [(side, model, metrics[side][model]) for side in ("dev", "test") for model in ("encoder", "head")]
    rows += [("test", name, values) for name, values in metrics["test"]["trivial"].items()]
    table = pd.DataFrame([{"side": side, "model": model, **{name: values.get(name) for name in LOGGED}}
                          for side, model, values in rows])
    return table.astype(dict.fromkeys(LOGGED, float))


def _candidates(run: Run) -> pd.DataFrame:
    """The last round's candidates as people read them: a gain and its interval in one cell."""
    table = read_own(run.last_round.results / "candidates.csv")
    shown = table[["candidate", "ap"]].rename(columns={"ap": "AP"})
    for name, title in {"ap": "AP gained", "ndcg": "nDCG@10 within a query gained"}.items():
        gain, low, high = (table[f"{name}_gain{part}"].map("{:+.3f}".format) for part in ("", "_low", "_high"))
        shown[title] = (gain + " [" + low + ", " + high + "]").where(table.candidate != "encoder", "")
    return shown.assign(use=table.use.fillna(""))


def write_page(run: Run, collection: Collection, stage: Stage) -> Path:
    """Write index.html, figures/ and tables/ of a run, where they are not there yet; return the page.

    Needs every round and the comparison to be finished.
    """
    folder = stage["report"]
    if stage.finished:
        return folder / "index.html"
    log, final, comparison = log_rounds(run), _last_round(run), run.results / "ann_comparison"
    for name in ("tables", "figures"):
        (folder / name).mkdir(exist_ok=True)
    log.to_csv(folder / "tables" / "results_log.csv", index=False)
    final.to_csv(folder / "tables" / "last_round.csv", index=False)
    shutil.copy(comparison / "examples.csv", folder / "tables")
    quality, choice = read_own(comparison / "retrieval.csv"), read_json(comparison / "index.json", "index", "reason")
    own = pd.DataFrame(read_json(comparison / "own_protocol.json"))
    aside, indexes = read_own(run.results / "tagging" / "set_aside.csv"), read_own(comparison / "indexes.csv")
    columns = ["model", "index", "query", *[c for c in indexes if c.startswith("recall@")], "build_seconds",
               "single_qps", "batch_qps", "p95_ms", "megabytes"]
    environment = jinja2.Environment(loader=jinja2.PackageLoader("imgsearch_utils", "steps"), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True)
    page, n_test = folder / "index.html", int(np.sum(read_sides(run).side == "test"))
    page.write_text(environment.get_template("report.html.j2").render(
        run=run, n_images=len(collection.images), figures=_copied_figures(run, folder),
        findings=_findings(run.study, log, quality, choice, human_ceiling(run)),
        rounds_table=_table(log[list(ROUNDS)].rename(columns=ROUNDS)),
        last_table=_table(final), candidates_table=_table(_candidates(run)), promoted=bool(log.iloc[-1].promoted),
        in_search=log.iloc[-1].candidate if log.iloc[-1].promoted else "the encoder",
        strategy=", ".join(sorted(set(asked_pairs(run.last_round).strategy))) or "nobody",
        quality_table=_table(quality), index_table=_table(indexes[columns]),
        tables=[{**table.model_dump(), "html": _table(pd.read_csv(source() / table.file))}
                for table in run.study.tables],
        own=_table(own) if len(own) else "",
        aside=_table(aside) if len(aside) else "", n_aside=len(aside),
        settings=yaml.safe_dump(run.study.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        versions=", ".join(f"{name} {version(name)}" for name in VERSIONS),
        pictures=collection.folder is not None, n_test=n_test, n_asked=min(n_test, QUERIES),
    ), encoding="utf-8")
    return page

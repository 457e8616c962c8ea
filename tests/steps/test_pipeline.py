"""The whole pipeline on a tiny drawn study: papermill, real encoder, real indexes; killed, resumed,
refused.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest

from imgsearch_utils import plots, workspace
from imgsearch_utils.evaluation.example_queries import example_figures
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.steps import report
from imgsearch_utils.steps.run_results import RunResults
from imgsearch_utils.workspace.tables import read_table, write_table
from tests.tiny_run import STUDY
from tests.tiny_study import command
from tests.web.chromium import browser, faults, needs_chromium


def last_line(process: subprocess.CompletedProcess) -> str:
    return process.stderr.strip().splitlines()[-1]


def test_log_has_a_row_a_round_and_no_times(finished):
    log = pd.read_csv(finished / "active_learning_results/tiny/results_log.csv")
    assert log["round"].tolist() == [0, 1] and log.labels.is_monotonic_increasing
    table = pd.read_csv(finished / "active_learning_results/tiny/round_01/candidates.csv")
    assert log.candidate[1] in set(table.candidate) - {"encoder"}
    assert log.promoted[1] == (table.use[table.candidate == log.candidate[1]] == "search").item()
    for part in ("ap_gain", "query_ndcg_gain", "query_ndcg_gain_low", "query_ndcg_gain_high"):
        assert {f"dev_{part}", f"test_{part}"} <= set(log)
    assert not [name for name in log if "time" in name or "second" in name or "host" in name]


def test_finished_run_does_nothing(finished):
    # what was copied is looked at once
    assert command(finished, "run", "tiny.yaml").returncode == 0
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    process = command(finished, "run", "tiny.yaml")
    assert process.returncode == 0 and "is finished with these settings" in process.stdout
    assert {
        path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()
    } == before


def test_other_settings_are_refused_with_the_difference(finished):
    process = command(finished, "run", "tiny.yaml", "--set", "head.epochs=4")
    assert process.returncode == 1 and "head.epochs: 3 -> 4" in last_line(process)
    assert process.stderr.count("\n") == 1


def test_unknown_notebook_parameter_is_refused_by_the_notebook_itself(
    finished, tmp_path, monkeypatch
):
    """Papermill alone only warns."""
    monkeypatch.setenv("IMGSEARCH_HOME", str(finished))
    notebook = workspace.source() / "notebooks" / "04_report.ipynb"
    said = "04_report declares no parameter RUM. Did you mean RUN?"
    with pytest.raises(papermill.PapermillExecutionError, match=re.escape(said)):
        papermill.execute_notebook(
            notebook, tmp_path / "out.ipynb", {"RUM": "tiny"}, progress_bar=False
        )


@contextmanager
def page_of(report: Path):
    """A run's report in Chromium."""
    with browser.browser_page() as page:
        page.goto((report / "index.html").as_uri())
        yield page


def read_through(page) -> tuple[set[str], str]:
    """The figures of a report and its text; nothing in it is empty, lost or wider than the page."""
    pictures = page.locator("figure img")
    assert min(pictures.evaluate_all("all => all.map(one => one.naturalWidth)")) > 100
    assert all(pictures.evaluate_all("all => all.map(one => one.alt)"))
    links = page.eval_on_selector_all("main a", "links => links.map(a => a.href)")
    assert [
        link for link in links if not Path(link.removeprefix("file://").partition("#")[0]).exists()
    ] == []
    anchors = page.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href'))")
    assert all(page.locator(anchor).count() == 1 for anchor in anchors)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    for width, height in ((1920, 1080), (1280, 800), (400, 800)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        wide = "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
        cut = page.eval_on_selector_all(".scroll", wide)
        assert not cut or width == 400 and page.locator(".hint").first.is_visible()
    text = page.locator("main").inner_text()
    assert "nan" not in text.replace("\n", " ").lower().split() and "None" not in text
    return set(page.eval_on_selector_all("figure", "all => all.map(one => one.id)")), text


@needs_chromium
def test_report_in_a_browser_tells_the_run_to_who_was_not_there(finished):
    with page_of(finished / "report_results/tiny") as page:
        place = page.locator("#examples").bounding_box()
        assert place["y"] < 400  # on the first screen
        assert page.locator("h1").inner_text() == "Tiny houses & co: what “similar” means here"
        assert "Two <b>are similar</b>" in page.locator("p.about").inner_text()
        assert "imgsearch search picture.jpg --study tiny" in page.locator(".next").inner_text()
        figures, text = read_through(page)
        assert not faults(page)
    assert {
        "rounds_test",
        "rounds_dev",
        "examples",
        "class_counts",
        "grade_counts",
        "candidates",
        "retrieval",
        "retrieval_by_class",
        "score_distributions",
        "precision_recall",
        "confusion",
        "class_confusion",
        "recall",
    } <= figures
    ranked = read_table(finished / "active_learning_results/tiny/ann_comparison/retrieval.csv")
    every = ranked[ranked["class"].isna() & (ranked.measure == "AP")].set_index("model")["mean"]
    assert every.index.tolist() == ["encoder", "head", "colour histogram", "random ranking"]
    assert (every[:2] > every["random ranking"]).all() and "colour histogram" in text
    assert "The rule: What was learnt is compared with" in text and "They only report" in text


def left_of(finished: Path, home: Path, monkeypatch, **study):
    """A copy of the finished run without its report, and what it found; `study`: other settings."""
    shutil.copytree(finished, home, dirs_exist_ok=True)
    monkeypatch.setenv("IMGSEARCH_HOME", str(home))
    run = workspace.find_run(str(home / "tiny.yaml"))
    shutil.rmtree(run.report)
    run = replace(run, study=run.study.model_copy(update=study))
    return run, run.results / "ann_comparison"


def report_of(found: RunResults) -> Path:
    """Write the report as notebook 04 does."""
    run, collection = found.run, open_collection(found.run)
    stage = run.report_stage().start()
    for side in ("test", "dev"):
        report.draw_rounds(found, side, stage)
    for name, (figure, table) in example_figures(run, collection).items():
        plots.save(figure, stage, name, table)
    report.write_page(found, collection, stage)
    stage.publish()
    return run.report


def keep_rows(file: Path, keep) -> None:
    table = read_table(file)
    write_table(table[keep(table)], file)


@needs_chromium
def test_report_of_a_run_without_a_round_shows_the_encoder_alone(finished, tmp_path, monkeypatch):
    run, compared = left_of(finished, tmp_path, monkeypatch)
    for this in (run.round(0), run.round(1)):
        shutil.rmtree(this.results)
        shutil.rmtree(this.model)
    for name in ("retrieval", "examples", "indexes"):
        keep_rows(compared / f"{name}.csv", lambda table: table.model == "encoder")
    (compared / "confusion_head.csv").unlink()
    with page_of(report_of(RunResults.of(run))) as page:
        figures, text = read_through(page)
    assert {
        "examples",
        "class_counts",
        "grade_counts",
        "retrieval",
        "class_confusion",
        "recall",
    } <= figures
    assert not figures & {
        "rounds_test",
        "rounds_dev",
        "candidates",
        "training_curves",
        "score_distributions",
        "precision_recall",
        "confusion",
        "examples_improved",
        "examples_different",
    }
    assert (
        "Nothing was taught in this run" in text
        and "This run has no round" in text
        and "promoted" not in text
    )


@needs_chromium
def test_report_without_test_grades_leaves_out_what_they_would_show(
    finished, tmp_path, monkeypatch
):
    run, compared = left_of(finished, tmp_path, monkeypatch, oracle="person")
    (compared / "retrieval.csv").unlink()
    shutil.rmtree(compared / "figures")
    keep_rows(run.last_round.results / "scored_pairs.csv", lambda table: table.side == "dev")
    test = set(read_split(run).query("side == 'test'").image)
    keep_rows(run.journal, lambda table: ~table.image1.isin(test))
    found = RunResults.of(run)
    log = found.log.assign(
        **dict.fromkeys([name for name in found.log if name.startswith("test_")], np.nan)
    )
    metrics = {name: value for name, value in found.metrics.items() if name != "test"} | {
        "evidence": "classes"
    }
    with page_of(report_of(RunResults(run, log, metrics))) as page:
        figures, text = read_through(page)
    assert {
        "examples",
        "grade_counts",
        "rounds_dev",
        "score_distributions",
        "class_confusion",
    } <= figures
    # the classes judge examples
    assert not figures & {"rounds_test", "precision_recall", "confusion", "retrieval"}
    assert "No test pair has a grade" in text and "rankings are not judged" in text
    assert "“similar” means “of the same class”" in text


JOURNAL = "active_learning_labels/tiny/journal.csv"


@pytest.mark.kill  # the run is made again in pieces, each by a new process
def test_killed_in_two_stages_it_ends_with_the_same_log(finished, tmp_path):
    """It begins with an encoder that does not exist, which is then corrected."""
    (tmp_path / "tiny.yaml").write_text(STUDY + "encoder: efficientnet_lite1\n")
    first = command(tmp_path, "run", "tiny.yaml")
    assert first.returncode == 1 and "Did you mean efficientnet_lite2" in first.stderr
    (tmp_path / "tiny.yaml").write_text(STUDY)
    moments = random.Random(20)
    for begun in ("vector_dbs/tiny/encoder", "active_learning_models/tiny/round_00.partial"):
        process = subprocess.Popen(
            [sys.executable, "-m", "imgsearch_utils.cli", "run", "tiny.yaml"],
            cwd=tmp_path,
            env=os.environ | {"IMGSEARCH_HOME": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while not (tmp_path / begun).exists():
            assert process.poll() is None
            time.sleep(0.05)
        moment = moments.uniform(0, 3)
        print(f"killed {moment:.2f} s after {begun} was begun")
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[1]
        assert "encoder: efficientnet_lite1 -> efficientnet_lite0" in said or "models" in begun
    process = command(tmp_path, "run", "tiny.yaml")
    assert process.returncode == 0, process.stderr
    log = "active_learning_results/tiny/results_log.csv"
    assert (tmp_path / log).read_text() == (finished / log).read_text()
    # acts without their times
    one, other = (
        [line.partition(",")[2] for line in (home / JOURNAL).read_text().splitlines()]
        for home in (tmp_path, finished)
    )
    assert one == other
    same = [
        file.relative_to(finished)
        for name in ("scored_pairs.csv", "pairs.csv", "names.csv", "vectors.npy")
        for file in sorted(finished.rglob(name))
        if "figures" not in file.parts
    ]
    # two rounds; the pairs of both and of the next; vectors of encoder and head, and where these
    # lie on the map
    assert len(same) == 2 + 3 + 2 * (2 + 2), same
    for file in same:
        assert (tmp_path / file).read_bytes() == (finished / file).read_bytes(), file


def test_two_at_once_are_refused(finished, tmp_path):
    from filelock import FileLock

    (tmp_path / "tiny.yaml").write_text(STUDY)
    (tmp_path / "active_learning_labels" / "tiny").mkdir(parents=True)
    with FileLock(tmp_path / "active_learning_labels" / "tiny" / ".run.lock"):
        process = command(tmp_path, "run", "tiny.yaml")
    assert process.returncode == 1 and "another process" in last_line(process)


def test_published_run_belongs_to_the_committed_settings():
    """The settings of the run in git are those of configs/: else it must be published again."""
    run = workspace.open_run("synthetic_houses", "published_synthetic_houses")
    page = workspace.source() / "report_results" / run.name / "index.html"
    assert page.is_file() and json.loads((run.results / "round_03" / "metrics.json").read_text())


def test_pooled_queue_asks_for_results_that_nobody_judged(finished, monkeypatch):
    from imgsearch_utils.grades.journal import Journal
    from imgsearch_utils.web import queues

    monkeypatch.setenv("IMGSEARCH_HOME", str(finished))
    run = workspace.find_run(str(finished / "tiny.yaml"))
    queue = queues.open_queue(run, "pooled", 0)
    test = read_split(run).query("side == 'test'").image
    assert len(queue) and queue.image1.isin(test).all() and queue.image2.isin(test).all()
    assert queue.systems.between(1, 6).all() and queue["rank"].between(1, 10).all()
    judged = set(zip(*Journal(run.journal).labels()[["image1", "image2"]].to_numpy().T))
    assert not judged & set(zip(queue.image1, queue.image2))


def test_score_gives_every_pair_its_probabilities_and_names_unknown_images(finished):
    images = pd.read_csv(finished / "active_learning_labels/tiny/images.csv").image
    pairs = finished / "pairs.csv"
    pairs.write_text(
        f"image1,image2\n{images[0]},{images[1]}\n{images[2]},ghost.jpg\n{images[30]},{images[3]}\n"
    )
    process = command(finished, "score", "pairs.csv", "--study", "tiny.yaml", "--out", "scored.csv")
    assert (
        process.returncode == 0 and "'ghost.jpg'" in process.stderr and "promoted" in process.stderr
    )
    scored = pd.read_csv(finished / "scored.csv")
    assert scored.image2.tolist() == [images[1], "ghost.jpg", images[3]]
    assert scored.p_similar.notna().tolist() == [True, False, True]
    sums = scored[[f"p_grade_{grade}" for grade in range(4)]].sum(axis=1, min_count=4)
    assert sums.dropna().round(4).eq(1).all() and scored.p_grade_3.dropna().equals(
        scored.p_similar.dropna()
    )
    none_yet = command(
        finished, "score", "pairs.csv", "--study", "tiny.yaml", "--run", "begun_only"
    )
    assert none_yet.returncode == 1 and "no run is called begun_only here" in none_yet.stderr

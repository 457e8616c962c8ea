"""`imgsearch labels` and `imgsearch new`, as a user types them."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from imgsearch_utils.grades.journal import Journal
from tests.tiny_study import command


def json_of(process: subprocess.CompletedProcess) -> dict:
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Three classes of four small pictures."""
    for number, name in enumerate("abc"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for shade in range(4):
            colour = (80 * number, 60 * shade, 40)
            Image.new("RGB", (32, 32), colour).save(tmp_path / "pictures" / name / f"{shade}.png")
    return tmp_path / "pictures"


@pytest.fixture
def study(tmp_path, pictures) -> Path:
    file = tmp_path / "tested.yaml"
    file.write_text(f"study: tested\nimages: {{source: {json.dumps(str(pictures))}}}\n")
    return file


def test_published_rounds_are_reported_in_full_and_survive_export_and_import(tmp_path, shared_data):
    rounds = sorted((shared_data / "house_styles").glob("round_*.csv"))
    counts = json_of(
        command(tmp_path, "labels", "import", *rounds, "--study", "house_styles", "--json")
    )
    expected = {
        "rows": 2068,
        "pairs": 2051,
        "recurring": 16,
        "conflicts": 1,
        "unknown": 0,
        "imported": 2051,
    }
    assert {name: counts[name] for name in expected} == expected
    assert counts["duplicates_within"] + counts["duplicates_across"] == 29
    problems = pd.read_csv(tmp_path / "active_learning_labels/house_styles/import_problems.csv")
    assert (
        "conflict" in set(problems.problem) and (problems.problem == "duplicates_across").sum() == 1
    )

    exported = tmp_path / "exported.csv"
    assert (
        command(tmp_path, "labels", "export", exported, "--study", "house_styles").returncode == 0
    )
    other = tmp_path / "other"
    other.mkdir()
    json_of(command(other, "labels", "import", exported, "--study", "house_styles", "--json"))
    again = tmp_path / "again.csv"
    command(other, "labels", "export", again, "--study", "house_styles")
    columns = ["image1", "image2", "similarity"]
    first, second = (
        pd.read_csv(file)[columns].sort_values(columns).reset_index(drop=True)
        for file in (exported, again)
    )
    pd.testing.assert_frame_equal(first, second)
    summary = json_of(command(tmp_path, "labels", "summary", "--study", "house_styles", "--json"))
    assert (
        summary["pairs"] == 2051 and sum(summary["grades"].values()) + summary["automatic"] == 2051
    )


def test_importing_twice_changes_nothing(tmp_path, study):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("image1,image2,similarity\na/0.png,a/1.png,3\na/0.png,b/1.png,0\n")
    assert (
        json_of(command(tmp_path, "labels", "import", pairs, "--study", study, "--json"))[
            "imported"
        ]
        == 2
    )
    journal = tmp_path / "active_learning_labels/tested/journal.csv"
    before = journal.read_bytes()
    assert (
        json_of(command(tmp_path, "labels", "import", pairs, "--study", study, "--json"))[
            "imported"
        ]
        == 0
    )
    assert journal.read_bytes() == before


def test_votes_are_exported_apart_from_grades(tmp_path, study):
    pairs, out = tmp_path / "pairs.csv", tmp_path / "out.csv"
    pairs.write_text("image1,image2,similarity\na/0.png,a/1.png,2\n")
    json_of(command(tmp_path, "labels", "import", pairs, "--study", study, "--json"))
    none = command(tmp_path, "labels", "export", out, "--study", study, "--votes")
    assert (
        none.returncode == 1
        and "run tested has no votes to export" in none.stderr
        and not out.exists()
    )
    journal = Journal(tmp_path / "active_learning_labels/tested/journal.csv")
    for pair, act in (
        ("a/2.png", "vote_up"),
        ("a/3.png", "vote_down"),
        ("a/2.png", "unvote"),
        ("a/1.png", "vote_up"),
    ):
        journal.append("ann", "a/0.png", pair, act, source="vote", round=2)
    assert (
        command(tmp_path, "labels", "export", out, "--study", study, "--votes").stdout
        == f"2 votes: {out}\n"
    )
    votes = pd.read_csv(out)
    assert votes[["image1", "image2", "vote", "annotator", "round"]].to_numpy().tolist() == [
        ["a/0.png", "a/3.png", "down", "ann", 2],
        ["a/0.png", "a/1.png", "up", "ann", 2],
    ]
    assert (
        command(tmp_path, "labels", "export", out, "--study", study).stdout == f"1 pairs: {out}\n"
    )
    counts = json_of(command(tmp_path, "labels", "summary", "--study", study, "--json"))
    assert (counts["pairs"], counts["votes"], counts["annotators"]) == (1, 2, {"import": 1})


def test_nothing_to_export_is_said(tmp_path, study):
    before = command(tmp_path, "labels", "export", tmp_path / "out.csv", "--study", study)
    assert before.returncode == 1 and "no run is called tested here; begin it" in before.stderr
    assert not (tmp_path / "active_learning_labels").exists()  # looking never begins a run
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("image1,image2,similarity\na/0.png,a/1.png,\n")
    assert (
        json_of(command(tmp_path, "labels", "import", pairs, "--study", study, "--json"))[
            "imported"
        ]
        == 0
    )
    process = command(tmp_path, "labels", "export", tmp_path / "out.csv", "--study", study)
    assert process.returncode == 1 and "no grades to export" in process.stderr
    assert not (tmp_path / "out.csv").exists()


def test_new_writes_a_study_that_can_be_opened(tmp_path, pictures):
    process = command(tmp_path, "new", "tested", pictures)
    assert process.returncode == 0 and "12 pictures in 3 classes" in process.stdout
    written = (tmp_path / "configs/tested.yaml").read_text().strip().splitlines()
    assert len([line for line in written if not line.startswith("#")]) <= 5
    assert "# 12 files seen = 12 taken + 0 left out" in written
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("image1,image2,similarity\na/0.png,a/1.png,3\n")
    assert (
        json_of(command(tmp_path, "labels", "import", pairs, "--study", "tested", "--json"))[
            "imported"
        ]
        == 1
    )
    assert (
        json_of(command(tmp_path, "labels", "summary", "--study", "tested", "--json"))["pairs"] == 1
    )
    again = command(tmp_path, "new", "tested", pictures)
    assert again.returncode == 1 and "is there already" in again.stderr


def test_new_refuses_an_empty_folder_and_a_bad_name(tmp_path, pictures):
    (tmp_path / "empty").mkdir()
    empty = command(tmp_path, "new", "nothing", tmp_path / "empty")
    assert empty.returncode == 1 and "at least two" in empty.stderr
    name = command(tmp_path, "new", "My Study", pictures)
    assert (
        name.returncode == 1
        and "study" in name.stderr
        and not list((tmp_path / "configs").glob("*"))
    )


def test_a_pair_that_is_an_automatic_zero_too_is_imported_once(tmp_path, study):
    """An oracle's or a round's zero across classes, then a file that grades the pair above 0: both
    stand, once.
    """
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("image1,image2,similarity\na/0.png,b/1.png,0\n")
    second.write_text("image1,image2,similarity\na/0.png,b/1.png,2\n")
    counts = [
        json_of(command(tmp_path, "labels", "import", file, "--study", study, "--json"))["imported"]
        for file in (first, second, second, first)
    ]
    assert counts == [1, 1, 0, 0]

"""Grades of runs that older versions of the package made are carried over, whatever else of such a
run is no longer read.
"""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_study import command

HEADER = "time,annotator,image1,image2,act,grade,seconds,round,rubric,source,answers\n"
PAIRS = {("a/0.png", "a/1.png"): 3, ("a/0.png", "a/2.png"): 1, ("a/0.png", "b/0.png"): 0}
# journals have had one header from the first version on; acts came to it
LINES = [
    f"2026-11-21T06:14:45.429+00:00,ann,{one},{two},grade,{grade},1.5,0,1,person,yyn------\n"
    for (one, two), grade in PAIRS.items()
]
VOTE = "2026-11-21T07:00:00.000+00:00,ann,a/1.png,a/2.png,vote_up,,,1,1,vote,\n"
COMPARED = "2026-12-01T00:00:00.000+00:00,ann,a/0.png,a/1.png,closer,,2.0,1,1,person,a/2.png\n"
# settings.json as each version wrote it, by what it knew that others do not
HEAD = {
    "batch_size": 64, "class_share": 0.5, "drift": 0.001, "epochs": 16, "head": "residual",
    "hidden": 512, "learning_rate": 0.0003, "loss": "graded_mse", "margin": 0.5,
    "targets": [0.0, 0.1, 0.5, 1.0], "weight_decay": 0.01, "weights": [0.25, 1.0, 1.0, 2.0],
}  # fmt: skip
OLD_HEAD = {**HEAD, "centre": True, "dropout": 0.1, "members": 3, "head": "mlp"}
RUBRIC = {
    "grades": ["no", "a little", "much", "very"], "hints": ["", "", "", ""], "ignored": "",
    "questions": [], "rule": "none", "title": "How similar?", "version": "1",
}  # fmt: skip
STUDY = {
    "asked_per_round": 120, "blind_test": None, "dev_asked": 200, "dev_share": 0.2,
    "duplicate_cosine": 0.98, "encoder": "efficientnet_lite0", "judged_results": None,
    "indexes": [{"name": "exact", "build": {}, "query": {}}], "labels": [], "max_per_image": 4,
    "oracle": "person", "rounds": 4, "seed": 0, "strategy": "", "study": "tested", "tables": [],
    "test_asked": 300, "test_share": 0.2, "zeros_per_round": 360,
}  # fmt: skip
IMAGES = {
    "class_columns": None, "obtain": "", "per_class": None, "sample": None, "vectors": None
}  # fmt: skip
FORMATS = {
    "the first": {**STUDY, "head": OLD_HEAD},
    "sizes": {**STUDY, "head": OLD_HEAD, "cross_fits": 5, "sizes": [2000]},
    "rubrics": {**STUDY, "head": OLD_HEAD, "cross_fits": 5, "sizes": [2000], "rubric": RUBRIC},
    "candidates": {**STUDY, "head": HEAD, "sizes": [2000], "rubric": RUBRIC},
    "titles": {**STUDY, "head": HEAD, "sizes": [2000], "rubric": RUBRIC, "title": "", "about": ""},
    "one to come": {**STUDY, "head": {**HEAD, "flux": 1}, "rounds": "many", "rubric": RUBRIC},
}
REFUSED = ("the first", "sizes", "rubrics", "one to come")


@pytest.fixture
def home(tmp_path) -> Path:
    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for shade in range(4):
            Image.new("RGB", (32, 32), (ord(name), 60 * shade, 40)).save(
                tmp_path / "pictures" / name / f"{shade}.png"
            )
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tested.yaml").write_text(
        f"study: tested\nimages: {{source: {json.dumps(str(tmp_path / 'pictures'))}}}\n"
    )
    return tmp_path


def write_run(home: Path, settings: dict | str, name: str = "tested", lines=(*LINES, VOTE)) -> Path:
    folder = home / "active_learning_labels" / name
    folder.mkdir(parents=True)
    if isinstance(settings, dict):
        source = {"images": {**IMAGES, "source": str(home / "pictures")}}
        settings = json.dumps({**settings, **source})
    (folder / "settings.json").write_text(settings)
    (folder / "journal.csv").write_text(HEADER + "".join(lines))
    return folder / "journal.csv"


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("name", ["tested", "Mine"])
def test_grades_of_every_former_version_are_exported_and_imported_into_a_new_run(
    home, version, name
):
    journal = write_run(home, FORMATS[version], name)
    before = journal.read_bytes()
    options = ("--study", "tested", *(("--run", name) if name != "tested" else ()))
    refused = command(home, "embed", *options)
    if version in REFUSED:
        assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
        assert f"run {name} was made by another version" in refused.stderr
        for part in ("export grades.csv " + " ".join(options), "--run NEW --begin"):
            assert part in refused.stderr
    else:
        assert refused.returncode == 0, refused.stderr
    for arguments in (
        ("labels", "export", home / "grades.csv", *options),
        ("labels", "export", home / "votes.csv", "--votes", *options),
        ("labels", "import", home / "grades.csv", "--study", "tested", "--run", "NEW", "--begin"),
    ):
        done = command(home, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    counts = [
        json.loads(command(home, "labels", "summary", "--study", "tested", *run, "--json").stdout)
        for run in (options[2:], ("--run", "NEW"))
    ]
    assert [count["pairs"] for count in counts] == [3, 3]
    assert counts[0]["grades"] | {"0": 1} == counts[1]["grades"] | {"0": 1} == {
        "0": 1, "1": 1, "3": 1,
    }  # fmt: skip
    assert journal.read_bytes() == before


@pytest.mark.parametrize("settings", ["", "{", "[]", "null"])
def test_grades_are_exported_where_the_settings_are_broken(home, settings):
    write_run(home, settings, lines=[*LINES, COMPARED])
    for what in ((), ("--comparisons",)):
        done = command(home, "labels", "export", home / "out.csv", *what, "--study", "tested")
        assert done.returncode == 0, done.stderr


def test_grades_are_exported_where_the_studys_own_file_is_of_an_older_version(home):
    write_run(home, FORMATS["the first"])
    file = home / "configs/tested.yaml"
    file.write_text(file.read_text() + "head: {centre: true}\n")
    done = command(home, "labels", "export", home / "out.csv", "--study", "tested")
    assert done.returncode == 0, done.stderr
    assert len((home / "out.csv").read_text().splitlines()) == 4


def test_a_misspelt_run_is_neither_exported_nor_begun_unless_that_is_said(home):
    write_run(home, FORMATS["titles"])
    for arguments in (("export", home / "out.csv"), ("import", home / "out.csv"), ("summary",)):
        (home / "out.csv").write_text("image1,image2,similarity\na/0.png,a/1.png,3\n")
        done = command(home, "labels", *arguments, "--study", "tested", "--run", "tetsed")
        assert done.returncode == 1 and "Did you mean tested" in done.stderr
    assert not (home / "active_learning_labels/tetsed").exists()


@pytest.mark.parametrize("run", ["../../x", "..", "/tmp", "a/b", "\x1b[31m"])
@pytest.mark.parametrize("words", [("summary",), ("export", "out.csv")])
def test_a_run_that_leads_elsewhere_is_refused(home, run, words):
    done = command(home, "labels", *words, "--study", "tested", "--run", run)
    assert done.returncode == 1 and "RUN must be letters" in done.stderr
    assert "\x1b" not in done.stderr

"""Folders that are written once, whenever the power goes; runs that are opened again; names that
are refused.
"""

import shutil
from dataclasses import replace

import pytest
import yaml
from filelock import FileLock

from imgsearch_utils import workspace
from imgsearch_utils.workspace import (
    Stage,
    find_run,
    open_run,
    read_json,
    replace_folder,
    write_atomic,
    write_json,
)

TINY = {"study": "tiny", "images": {"source": "synthetic_houses", "per_class": 3}, "rounds": 3}
TREES = ("model", "next_pairs", "results")


@pytest.fixture
def study(home):
    path = home / "configs" / "tiny.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(TINY))
    return "tiny"


@pytest.fixture
def stage(tmp_path):
    return Stage({tree: tmp_path / tree / "round_00" for tree in TREES}, "results")


def everything(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def fill(stage, text="work"):
    stage.start()
    for tree in TREES:
        (stage[tree] / "file.txt").write_text(text)


def rewrite_manifest(stage, **changes):
    for folder in stage.folders.values():
        about = {**read_json(folder / "manifest.json"), **changes}
        write_json(
            folder / "manifest.json",
            {name: value for name, value in about.items() if value is not None},
        )


def test_a_stage_is_finished_only_when_every_folder_has_its_name(stage, tmp_path):
    assert not stage.finished
    fill(stage)
    assert not stage.finished and stage["model"].name == "round_00.partial"
    stage.publish(notebook="02", round=0)
    assert stage.finished and stage["model"] == tmp_path / "model" / "round_00"
    assert set(everything(tmp_path)) == {
        f"{tree}/round_00/{name}" for tree in TREES for name in ("file.txt", "manifest.json")
    }
    manifest = read_json(stage["results"] / "manifest.json")
    assert manifest["notebook"] == "02" and manifest["round"] == 0 and manifest["versions"]["torch"]


@pytest.mark.parametrize("n_renamed", range(len(TREES)))
@pytest.mark.parametrize("order", [TREES, TREES[1::-1] + TREES[2:]])
def test_a_kill_between_two_renames_leaves_an_unfinished_stage_that_starts_anew(
    stage, tmp_path, n_renamed, order
):
    fill(stage, "before the kill")
    for tree in order[:n_renamed]:
        stage[tree].rename(stage.folders[tree])
    again = Stage(stage.folders, "results")
    assert not again.finished
    again.start()
    assert everything(tmp_path) == {} and all(again[tree].is_dir() for tree in TREES)
    fill(again, "after it")
    again.publish()
    assert again.finished and all(
        (again[tree] / "file.txt").read_text() == "after it" for tree in TREES
    )
    assert not list(tmp_path.rglob("*.partial"))


def test_a_finished_stage_is_never_written_again(stage, tmp_path):
    fill(stage)
    stage.publish(round=0)
    before = everything(tmp_path)
    stage.start()
    stage.publish(round=1)
    Stage(stage.folders, "results").start().publish()
    assert everything(tmp_path) == before


def test_what_a_stage_keeps_is_made_once_and_again_without_writing_where_it_lacks(stage, tmp_path):
    made = []

    def make():
        made.append(1)
        return {"b": len(made)}

    stage.start()
    assert [stage.keep("kept.json", make) for _ in range(2)] == [{"b": 1}] * 2 and len(made) == 1
    stage.publish()
    assert stage.keep("kept.json", make) == {"b": 1} and len(made) == 1
    # as a published run's of an older version, which leaves the file out
    rewrite_manifest(stage, files=None)
    (stage["results"] / "kept.json").unlink()
    before = everything(tmp_path)
    assert stage.keep("kept.json", make) == {"b": 2} and everything(tmp_path) == before


@pytest.mark.parametrize(
    "lost", [("model",), ("next_pairs",), ("results",), ("model", "results"), ("file",)]
)
def test_a_stage_that_lost_a_part_is_made_again_and_only_as_it_was(stage, tmp_path, lost):
    def make(text):
        stage.start()
        for tree in TREES:
            (stage[tree] / "file.csv").write_text(text)
        stage.publish()

    make("as it was")
    before = everything(tmp_path)
    for tree in lost:
        if tree == "file":
            (stage.folders["model"] / "file.csv").unlink()
        else:
            shutil.rmtree(stage.folders[tree])
    assert not stage.finished and stage.begun and stage.faults()
    left = everything(tmp_path)
    with pytest.raises(ValueError, match="made again, model/file.csv.*is not what it was.*Restore"):
        make("other")
    assert left.items() <= everything(tmp_path).items() and not stage.finished
    make("as it was")
    assert stage.finished and not stage.faults() and not list(tmp_path.rglob("*.partial"))
    after = everything(tmp_path)
    assert all(after[name] == content for name, content in before.items() if "manifest" not in name)


def test_a_stage_names_what_was_changed_lost_or_exchanged(stage, tmp_path):
    fill(stage)
    images, journal = tmp_path / "images.csv", tmp_path / "journal.csv"
    images.write_text("image\n")
    journal.write_text("header\nline\n")
    stage = replace(stage, sources={"images": images, "journal": journal})
    stage.publish()
    assert not stage.faults()
    journal.write_text("header\nline\nanother\n")
    assert not stage.faults()  # it grows
    (stage["model"] / "file.txt").write_text("wrok")
    journal.write_text("header\nnile\nanother\n")
    images.write_text("image\na\n")
    assert [fault.what.split(" ", 1)[1] for fault in stage.faults()] == [
        "is not the file that was written",
        *[f"is not what {stage['results']} was made of"] * 2,
    ]
    images.unlink()
    (stage.folders["next_pairs"] / "manifest.json").unlink()
    faults = "; ".join(fault.what for fault in stage.faults())
    assert (
        "next_pairs/round_00 has no manifest.json" in faults and "images.csv is not there" in faults
    )


@pytest.mark.parametrize("content", ["{}", "[]", "null", "{"])
def test_a_manifest_that_is_none_is_one_line(stage, content):
    fill(stage)
    stage.publish()
    (stage["results"] / "manifest.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"results/round_00/manifest.json: .*run the study again"
    ) as caught:
        assert stage.finished
    assert len(str(caught.value).splitlines()) == 1


def test_a_published_stage_is_finished_without_what_git_leaves_out(stage):
    stage.start()
    for name in ("model/head.safetensors", "results/figures/a.png", "results/metrics.json"):
        file = stage[name.split("/")[0]] / name.split("/", 1)[1]
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    stage.publish()
    (stage["model"] / "head.safetensors").unlink()
    shutil.rmtree(stage.folders["results"] / "figures")
    published = replace(stage, published=True)
    assert published.finished and not published.faults() and not stage.finished
    (stage.folders["results"] / "metrics.json").unlink()
    assert not published.finished and "metrics.json is not there" in published.faults()[0].what


def test_leftovers_of_another_stage_stay(stage, tmp_path):
    other = Stage({tree: tmp_path / tree / "round_01" for tree in TREES}, "results")
    fill(other)
    fill(stage)
    stage.start()
    assert all((other[tree] / "file.txt").is_file() for tree in TREES)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "below" / "vectors"
    with replace_folder(folder) as partial:
        (partial / "a").write_text("old")
    with pytest.raises(RuntimeError), replace_folder(folder) as partial:
        (partial / "a").write_text("half")
        raise RuntimeError
    assert everything(folder) == {"a": b"old"}
    with replace_folder(folder) as partial:
        (partial / "b").write_text("new")
    assert everything(folder) == {"b": b"new"}
    assert sorted(path.name for path in folder.parent.iterdir()) == [".vectors.lock", "vectors"]


def test_a_text_file_is_the_old_or_the_new_one(tmp_path):
    path = tmp_path / "below" / "log.csv"
    write_atomic(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \udcff")
    assert path.read_bytes() == b"old\n"
    write_atomic(path, "ü\r\n")
    assert path.read_bytes() == "ü\r\n".encode()
    write_json(path, {"b": 1, "a": "ü"})
    assert read_json(path) == {"a": "ü", "b": 1} and "ü" in path.read_text(encoding="utf-8")
    for content in (b"{", b"\xff", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="log.csv: not readable as JSON"):
            read_json(path)
    with pytest.raises(ValueError, match="absent.json: not readable as JSON"):
        read_json(tmp_path / "absent.json")


def test_a_run_is_begun_once_and_opened_again(study, home):
    run = open_run(study, settings={"head.epochs": 2})
    assert run.name == "tiny" and run.study.head.epochs == 2
    before = everything(home)
    assert open_run(study, settings={"head.epochs": 2}) == run
    assert everything(home) == before
    assert open_run(study, "another", {"rounds": 2}).study.rounds == 2
    assert all(
        tree.is_relative_to(home)
        for tree in (run.labels, run.models, run.results, run.vectors, run.report)
    )
    assert len({run.labels, run.models, run.results, run.vectors, run.report}) == 5


def test_other_settings_under_the_same_name_are_refused_with_each_difference(study, home):
    open_run(study, "mine").tagging_stage().start().publish()
    before = everything(home)
    with pytest.raises(ValueError) as caught:
        open_run(study, "mine", {"rounds": 2, "head.epochs": 3, "images.per_class": 4})
    for line in (
        "tagging was made",
        "images.per_class: 3 -> 4",
        "rounds: 3 -> 2",
        "-> 3",
        "run mine",
    ):
        assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 and "seed" not in str(caught.value)
    assert everything(home) == before


def act(run, annotator, source, kind="grade"):
    new = not run.journal.is_file()
    with run.journal.open("a") as file:
        file.write(
            "time,annotator,image1,image2,act,grade,seconds,round,rubric,source,answers\n" * new
        )
        file.write(f"t,{annotator},a,b,{kind},3,,0,1,{source},\n")


@pytest.mark.parametrize(
    ("acts", "said"),
    [
        ([], None),
        ([("automatic", "automatic")], None),
        ([("oracle:rubric", "rubric")], None),
        ([("import", "import")], None),
        ([("ann", "person", "vote_up")], None),
        ([("ann", "person")], "people graded pairs"),
        ([("ann", "person", "skip")], "people graded pairs"),
        ([("import", "import"), ("ann", "adjudication")], "people"),
        (
            [("oracle:rubric", "rubric"), ("import", "import")],
            "an oracle's grades stand among others",
        ),
    ],
)
def test_settings_bind_once_something_was_made_with_them(study, home, capsys, acts, said):
    run = open_run(study)
    run.tagging_stage().start()  # a first try that did not end
    for each in acts:
        act(run, *each)
    if said:
        with pytest.raises(ValueError, match=f"rounds: 3 -> 2; and .*{said}.*RUN"):
            open_run(study, settings={"rounds": 2})
        assert open_run(study) == run
        return
    content = run.journal.read_bytes() if acts else b""
    assert open_run(study, settings={"rounds": 2}).study.rounds == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert open_run(study, settings={"rounds": 2}).study.rounds == 2 and not capsys.readouterr().err
    kept = {"import": True, "ann": True}.get(acts[0][0], False) if acts else False
    assert run.journal.is_file() == kept
    aside = run.journal.with_name("journal.csv.of_other_settings")
    assert not acts or (run.journal if kept else aside).read_bytes() == content


def test_words_may_change_whatever_was_made(study, home):
    open_run(study).tagging_stage().start().publish()
    before = everything(home)
    words = {"title": "Trees & <b>shrubs</b>", "about": "Two are similar when their leaves are."}
    assert (
        open_run(study, settings=words).study.title == words["title"] and everything(home) == before
    )
    (home / "configs" / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"title": "Trees"}))
    assert find_run(study).study.title == open_run(study).study.title == "Trees"


def test_settings_are_not_replaced_under_a_process_that_works_with_them(study, home):
    run = open_run(study)
    before = everything(home)
    with (
        FileLock(run.labels / ".run.lock"),
        pytest.raises(ValueError, match="rounds: 3 -> 2.*another process"),
    ):
        open_run(study, settings={"rounds": 2})
    assert {**everything(home), "active_learning_labels/tiny/.run.lock": b""} == {
        **before,
        "active_learning_labels/tiny/.run.lock": b"",
    }


def test_a_run_of_older_settings_file_with_fewer_names_opens(study):
    run = open_run(study)
    saved = read_json(run.labels / "settings.json")
    del (
        saved["max_per_image"],
        saved["head"]["drift"],
    )  # settings that an older version did not have
    write_json(run.labels / "settings.json", saved)
    assert open_run(study) == run
    (run.labels / "settings.json").write_text("{")
    with pytest.raises(ValueError, match="settings.json: not readable as JSON"):
        open_run(study)


@pytest.mark.parametrize(
    "name", ["a/b", "../up", "..", ".", "/abs", "a b", "a\nb", "a.b", "-", "a\\b", "~"]
)
def test_run_names_that_are_no_folder_names_are_refused(study, home, name):
    before = everything(home)
    with pytest.raises(ValueError, match="RUN must be letters, digits, - and _"):
        open_run(study, name)
    assert everything(home) == before


def test_rounds_come_in_order_and_in_range(study):
    run = open_run(study, settings={"oracle": "rubric"})
    for number in (-1, 3, 99):
        with pytest.raises(ValueError, match=f"ROUND must be 0 to 2 in this study, got {number}"):
            run.round(number).stage()
    with pytest.raises(ValueError, match="round 1 builds on round 0, which is not finished"):
        run.round(1).stage()
    for number in range(3):
        run.round(number).stage().start().publish()
        assert run.round(number).stage().finished
    assert run.round(0).stage()["next_pairs"] == run.round(1).labels
    stages = [
        run.tagging_stage(),
        run.comparison_stage(),
        run.report_stage(),
        *(run.round(number).stage() for number in range(3)),
    ]
    folders = [folder for stage in stages for folder in stage.folders.values()]
    assert len(folders) == len(set(folders))


def test_studies_are_found_by_name_and_by_path(study, home, monkeypatch):
    assert workspace.find_study("tiny") == home / "configs" / "tiny.yaml"
    assert (
        workspace.find_study(str(home / "configs" / "tiny.yaml")) == home / "configs" / "tiny.yaml"
    )
    monkeypatch.chdir(home)
    assert workspace.find_study("configs/tiny.yaml") == home / "configs" / "tiny.yaml"
    assert workspace.find_study("synthetic_houses").is_file()
    for name, nearest in (
        ("synthetic_house", "Did you mean synthetic_houses"),
        ("tinny", "Did you mean tiny"),
        ("", "Choose from"),
        ("configs", "no file"),
    ):
        with pytest.raises(ValueError, match=nearest):
            workspace.find_study(name)


def test_data_are_found_in_datasets_first_then_where_the_environment_says(
    home, monkeypatch, tmp_path_factory
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("IMGSEARCH_DATA", str(elsewhere))
    assert workspace.data_folder("trees") == home / "datasets" / "trees"
    (elsewhere / "trees").mkdir()
    assert workspace.data_folder("trees") == elsewhere / "trees"
    (home / "datasets" / "trees").mkdir(parents=True)
    assert workspace.data_folder("trees") == home / "datasets" / "trees"
    assert workspace.data_folder(str(elsewhere)) == elsewhere
    for name in ("../trees", "a/../../b"):
        with pytest.raises(ValueError, match="leads out of the data folder"):
            workspace.data_folder(name)


def test_the_home_is_the_checkout_unless_the_environment_names_another(home, monkeypatch):
    assert workspace.home() == home
    assert workspace.shown(home / "a" / "b") == "a/b" and workspace.shown(home.parent) == str(
        home.parent
    )
    monkeypatch.delenv("IMGSEARCH_HOME")
    assert workspace.home() == workspace.source() and (workspace.source() / "configs").is_dir()

"""What was written is what is read: parts lost, exchanged or changed are made again or named, never
overlooked.
"""

import json
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from imgsearch_utils import workspace
from imgsearch_utils.images import Embeddings
from tests.tiny_study import command, typed

LABELS, MODELS, RESULTS, VECTORS, REPORT = (
    f"{tree}/tiny"
    for tree in (
        "active_learning_labels",
        "active_learning_models",
        "active_learning_results",
        "vector_dbs",
        "report_results",
    )
)


@pytest.fixture
def home(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "home"))


def everything(home: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(home).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in home.rglob("*")
        if path.is_file()
    }


def say(home: Path, *arguments: str) -> str:
    """What a command that must end with one line of error says."""
    _, line = typed(home, *arguments)
    assert line.startswith("imgsearch: ") and len(line.splitlines()) == 1, line
    return line


def check(home: Path) -> list[dict]:
    out, _ = typed(home, "check", "--study", "tiny.yaml", "--json")
    return json.loads(out)["faults"]


def edit_json(file: Path, **changes) -> None:
    workspace.write_json(file, {**workspace.read_json(file), **changes})


def test_a_whole_run_is_said_to_be_whole_and_nothing_is_written(finished):
    before = everything(finished)
    out, _ = typed(finished, "check", "--study", "tiny.yaml")
    assert out == "run tiny is whole, as far as it is made\n" and everything(finished) == before


@pytest.mark.slow  # nearly the whole run is made again
def test_what_can_be_made_again_is_made_again_as_it_was(home):
    """A head whose results are there, results whose head is there, the log, the report, the
    vectors: all at once.
    """
    before = everything(home)
    for lost in (
        f"{MODELS}/round_00",
        f"{RESULTS}/round_01",
        f"{VECTORS}/encoder",
        f"{VECTORS}/head",
    ):
        shutil.rmtree(home / lost)
    for lost in (f"{RESULTS}/results_log.csv", f"{REPORT}/index.html", f"{LABELS}/images.csv"):
        (home / lost).unlink()
    faults = "\n".join(fault["what"] for fault in check(home))
    for lost in (
        f"{MODELS}/round_00",
        f"{RESULTS}/round_01",
        f"{VECTORS}/encoder",
        "results_log.csv",
        "index.html",
        "images.csv",
    ):
        assert f"{lost} is not there" in faults
    done = command(home, "run", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert check(home) == [] and not list(home.rglob("*.partial"))
    after = everything(home)
    same = [
        name
        for name in before
        if name.endswith((".csv", ".safetensors", ".npy", ".json"))
        and "manifest.json" not in name
        and "figures/" not in name
        and not name.startswith(REPORT)
    ]
    # which say when files were read
    assert len(same) > 25 and not [
        name for name in same if after[name][0] != before[name][0] and "/." not in name
    ]


@pytest.mark.slow  # a notebook is run until it refuses
def test_a_head_that_would_be_another_is_not_made_silently(home):
    """The grades of round 0 changed since: the head made again would not be the one that round 1
    was built on.
    """
    shutil.rmtree(home / f"{MODELS}/round_00")
    for tree in (f"{LABELS}/round_01", f"{RESULTS}/round_00"):
        about = workspace.read_json(home / tree / "manifest.json")
        edit_json(
            home / tree / "manifest.json",
            files={**about["files"], "model/head.safetensors": "0" * 64},
        )
    before = {
        name: content for name, (content, _) in everything(home).items() if "partial" not in name
    }
    done = command(home, "run", "tiny.yaml")
    assert done.returncode == 1 and "model/head.safetensors is not what it was" in done.stderr
    assert "Restore the lost folder from a copy" in done.stderr and "Traceback" not in done.stderr
    after = everything(home)
    kept = [name for name in before if not name.endswith((".lock", ".verified.json", ".names"))]
    assert not [name for name in kept if after[name][0] != before[name]]
    assert not (home / f"{MODELS}/round_00").exists()


def lose_lines(journal: Path) -> None:
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-5]))


def change_a_grade(journal: Path) -> None:
    text = journal.read_text()
    journal.write_text(re.sub(r",grade,0,", ",grade,3,", text, count=1))


@pytest.mark.parametrize(
    "damage", [Path.unlink, lose_lines, change_a_grade, lambda file: file.write_bytes(b"")]
)
def test_what_people_gave_is_never_made_again(home, damage):
    damage(home / f"{LABELS}/journal.csv")
    before = everything(home)
    for lost in (None, home / f"{RESULTS}/round_01"):
        if lost:
            shutil.rmtree(lost)
            before = everything(home)
        said = say(home, "run", "tiny.yaml")
        assert (
            "journal.csv" in said
            and "restore the journal from a copy" in said
            and "--run NAME" in said
        )
        after = everything(home)
        assert {name: content for name, content in after.items() if not name.endswith(".lock")} == {
            name: content for name, content in before.items() if not name.endswith(".lock")
        }
    assert any(
        "journal.csv" in fault["what"] and "restore the journal" in fault["do"]
        for fault in check(home)
    )


def reverse(folder: Path) -> None:
    np.save(folder / "vectors.npy", np.load(folder / "vectors.npy")[::-1])


def test_exchanged_rows_are_refused_by_every_command_that_loads_them(home):
    reverse(home / f"{VECTORS}/encoder")
    names = pd.read_csv(home / f"{LABELS}/images.csv").image
    (home / "pairs.csv").write_text(f"image1,image2\n{names[0]},{names[1]}\n")
    picture = next((home / "datasets").rglob("*.jpg"))
    for words in (
        ["score", "pairs.csv", "--study"],
        ["search", str(picture), "--study"],
        ["index", "--study"],
        ["classify", str(picture), "--study"],
        ["embed", "--study"],
        ["run"],
    ):
        said = say(home, *words, "tiny.yaml")
        assert f"{VECTORS}/encoder" in said and "saved together" in said, command
    assert any("vector_dbs/tiny/encoder" in fault["what"] for fault in check(home))


def test_rows_of_the_heads_vectors_are_refused_too(home):
    reverse(home / f"{VECTORS}/head")
    picture = next((home / "datasets").rglob("*.jpg"))
    said = say(home, "search", str(picture), "--study", "tiny.yaml", "--model", "head")
    assert "tiny/head" in said and "saved together" in said


def test_a_head_is_refused_for_vectors_of_another_encoder(home):
    """They are whole by themselves: as after an embedding with other settings."""
    folder = home / f"{VECTORS}/encoder"
    ours = Embeddings.load(folder)
    replace(ours, vectors=np.array(ours.vectors), config={**ours.config, "weights": "others"}).save(
        folder
    )
    names = pd.read_csv(home / f"{LABELS}/images.csv").image
    (home / "pairs.csv").write_text(f"image1,image2\n{names[0]},{names[1]}\n")
    said = say(home, "score", "pairs.csv", "--study", "tiny.yaml", "--out", "scored.csv")
    assert "head was trained on vectors of another encoder" in said and "weights: " in said
    assert not (home / "scored.csv").exists()
    assert any("another encoder" in fault["what"] for fault in check(home))


def test_an_exchanged_head_or_calibration_is_refused(home):
    names = pd.read_csv(home / f"{LABELS}/images.csv").image
    (home / "pairs.csv").write_text(f"image1,image2\n{names[0]},{names[1]}\n")
    for file in ("head.safetensors", "calibration.json"):
        before = (home / f"{MODELS}/round_01" / file).read_bytes()
        shutil.copy(home / f"{MODELS}/round_00" / file, home / f"{MODELS}/round_01" / file)
        said = say(home, "score", "pairs.csv", "--study", "tiny.yaml")
        assert f"{MODELS}/round_01/{file} is not the file that was written" in said
        (home / f"{MODELS}/round_01" / file).write_bytes(before)


@pytest.mark.parametrize("content", ["{}", "7", "{"])
@pytest.mark.parametrize(
    "name",
    [
        f"{VECTORS}/encoder/config.json",
        f"{MODELS}/round_01/config.json",
        f"{MODELS}/round_01/calibration.json",
        f"{RESULTS}/round_01/metrics.json",
        f"{RESULTS}/round_01/manifest.json",
        f"{LABELS}/settings.json",
        f"{VECTORS}/indexes/index.json",
    ],
)
def test_json_that_lacks_what_is_needed_is_one_line_that_names_the_file(home, name, content):
    (home / name).write_text(content)
    names = pd.read_csv(home / f"{LABELS}/images.csv").image
    (home / "pairs.csv").write_text(f"image1,image2\n{names[0]},{names[1]}\n")
    picture = str(next((home / "datasets").rglob("*.jpg")))
    words = ["search", picture] if "indexes" in name else ["score", "pairs.csv"]
    said = say(home, *words, "--study", "tiny.yaml")
    named = Path(name).parent.as_posix() if "config.json" in name else name
    assert named in said and "KeyError" not in said
    said = say(home, "run", "tiny.yaml")
    assert named in said and "KeyError" not in said


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (
            lambda home: (home / f"{RESULTS}/results_log.csv").write_text("round\n"),
            "does not say what the rounds say",
        ),
        (
            lambda home: shutil.rmtree(home / f"{RESULTS}/ann_comparison"),
            f"{RESULTS}/ann_comparison is not there",
        ),
        (
            lambda home: (home / f"{LABELS}/images.csv").write_text("image\n"),
            "images.csv is not what",
        ),
        (
            lambda home: edit_json(home / f"{LABELS}/settings.json", seed=1),
            "settings.json is not what",
        ),
        (
            lambda home: (home / f"{LABELS}/round_01/pairs.csv").write_text("image1\n"),
            "round_01/pairs.csv is not",
        ),
        (
            lambda home: (home / f"{RESULTS}/round_00/scored_pairs.csv").write_text(""),
            "scored_pairs.csv is not the file",
        ),
        (lambda home: (home / f"{VECTORS}/indexes/chosen.index").write_bytes(b"x"), "chosen.index"),
        (
            lambda home: (home / f"{VECTORS}/indexes/chosen.index.json").unlink(),
            "chosen.index.json does not exist",
        ),
        (
            lambda home: (home / f"{VECTORS}/indexes/chosen.index").unlink(),
            "chosen.index does not exist",
        ),
        (
            lambda home: (home / f"{MODELS}/round_00/manifest.json").unlink(),
            f"{MODELS}/round_00 has no manifest.json",
        ),
        (
            lambda home: shutil.copytree(
                home / f"{MODELS}/round_00", home / f"{MODELS}/round_01", dirs_exist_ok=True
            ),
            f"{MODELS}/round_01 belongs to another making",
        ),
        (
            lambda home: (home / f"{LABELS}/journal.csv").open("ab").write(b"torn"),
            "the last line is torn",
        ),
        (lambda home: (home / f"{LABELS}/journal.csv").open("ab").write(b"no act\n"), "line "),
    ],
)
def test_each_fault_has_its_line_and_nothing_is_written(home, damage, what):
    damage(home)
    before = everything(home)
    faults = check(home)
    assert any(what in fault["what"] and fault["do"] for fault in faults), faults
    out, _ = typed(home, "check", "--study", "tiny.yaml")
    assert len(out.splitlines()) == len(faults) and everything(home) == before


class Writer(threading.Thread):
    """Another process at work, as its lock tells: it breaks something off, and mends it when it is
    told to go on.
    """

    def __init__(self, lock: Path, begin, end):
        super().__init__()
        self.lock, self.begin, self.end = lock, begin, end
        self.halfway, self.go_on = threading.Event(), threading.Event()

    def run(self) -> None:
        with FileLock(self.lock):
            self.begin()
            self.halfway.set()
            self.go_on.wait(60)
            self.end()


def half_an_act(home: Path) -> tuple:
    journal = home / f"{LABELS}/journal.csv"
    line = journal.read_bytes().splitlines(keepends=True)[-1]

    def append(part: bytes) -> None:
        with journal.open("ab") as file:
            file.write(part)

    return f"{LABELS}/journal.csv.lock", lambda: append(line[:30]), lambda: append(line[30:])


def moving(place: str, lock: str):
    def of(home: Path) -> tuple:
        aside = home / "aside"
        return lock, lambda: (home / place).rename(aside), lambda: aside.rename(home / place)

    return of


WRITING = {
    "an act": half_an_act,
    "vectors": moving(f"{VECTORS}/encoder", f"{VECTORS}/.encoder.lock"),
    "pictures are encoded": moving(f"{VECTORS}/encoder", f"{VECTORS}/.embed.lock"),
    "a round": moving(f"{RESULTS}/round_01", f"{LABELS}/.run.lock"),
}


@pytest.mark.parametrize("what", WRITING)
def test_what_another_process_is_writing_is_no_fault(home, what):
    lock, begin, end = WRITING[what](home)
    writer = Writer(home / lock, begin, end)
    writer.start()
    assert writer.halfway.wait(60)
    threading.Timer(0.3, writer.go_on.set).start()
    assert check(home) == []
    writer.join()


@pytest.mark.parametrize("what", WRITING)
def test_a_run_that_is_written_for_long_is_not_said_to_be_broken(home, monkeypatch, what):
    monkeypatch.setattr("imgsearch_utils.steps.run_check.PATIENCE", 0.1)
    lock, begin, end = WRITING[what](home)
    writer = Writer(home / lock, begin, end)
    writer.start()
    assert writer.halfway.wait(60)
    said = say(home, "check", "--study", "tiny.yaml")
    assert f"another process writes run tiny ({lock} is held)" in said and "check again" in said
    writer.go_on.set()
    writer.join()
    assert check(home) == []


def test_a_bit_that_the_stamp_does_not_tell_is_found_by_the_check(home):
    folder = home / f"{VECTORS}/encoder"
    content = bytearray((folder / "vectors.npy").read_bytes())
    content[-3] ^= 1
    (folder / "vectors.npy").write_bytes(content)
    stamp = workspace.read_json(folder / ".verified.json")
    files = [(folder / name).stat() for name in ("vectors.npy", "names.csv", "config.json")]
    stamps = [[each.st_size, each.st_ino, each.st_mtime_ns, each.st_ctime_ns] for each in files]
    # as after a fault of the disk
    workspace.write_json(folder / ".verified.json", {**stamp, "stamps": stamps})
    Embeddings.load(folder)
    assert any("tiny/encoder" in fault["what"] for fault in check(home))


def test_the_published_run_is_finished_and_whole_without_what_git_leaves_out():
    run = workspace.find_run("synthetic_houses", "published_synthetic_houses")
    assert all(stage.finished for stage in run.stages().values()) and run.last_round.number == 3
    out, _ = typed(workspace.source(), "check", "--run", "published_synthetic_houses")
    assert len(out.splitlines()) == 1
    if (run.last_round.model / "head.safetensors").is_file():  # where it was made again
        assert out.startswith("run published_synthetic_houses is whole")
    else:
        assert out.startswith("nothing that is here is broken, but run published_synthetic_houses")
        assert "the encoder answers here" in out

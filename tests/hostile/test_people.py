"""What people do where nobody is hostile: help that is asked for, pairs that nobody knows, a head that
is left out, a study that is edited meanwhile.
"""

import time

import psutil
import pytest

from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.steps.teaching_session import TeachingSession
from imgsearch_utils.workspace import find_run
from tests import tiny_study
from tests.tiny_study import command, living_in

COMMANDS = [
    *("new", "run", "embed", "index", "search", "classify", "duplicates", "serve", "teach", "tag"),
    *("score", "check", "encoders", "unpack", "finetune"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("people")
    tiny_study.make(home)
    return home


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(home, name):
    done = command(home, name, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout
    if name == "classify":
        assert "<checkpoint>" in done.stdout


def test_pairs_of_which_none_is_known_are_not_scored(home):
    (home / "pairs.csv").write_text("image1,image2\nx.jpg,y.jpg\nx.jpg,z.jpg\n")
    done = command(home, "score", "pairs.csv", "--study", "tiny", "--out", "scored.csv")
    assert done.returncode == 1 and "none of its 2 pairs could be scored" in done.stderr
    assert not (home / "scored.csv").exists()


def test_a_study_that_was_edited_is_said_before_anything_is_written(home):
    with living_in(home):
        run = find_run("tiny")
        before, lessons = Journal(run.journal).acts(), TeachingSession(run, "tiny")
        study = home / "configs" / "tiny.yaml"
        text = study.read_text()
        study.write_text(f"{text}asked_per_round: 33\n")
        written = []
        try:
            with pytest.raises(ValueError, match="was edited since this page was opened"):
                lessons.finish(lambda: written.append(1))
        finally:
            study.write_text(text)
        assert not written and Journal(run.journal).acts() == before


@pytest.mark.parametrize("condition", ["'abc'", "NULL", "9e300", "'\\xAA'::BLOB", "1", "-1"])
def test_a_condition_that_is_none_is_a_line(home, condition):
    picture = next((home / "pictures").rglob("*.jpg"))
    done = command(home, "search", picture, "--study", "tiny", "--where", condition)
    assert done.returncode in (0, 1) and len(done.stderr.strip().splitlines()) <= 1


def _that_learn() -> list[psutil.Process]:
    """The learning processes that this one started, without what tracks their resources."""
    children = psutil.Process().children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.kill  # a process is started, stopped, and ended when it gives no answer
def test_a_learning_process_that_hangs_is_ended(home):
    with living_in(home):
        patience = {"learn": 3.0, "finish": 3.0}
        lessons = TeachingSession(find_run("tiny"), "tiny", patience)
        lessons.finish()
        began = time.monotonic()
        while not (children := _that_learn()):
            assert time.monotonic() - began < 60
            time.sleep(0.01)
        for child in children:
            child.suspend()
        while lessons.state.name == "finishing":
            assert time.monotonic() - began < 60
            time.sleep(0.1)
        assert lessons.state.name == "failed" and "gave no answer for 3 s" in lessons.state.line
        assert not any(child.is_running() for child in children)

"""The journal under hostile use: killed while it writes, 64 writers, a clock that goes back, odd
and changing files.
"""

import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.labels.journal import Journal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and forks are those of POSIX")


def script(code: str, *arguments, wrapper=()) -> subprocess.CompletedProcess:
    """Run Python without this process's threads, so that it may fork."""
    return subprocess.run(
        [*wrapper, sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=800,
    )


KILLS = """
import os, random, signal, sys, time
import pandas as pd
from imgsearch_utils.labels.journal import Journal
path, kills, number = sys.argv[1], int(sys.argv[2]), 0
random.seed(4)
for kill in range(kills):
    acknowledged, told = os.pipe()
    child = os.fork()
    if not child:
        journal = Journal(path)
        while True:
            many = 1 if random.random() < 0.3 else 1500  # a batch takes some time to write
            pairs = pd.DataFrame({"image1": "a", "image2": [f"b{kill}-{number + i}-é, quoted" for i in range(many)],
                                  "similarity": 2.0})
            journal.append_many(pairs, "ann", "person")
            os.write(told, b"%d %d %d\\n" % (kill, number, many))
            number += many
    os.close(told)
    first = os.read(acknowledged, 99)
    time.sleep(random.uniform(0, 0.15))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    sys.stdout.write((first + os.fdopen(acknowledged, "rb").read()).decode())
"""


@pytest.mark.kill  # a dozen writers are killed
def test_a_writer_killed_at_any_moment_keeps_every_acknowledged_act_and_damages_no_other(tmp_path):
    path = tmp_path / "journal.csv"
    Journal(path).append("bob", "a", "b", "grade", grade=1)
    process = script(KILLS, path, 12)
    assert process.returncode == 0, process.stderr
    expected = [
        f"b{kill}-{i}-é, quoted"
        for kill, first, many in (map(int, line.split()) for line in process.stdout.splitlines())
        for i in range(first, first + many)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        acts = Journal(path).acts()
    seen = [act.image2 for act in acts]
    assert seen[0] == "b" and len(seen) == len(set(seen))
    assert len(expected) >= 12 and set(expected) <= set(seen)
    assert all(act.annotator == "ann" and act.grade == 2 for act in acts[1:])
    Journal(path).append("bob", "a", "c", "grade", grade=3)  # no lock is left behind
    assert Journal(path).acts()[-1].image2 == "c"


WRITERS = """
import os, sys
from imgsearch_utils.labels.journal import Journal
path, writers, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
children = []
for writer in range(writers):
    child = os.fork()
    if not child:
        journal = Journal(path)
        for i in range(each):
            journal.append(f"w{writer}", "a", f"b{i}", "grade", grade=i % 4)
        os._exit(0)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


def test_sixty_four_writers_at_once_write_every_act_once_and_each_in_its_order(tmp_path):
    process = script(WRITERS, tmp_path / "journal.csv", 64, 4)
    assert process.returncode == 0, process.stderr
    acts = Journal(tmp_path / "journal.csv").acts()
    assert len(acts) == 64 * 4
    by_writer = {
        f"w{n}": [act.image2 for act in acts if act.annotator == f"w{n}"] for n in range(64)
    }
    assert set(map(tuple, by_writer.values())) == {("b0", "b1", "b2", "b3")}


def test_what_is_read_compared_and_appended_alone_is_appended_once(tmp_path):
    path = tmp_path / "new" / "journal.csv"

    def once(number):
        journal = Journal(path)
        with journal.alone():
            if not journal.acts():
                journal.append("ann", "a", "b", "grade", grade=number % 4)

    with ThreadPoolExecutor(8) as hands:
        list(hands.map(once, range(8)))
    assert len(Journal(path).acts()) == 1


def test_the_order_of_the_lines_counts_when_the_clock_goes_back(tmp_path):
    path, journal = tmp_path / "journal.csv", Journal(tmp_path / "journal.csv")
    for pair, act, grade in (
        ("b", "grade", 0),
        ("b", "grade", 3),
        ("c", "grade", 1),
        ("c", "undo", None),
        ("d", "vote_up", None),
        ("d", "vote_down", None),
        ("c", "grade", 2),
    ):
        journal.append("ann", "a", pair, act, grade=grade)
    header, *lines = path.read_text().splitlines()
    back = [
        f"{2026 - n}-01-01T00:00:00.000+00:00,{line.partition(',')[2]}"
        for n, line in enumerate(lines)
    ]
    path.write_text("\n".join([header, *back, ""]))
    read = Journal(path)
    assert [act.time[:4] for act in read.acts()] == [
        "2026",
        "2025",
        "2024",
        "2023",
        "2022",
        "2021",
        "2020",
    ]
    assert read.labels().set_index("image2").similarity.to_dict() == {"b": 3, "c": 2}
    assert read.search_votes()["a", "d"]["ann"].act == "vote_down"
    read.append("ann", "a", "b", "undo")
    assert Journal(path).labels().set_index("image2").similarity.to_dict() == {"b": 0, "c": 2}


def graded(path, *images, annotator="ann"):
    journal = Journal(path)
    for number, image in enumerate(images):
        journal.append(annotator, "a", image, "grade", grade=number % 4)
    return journal


def replace_it(path):
    graded(path.with_name("other.csv"), "x", "y", "z", "w", annotator="eve")
    path.with_name("other.csv").replace(path)


@pytest.mark.parametrize(
    "change",
    [
        replace_it,
        lambda path: os.truncate(path, 150),
        lambda path: os.truncate(path, 0),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes().replace(b",b1,grade", b",bX,grade")),
        lambda path: path.write_bytes(
            path.read_bytes().replace(b",b2,grade,2", b",b2,grade,3") + path.read_bytes()[-60:]
        ),
    ],
    ids=["replaced", "cut", "emptied", "deleted", "edited", "edited and grown"],
)
def test_a_journal_that_changes_under_a_reader_is_refused_and_not_written(tmp_path, change):
    path = tmp_path / "journal.csv"
    reader = graded(path, "b0", "b1", "b2")
    assert len(reader.acts()) == 3
    change(path)
    after = path.read_bytes() if path.exists() else None
    for _ in range(2):
        with pytest.raises(ValueError, match="replaced, cut or edited since it was opened"):
            reader.labels()
        with pytest.raises(
            ValueError, match="replaced, cut or edited since it was opened; nothing was written"
        ):
            reader.append("ann", "a", "b9", "skip")
    assert (path.read_bytes() if path.exists() else None) == after


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo], ids=["folder", "fifo"])
def test_a_journal_that_is_no_file_is_refused_at_once(tmp_path, make):
    path = tmp_path / "journal.csv"
    make(path)
    began = time.monotonic()
    for ask in (
        lambda journal: journal.acts(),
        lambda journal: journal.append("ann", "a", "b", "skip"),
    ):
        with pytest.raises(ValueError, match="expected the journal of a run, a file"):
            ask(Journal(path))
    assert time.monotonic() - began < 20


READ_ONLY = """
import sys
from imgsearch_utils.labels.journal import Journal
journal = Journal(sys.argv[1])
print(len(journal.acts()))
try:
    journal.append("ann", "a", "z", "skip")
except OSError as error:
    print(error.strerror)
"""


def test_a_journal_on_a_read_only_disk_is_read_and_not_written(tmp_path, mounting):
    journal = graded(tmp_path / "run" / "journal.csv", "b", "c")
    before = journal.path.read_bytes()
    process = script(
        READ_ONLY,
        journal.path,
        wrapper=mounting(
            f"mount --bind {journal.path.parent} "
            f"{journal.path.parent} && mount -o remount,bind,ro {journal.path.parent}"
        ),
    )
    assert process.stdout.splitlines() == ["2", "Read-only file system"], process.stderr
    assert journal.path.read_bytes() == before


@pytest.mark.parametrize("room", [1, 90])
def test_a_disk_that_fills_in_the_middle_of_a_line_loses_nothing(tmp_path, room):
    resource = pytest.importorskip("resource")
    journal = graded(tmp_path / "journal.csv", "b", "c")
    many = pd.DataFrame(
        {"image1": "a", "image2": [f"d{n}" for n in range(40)], "similarity": np.arange(40.0) % 4}
    )
    before, limits = journal.path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    try:
        with pytest.raises(OSError, match="full|large"):
            journal.append_many(many, "ann", "person")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.path.read_bytes() == before and len(journal.acts()) == 2
    assert (
        journal.append_many(many, "ann", "person") == 40 and len(Journal(journal.path).acts()) == 42
    )

"""Comparisons from and to files, as a user types the commands; the account of an import adds up."""

import json
from collections import Counter
from itertools import count

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgsearch_utils import workspace
from imgsearch_utils.grades.comparison_files import (
    TRIPLET,
    export_comparisons,
    import_comparisons,
    read_comparisons,
)
from imgsearch_utils.grades.journal import Journal
from tests.tiny_study import command, living_in

PICTURES = ["a.png", "b.png", "c.png", "d.png"]
numbers = count()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A study of four pictures, begun nowhere yet."""
    home = tmp_path_factory.mktemp("home")
    (home / "pictures").mkdir()
    for shade, name in enumerate(PICTURES):
        Image.new("RGB", (32, 32), (60 * shade, 90, 40)).save(home / "pictures" / name)
    (home / "mine.yaml").write_text(
        f"study: mine\nimages: {{source: {json.dumps(str(home / 'pictures'))}}}\n"
    )
    return home


def write(file, rows, header="query,closer,farther"):
    file.write_text("\n".join([header, *(",".join(row) for row in rows), ""]))
    return file


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([*PICTURES[:3], "x.png"]), min_size=3, max_size=3), max_size=9
    ),
    st.randoms(use_true_random=False),
)
def test_an_import_accounts_for_each_row_keeps_every_voice_and_changes_nothing_again(
    home, rows, random
):
    with living_in(home):
        run = workspace.open_run(str(home / "mine.yaml"), f"run{next(numbers)}")
        table = read_comparisons([write(home / "rows.csv", rows)])
        counts, problems = import_comparisons(run, table)
        unknown = [row for row in rows if "x.png" in row]
        good = [row for row in rows if len({*row}) == 3 and row not in unknown]
        assert counts == {
            "rows": len(rows),
            "imported": len(good),
            "known": 0,
            "unknown": len(unknown),
            "same_picture": len(rows) - len(unknown) - len(good),
            "repeated": len(good) - len({*map(tuple, good)}),
            "contradictory": sum([query, two, one] in good for query, one, two in good),
        }
        named = [counts[name] for name in (*counts,) if name not in ("rows", "imported", "known")]
        assert sum(named) == len(problems)
        journal = Journal(run.journal)
        assert journal.labels().empty and not journal.standing()

        def held():
            return Counter(journal.comparisons()[TRIPLET].itertuples(index=False, name=None))

        assert held() == Counter(map(tuple, good))
        before = run.journal.read_bytes()
        random.shuffle(rows)
        again = import_comparisons(run, read_comparisons([write(home / "rows.csv", rows)])).counts
        assert (again["imported"], again["known"]) == (0, len(good))
        assert run.journal.read_bytes() == before
        if good:
            assert export_comparisons(run, home / "out.csv") == (len(good), 0)
            other = workspace.open_run(str(home / "mine.yaml"), f"run{next(numbers)}")
            import_comparisons(other, read_comparisons([home / "out.csv"]))
            assert Counter(
                Journal(other.journal).comparisons()[TRIPLET].itertuples(index=False, name=None)
            ) == Counter(map(tuple, good))


def test_the_commands_take_comparisons_in_and_out_apart_from_grades(home, tmp_path):
    study, out = home / "mine.yaml", tmp_path / "out.csv"
    rows = [PICTURES[:3], [PICTURES[0], PICTURES[2], PICTURES[1]], ["a.png", "b.png", "z.png"]]
    file = write(tmp_path / "said.csv", rows)
    said = command(tmp_path, "labels", "import", file, "--study", study)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("3 rows, 2 imported, 0 known, 1 unknown, 0 same picture,")
    problems = pd.read_csv(tmp_path / "active_learning_labels/mine/comparison_problems.csv")
    assert problems.problem.tolist() == ["unknown", "contradictory", "contradictory"]
    assert problems.row[0] == 4 and "z.png" in problems.detail[0]
    grades = write(tmp_path / "pairs.csv", [["a.png", "b.png", "2"]], "image1,image2,similarity")
    assert command(tmp_path, "labels", "import", grades, "--study", study).returncode == 0
    journal = Journal(tmp_path / "active_learning_labels/mine/journal.csv")
    journal.compare("ann", "d.png", "a.png", "b.png", "neither")
    journal.compare("import", "d.png", "a.png", "c.png")  # a person who is called so
    summary = json.loads(command(tmp_path, "labels", "summary", "--study", study, "--json").stdout)
    assert (summary["pairs"], summary["comparisons"]) == (1, 3)
    said = command(tmp_path, "labels", "export", out, "--study", study, "--comparisons").stdout
    assert said == f'3 comparisons (without 1 answers "neither"): {out}\n'
    table = pd.read_csv(out)
    assert table[[*TRIPLET, "annotator"]].to_numpy().tolist() == [
        [*rows[0], "import"],
        [*rows[1], "import 2"],
        ["d.png", "a.png", "c.png", "import"],
    ]
    write(file, [["d.png", "c.png", "a.png"]])
    assert command(tmp_path, "labels", "import", file, "--study", study).returncode == 0
    assert len(Journal(journal.path).comparisons()) == 4  # the person's answer stands


def test_files_that_cannot_be_read_begin_no_run_and_say_why(home, tmp_path):
    study = home / "mine.yaml"
    good = write(tmp_path / "good.csv", [PICTURES[:3]])
    pairs = write(tmp_path / "pairs.csv", [["a.png", "b.png", "2"]], "image1,image2,similarity")
    for files, line in (
        (
            [write(tmp_path / "h.csv", [PICTURES[:3]], "query,closer,further")],
            "Did you mean further",
        ),
        ([write(tmp_path / "e.csv", [["a.png", "", "b.png"]])], "row 2: closer is empty"),
        ([good, pairs], "by a command each"),
    ):
        said = command(tmp_path, "labels", "import", *files, "--study", study)
        assert said.returncode == 1 and line in said.stderr, said.stderr
    assert not (tmp_path / "active_learning_labels").exists()
    nothing = command(tmp_path, "labels", "export", tmp_path / "o.csv", "--study", study)
    assert nothing.returncode == 1 and "no run is called mine" in nothing.stderr

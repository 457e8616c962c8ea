"""The accounts of embed, duplicates and labels import, as a user sees them, and that they add up."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgsearch_utils.workspace import find_run
from imgsearch_utils.workspace.account import Account
from tests.tiny_study import command, living_in, typed

NAMES = [f"{kind}/{n}.png" for kind in "ab" for n in range(3)]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Six pictures of two classes, one that is none, and a text; embedded."""
    home = tmp_path_factory.mktemp("home")
    for number, name in enumerate(NAMES):
        (home / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (40 * number, 90, 200 - 30 * number)).save(
            home / "pictures" / name
        )
    (home / "pictures/a/page.jpg").write_text("<html>")
    (home / "pictures/a/notes.txt").write_text("x")
    assert command(home, "new", "tested", home / "pictures").returncode == 0
    return home


def test_embed_counts_what_it_could_not_read(home):
    out, said = typed(home, "embed", "--study", "tested")
    assert "8 files seen = 6 taken + 2 left out" in out and "a/page.jpg" in said
    assert "left out: 1 not a readable picture; first: 'a/page.jpg'" in out
    assert "class: 2 classes: a 3, b 3" in out
    kept = Account.read(home / "vector_dbs/tested/account.json")
    assert kept.seen == 8 and kept.left_out["no picture (.txt)"] == (1, "'a/notes.txt'")


def test_duplicates_counts_pictures_that_came_since(home):
    typed(home, "embed", "--study", "tested")
    new = home / "pictures/b/new.png"
    Image.new("RGB", (32, 32), "green").save(new)
    out, _ = typed(home, "duplicates", "--study", "tested", "--cosine", "0.99")
    new.unlink()
    assert "9 files seen = 6 taken + 3 left out" in out
    assert "left out: 2 without a vector; where it can be read: imgsearch embed" in out
    kept = Account.read(home / "active_learning_results/tested/duplicates/account.json")
    assert kept.taken == 6 and kept.classes == {"class": {"a": 3, "b": 3}}


def test_import_counts_every_row(home, tmp_path):
    rows = [
        ("a/0.png", "a/1.png", "3"),
        ("a/1.png", "a/0.png", "2"),
        ("a/0.png", "b/0.png", "0"),
        ("a/0.png", "ghost.png", "1"),
        ("b/1.png", "b/1.png", "3"),
        ("b/1.png", "b/2.png", ""),
    ]
    file = tmp_path / "pairs.csv"
    file.write_text("image1,image2,similarity\n" + "\n".join(map(",".join, rows)) + "\n")
    out, _ = typed(home, "labels", "import", file, "--study", "tested")
    assert "6 rows seen = 2 taken + 4 left out" in out
    assert "1 of an image that the study does not have; first: pairs.csv: row 5" in out
    assert "1 grades 0 across classes count as automatic" in out
    out, _ = typed(home, "labels", "import", file, "--study", "tested")
    assert "6 rows seen = 0 taken + 6 left out" in out
    assert "2 that the journal held already" in out
    file.write_text("query,closer,farther\na/0.png,a/1.png,b/0.png\na/0.png,a/1.png,x\n")
    out, _ = typed(home, "labels", "import", file, "--study", "tested")
    assert "2 rows seen = 1 taken + 1 left out" in out
    assert "1 of an image that the study does not have; first: pairs.csv: row 3" in out


image = st.sampled_from([*NAMES, "ghost.png"])


@settings(max_examples=40)
@given(st.lists(st.tuples(image, image, st.sampled_from(["0", "1", "3", ""])), max_size=12))
def test_the_account_of_any_pairs_adds_up(home, tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    file.write_text("image1,image2,similarity\n" + "".join(f"{','.join(row)}\n" for row in rows))
    done = command(home, "labels", "import", file, "--study", "tested")
    assert done.returncode == 0, done.stderr
    with living_in(home):
        account = Account.read(find_run("tested").labels / "import_account.json")
    assert account.seen == len(rows)
    assert account.taken == sum(account.classes["grade"].values())

"""`imgsearch duplicates`: groups within and across classes, as a table and as a page."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgsearch_utils.steps.duplicates import find_duplicates
from imgsearch_utils.vectors import Embeddings, Images
from tests import tiny_study
from tests.pages.chromium import faults, needs_chromium
from tests.steps.test_pipeline import page_of
from tests.tiny_study import typed

ODD = "<b>odd & $x$.jpg"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Houses, one of which stands in another class too, and one as a smaller copy with a name that
    is HTML.
    """
    folder = tmp_path_factory.mktemp("duplicates")
    tiny_study.make(folder)
    first, second = (tiny_study.picture_of(folder, tiny_study.HOUSES[number]) for number in (0, 1))
    other = next(
        place for place in sorted((folder / "pictures").iterdir()) if place != first.parent
    )
    shutil.copy(first, other / ODD)
    Image.open(second).resize((140, 140)).save(second.with_name("smaller.png"))
    typed(folder, "embed", "--study", "tiny")
    return folder


def images_of(vectors, kinds):
    names = [f"{number}.jpg" for number in range(len(vectors))]
    return Images(
        pd.DataFrame({"image": names, "kind": kinds}),
        Embeddings(names, np.array(vectors, np.float32), {}),
    )


def test_groups_are_joined_by_chains_and_those_across_classes_come_first():
    angles = np.radians([0, 10, 20, 90, 90, 180, 181, 300])
    found = find_duplicates(
        images_of(np.stack([np.cos(angles), np.sin(angles)], 1), [*"aaabbcda"]),
        float(np.cos(np.radians(11))),
    )
    assert found.image.tolist() == ["5.jpg", "6.jpg", "3.jpg", "4.jpg", "0.jpg", "1.jpg", "2.jpg"]
    assert (
        found.group.tolist() == [1, 1, 2, 2, 3, 3, 3]
        and found.across.tolist() == ["kind"] * 2 + [""] * 5
    )
    assert found.nearest.tolist()[:4] == ["6.jpg", "5.jpg", "4.jpg", "3.jpg"]
    np.testing.assert_allclose(found.cosine[4:], np.cos(np.radians(10)), atol=1e-5)
    assert found.same_picture.tolist() == [False, False, True, True, False, False, False]


def test_nothing_alike_is_no_row():
    found = find_duplicates(images_of(np.eye(4), [*"abcd"]), 0.5)
    assert found.empty and {"group", "image", "kind", "nearest", "cosine", "across"} <= set(found)


@needs_chromium
def test_the_command_writes_a_table_and_a_page_that_shows_them(home):
    out, _ = typed(home, "duplicates", "--study", "tiny", "--cosine", "0.97")
    folder = home / "active_learning_results/tiny/duplicates"
    table = pd.read_csv(folder / "duplicates.csv", keep_default_na=False)
    first = table[table.group == 1]
    assert (
        first.across.iloc[0] == "class"
        and any(ODD in name for name in first.image)
        and first.same_picture.all()
    )
    assert any("smaller.png" in name for name in table[table.across == ""].image)
    assert (
        f"{table.group.nunique()} groups, 1 of them across classes" in out
        and "duplicates/index.html" in out
    )
    with page_of(folder) as page:
        assert page.locator("section").count() == table.group.nunique()
        # names are no HTML
        assert page.locator("section.across li > b").all_inner_texts() == first.image.tolist()
        assert page.locator("img").evaluate_all("all => all.every(one => one.naturalWidth === 150)")
        assert not faults(page)


def test_what_it_cannot_do_is_one_line(home, tmp_path):
    for cosine in ("0", "1.5", "nan"):
        _, said = typed(home, "duplicates", "--study", "tiny", "--cosine", cosine)
        assert (
            said.strip()
            == f"imgsearch: --cosine must be above 0 and at most 1, got {float(cosine)}"
        )
    out, _ = typed(
        home, "duplicates", "--study", "tiny", "--cosine", "1", "--json", "--out", tmp_path / "a"
    )
    assert json.loads(out)["images"] == 38 and (tmp_path / "a" / "index.html").is_file()
    (home / "active_learning_labels/tiny/PUBLISHED").touch()
    _, said = typed(home, "duplicates", "--study", "tiny")
    (home / "active_learning_labels/tiny/PUBLISHED").unlink()
    assert (
        said.strip()
        == "imgsearch: run tiny is published and not written to; name a folder: --out FOLDER"
    )

"""Labels in SQLite: as the table says, found by any condition, and no condition does more than
find.
"""

import os
import sqlite3

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.images import label_conditions
from imgsearch_utils.images.label_conditions import Metadata

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
cell = text | st.integers(-50, 50).map(str) | st.sampled_from(["007", "", "1.50", "NULL"])
HOUSES = pd.DataFrame(
    {
        "image": [f"{n}.png" for n in range(6)],
        "kind": ["farm", "farm", "", "mill", "mill", "mill"],
        "year": ["1900", "", "1990", "2001", "-5", "0"],
        "built of": ["o'", '"q"', "", "a", "b", "c"],
    }
)


def opened(tmp_path, known_as="one", table=HOUSES, names=None):
    return Metadata.open(
        tmp_path / "labels.sqlite",
        known_as,
        names or table.image.tolist(),
        lambda: (table, [name for name in table if name == "kind"]),
    )


@settings(max_examples=60)
@given(
    st.dictionaries(
        text.filter(lambda name: name not in ("", "image")),
        st.lists(cell, min_size=4, max_size=4),
        max_size=4,
    ),
    st.booleans(),
    st.permutations(range(4)),
)
def test_what_is_kept_is_what_the_table_says(tmp_path_factory, columns, many, order):
    folder = tmp_path_factory.mktemp("kept")
    table = pd.DataFrame({"image": list("abcd"), **columns}, dtype=object)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_conditions, "MANY", 2 if many else 10)
        patch.setattr(label_conditions, "AT_ONCE", 2)
        kept = Metadata.open(
            folder / "labels.sqlite", "one", list("dbca"), lambda: (table, list(columns))
        )
        wanted = table.set_index("image").loc[list("dbca")]
        assert len(kept.columns) == len(columns) and kept.classes == kept.columns
        found, rows = kept.of(np.array(order)), wanted.iloc[list(order)]
        for name, column in zip(kept.columns, columns):
            assert (
                found[name].tolist()
                == rows[column].tolist()
                == kept.table()[name].iloc[list(order)].tolist()
            )


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("kind = 'mill'", "345"),
        ("KIND = 'mill' and year > 0", "3"),
        ("year > 1950", "23"),
        ("year < 0", "4"),
        ("kind IS NULL", "2"),
        ("NOT kind = 'farm'", "345"),
        ("\"built of\" = 'o'''", "0"),
        ("image LIKE '5%'", "5"),
        ("kind = 'farm' -- and so on", "01"),
        ("kind = 'none'", ""),
        ("year BETWEEN -10 AND 10", "45"),
        ("year % 2 = 1", "3"),
        ("1) OR (1", "012345"),
        ("kind IN (SELECT kind FROM images WHERE year = 0)", "345"),
    ],
)
def test_a_condition_finds_the_rows_that_it_says(tmp_path, condition, names):
    assert [f"{row}" for row in opened(tmp_path).where(condition)] == list(names)


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "kinds = 'mill'",
        "kind = 'mill",
        "1); DELETE FROM images; --",
        "kind = 'mill'; DROP TABLE images",
        f"(SELECT count(*) FROM {', '.join(f'images t{number}' for number in range(20))})",
        "WITH RECURSIVE",
        "EXISTS (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT * FROM n)",
        "length(randomblob(900000000))",
        "load_extension('x')",
        "\0",
        "\ud800",
        "(" * 5000 + ")" * 5000,
        "1" * 2_000_000,
    ],
    ids=lambda value: repr(value[:40]),
)
def test_what_is_no_condition_is_one_line_and_changes_nothing(tmp_path, monkeypatch, condition):
    monkeypatch.setattr(label_conditions, "PATIENCE", 0.3)
    kept = opened(tmp_path)
    before = (tmp_path / "labels.sqlite").read_bytes()
    with pytest.raises(ValueError, match="no condition that can be asked") as caught:
        kept.where(condition)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1000
    assert (tmp_path / "labels.sqlite").read_bytes() == before and len(kept.where("1")) == 6
    for what in ("ATTACH 'x' AS y", "PRAGMA journal_mode", "CREATE TABLE x (y)"):
        with pytest.raises(sqlite3.DatabaseError):
            kept._asked.execute(what)


def test_it_is_read_again_where_the_images_or_their_labels_are_others(tmp_path):
    opened(tmp_path)
    changed = HOUSES.assign(kind="barn")
    assert set(opened(tmp_path, table=changed).table().kind) == {"farm", "", "mill"}
    assert set(opened(tmp_path, "two", changed).table().kind) == {"barn"}
    fewer = opened(tmp_path, "three", names=["4.png", "stranger.png"])
    assert fewer.table().to_numpy().tolist() == [["mill", "-5", "b"], ["", "", ""]]
    (tmp_path / "labels.sqlite").write_bytes(b"broken" * 999)
    assert len(opened(tmp_path, "three").table()) == 6
    opened(tmp_path, "none", HOUSES[["image"]])
    assert Metadata.in_memory(["a"], HOUSES[["image"]]).example() == ""


def test_names_that_answers_have_already_get_others():
    table = pd.DataFrame(
        {"image": ["a"], "score": "x", "rowid": "y", "Kind": "z", "kind": "w", "KIND": "v"}
    )
    kept = Metadata.in_memory(["a"], table)
    assert kept.columns == ["label_score", "label_rowid", "Kind", "kind_", "KIND__"]
    assert kept.where("kind = 'z' AND kind_ = 'w' AND rowid = 1").tolist() == [0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_where_nothing_can_be_written_it_is_read_all_the_same(tmp_path):
    tmp_path.chmod(0o555)
    kept = opened(tmp_path)
    tmp_path.chmod(0o755)
    assert len(kept.where("kind = 'mill'")) == 3 and not list(tmp_path.iterdir())

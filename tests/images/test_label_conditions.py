"""Labels beside the vectors: as the table says, found by any condition, and no condition does more
than find.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.images import label_conditions
from imgsearch_utils.images.label_conditions import Metadata

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
cell = text | st.integers(-50, 50).map(str) | st.sampled_from(["007", "", "1.50", "NULL"])
HOUSES = pd.DataFrame(
    {
        "image": [f"{n}.png" for n in range(6)],
        "kind": ["farm", "farm", "", "mill", "mill", "mill"],
        "year": ["1900", "", "1990", "2001", "-5", "0"],
        "built of": ["o'", '"q"', "", "a", "b", "c"],
        "pwatermark": ["9.5e-05", "0.6", "", "1E3", ".5", "2"],
        "gap": ["1990.0", "", "1.0", "2.0", "3.0", "10.0"],
        "code": ["007", "8", "", "010", "9", "7"],
        "order": ["1.5", "x", "", "2", "3", "10"],
        "day": ["2026-11-30", "2025-01-02", "", "2024-02-29", "1999-12-31", "2026-01-01"],
        "no day": ["2026-02-30", "2025-01-02", "", "2024-02-29", "1999-12-31", "2026-01-01"],
    }
)


def opened(tmp_path, known_as="one", table=HOUSES, names=None):
    return Metadata.open(
        tmp_path / "labels.arrow",
        known_as,
        names or table.image.tolist(),
        lambda: (table, [name for name in table if name == "kind"]),
    )


@settings(max_examples=40)
@given(
    st.dictionaries(
        text.filter(lambda name: name not in ("", "image")),
        st.lists(cell, min_size=4, max_size=4),
        max_size=4,
    ),
    st.permutations(range(4)),
)
def test_what_is_kept_is_what_the_table_says(tmp_path_factory, columns, order):
    folder = tmp_path_factory.mktemp("kept")
    table = pd.DataFrame({"image": list("abcd"), **columns}, dtype=object)
    wanted = table.set_index("image").loc[list("dbca")]
    for _ in range(2):  # made, and read
        kept = Metadata.open(
            folder / "labels.arrow", "one", list("dbca"), lambda: (table, list(columns))
        )
        assert len(kept.columns) == len(columns) and kept.classes == kept.columns
        found, rows = kept.of(np.array(order)), wanted.iloc[list(order)]
        for name, column in zip(kept.columns, columns):
            assert (
                found[name].tolist()
                == rows[column].tolist()
                == kept.table()[name].iloc[list(order)].tolist()
            )
            quoted = duckdb.ColumnExpression(name)
            empty = [n for n, value in enumerate(wanted[column]) if value == ""]
            assert kept.where(f"{quoted} IS NULL").tolist() == empty
    table.to_csv(folder / "labels.arrow")  # it is none


numbers = st.integers(-(10**6), 10**6) | st.floats(-1e9, 1e9) | st.none()


@settings(max_examples=40)
@given(st.lists(numbers, min_size=1, max_size=8), st.integers(-100, 100) | st.floats(-1e9, 1e9))
def test_numbers_are_compared_as_numbers_however_they_are_written(values, limit):
    written = ["" if value is None else str(value) for value in values]
    images = [f"{n}" for n in range(len(values))]
    kept = Metadata.in_memory(images, pd.DataFrame({"image": images, "x": written}))
    if any(written):
        above = [n for n, value in enumerate(values) if value is not None and value > limit]
        assert kept.where(f"x > {limit!r}").tolist() == above


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
        ("year > '1950'", "23"),
        ("CAST(year AS VARCHAR) LIKE '19%'", "02"),
        ("0.5 < pwatermark", "135"),
        ("pwatermark < 0.0001", "0"),
        ("pwatermark = 1000", "3"),
        ("gap = 1990", "0"),
        ("gap > 2", "045"),
        ("gap IN (1, 2.0)", "23"),
        ("code = '007'", "0"),
        ("day > '2025-06-01'", "05"),
        ("year(day) = 2024 OR day IS NULL", "23"),
        ("\"no day\" > '2026'", "05"),
        ("code = '7'", "5"),
        ("CAST(code AS INTEGER) > 8", "34"),
        ("\"order\" = '1.5' OR \"order\" > '3'", "01"),
        ("lower(upper(kind)) ILIKE 'M%' AND length(image) = 5", "345"),
        ("year > (SELECT avg(year) FROM images)", "023"),
        ("kind IN (SELECT kind FROM images WHERE year = 0)", "345"),
    ],
)
def test_a_condition_finds_the_rows_that_it_says(tmp_path, condition, names):
    assert [f"{row}" for row in opened(tmp_path).where(condition)] == list(names)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("", ""),
        ("kinds = 'mill'", '"kinds" not found'),
        ("\"kinds\" = 'mill'", '"kinds" not found'),
        ("kind = 'mill", "unterminated"),
        ("kind = 3", "Could not convert string 'farm'"),
        ("code > 7", "explicit cast"),
        ("'abc'", "neither true nor false"),
        ("NULL", "neither true nor false"),
        ("9e300", "neither true nor false"),
        ("1e400", "neither true nor false"),
        ("'\\x00'::BLOB", "BLOB may not"),
        ("x'00'", "neither true nor false"),
        ("year", "neither true nor false"),
        ("'true'", "neither true nor false"),
        ("COLUMNS(*)", "neither true nor false"),
        ("9e300::INTEGER > 0", "out of range"),
        ("abs(-9223372036854775808) > 0", "Overflow"),
        ("instr(replace(hex(zeroblob(99999999)), '0', 'aaaa'), 'b') > 0", "zeroblob may not"),
        ("1;", "syntax error"),
        ("kind, year", "single expression"),
        ("1) OR (1", "syntax error"),
        ("1) UNION ALL SELECT rowid FROM images WHERE (1", "syntax error"),
        ("year > 0 UNION ALL SELECT 1", "set operation"),
        ("year > 0 WHERE year < 1950", "WHERE clause"),
        ("year > 0 ORDER BY year", "modifier"),
        ("1); DELETE FROM images; --", "syntax error"),
        ("kind = 'mill'; DROP TABLE images", "more than one statement"),
        ("ATTACH 'x'", "ATTACH may not"),
        ("COPY images TO 'x'", "syntax error"),
        ("PRAGMA version", "syntax error"),
        ("SET threads = 1", "syntax error"),
        ("EXISTS (SELECT * FROM read_csv('/etc/passwd'))", "read_csv may not"),
        ("EXISTS (SELECT * FROM '/etc/passwd')", "/etc/passwd does not exist"),
        ("EXISTS (SELECT * FROM HOUSES)", "HOUSES does not exist"),
        ("EXISTS (SELECT * FROM duckdb_settings())", "duckdb_settings may not"),
        (f"(SELECT count(*) FROM {', '.join(f'images t{n}' for n in range(20))}) > 0", "too long"),
        (f"EXISTS ({ENDLESS} SELECT max(x) FROM n)", "too long"),
        ("length(repeat('x', 900000000)) > 0", "repeat may not"),
        ("len(range(1000000000)) > 0", "range may not"),
        ("CASE WHEN year > 0 THEN NULL::INT[99999][9999] END IS NULL", "array may not"),
        ("kind || kind = 'x'", "|| may not"),
        ("load_extension('x')", "load_extension may not"),
        ("kind = ?", "parameters"),
        ("kind = 'mill' \0", "\\0"),
        ("\ud800", "surrogates"),
        ("(" * 4000 + ")" * 4000, "depth"),
        ("1" * 2_000_000, "2,000,000 letters"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_what_is_no_condition_is_one_line_and_changes_nothing(
    tmp_path, monkeypatch, condition, why
):
    monkeypatch.setattr(label_conditions, "PATIENCE", 0.3)
    monkeypatch.chdir(tmp_path)
    kept = opened(tmp_path)
    before = (tmp_path / "labels.arrow").read_bytes()
    began = time.monotonic()
    with pytest.raises(ValueError, match="no condition that can be asked") as caught:
        kept.where(condition)
    assert why in str(caught.value) and time.monotonic() - began < 10
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["labels.arrow"]
    assert (tmp_path / "labels.arrow").read_bytes() == before and len(kept.where("true")) == 6


WORDS = """
    kind year image pwatermark 'abc' NULL 9e300 -1 0 x'00' 'a'::BLOB true [1] {'a':1} * ( ) ,
    AND OR NOT = <> < > + - / % ^ || :: LIKE ILIKE IN IS BETWEEN CASE WHEN THEN END CAST DATE
    SELECT FROM images WHERE UNION COUNT(*) max( sqrt( abs( instr( repeat( regexp_matches( ? $1
    INTERVAL LIMIT OVER EXISTS STRUCT INTEGER[] -- /* ; \\
"""


def test_whatever_is_typed_finds_rows_or_is_refused_in_one_line():
    kept = Metadata.in_memory(HOUSES.image.tolist(), HOUSES)

    @settings(max_examples=200)
    @given(st.lists(st.sampled_from(WORDS.split()) | text, max_size=8))
    def ask(words):
        try:
            assert set(kept.where(" ".join(words))) <= set(range(6))
        except ValueError as error:
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 1000

    ask()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "ATTACH 'x' AS y",
        "COPY images TO 'x'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '9GB'",
    ],
)
def test_even_a_whole_statement_reaches_no_file(statement):
    kept = Metadata.in_memory(HOUSES.image.tolist(), HOUSES)
    with pytest.raises(duckdb.Error, match="disabled|locked"):
        kept._asked.execute(statement).fetchall()


def test_many_ask_at_once_and_one_that_takes_too_long_stops_alone(monkeypatch):
    monkeypatch.setattr(label_conditions, "PATIENCE", 0.3)
    kept = Metadata.in_memory(HOUSES.image.tolist(), HOUSES)

    def ask(number):
        if number % 5:
            return len(kept.where(f"kind = 'mill' AND year > {number}"))
        with pytest.raises(ValueError, match="takes too long"):
            kept.where(f"EXISTS ({ENDLESS} SELECT max(x) FROM n)")

    with ThreadPoolExecutor(4) as several:
        assert list(several.map(ask, range(10))) == [None, 1, 1, 1, 1] * 2


def test_it_is_read_again_where_the_images_or_their_labels_are_others(tmp_path):
    opened(tmp_path)
    changed = HOUSES.assign(kind="barn")
    assert set(opened(tmp_path, table=changed).table().kind) == {"farm", "", "mill"}
    assert set(opened(tmp_path, "two", changed).table().kind) == {"barn"}
    fewer = opened(tmp_path, "three", names=["4.png", "stranger.png"])
    assert fewer.table().iloc[:, :3].to_numpy().tolist() == [["mill", "-5", "b"], ["", "", ""]]
    (tmp_path / "labels.arrow").write_bytes(b"broken" * 999)
    assert len(opened(tmp_path, "three").table()) == 6
    opened(tmp_path, "none", HOUSES[["image"]])
    assert Metadata.in_memory(["a"], HOUSES[["image"]]).example() == ""


def test_a_damaged_file_is_made_again_or_read_without_harm(tmp_path):
    file, rng = tmp_path / "labels.arrow", np.random.default_rng(0)
    opened(tmp_path)
    whole = file.read_bytes()
    for _ in range(200):
        broken = bytearray(whole[: rng.integers(1, len(whole)) if rng.random() < 0.3 else None])
        broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        file.unlink()
        file.write_bytes(broken)
        assert opened(tmp_path).table().shape == (6, 9)


def test_names_that_answers_have_already_get_others():
    table = pd.DataFrame(
        {"image": ["a"], "score": "x", "rowid": "y", "Kind": "z", "kind": "w", "KIND": "v"}
    )
    kept = Metadata.in_memory(["a"], table, ["kind"])
    assert kept.columns == ["label_score", "label_rowid", "Kind", "kind_1", "KIND_2"]
    assert kept.classes == ["kind_1"]
    assert kept.where("kind = 'z' AND kind_1 = 'w' AND label_rowid = 'y'").tolist() == [0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_where_nothing_can_be_written_it_is_read_all_the_same(tmp_path):
    tmp_path.chmod(0o555)
    kept = opened(tmp_path)
    tmp_path.chmod(0o755)
    assert len(kept.where("kind = 'mill'")) == 3 and not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_kept_is_done_without(tmp_path):
    assert len(opened(tmp_path / "gone").where("kind = 'mill'")) == 3
    assert not list(tmp_path.iterdir())

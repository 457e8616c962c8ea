"""Pair files are read exactly or refused with one line; merging and importing name what they meet;
no split leaks.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.grades.import_export import import_report
from imgsearch_utils.grades.pairs import canonical, lower_median, merge, read_pairs, write_pairs
from imgsearch_utils.grades.usable_grades import check_no_leak, usable
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.images.image_split import split_by_group


def of(table):
    """The images of a table, without vectors."""
    return Images(table, Embeddings([], np.empty((0, 1), np.float32), {}))


PLAIN = "image1,image2,similarity\nb.jpg,a.jpg,3\nc.jpg,a.jpg,\n"


def table(*rows):
    return pd.DataFrame(rows, columns=["image1", "image2", "similarity"]).astype(
        {"similarity": float}
    )


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "﻿" + PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN + "\n,,\n",
        PLAIN.replace(",3", ",3.0"),
        PLAIN.replace(",", ";").replace("3", "3,0"),
        "image1_path,similarity,image2_path\n(x/b.jpg),3,(x/y/a.jpg)\n(c.jpg),,(x\\a.jpg)\n",
    ],
)
def test_the_same_pairs_are_read_from_every_dialect(tmp_path, text):
    (tmp_path / "pairs.csv").write_bytes(text.encode())
    pairs = read_pairs(tmp_path / "pairs.csv")
    assert pairs.image1.tolist() == ["b.jpg", "c.jpg"] and pairs.image2.tolist() == [
        "a.jpg",
        "a.jpg",
    ]
    np.testing.assert_array_equal(pairs.similarity, [3, np.nan])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            PLAIN + "d.jpg,a.jpg,7\n",
            r"pairs.csv: row 4: similarity must be 0, 1, 2, 3 or empty, got '7'",
        ),
        (PLAIN + "d.jpg,a.jpg,1.5\n", "row 4: similarity .* got '1.5'"),
        (PLAIN + "d.jpg,a.jpg,nan\n", "row 4: similarity .* got 'nan'"),
        (PLAIN + "\nd.jpg,a.jpg\n", "row 5: expected 3 fields, got 2"),
        (PLAIN + ",a.jpg,1\n", "row 4: image1 is empty"),
        (
            "image1,image2,similarty\na,b,1\n",
            "expected a column similarity, got .* Did you mean similarty",
        ),
        ("image1,image1,similarity\na,b,1\n", "stands twice"),
        ("", "expected a column image1"),
        (PLAIN + '"d.jpg,a.jpg,1\n', "not readable as CSV"),
    ],
)
def test_bad_files_get_one_clear_line(tmp_path, text, line):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=line) as refusal:
        read_pairs(tmp_path / "pairs.csv")
    assert "\n" not in str(refusal.value)


def test_files_that_are_absent_or_not_text_are_named(tmp_path):
    with pytest.raises(ValueError, match="none.csv: no such file"):
        read_pairs(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(PLAIN.replace("b.jpg", "bé.jpg").encode("latin-1"))
    with pytest.raises(ValueError, match="expected UTF-8 text, got byte 26"):
        read_pairs(tmp_path / "latin.csv")


def test_judged_results_are_read_by_their_own_column_names(tmp_path):
    (tmp_path / "judged.csv").write_text("query_image,retrieved_image,similarity,rank\na,b,2,1\n")
    judged = read_pairs(tmp_path / "judged.csv", "query_image", "retrieved_image")
    assert judged.to_dict("records") == [
        {"image1": "a", "image2": "b", "similarity": 2.0, "rank": 1}
    ]


def test_a_further_column_of_zeros_is_numbers_and_one_of_nothing_is_not(tmp_path):
    (tmp_path / "pairs.csv").write_text("image1,image2,similarity,round,note\na,b,2,0,\na,c,1,0,\n")
    pairs = read_pairs(tmp_path / "pairs.csv")
    assert pd.api.types.is_numeric_dtype(pairs["round"]) and pairs["round"].tolist() == [0, 0]
    assert pairs.note.tolist() == ["", ""]


name = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
grade = st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan])


@settings(max_examples=80)
@given(st.lists(st.tuples(name, name, grade), max_size=8))
def test_writing_and_reading_gives_the_same_pairs(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    pairs = table(*rows)
    write_pairs(pairs, path)
    pd.testing.assert_frame_equal(read_pairs(path), pairs, check_dtype=False)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), grade), max_size=12))
def test_merging_keeps_each_pair_once_by_the_lower_median_in_any_order(rows):
    pairs = table(*rows)
    before = pairs.copy()
    merged = merge(pairs)
    pd.testing.assert_frame_equal(pairs, before)
    by_pair = {}
    for one, two, given_grade in rows:
        by_pair.setdefault(tuple(sorted([one, two])), []).append(given_grade)
    assert list(zip(merged.pairs.image1, merged.pairs.image2)) == list(by_pair)
    for found, grades in zip(merged.pairs.similarity, by_pair.values()):
        known = sorted(g for g in grades if g == g)
        np.testing.assert_equal(found, known[(len(known) - 1) // 2] if known else np.nan)
    assert len(merged.recurring) == sum(len(grades) > 1 for grades in by_pair.values())
    assert len(merged.conflicts) == sum(
        len({g for g in grades if g == g}) > 1 for grades in by_pair.values()
    )


def test_canonical_order_takes_paths_along():
    pairs = table(("b", "a", 1), ("a", "c", 2)).assign(
        image1_path=["x/b", "x/a"], image2_path=["y/a", "y/c"]
    )
    turned = canonical(pairs)
    assert turned[["image1", "image2"]].values.tolist() == [["a", "b"], ["a", "c"]]
    assert turned[["image1_path", "image2_path"]].values.tolist() == [
        ["y/a", "x/b"],
        ["x/a", "y/c"],
    ]
    assert lower_median([3, np.nan, 2]) == 2 and np.isnan(lower_median([]))


def test_every_fault_of_an_import_is_named():
    images = pd.DataFrame({"image": list("abcd"), "kind": list("xxyy")})
    pairs = table(*zip("abacaab", "baqccdc", [2, 3, 1, 3, 1, 0, np.nan]))
    counts, problems = import_report(
        pairs, of(images), table(("a", "b", 0), ("b", "d", 0), ("a", "q", 0))
    )
    assert counts == {
        "rows": 7,
        "pairs": 6,
        "recurring": 1,
        "conflicts": 1,
        "unknown": 1,
        "self_pairs": 1,
        "not_asked": 1,
        "automatic_zeros": 1,
        "people_zeros": 0,
        "graded_across": 1,
        "duplicates_within": 1,
        "duplicates_across": 1,
    }
    assert problems.problem.tolist() == [
        "conflict",
        "conflict",
        "unknown",
        "self_pair",
        "graded_across",
        "duplicates_within",
        "duplicates_across",
    ]
    left = usable(pairs, of(images))
    assert list(left.image1 + left.image2) == ["ab", "ba", "ac", "ad", "bc"]
    # without classes no zero is automatic
    assert import_report(pairs, of(images[["image"]]))[0]["people_zeros"] == 1


@settings(max_examples=60)
@given(st.lists(st.integers(0, 25), min_size=30, max_size=60), st.integers(0, 5), st.data())
def test_groups_stay_whole_and_the_split_is_the_same_each_time(groups, seed, data):
    kinds = data.draw(
        st.lists(st.sampled_from(["x", "y"]), min_size=len(groups), max_size=len(groups))
    )
    images = pd.DataFrame(
        {"image": [f"{i:03}" for i in range(len(groups))], "kind": kinds, "group": groups}
    )
    if len(set(groups)) < 8:
        return
    split = split_by_group(of(images), 0.2, 0.2, seed).table
    assert (split.groupby("group").side.nunique() == 1).all()
    assert "side" not in images
    shuffled = split_by_group(
        of(images.sample(frac=1, random_state=0)), 0.2, 0.2, seed
    ).table.sort_index()
    pd.testing.assert_frame_equal(split, shuffled)


def test_single_images_are_split_in_the_given_shares_in_each_class():
    names, kinds = [f"{i:03}" for i in range(100)], ["x"] * 75 + ["y"] * 25
    images = pd.DataFrame({"image": names, "group": range(100), "kind": kinds})
    split = split_by_group(of(images), 0.2, 0.2, 0).table
    assert split.groupby(["kind", "side"]).size().to_dict() == {
        ("x", "dev"): 15,
        ("x", "test"): 15,
        ("x", "train"): 45,
        ("y", "dev"): 5,
        ("y", "test"): 5,
        ("y", "train"): 15,
    }
    assert not split_by_group(of(images), 0.2, 0.2, 1).table.side.equals(split.side)


def test_too_few_groups_are_refused():
    images = pd.DataFrame({"image": list("abcdefgh"), "group": [0, 0, 0, 0, 0, 0, 1, 1]})
    with pytest.raises(ValueError, match="at least 2 images .* 8 images in 2 groups"):
        split_by_group(of(images), 0.2, 0.2, 0)


def test_a_leak_is_refused_by_name():
    images = pd.DataFrame(
        {"image": list("abcdef"), "group": [0, 1, 2, 3, 4, 0], "side": ["train"] * 3 + ["test"] * 3}
    )
    pairs = table(("a", "b", 1), ("d", "e", 2), ("c", "d", 0), ("e", "f", 0))
    train, test = pairs[:1], pairs[[False, True, False, True]]
    check_no_leak(train, test[:1], of(images))
    with pytest.raises(ValueError, match="on both sides, e.g. 0: a, f"):
        check_no_leak(train, test, of(images))
    with pytest.raises(ValueError, match="1 image.*both sides: d"):
        check_no_leak(pairs[2:3], test, of(images))

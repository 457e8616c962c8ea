"""The embedded data set: its rubric, its drawings, its folder, and how hard it is for the frozen
encoder.
"""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgsearch_utils.drawn_houses import (
    HOUSE_TYPES,
    draw_house,
    grade_pairs,
    sample_houses,
    write_houses,
)

FEATURES = ["porch", "garage", "chimney", "pool"]
NUISANCES = [
    "camera_yaw",
    "camera_height",
    "camera_zoom",
    "season",
    "time_of_day",
    "image_quality",
    "people",
    "cars",
]
HOUSES = sample_houses(60, seed=3)
VALUES = {
    name: sorted(HOUSES[name].unique().tolist())
    for name in HOUSES
    if name not in ("file_label", "detail_seed")
}
any_house = st.fixed_dictionaries(
    {name: st.sampled_from(values) for name, values in VALUES.items()}
)


def pairs_of(houses: pd.DataFrame) -> pd.DataFrame:
    within = [
        pair
        for _, group in houses.groupby("house_type")
        for pair in combinations(group["file_label"], 2)
    ]
    return pd.DataFrame(within, columns=["image1", "image2"])


def grade_by_hand(a: dict, b: dict) -> int:
    if a["house_type"] != b["house_type"]:
        return 0
    answers = [a["floors"] == b["floors"] and abs(a["bays"] - b["bays"]) <= 1]
    answers += [
        a[name] == b[name]
        for name in ("boldness", "palette", "material", "roof", "setting", "feel")
    ]
    has_a, has_b = ({name for name in FEATURES if house[name]} for house in (a, b))
    if has_a | has_b:
        answers.append(Fraction(len(has_a & has_b), len(has_a | has_b)) >= Fraction(1, 2))
    if not a["grounds"] == b["grounds"] == "paved":
        answers.append(a["grounds"] == b["grounds"])
    share = Fraction(sum(answers), len(answers))
    return 3 if share > Fraction(2, 3) else 2 if share >= Fraction(1, 3) else 1


@given(st.lists(any_house, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_grades_follow_the_rubric_and_do_not_depend_on_order(rows, random):
    for row in rows[1:]:  # near relatives of the first, so that every grade and both limits occur
        row |= {
            name: rows[0][name] for name in random.sample(sorted(row), random.randrange(len(row)))
        }
    houses = pd.DataFrame(rows).assign(file_label=[f"{i}.jpg" for i in range(len(rows))])
    pairs = pd.DataFrame(list(combinations(range(len(rows)), 2)), columns=["image1", "image2"])
    expected = [grade_by_hand(rows[i], rows[j]) for i, j in pairs.itertuples(index=False)]
    named = pairs.map(lambda i: f"{i}.jpg")
    assert grade_pairs(houses, named).tolist() == expected
    assert (
        grade_pairs(houses, named.rename(columns={"image1": "image2", "image2": "image1"})).tolist()
        == expected
    )


def test_nuisances_do_not_change_grades():
    other = HOUSES.assign(**{name: np.roll(HOUSES[name], 7) for name in NUISANCES})
    assert (grade_pairs(HOUSES, pairs_of(HOUSES)) == grade_pairs(other, pairs_of(HOUSES))).all()


def test_a_pair_of_an_unknown_house_is_refused_by_name():
    with pytest.raises(ValueError, match="castle_0001.jpg"):
        grade_pairs(
            HOUSES, pd.DataFrame({"image1": ["castle_0001.jpg"], "image2": ["modern_0001.jpg"]})
        )


def test_a_house_depends_on_seed_type_and_number_alone():
    few, many = (
        sample_houses(4, seed=3),
        HOUSES[HOUSES.groupby("house_type").cumcount() < 4].reset_index(drop=True),
    )
    pd.testing.assert_frame_equal(few, many)
    assert few["house_type"].tolist() == [kind for kind in HOUSE_TYPES for _ in range(4)]
    assert not few.equals(sample_houses(4, seed=4))
    with pytest.raises(ValueError, match="per_type >= 1"):
        sample_houses(0)


def test_nuisances_are_independent_of_attributes():
    houses = sample_houses(500, seed=1)
    codes = houses.drop(columns=["file_label", "detail_seed"]).apply(
        lambda column: pd.factorize(column, sort=True)[0]
    )
    correlations = codes.corr(method="spearman")
    assert correlations.loc[NUISANCES].drop(columns=NUISANCES).abs().to_numpy().max() < 0.1


@settings(max_examples=60)
@given(any_house, st.integers(0, 2**31 - 1))
def test_any_combination_can_be_drawn_and_the_row_alone_decides(house, detail_seed):
    house = house | {"detail_seed": detail_seed}
    picture = draw_house(house, size=64)
    assert picture.size == (64, 64) and picture.mode == "RGB"
    assert np.asarray(picture).std() > 5
    assert picture.tobytes() == draw_house(house | {"file_label": "another.jpg"}, size=64).tobytes()


def contents(folder) -> dict:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_other_settings_redraw_and_broken_pictures_are_mended(tmp_path):
    changed, fresh = tmp_path / "changed", tmp_path / "fresh"
    write_houses(changed, 3, seed=1)
    write_houses(changed, 2, seed=2)
    (changed / "all_images" / "modern_0001.jpg").write_bytes(b"cut off")
    write_houses(changed, 2, seed=2)
    write_houses(fresh, 2, seed=2)
    assert contents(changed) == contents(fresh)
    labels = pd.read_csv(fresh / "labels.csv")
    assert labels.columns.tolist() == ["file_label", "house_type"] and len(labels) == 6
    pd.testing.assert_frame_equal(pd.read_csv(fresh / "attributes.csv"), sample_houses(2, seed=2))
    assert Image.open(fresh / "all_images" / labels["file_label"][0]).size == (256, 256)

"""A split that the pictures come with: kept from the folders to the run's images, and never
leaking.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.drawn_houses import draw_house, sample_houses
from imgsearch_utils.encoders.embed_collection import embed_run
from imgsearch_utils.images import Images
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.images.image_split import keep_split
from imgsearch_utils.steps.tagging import first_pairs, split_images
from imgsearch_utils.workspace import find_run
from tests.tiny_study import living_in, write_study

SPLITS = ("train", "dev", "test")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(SPLITS)), min_size=4, max_size=40))
def test_what_is_kept_stays_on_its_side_and_no_group_stands_on_two(rows):
    names = [f"{n:02}" for n in range(len(rows))]
    images = Images(pd.DataFrame({"image": names, "group": [group for group, _ in rows]}), None)
    sides = dict(zip(names, (side for _, side in rows)))
    most = {
        group: max(SPLITS.index(side) for other, side in rows if other == group)
        for group, _ in rows
    }
    expected = [
        name for name, (group, side) in zip(names, rows) if SPLITS.index(side) == most[group]
    ]
    counts = pd.Series([sides[name] for name in expected]).value_counts()
    if min(counts.get("train", 0), counts.get("test", 0)) < 2:
        with pytest.raises(ValueError, match="at least 2 images on its train and test sides"):
            keep_split(images, sides)
        return
    kept, left_out = keep_split(images, sides)
    assert kept.names == expected and kept.table.side.tolist() == [sides[name] for name in expected]
    assert sorted([*kept.names, *left_out.image]) == names and left_out.reason.notna().all()


def test_folders_of_a_split_become_the_sides_of_a_run_without_their_leak(tmp_path):
    houses = sample_houses(6, seed=3).to_dict("records")
    for number, house in enumerate(houses):
        side = ("train", "train", "train", "val", "test", "test")[number % 6]
        file = tmp_path / "pictures" / side / house["house_type"] / house["file_label"]
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_house(house, 128).save(file)
    twin = next((tmp_path / "pictures" / "test").rglob("*.jpg"))
    copy = tmp_path / "pictures" / "train" / twin.parent.name / "copy.jpg"
    copy.write_bytes(twin.read_bytes())
    write_study(tmp_path)
    with living_in(tmp_path):
        run = find_run("tiny", begin=True)
        collection, stage = open_collection(run), run.tagging_stage().start()
        embeddings, _ = embed_run(run, collection)
        images, _, left_out = split_images(run, stage, collection, embeddings)
        assert left_out.image.tolist() == [f"train/{twin.parent.name}/copy.jpg"]
        assert collection.class_columns == ["class"]
        named = {"train": "train", "val": "dev", "test": "test"}
        assert images.table.side.tolist() == [named[name.split("/")[0]] for name in images.names]
        pairs = first_pairs(run, images)
        sides = images.table.set_index("image").side
        for image in ("image1", "image2"):
            assert (sides[pairs[image]].to_numpy() == pairs.side).all()
        assert np.isin(left_out.image, [*pairs.image1, *pairs.image2]).sum() == 0

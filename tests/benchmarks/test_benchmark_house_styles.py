"""The benchmark on people's grades: no grade or class of a test image teaches, its table is what
its files say.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import house_styles

pytestmark = pytest.mark.slow  # each split learns all models anew


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A study of the same files, small: 3 types of 30 images, people grade what the first
    dimensions show.
    """
    folder, rng = tmp_path_factory.mktemp("data") / "house_styles", np.random.default_rng(0)
    folder.mkdir()
    names, types = (
        np.array([f"{k:03d}.jpg" for k in range(90)]),
        np.repeat(["barn", "cube", "hut"], 30),
    )
    vectors = rng.normal(size=(90, 16)).astype(np.float32)
    vectors[np.arange(90), np.repeat([4, 5, 6], 30)] += 2
    np.save(folder / "clip_vitb32_vectors.npy", vectors)
    pd.DataFrame({"file_label": names, "house_type": types}).to_csv(
        folder / "labels.csv", index=False
    )
    for number in range(4):
        a, b = rng.integers(0, 90, (2, 500))
        a, b = a[a != b], b[a != b]
        grades = np.where(
            types[a] == types[b],
            np.digitize((vectors[a, :4] * vectors[b, :4]).sum(1), [-1, 1]) + 1,
            0,
        )
        table = pd.DataFrame({"image1": names[a], "image2": names[b], "similarity": grades})
        table.to_csv(folder / f"round_{number}.csv", index=False)
    sides = [
        pd.DataFrame(
            {
                "split": split,
                "file_label": names,
                "side": rng.permuted(np.repeat(["train", "test"], 45)),
            }
        )
        for split in (0, 1)
    ]
    pd.concat(sides).to_csv(folder / "splits.csv", index=False)
    return folder


def test_what_is_known_of_test_images_changes_no_prediction(small):
    data = house_styles.read(small)
    side = data.splits[data.splits.split == 0]
    test = set(side.file_label[side.side == "test"])
    rng = np.random.default_rng(1)
    touched = data.pairs.image1.isin(test) | data.pairs.image2.isin(test)
    grades = data.pairs.similarity.mask(
        touched, pd.Series(rng.integers(0, 4, len(data.pairs)).astype(float))
    )
    table = data.images.table
    classes = table.house_type.where(~table.image.isin(test), "nobody knows")
    pairs = data.pairs.assign(similarity=grades)
    changed = house_styles.Data(
        replace(data.images, table=table.assign(house_type=classes)), pairs, data.splits
    )
    expected, got = house_styles.run_split(data, 0), house_styles.run_split(changed, 0)
    for name in [*house_styles.MODELS, house_styles.PAIRS_ALONE, house_styles.OURS]:
        columns = ["image1", "image2", "score", "p_similar", "similar"]
        pd.testing.assert_frame_equal(got[name][columns], expected[name][columns])


def test_a_run_that_was_stopped_goes_on(small, tmp_path, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_DATA", str(small.parent))
    cheap = {name: house_styles.MODELS[name] for name in list(house_styles.MODELS)[:3]}
    monkeypatch.setattr(house_styles, "MODELS", cheap)
    files = [tmp_path / name for name in ("p.csv", "rows.csv", "table.csv")]
    command = ["--predictions", str(files[0]), "--rows", str(files[1]), "--table", str(files[2])]
    house_styles.main([*command, "--splits", "1"])
    first = pd.read_csv(files[1])
    house_styles.main(command)
    rows, predictions = (pd.read_csv(file) for file in files[:2][::-1])
    pd.testing.assert_frame_equal(rows[: len(first)], first)
    assert set(rows.split) == set(predictions.split) == {0, 1}
    before = files[2].read_text()
    house_styles.main(command)  # all is there
    assert files[2].read_text() == before and len(pd.read_csv(files[1])) == len(rows)


def test_the_order_that_a_user_sees_is_measured_by_query():
    pairs = [("a", "b", 3, 0.9), ("a", "c", 0, 0.8), ("a", "d", 1, 0.1), ("b", "c", 0, 0.2)]
    scored = pd.DataFrame(pairs, columns=["image1", "image2", "similarity", "score"])
    # only "a" has three judged results; its order is 3, 0, 1
    got, ideal = 7 + 1 / 2, 7 + 1 / np.log2(3)
    ndcg, ap = house_styles.by_query(scored)
    assert ndcg == pytest.approx(got / ideal) and ap == 1


def test_absent_data_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMGSEARCH_DATA", str(tmp_path))
    monkeypatch.setenv("IMGSEARCH_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        house_styles.main(["--predictions", str(tmp_path / "p.csv")])
    assert "set IMGSEARCH_DATA" in capsys.readouterr().err


def test_what_is_learnt_gains_on_people_grades(shared_data):
    data = house_styles.read(shared_data / "house_styles")
    assert len(data.pairs) == 2051
    gains = []
    for split in sorted(data.splits.split.unique())[:2]:
        side = data.splits[data.splits.split == split]
        test = set(side.file_label[side.side == "test"])
        train = data.images.among(side.file_label[side.side == "train"]).both_of(data.pairs)
        pairs, known = (
            data.images.among(test).both_of(data.pairs),
            data.images.among(set(data.images.names) - set(test)),
        )
        learnt = house_styles.our_learner(data.images, train, known)
        scores = (
            house_styles.cosine(data.images, train, known)(pairs),
            learnt.models["head"].cosines(data.images, pairs),
        )
        measured = [
            house_styles.measure(pairs.assign(score=score, p_similar=np.nan, similar=False))
            for score in scores
        ]
        gains.append(np.subtract(*measured[::-1])[:3])
    assert (np.mean(gains, axis=0) > [0.06, 0.08, 0.02]).all()

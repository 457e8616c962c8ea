"""Shards as others write them: each picture is kept or named, nothing is guessed, few bytes do not
become many.
"""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from imgsearch_utils.images.collection import read_collection
from imgsearch_utils.shards.unpacking import unpack
from imgsearch_utils.study import ImageSettings
from tests.tiny_study import command


def picture(number: int, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(file, kind)
    return file.getvalue()


def tar(file: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(file, "w") as out:
        for name, body in members:
            about = tarfile.TarInfo(name)
            about.size = len(body)
            out.addfile(about, io.BytesIO(body))
    return file


def table_of(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False)
    assert all((folder / "images" / name).is_file() for name in table.file_label)
    return table


def table_of_names(folder: Path) -> list[str]:
    return pd.read_csv(folder / "labels.csv", dtype=str).file_label.tolist()


def names_of(folder: Path) -> list[str]:
    return [Path(name).name for name in table_of(folder).file_label]


def test_a_mask_beside_a_picture_is_no_picture(tmp_path):
    members = []
    for n in range(3):
        members += [
            (f"{n:04}.depth.png", b"x" + picture(n, "PNG")),
            (f"{n:04}.jpg", picture(n)),
            (f"{n:04}.json", b'{"kind": "a"}'),
            (f"{n:04}.mask.png", picture(n, "PNG")),
        ]
    done = unpack(tar(tmp_path / "s.tar", members), tmp_path / "out")
    assert names_of(tmp_path / "out") == ["0000.jpg", "0001.jpg", "0002.jpg"]
    assert (done.account.seen, done.account.taken) == (9, 3)
    assert done.account.left_out["beside the picture of its sample (.mask.png)"][0] == 3
    assert any("--column depth.png" in note for note in done.account.notes)
    done = unpack(tmp_path / "s.tar", tmp_path / "masks", column="mask.png")
    assert names_of(tmp_path / "masks") == [f"{n:04}.mask.png" for n in range(3)]
    assert set(table_of(tmp_path / "masks").kind) == {"a"}


def test_two_pictures_of_one_name_in_a_sample_are_asked_about(tmp_path):
    tar(tmp_path / "s.tar", [("7.jpg", picture(1)), ("7.png", picture(1, "PNG"))])
    with pytest.raises(ValueError, match="--column jpg or --column png"):
        unpack(tmp_path / "s.tar", tmp_path / "out")
    assert unpack(tmp_path / "s.tar", tmp_path / "out", column="png").images == 1
    assert names_of(tmp_path / "out") == ["7.png"]


def test_dots_in_names_make_no_sample_of_several_pictures(tmp_path):
    members = []
    for n in range(4):
        name = f"scan 2021.05.{n:02}"
        members += [(f"{name}.jpg", picture(n)), (f"{name}.json", json.dumps({"n": n}).encode())]
    members += [("a.left.jpg", picture(5)), ("a.right.jpg", picture(6)), ("a.txt", b"both")]
    members += [("b.jpg", picture(7)), ("b.1.jpg", picture(8)), ("b.caption.txt", b"one")]
    done = unpack(tar(tmp_path / "s.tar", members), tmp_path / "out")
    table = table_of(tmp_path / "out")
    assert done.images == done.account.seen == 8
    assert table.n.tolist()[:4] == list("0123") and table.txt.tolist()[4:6] == ["both"] * 2
    assert table.caption.tolist()[6:] == ["one", "one"]


def test_what_a_mac_adds_is_left_out_and_capital_suffixes_are_read(tmp_path):
    members = []
    for n in range(2):
        members += [
            (f"._{n}.JPG", b"resource"),
            (f"{n}.JPG", picture(n)),
            (f"{n}.TXT", b"said"),
            (f"{n}.CLS", b"3"),
            (f"__MACOSX/._{n}.CLS", b"resource"),
        ]
    done = unpack(tar(tmp_path / "s.tar", members), tmp_path / "out")
    assert table_of(tmp_path / "out")[["txt", "cls"]].to_numpy().tolist() == [["said", "3"]] * 2
    assert (done.account.seen, done.account.taken) == (6, 2)
    assert done.account.left_out["hidden, or a system's own file"] == (4, "'._0.JPG'")


def test_labels_that_stand_apart_from_their_pictures_are_theirs(tmp_path):
    members = [(f"{n}.txt", f"said {n}".encode()) for n in range(3)]
    members = members[:1] + [(f"{n}.jpg", picture(n)) for n in (2, 0, 1)] + members[1:]
    unpack(tar(tmp_path / "s.tar", members), tmp_path / "out")
    assert table_of(tmp_path / "out").txt.tolist() == ["said 2", "said 0", "said 1"]


def test_class_folders_and_splits_inside_a_tar_are_kept(tmp_path):
    members = [
        (f"./{side}/{kind}/{n}.jpg", picture(n))
        for side in ("train", "eval")
        for kind in ("cats", "dogs")
        for n in range(2)
    ]
    done = unpack(tar(tmp_path / "s.tar", members), tmp_path / "out")
    assert done.columns == ["folder", "split"]
    found = read_collection(tmp_path / "out", ImageSettings(source="x"))
    assert found.account.classes == {"folder": {"cats": 4, "dogs": 4}}
    assert sorted({*found.split.values()}) == ["test", "train"]


@pytest.mark.parametrize("folders", [("05 May", "06 June"), ("2022", "2023"), ("00000", "00001")])
def test_folders_inside_a_tar_that_may_be_only_places_are_asked_about(tmp_path, folders):
    members = [(f"{folder}/{n}.jpg", picture(n)) for folder in folders for n in range(2)]
    unpack(tar(tmp_path / "s.tar", members), tmp_path / "out")
    with pytest.raises(ValueError, match="nothing is guessed.*--classes folder"):
        read_collection(tmp_path / "out", ImageSettings(source="x"))


def test_a_name_twice_and_a_name_that_is_a_folder_lose_nothing(tmp_path):
    members = [("a.jpg", picture(0)), ("a.jpg", picture(1)), ("a.jpg/b.jpg", picture(2))]
    members += [("c.jpg/d.jpg", picture(3)), ("c.jpg", picture(4))]
    done = unpack(tar(tmp_path / "s.tar", members), tmp_path / "out")
    assert done.images == 5 and any(
        "3 pictures of a name that is taken" in n for n in done.account.notes
    )
    written = {
        (tmp_path / "out/images" / name).read_bytes()
        for name in table_of(tmp_path / "out").file_label
    }
    assert written == {picture(n) for n in range(5)}


def hub(file: Path, rows: list[tuple[str | None, int]]) -> None:
    file.parent.mkdir(exist_ok=True)
    info = {"info": {"features": {"label": {"names": ["ant", "bee"]}}}}
    images = [{"bytes": picture(n), "path": path} for n, (path, _) in enumerate(rows)]
    table = pa.table({"image": images, "label": [label for _, label in rows]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), file)


def test_the_split_that_shards_are_called_by_is_kept(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        hub(tmp_path / f"data/{name}.parquet", [(f"{n}.jpg", n % 2) for n in range(4)])
    unpack(tmp_path / "data", tmp_path / "out")
    assert table_of(tmp_path / "out").split.tolist() == ["test"] * 4 + ["train"] * 8
    found = read_collection(tmp_path / "out", ImageSettings(source="x"))
    assert found.class_columns == ["label"] and len(found.split) == 12


def test_pictures_of_equal_names_get_numbers_and_their_folders_are_kept(tmp_path):
    hub(tmp_path / "a.parquet", [("1.jpg", 0), ("1.jpg", 1), ("/home/me/1.jpg", 1), (None, 0)])
    done = unpack(tmp_path / "a.parquet", tmp_path / "out")
    assert names_of(tmp_path / "out") == [
        "1.jpg",
        "1-00000001.jpg",
        "1-00000002.jpg",
        "00000003.jpg",
    ]
    assert any("2 pictures of a name that is taken got a number" in n for n in done.account.notes)
    hub(tmp_path / "b.parquet", [("x/1.jpg", 0), ("y/1.jpg", 1), ("y/2.jpg", 0)])
    unpack(tmp_path / "b.parquet", tmp_path / "folders")
    assert table_of(tmp_path / "folders").folder.tolist() == ["x", "y", "y"]


def test_several_columns_that_may_be_meant_are_asked_about(tmp_path):
    boxes = {"id": ["a", "b"], "bbox": [[1.0, 2.0]] * 2, "tags": [["x"], ["y"]]}
    both = pa.table(boxes | {"embedding": [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]})
    parquet.write_table(both, tmp_path / "v.parquet")
    done = command(tmp_path, "unpack", "v.parquet", "out")
    assert done.returncode == 1 and "bbox (2 numbers), embedding (3 numbers)" in done.stderr
    assert "--column embedding" in done.stderr and not (tmp_path / "out/labels.csv").exists()
    done = command(tmp_path, "unpack", "v.parquet", "out", "--column", "embedding")
    assert "2 rows seen = 2 taken + 0 left out" in done.stdout and "bbox, tags" in done.stdout
    assert np.load(tmp_path / "out/vectors.npy").shape == (2, 3)
    done = command(tmp_path, "unpack", "v.parquet", "other", "--column", "embeding")
    assert "no column is called 'embeding'. Did you mean embedding?" in done.stderr
    parquet.write_table(both.drop_columns("bbox"), tmp_path / "one.parquet")
    assert unpack(tmp_path / "one.parquet", tmp_path / "one").images == 2
    pictures = pa.table({"image": [picture(0), picture(1)], "mask": [picture(2), picture(3)]})
    parquet.write_table(pictures, tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="several columns hold files .image, mask"):
        unpack(tmp_path / "p.parquet", tmp_path / "p")
    both = pa.table({"image": [picture(0), picture(1)], "clip": [[1.0, 2.0], [3.0, 4.0]]})
    parquet.write_table(both, tmp_path / "b.parquet")
    done = unpack(tmp_path / "b.parquet", tmp_path / "b", column="clip")
    assert done.vectors and table_of_names(tmp_path / "b") == ["000000000", "000000001"]
    unpack(tmp_path / "p.parquet", tmp_path / "p", column="mask")
    assert (tmp_path / "p/images/p/00000000.jpg").read_bytes() == picture(2)


def test_a_text_longer_than_a_table_can_hold_is_cut_and_named(tmp_path):
    members = []
    for n in range(2):
        said = {"kind": "ab"[n], "exif": "x" * 140_000 * n, "deep": {"a": 1}}
        members += [(f"{n}.jpg", picture(n)), (f"{n}.json", json.dumps(said).encode())]
    tar(tmp_path / "s.tar", members)
    for _ in range(2):  # and again
        done = command(tmp_path, "unpack", "s.tar", "out")
        assert done.returncode == 0 and "cut after 10,000 letters" in done.stdout
        assert "deep, exif" in done.stdout
    done = command(tmp_path, "new", "tested", "out", "--classes", "kind")
    assert "2 pictures in 2 classes" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("column", ["image", "clip"])
def test_a_few_bytes_do_not_become_many(tmp_path, column):
    """In a process of its own, whose memory the system tells."""
    if column == "image":
        value = pa.array([b"\0" * 20_000_000], pa.binary())
        image = pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int8()), value)
        table = pa.table({"image": image.cast(pa.binary())})
    else:
        values = pa.array(np.zeros(20_000_000, "f4"))
        table = pa.table({"clip": pa.FixedSizeListArray.from_arrays(values, 100_000)})
    parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    del table
    assert (tmp_path / "bomb.parquet").stat().st_size < 200_000
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "bomb.parquet"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    said, before, peak = done.stdout.strip().splitlines()
    assert "no shard of pictures" in said or "no file of vectors" in said
    assert int(peak) - int(before) < 200_000  # KB
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 80_000_000


LIMITED = """
import re, sys
from pathlib import Path
from imgsearch_utils.shards import samples
samples.FREE = 50_000_000  # that a test is quick
from imgsearch_utils.shards.unpacking import unpack

def peak():
    return re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]

before = peak()
try:
    unpack(sys.argv[1], sys.argv[2])
except ValueError as error:
    print(error)
print(before)
print(peak())
"""

stem = st.sampled_from(
    ["0", "1", "a.b", "x/0", "x/1", "train/0", "test/0", "._0", "2.mask", "2", "2.1"]
)
suffix = st.sampled_from([".jpg", ".PNG", ".json", ".txt", ".cls", ".exe", "", ".heic"])


@hypothesis.settings(max_examples=80)
@hypothesis.given(st.lists(st.tuples(stem, suffix), min_size=1, max_size=12))
def test_the_account_of_any_tar_adds_up(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("any")
    bodies = {".json": b'{"kind": "a"}', ".txt": b"said", ".cls": b"1"}
    members = [(f"{one}{two}", bodies.get(two, picture(3))) for one, two in names]
    tar(folder / "s.tar", members)
    try:
        account = unpack(folder / "s.tar", folder / "out").account
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
        return
    pictures = {one.rpartition("/")[2].partition(".")[0] for one, two in names}
    said = sum(two in bodies and not one.startswith("._") for one, two in names)
    assert len(names) - said <= account.seen <= len(names) and pictures
    assert account.taken == len(table_of(folder / "out"))
    assert account.seen == account.taken + sum(n for n, _ in account.left_out.values())

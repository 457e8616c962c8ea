"""pictures.shards: whatever shards pictures come in, the same pictures with the same labels are
there afterwards.
"""

import io
import json
import tarfile

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from pyarrow import parquet

from imgsearch_utils.drawn_houses import draw_house, sample_houses
from imgsearch_utils.images import read_collection
from imgsearch_utils.shards.samples import Shard, samples_of
from imgsearch_utils.shards.unpacking import unpack
from imgsearch_utils.study import ImageSettings
from tests.tiny_study import typed

KINDS = ('gothic, "old"', "modern", "007")


def encoded(number, kind="JPEG"):
    house = sample_houses(3, seed=0).iloc[number % 9].to_dict()
    file = io.BytesIO()
    draw_house(house, 32).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures():
    """Nine small pictures as bytes, and what is said of them."""
    return [
        (
            encoded(number, ("JPEG", "PNG", "WEBP")[number % 3]),
            {
                "kind": KINDS[number % 3],
                "year": 1900 + number,
                "share": number / 4,
                "caption": f"house\n{number}; ü",
            },
        )
        for number in range(9)
    ]


SUFFIX = (".jpg", ".png", ".webp")


def write_tar(file, samples, first=0, mode="w"):
    with tarfile.open(file, mode) as out:
        for number, (content, said) in enumerate(samples, first):
            about = json.dumps(said | {"deep": {"a": 1}}).encode()
            for suffix, body in (
                (SUFFIX[number % 3], content),
                (".json", about),
                (".txt", b"a house"),
            ):
                member = tarfile.TarInfo(f"{number:05}{suffix}")
                member.size = len(body)
                out.addfile(member, io.BytesIO(body))


def write_parquet(file, samples, struct):
    images = [{"bytes": content, "path": None} if struct else content for content, _ in samples]
    said = {name: [each[name] for _, each in samples] for name in samples[0][1]}
    labels = [KINDS.index(each["kind"]) for _, each in samples]
    info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": KINDS}}}}
    table = pa.table({"image": images, "label": labels, **said})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), file)


def write_arrow(folder, samples, path=None):
    """As ``datasets`` saves to disk: a stream of record batches with the features beside the
    columns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "image": [{"bytes": content, "path": path} for content, _ in samples],
            "label": [KINDS.index(said["kind"]) for _, said in samples],
        }
    )
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": KINDS}}
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    file = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(file, "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)


def unpacked(folder):
    """Bytes of each picture, and its row of labels.csv, in the order of the names."""
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False).sort_values(
        "file_label"
    )
    return [
        ((folder / "images" / row["file_label"]).read_bytes(), row)
        for row in table.to_dict("records")
    ]


def test_tar_shards(pictures, tmp_path):
    source, folder = tmp_path / "shards", tmp_path / "out"
    source.mkdir()
    write_tar(source / "00000.tar", pictures[:4])
    write_tar(source / "00001.tar", pictures[4:], first=4, mode="w:gz")
    (source / "00000.parquet").write_bytes(b"the table that img2dataset writes beside it: no shard")
    done = unpack(source, folder)
    assert (done.images, done.columns, done.set_aside) == (
        9,
        ["kind", "year", "share", "caption", "txt"],
        {},
    )
    for number, ((content, row), (given, said)) in enumerate(zip(unpacked(folder), pictures)):
        assert content == given and row["kind"] == said["kind"] and row["year"] == str(said["year"])
        assert (
            row["file_label"]
            == f"{number // 4 if number < 8 else 1:05}/{number:05}{SUFFIX[number % 3]}"
        )
        assert row["caption"] == f"house {number}; ü" and row["txt"] == "a house"
    found = read_collection(folder, ImageSettings(source=str(folder), class_columns=["kind"]))
    assert len(found.images) == 9 and found.set_aside.empty and found.images.kind.nunique() == 3


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_shards(pictures, tmp_path, struct):
    write_parquet(tmp_path / "train.parquet", pictures, struct)
    done = unpack(tmp_path / "train.parquet", tmp_path / "out")
    assert done.images == 9 and done.columns == ["label", "kind", "year", "share", "caption"]
    assert all(
        content == given
        and row["label"] == said["kind"]
        and row["file_label"].endswith(SUFFIX[number % 3])
        for number, ((content, row), (given, said)) in enumerate(
            zip(unpacked(tmp_path / "out"), pictures)
        )
    )


def test_a_data_set_saved_to_disk_with_its_splits(pictures, tmp_path):
    source = tmp_path / "saved"
    source.mkdir()
    (source / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    kept = pa.table({"image": [pictures[0][0]]})  # what ``datasets`` keeps of a map
    (source / "train").mkdir()
    with pa.ipc.new_stream(str(source / "train/cache-1.arrow"), kept.schema) as stream:
        stream.write_table(kept)
    for path in ("somewhere/a.b", None):  # all of one name, as it happens; none
        write_arrow(source / "train", pictures[:6], path)
        write_arrow(source / "test", pictures[6:], path)
        if path:
            done = unpack(source, tmp_path / "numbered")
            assert done.images == 9 and any("got a number" in note for note in done.account.notes)
            assert {content for content, _ in unpacked(tmp_path / "numbered")} == {
                content for content, _ in pictures
            }
    assert unpack(source, tmp_path / "out").images == 9
    found = read_collection(tmp_path / "out", ImageSettings(source="x", class_columns=["label"]))
    assert sorted(found.split.values()) == ["test"] * 3 + ["train"] * 6
    assert {content for content, _ in unpacked(tmp_path / "out")} == {
        content for content, _ in pictures
    }


def test_classes_that_no_sample_has_a_name_of_are_empty(pictures, tmp_path):
    """As ``datasets`` marks what is not labelled: -1, or none."""
    info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": KINDS}}}}
    table = pa.table({"label": [2, -1, None, 7], "image": [content for content, _ in pictures[:4]]})
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / "a.parquet"
    )
    unpack(tmp_path / "a.parquet", tmp_path / "out")
    assert [row["label"] for _, row in unpacked(tmp_path / "out")] == [KINDS[2], "", "", ""]


def test_a_large_file_of_pictures_is_not_held_at_once(tmp_path):
    noise = np.random.default_rng(0)
    table = pa.table({"image": [noise.bytes(1_000_000) for _ in range(60)]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=5, compression="none")
    del table
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in samples_of(Shard(tmp_path / "a.parquet"))]
    assert len(held) == 60 and 1_000_000 < max(held) < 40_000_000


def test_vectors_in_parquet(pictures, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    for part in (0, 1):
        rows = slice(25 * part, 25 * part + 25)
        parquet.write_table(
            pa.table(
                {
                    "path": [f"{n}.jpg" for n in range(50)][rows],
                    "clip": list(vectors[rows]),
                    "kind": [KINDS[n % 3] for n in range(50)][rows],
                }
            ),
            tmp_path / f"{part}.parquet",
        )
    done = unpack(tmp_path, tmp_path / "out")
    assert (done.images, done.columns, done.vectors) == (50, ["kind"], True)
    assert (np.load(tmp_path / "out/vectors.npy") == vectors).all()
    found = read_collection(tmp_path / "out", ImageSettings(source="x", vectors="vectors.npy"))
    assert found.images.image.tolist() == [f"{n}.jpg" for n in range(50)]
    assert unpack(tmp_path, tmp_path / "out").images == 50  # again
    (tmp_path / "others").mkdir()
    write_parquet(tmp_path / "others/a.parquet", pictures, True)
    parquet.write_table(
        pa.table({"path": ["a", "b"], "clip": [[1.0], [2.0]]}), tmp_path / "others/b.parquet"
    )
    for file in ("a.parquet", "b.parquet"):
        with pytest.raises(
            ValueError, match="out holds vectors that were unpacked from elsewhere; choose another"
        ):
            unpack(tmp_path / "others" / file, tmp_path / "out")
    assert len(np.load(tmp_path / "out/vectors.npy")) == 50
    unpack(tmp_path / "others/a.parquet", tmp_path / "of pictures")
    with pytest.raises(ValueError, match="holds pictures that were unpacked from elsewhere"):
        unpack(tmp_path / "others/b.parquet", tmp_path / "of pictures")
    parquet.write_table(
        pa.table({"path": ["a", "a"], "clip": [[1.0], [2.0]]}), tmp_path / "twice.parquet"
    )
    with pytest.raises(
        ValueError, match="'a' stands more than once; the names of vectors must differ"
    ):
        unpack(tmp_path / "twice.parquet", tmp_path / "other")
    parquet.write_table(
        pa.table({"path": ["a", "b"], "clip": [[1.0], [2.0, 3.0]]}), tmp_path / "ragged.parquet"
    )
    with pytest.raises(ValueError, match="does not hold one number of numbers in each row"):
        unpack(tmp_path / "ragged.parquet", tmp_path / "other")
    assert not [*(tmp_path / "other").glob("*.npy")]


def test_a_stopped_run_goes_on_and_further_shards_are_added(pictures, tmp_path):
    source, folder = tmp_path / "shards", tmp_path / "out"
    source.mkdir()
    write_tar(source / "a.tar", pictures[:3])
    write_tar(source / "b.tar", pictures[3:6])
    whole = (source / "b.tar").read_bytes()
    (source / "b.tar").write_bytes(whole[:700])
    with pytest.raises(ValueError, match=r"b.tar: cannot be read"):
        unpack(source, folder)
    assert not (folder / "labels.csv").exists()
    stamp = {path: path.stat().st_mtime_ns for path in (folder / "images/a").iterdir()}
    (source / "b.tar").write_bytes(whole)
    assert unpack(source, folder).images == 6
    assert {path: path.stat().st_mtime_ns for path in (folder / "images/a").iterdir()} == stamp
    write_tar(source / "c.tar", pictures[6:])
    assert unpack(source, folder).images == 9 and {c for c, _ in unpacked(folder)} == {
        c for c, _ in pictures
    }
    write_tar(source / "c.tar", pictures[6:8])  # a shard that became another is unpacked again
    assert unpack(source, folder).images == 8
    others = source.rename(tmp_path / "moved")
    assert unpack(others, folder).images == 8  # the same shards from another place
    write_tar(others / "a.tar", pictures[4:7])
    with pytest.raises(
        ValueError,
        match=r"a.tar: .*out holds the pictures of another shard of this name \(.*shards/a",
    ):
        unpack(others, folder)
    assert len(unpacked(folder)) == 8


def test_what_is_no_picture_or_would_leave_the_folder_is_set_aside(pictures, tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as out:
        for name, body in (
            ("../out.jpg", b"x"),
            ("/abs.jpg", b"x"),
            ("a/../../b.png", b"x"),
            ("only.json", b"{}"),
            ("c.exe", b"MZ"),
            ("good.jpg", pictures[0][0]),
            ("good.json", b'{"side": "test", "n": null}'),
            ("l" * 300 + ".jpg", b"x"),
            ("said.jpg", pictures[1][0]),
            ("said.json", b"[{"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            out.addfile(member, io.BytesIO(body))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(link)
    done = unpack(tmp_path / "evil.tar", tmp_path / "in/out")
    assert done.images == 2 and done.columns == ["side_"] and len(done.set_aside) == 4
    assert (done.account.seen, done.account.taken) == (10, 2)  # all but good.json
    assert done.account.left_out["what is said of a picture, no JSON object"][0] == 1
    assert sorted(
        path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".csv"
    ) == ["account.json", "evil.json", "evil.tar", "good.jpg", "said.jpg"]


@hypothesis.given(
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=12), st.text(max_size=8)
)
@hypothesis.settings(max_examples=60)
def test_any_name_and_any_text_stay_in_the_folder_and_in_the_table(tmp_path_factory, name, text):
    tmp_path = tmp_path_factory.mktemp("any")
    plain = text.encode("utf-8", "replace").decode()
    table = pa.table(
        {
            "image": [{"bytes": PICTURE, "path": name}, {"bytes": OTHER, "path": None}],
            "kind": [plain, "other"],
        }
    )
    parquet.write_table(table, tmp_path / "some.parquet")
    done = unpack(tmp_path / "some.parquet", tmp_path / "out")
    assert done.images + len(done.set_aside) == 2
    inside = (tmp_path / "out/images").resolve()
    written = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.read_bytes() in (PICTURE, OTHER)
    ]
    assert len(written) == done.images and all(
        path.resolve().is_relative_to(inside) for path in written
    )
    said = {content: row["kind"] for content, row in unpacked(tmp_path / "out")}
    assert said == ({PICTURE: " ".join(plain.split())} if done.images == 2 else {}) | {
        OTHER: "other"
    }


OTHER = encoded(1)
PICTURE = encoded(0)


def test_the_command_and_a_study_of_what_it_made(pictures, tmp_path):
    more = [(encoded(number), pictures[0][1] | {"year": 2000 + number}) for number in range(3)]
    write_parquet(tmp_path / "some.parquet", pictures + more, True)
    out, _ = typed(tmp_path, "unpack", "some.parquet", "tested")
    assert out.startswith(
        "12 pictures in tested; labels.csv says of each: label, kind, year, share, caption"
    )
    _, said = typed(tmp_path, "new", "tested", "tested")
    assert "the column 'year' holds numbers" in said and "--classes ''" in said
    out, _ = typed(tmp_path, "new", "houses", "tested", "--classes", "kind")
    assert "12 pictures in 3 classes" in out
    assert "class_columns:\n  - kind" in (tmp_path / "configs/houses.yaml").read_text()
    out, _ = typed(tmp_path, "new", "plain", "tested", "--classes", "")
    assert "class_columns: []" in (tmp_path / "configs/plain.yaml").read_text()
    for source, message in (
        ("nothing", "no such file or folder"),
        ("configs", "no shards"),
        ("tested", "no shards"),
    ):
        _, said = typed(tmp_path, "unpack", source, "there")
        assert message in said and len(said.strip().splitlines()) == 1
    parquet.write_table(pa.table({"image": [b"", b"no picture"]}), tmp_path / "none.parquet")
    _, said = typed(tmp_path, "unpack", "none.parquet", "there")
    assert "no picture that can be used in 1 shard(s); first: none: 0: no picture in it" in said
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 no table")
    _, said = typed(tmp_path, "unpack", "torn.parquet", "there")
    assert "torn.parquet: cannot be read" in said and len(said.strip().splitlines()) == 1

"""Picture collections: odd and broken pictures, odd and broken labels.csv, near-duplicates,
samples.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgsearch_utils import workspace
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.images.collection import open_collection, read_collection, thumbnails
from imgsearch_utils.images.decoding import open_image, side_by_side
from imgsearch_utils.images.image_split import balanced_sample
from imgsearch_utils.images.listed_names import read_labels
from imgsearch_utils.study import ImageSettings, parse_study

down, across = np.mgrid[:48, :80]
GREY = ((across + down) * 2).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], 2)
PICTURE = Image.fromarray(COLOUR)

NO_VECTORS = Embeddings([], np.empty((0, 1), np.float32), {})


def png(width, height, depth, colour_type, rows, palette=b"") -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def apart(path: Path, expected: np.ndarray) -> int:
    """The largest difference of a decoded picture from the expected RGB values."""
    picture = open_image(path)
    assert picture.mode == "RGB"
    expected = np.repeat(expected[..., None], 3, 2) if expected.ndim == 2 else expected
    assert picture.size == expected.shape[1::-1]
    return int(np.abs(np.asarray(picture, int) - expected).max())


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        open_image(path)
    assert len(str(caught.value).splitlines()) == 1 and path.suffix in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".gif", ".jpg"])
def test_eight_bit_pictures_of_every_format_look_the_same(tmp_path, suffix):
    PICTURE.save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    assert apart(tmp_path / f"a{suffix}", COLOUR) <= (32 if suffix in (".jpg", ".gif") else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shade", [1, 4, 255], ids=["full", "dark", "all but black"])
def test_sixteen_bit_grey_looks_like_its_eight_bit_form(tmp_path, suffix, shade):
    grey = GREY // shade
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / f"deep{suffix}")
    assert apart(tmp_path / f"deep{suffix}", grey) <= 1


def test_sixteen_bit_colour_looks_like_its_eight_bit_form(tmp_path):
    rows = b"".join(b"\0" + row.tobytes() for row in (COLOUR.astype(">u2") * 257))
    (tmp_path / "deep.png").write_bytes(png(80, 48, 16, 2, rows))
    assert apart(tmp_path / "deep.png", COLOUR) <= 1


@pytest.mark.parametrize(
    "values",
    [
        GREY.astype(np.float32) / 255,
        GREY.astype(np.float32),
        GREY.astype(np.int32),
        GREY.astype(np.int32) * 257,
    ],
    ids=["0 to 1", "0 to 255", "ints", "16 bits in 32"],
)
def test_pictures_of_floats_and_wide_integers_keep_their_looks(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "wide.tif")
    assert apart(tmp_path / "wide.tif", GREY) <= 1


def test_cmyk_looks_like_rgb(tmp_path):
    soft = PICTURE.resize((320, 192))
    soft.convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert apart(tmp_path / "print.jpg", np.asarray(soft, int)) < 60


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
    for suffix in (".gif", ".webp"):
        frames[0].save(
            tmp_path / f"moving{suffix}", save_all=True, append_images=frames[1:], lossless=True
        )
        assert apart(tmp_path / f"moving{suffix}", np.asarray(frames[0], int)) <= 2


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize(
    "orientation, turned",
    [
        (1, PICTURE),
        (3, PICTURE.transpose(Image.Transpose.ROTATE_180)),
        (6, PICTURE.transpose(Image.Transpose.ROTATE_270)),
        (5, PICTURE.transpose(Image.Transpose.TRANSPOSE)),
    ],
)
def test_a_picture_comes_out_turned_as_its_exif_says(tmp_path, suffix, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    PICTURE.save(
        tmp_path / f"turned{suffix}", exif=exif, **({"lossless": True} if suffix == ".webp" else {})
    )
    assert apart(tmp_path / f"turned{suffix}", np.asarray(turned, int)) <= (
        32 if suffix == ".jpg" else 0
    )


def test_transparency_becomes_white(tmp_path):
    palette = Image.new("P", (20, 10), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(0, (0, 0, 10, 10))
    palette.save(tmp_path / "palette.png", transparency=0)
    expected = np.full((10, 20, 3), 255)
    expected[:, 10:] = 0, 0, 255
    assert apart(tmp_path / "palette.png", expected) == 0
    Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert apart(tmp_path / "clear.png", np.full((10, 20, 3), 255)) == 0
    Image.new("LA", (20, 10), (0, 128)).save(tmp_path / "half.png")
    assert apart(tmp_path / "half.png", np.full((10, 20, 3), 127)) <= 1


def test_broken_pictures_are_refused_in_one_line_that_names_them(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert "empty file" in refused(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("this is no picture\n" * 100)
    assert "not a readable picture" in refused(tmp_path / "text.jpg")
    PICTURE.resize((800, 480)).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    assert "truncated" in refused(tmp_path / "half.jpg")
    assert "No such file" in refused(tmp_path / "absent.jpg")
    (tmp_path / "a\nb.jpg").write_text("no picture, and a line end in its name")
    assert r"a\nb.jpg" in refused(tmp_path / "a\nb.jpg")
    (tmp_path / "folder.jpg").mkdir()
    refused(tmp_path / "folder.jpg")


@pytest.mark.parametrize("width, height", [(60_000, 60_000), (20_000, 20_000)])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, width, height):
    (tmp_path / "bomb.png").write_bytes(png(width, height, 8, 2, b"\0" * 10))
    assert "pixels" in refused(tmp_path / "bomb.png")


def test_a_picture_larger_than_pillow_allows_passes(tmp_path, recwarn):
    size = (20_000, 9_500)  # 190 megapixels, more than Pillow allows by itself
    Image.new("1", size).save(tmp_path / "large.png")
    assert open_image(tmp_path / "large.png").size == size
    assert not recwarn.list


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_20_000_pixels_wide_passes(tmp_path, suffix):
    Image.new("RGB", (20_000, 30), "green").save(tmp_path / f"wide{suffix}")
    assert open_image(tmp_path / f"wide{suffix}").size == (20_000, 30)


@given(data=st.data(), kind=st.sampled_from(["png", "jpeg", "gif", "tiff", "webp", "bmp"]))
@settings(max_examples=200)
def test_damaged_bytes_give_a_picture_or_one_line(tmp_path_factory, data, kind):
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    PICTURE.resize((16, 10)).save(path)
    content = bytearray(path.read_bytes())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)))
    ):
        content[place] = value
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert open_image(path).mode == "RGB"
    except ValueError as error:
        assert len(str(error).splitlines()) == 1


def write_pictures(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)


def collect(folder: Path, **choices):
    return read_collection(folder, ImageSettings(source=str(folder), **choices))


@pytest.mark.parametrize("below", ["", "all_images/", "images/"])
def test_class_folders_give_the_classes(tmp_path, below):
    write_pictures(tmp_path, f"{below}oak/1.png", f"{below}oak/2.jpg", f"{below}elm/3.PNG")
    (tmp_path / below / "oak/notes.txt").write_text("no picture")
    write_pictures(tmp_path, f"{below}.thumbnails/1.png", f"{below}__MACOSX/._1.png")
    found = collect(tmp_path)
    assert found.images.image.tolist() == ["elm/3.PNG", "oak/1.png", "oak/2.jpg"]
    assert found.images["class"].tolist() == ["elm", "oak", "oak"] and found.class_column == "class"
    assert open_image(found.path("oak/2.jpg")).size == (8, 8)
    assert collect(tmp_path, class_columns=()).class_column is None


@pytest.mark.parametrize(
    ("names", "sides"),
    [
        (("train", "test"), ("train", "test")),
        (("train", "val", "test"), ("train", "dev", "test")),
        (("Training", "Validation", "Testing"), ("train", "dev", "test")),
        (("train", "valid"), ("train", "test")),
        (("seg_train", "seg_test"), ("train", "test")),
        (("train2017", "val2017"), ("train", "test")),
        (("Train", "EVAL"), ("train", "test")),
    ],
)
def test_folders_of_a_split_are_its_sides_and_no_classes(tmp_path, names, sides):
    write_pictures(
        tmp_path,
        *(f"{name}/{kind}/{n}.png" for name in names for kind in ("cat", "dog") for n in range(2)),
    )
    found = collect(tmp_path)
    assert found.class_columns == ["class"] and set(found.images["class"]) == {"cat", "dog"}
    assert found.split == {
        f"{name}/{kind}/{n}.png": side
        for name, side in zip(names, sides)
        for kind in ("cat", "dog")
        for n in range(2)
    }
    assert collect(tmp_path, class_columns=[]).split == found.split


def test_a_split_without_classes_and_classes_without_a_split(tmp_path):
    write_pictures(
        tmp_path / "plain", *(f"{name}/{n}.png" for name in ("train", "test") for n in range(2))
    )
    plain = collect(tmp_path / "plain")
    assert plain.class_columns == [] and sorted(set(plain.split.values())) == ["test", "train"]
    write_pictures(
        tmp_path / "vehicles", *(f"{name}/{n}.png" for name in ("train", "bus") for n in range(2))
    )
    vehicles = collect(tmp_path / "vehicles")
    assert vehicles.split == {} and set(vehicles.images["class"]) == {"train", "bus"}


def test_a_column_of_a_split_is_its_sides_and_no_class(tmp_path):
    write_pictures(tmp_path, *(f"{n}.png" for n in range(4)))
    rows = [
        (f"{n}.png", kind, split)
        for n, kind, split in zip(range(4), "abab", ("train", "TRAIN", "test", "test "))
    ]
    pd.DataFrame(rows, columns=["file_label", "kind", "split"]).to_csv(
        tmp_path / "labels.csv", index=False
    )
    found = collect(tmp_path)
    assert found.class_columns == ["kind"] and list(found.split.values()) == [
        "train",
        "train",
        "test",
        "test",
    ]
    pd.DataFrame(rows, columns=["file_label", "kind", "split"]).assign(split=list("xyxy")).to_csv(
        tmp_path / "labels.csv", index=False
    )
    assert collect(tmp_path).class_columns == ["kind", "split"] and collect(tmp_path).split == {}


def test_something_else_beside_a_split_is_refused_by_name(tmp_path):
    write_pictures(
        tmp_path / "folders",
        *(f"{name}/{n}.png" for name in ("train", "test", "more") for n in range(2)),
    )
    with pytest.raises(ValueError, match="'more' stands beside test and train"):
        collect(tmp_path / "folders")
    write_pictures(tmp_path / "column", *(f"{n}.png" for n in range(3)))
    pd.DataFrame(
        {"file_label": [f"{n}.png" for n in range(3)], "split": ["train", "test", ""]}
    ).to_csv(tmp_path / "column" / "labels.csv", index=False)
    with pytest.raises(ValueError, match="labels.csv: '' stands beside test and train"):
        collect(tmp_path / "column")


def test_folders_in_folders_are_classes_coarse_to_fine(tmp_path):
    write_pictures(tmp_path, "tree/oak/1.png", "tree/elm/deep/2.png", "herb/3.png")
    found = collect(tmp_path)
    assert found.class_columns == ["level_1", "level_2", "level_3"]
    assert found.images.to_numpy().tolist() == [
        ["herb/3.png", "herb", "herb", "herb"],
        ["tree/elm/deep/2.png", "tree", "elm", "deep"],
        ["tree/oak/1.png", "tree", "oak", "oak"],
    ]


def test_pictures_in_one_folder_have_no_classes(tmp_path):
    write_pictures(tmp_path, "b.png", "a.png")
    found = collect(tmp_path)
    assert found.images.image.tolist() == ["a.png", "b.png"]
    assert found.class_columns == [] and found.class_column is None and found.set_aside.empty


def test_a_loose_picture_beside_class_folders_is_named(tmp_path):
    write_pictures(tmp_path, "oak/1.png", "elm/1.png", "stray.png")
    with pytest.raises(ValueError, match="'stray.png'.*beside class folders.*class_columns"):
        collect(tmp_path)
    assert len(collect(tmp_path, class_columns=()).images) == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_labels_of_any_dialect_are_the_same(tmp_path, delimiter, line_end, encoding):
    rows = [
        ["file_label", "tree", "kind"],
        ["ä b.png", "oak", "NA"],
        ['"q,;\t\n".png', "elm", "007"],
        ["c.png", "a", "1"],
    ]
    quoted = [[f'"{field.replace(chr(34), chr(34) * 2)}"' for field in row] for row in rows]
    for number, written in enumerate(
        [quoted, [quoted[0], rows[1], quoted[2], rows[3]], [rows[0], *quoted[1:]]]
    ):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(
            "".join(delimiter.join(row) + line_end for row in written).encode(encoding)
        )
        table = read_labels(path)
        assert list(table) == ["image", "tree", "kind"]
        assert table.to_numpy().tolist() == rows[1:]


def test_labels_may_have_no_class_column(tmp_path):
    write_pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text("file_label\nb.png\na.png\n")
    assert collect(tmp_path).images.to_dict("list") == {"image": ["b.png", "a.png"]}
    assert collect(tmp_path).class_column is None


@pytest.mark.parametrize(
    "content, expected",
    [
        ("", "expected a column file_label"),
        ("name,tree\na.png,oak\n", "expected a column file_label, got name, tree"),
        ("file_label,tree\na.png,oak\na.png,elm\n", "'a.png' is listed more than once"),
        ("file_label,tree\na.png,oak,tall\nb.png,elm\n", "row 2: expected 2 fields, got 3"),
        ("file_label,tree,tree\na.png,oak,elm\n", "a column stands twice"),
        ("file_label,side\na.png,left\n", "'side'.*rename"),
        ('file_label,tree\n"a.png,oak\n', "not readable"),
        ("file_label,tree\né.png,oak\n".encode("latin-1"), "UTF-8"),
        ("file_label,tree\na.png,oak\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_wrong_labels_give_one_line(tmp_path, content, expected):
    path = tmp_path / "labels.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=expected) as caught:
        read_labels(path)
    assert len(str(caught.value).splitlines()) == 1 and "labels.csv" in str(caught.value)


def test_listed_pictures_that_cannot_take_part_are_set_aside(tmp_path):
    write_pictures(tmp_path, "images/a.png", "images/b.png", "images/c.png")
    (tmp_path / "labels.csv").write_text(
        "file_label,tree\nb.png,oak\ngone.png,oak\nc.png,\na.png, elm\n"
    )
    found = collect(tmp_path)
    assert found.images.to_dict("list") == {"image": ["b.png", "a.png"], "tree": ["oak", "elm"]}
    assert found.set_aside.image.tolist() == ["gone.png", "c.png"]
    assert (
        "not in the folder" in found.set_aside.reason[0]
        and "without a class" in found.set_aside.reason[1]
    )
    assert collect(tmp_path, class_columns=()).images.image.tolist() == ["b.png", "c.png", "a.png"]


def test_a_name_that_leaves_the_folder_is_refused(tmp_path):
    write_pictures(tmp_path, "data/a.png", "data/b.png", "data_too/x.png")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "data_too" / "x.png")
    for name in (
        "../data_too/x.png",
        "../absent.png",
        str(tmp_path / "data_too/x.png"),
        "link.png",
        "a/../../z.png",
    ):
        (tmp_path / "data" / "labels.csv").write_text(f'file_label\na.png\n"{name}"\nb.png\n')
        with pytest.raises(ValueError, match="leads out of the data folder") as caught:
            collect(tmp_path / "data")
        assert name in str(caught.value)
    (tmp_path / "data" / "labels.csv").unlink()  # nobody wrote the name: the rest takes part
    found = collect(tmp_path / "data")
    assert found.images.image.tolist() == ["a.png", "b.png"] and found.set_aside.image.tolist() == [
        "link.png"
    ]
    assert "a link that leads out of the data folder" in found.set_aside.reason[0]


def test_odd_names_take_part_and_impossible_ones_are_set_aside(tmp_path):
    odd = [
        " a b .png",
        "ü 家.png",
        'it\'s "so",;.png',
        "line\nend.png",
        "NA.png",
        "-rf.png",
        "%s{0}.png",
    ]
    write_pictures(tmp_path, *odd, "carriage\rreturn.png", "bytes\udcff.png")
    found = collect(tmp_path)
    assert sorted(found.images.image) == sorted(odd)
    assert all(open_image(found.path(name)).size == (8, 8) for name in odd)
    assert sorted(found.set_aside.image) == ["bytes\\udcff.png", "carriage\rreturn.png"]
    found.set_aside.to_csv(tmp_path / "set_aside.csv")


def test_folders_that_are_no_study_give_one_line(tmp_path):
    with pytest.raises(ValueError, match="no such folder.*images.source"):
        collect(tmp_path / "absent")
    with pytest.raises(ValueError, match="^[^\n]*0 usable picture.*at least two"):
        collect(tmp_path)
    write_pictures(tmp_path, "oak/1.png")
    with pytest.raises(ValueError, match="1 usable picture.*at least two"):
        collect(tmp_path)
    write_pictures(tmp_path, "oak/2.png")
    with pytest.raises(ValueError, match="no class column 'clas'. Did you mean class?"):
        collect(tmp_path, class_columns=("clas",))


def test_two_images_and_a_class_of_one_image_are_a_collection(tmp_path):
    write_pictures(tmp_path, "oak/1.png", "elm/1.png")
    assert collect(tmp_path).images["class"].tolist() == ["elm", "oak"]


def test_vectors_need_labels_and_no_pictures(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="labels.csv"):
        collect(tmp_path, vectors="v.npy")
    (tmp_path / "labels.csv").write_text("file_label,tree\nc.png,oak\na.png,elm\nb.png,oak\n")
    with pytest.raises(ValueError, match="w.npy: no such file"):
        collect(tmp_path, vectors="w.npy")
    found = collect(tmp_path, vectors="v.npy")
    assert found.folder is None and found.images.image.tolist() == ["c.png", "a.png", "b.png"]
    [tile] = thumbnails(found, ["a.png"], side=32)
    assert tile.size == (32, 32)


def test_thumbnails_stand_in_for_what_cannot_be_shown(tmp_path):
    write_pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "b.png").write_bytes(b"")
    good, broken, outside = thumbnails(
        collect(tmp_path), ["a.png", "b.png", "../../x.png"], side=64
    )
    assert good.size == broken.size == outside.size == (64, 64)
    assert list(broken.getdata()) == list(outside.getdata()) != list(good.getdata())
    assert side_by_side(good, broken, gap=4).size == (132, 64)


def test_the_embedded_study_draws_its_own_pictures(home):
    values = {"study": "tiny", "images": {"source": workspace.DRAWN, "per_class": 2}}
    found = open_collection(workspace.Run("tiny", parse_study(values)))
    assert len(found.images) == 6 and found.class_column == "house_type"
    assert all(found.path(name).is_relative_to(home) for name in found.images.image)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    per_class=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_a_balanced_sample_takes_as_many_of_each_class_and_the_same_by_seed(sizes, per_class, seed):
    classes = np.random.default_rng(seed).permutation(
        np.repeat([f"c{i}" for i in range(len(sizes))], sizes)
    )
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(len(classes))], "tree": classes})
    before, images = table.copy(), Images(table, NO_VECTORS)
    sample = balanced_sample(images, per_class, seed).table
    pd.testing.assert_frame_equal(table, before)
    pd.testing.assert_frame_equal(sample, balanced_sample(images, per_class, seed).table)
    assert sample.tree.value_counts().to_dict() == {
        f"c{i}": min(n, per_class) for i, n in enumerate(sizes)
    }
    assert sample.index.is_monotonic_increasing
    assert len(balanced_sample(Images(table[["image"]], NO_VECTORS), per_class, seed)) == min(
        per_class, len(images)
    )
    assert len(balanced_sample(images, None, seed)) == len(images)

"""Folders and tables as people have them: nothing is guessed, nothing is dropped in silence."""

import io
import json
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgsearch_utils.images.collection import Collection, open_collection, read_collection
from imgsearch_utils.images.decoding import open_image, reads_heif
from imgsearch_utils.images.folder_levels import says_nothing
from imgsearch_utils.images.listed_names import label_tables
from imgsearch_utils.search.service import read_upload
from imgsearch_utils.study import ImageSettings
from imgsearch_utils.workspace import find_run
from imgsearch_utils.workspace.account import Account
from tests.tiny_study import command, living_in, write_study

ONE = Image.new("RGB", (8, 8), "green")
FEW = [f"{n}.png" for n in range(3)]


def place(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            ONE.save(folder / name)
        else:
            (folder / name).write_bytes(b"none")


def collect(folder: Path, **choices) -> Collection:
    return read_collection(folder, ImageSettings(source=str(folder), **choices))


def refused(folder: Path, **choices) -> str:
    with pytest.raises(ValueError) as caught:
        collect(folder, **choices)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def count_files(folder: Path) -> int:
    """Files below a folder without the tables that are read, counted on another way."""
    return sum(path.is_file() for path in folder.rglob("*")) - len(label_tables(folder))


# ---- folders ----


@pytest.mark.parametrize(
    "sides",
    [
        ("train", "eval"),
        ("train", "val"),
        ("imagenette_train", "imagenette_val"),
        ("Training Set", "Test Set"),
        ("train_images", "test_images"),
        ("01-train", "02-valid", "03-test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
    ],
    ids="+".join,
)
def test_folders_of_a_split_by_any_name_are_no_classes(tmp_path, sides):
    place(tmp_path, *(f"{side}/{kind}/{n}" for side in sides for kind in "ab" for n in FEW))
    found = collect(tmp_path)
    assert found.class_columns == ["class"] and {*found.images["class"]} == {"a", "b"}
    assert len({*found.split.values()}) == len(sides) and "test" in found.split.values()
    assert any("taken for a split" in note for note in found.account.notes)
    as_classes = collect(tmp_path, split="none")
    assert len(as_classes.class_columns) >= 2 and not as_classes.split
    assert "no table with a column 'subset'" in refused(tmp_path, split="subset")
    assert collect(tmp_path, split="folders").split == found.split


def test_a_split_below_the_classes_is_one_too(tmp_path):
    place(
        tmp_path,
        *(f"{kind}/{side}/{n}" for side in ("train", "test") for kind in "ab" for n in FEW),
    )
    found = collect(tmp_path)
    assert found.class_columns == ["class"] and {*found.images["class"]} == {"a", "b"}
    assert found.split["a/test/0.png"] == "test"
    place(tmp_path, "a/more/0.png")
    assert "'more' stands beside" in refused(tmp_path)


@pytest.mark.parametrize(
    "folders",
    [
        ("00000", "00001"),
        ("2023/05 May", "2023/06 June", "2024"),
        ("2023-05-12 Italy", "2024-01 Home"),
        ("0", "1", "2"),
        ("100APPLE", "101APPLE"),
        ("DCIM/100CANON", "DCIM/101CANON"),
        ("batch_1", "batch_2"),
        ("New folder", "New folder (2)"),
        ("a3", "0f", "77"),
        ("Mai 2023", "Juni 2023"),
        ("January", "February"),
        ("cats", "dogs", "2023"),
        ("cats/1", "cats/2", "dogs/1"),
    ],
    ids="+".join,
)
def test_folders_that_may_be_only_places_are_asked_about(tmp_path, folders):
    place(tmp_path, *(f"{folder}/{n}" for folder in folders for n in FEW))
    said = refused(tmp_path)
    assert "nothing is guessed" in said and "--classes " in said and "--flat" in said
    assert collect(tmp_path, class_columns=()).class_columns == []
    asked = said.partition("coarse to fine (")[2].partition(")")[0].split()[1::2]
    assert collect(tmp_path, class_columns=tuple(asked)).class_columns == asked


@pytest.mark.parametrize(
    "name",
    ["oak", "n01440764", "001.Black_footed_Albatross", "person_01", "1990s", "7up", "May", "march",
     "01_octopus", "12 roses", "家", "class_1", "size 10", "Fiat 500"],
)  # fmt: skip
def test_names_that_say_something_are_classes(name):
    assert says_nothing(name) == ""


def test_a_level_with_one_folder_hides_no_class(tmp_path):
    place(tmp_path, *(f"pets/train/{kind}/photos/{n}" for kind in ("cat", "dog") for n in FEW))
    found = collect(tmp_path)
    assert found.class_columns == ["class"] and {*found.images["class"]} == {"cat", "dog"}


def test_each_picture_in_a_folder_of_its_own_is_no_class(tmp_path):
    place(tmp_path, *(f"house {letter}/photo.png" for letter in "abcdefghijklm"))
    assert "13 folders for 13 pictures" in refused(tmp_path)


@pytest.mark.parametrize(
    "twin", ["Äpfel", unicodedata.normalize("NFD", "äpfel"), "äpfel ", "_äpfel"]
)
def test_one_name_spelt_twice_is_asked_about(tmp_path, twin):
    place(tmp_path / "folders", *(f"{kind}/{n}" for kind in ("äpfel", twin, "x") for n in FEW))
    assert "are one name, spelt twice" in refused(tmp_path / "folders")
    place(tmp_path / "table", *(f"{n}.png" for n in range(6)))
    kinds = ["äpfel", twin, "x"] * 2
    rows = pd.DataFrame({"file_label": [f"{n}.png" for n in range(6)], "kind": kinds})
    rows.to_csv(tmp_path / "table/labels.csv", index=False)
    if twin.strip() != "äpfel":  # blanks around a value count for nothing
        assert "are one name, spelt twice" in refused(tmp_path / "table")


def test_folders_that_systems_make_and_other_files_are_counted(tmp_path):
    place(tmp_path, *(f"{kind}/{n}" for kind in ("cat", "dog") for n in FEW))
    place(
        tmp_path,
        "@eaDir/cat/0.png/SYNOPHOTO_THUMB_M.png",
        "cat/@eaDir/0.png/THUMB.png",
        "#recycle/old.png",
        "__MACOSX/cat/._0.png",
        "dog/._0.png",
        ".cache/a/b.png",
        "Thumbs.db",
        "cat/notes.txt",
        "cat/movie.MOV",
        "none",
    )
    found = collect(tmp_path)
    assert {*found.images["class"]} == {"cat", "dog"}
    assert (found.account.seen, found.account.taken) == (count_files(tmp_path), 6) == (16, 6)
    assert found.account.left_out["in the system folder @eaDir"][0] == 2
    assert found.account.left_out["no picture (.mov)"] == (1, "'cat/movie.MOV'")
    assert found.account.classes == {"class": {"cat": 3, "dog": 3}}


def test_masks_beside_images_are_left_out_and_classes_beside_them_asked_about(tmp_path):
    place(
        tmp_path, *(f"{part}/{n}" for part in ("images", "masks", "xyz") for n in FEW), "logo.png"
    )
    found = collect(tmp_path)
    assert len(found.images) == 3 and found.account.left_out["in masks/, beside images/"][0] == 3
    assert found.account.seen == 10
    place(tmp_path, "cat/7.png", "cat/8.png")
    assert "images may be where they are, or one class" in refused(tmp_path)


def test_every_format_that_can_be_read_is_and_the_others_are_counted(tmp_path):
    place(tmp_path, "a.png", "b.png")
    formats = {".avif": "AVIF", ".jfif": "JPEG", ".JP2": "JPEG2000", ".pgm": "PPM", ".jpe": "JPEG"}
    for suffix, kind in formats.items():
        ONE.save(tmp_path / f"x{suffix}", kind)
        assert open_image(tmp_path / f"x{suffix}").size == (8, 8)
    place(tmp_path, "IMG_1.HEIC")
    account = collect(tmp_path).account
    assert (account.seen, account.taken) == (8, 7 + reads_heif())
    assert reads_heif() or "pillow-heif" in [*account.left_out][0]


# ---- tables ----


def listed_as(folder: Path, write, names=("cats/P 0.jpg", "dogs/Äpfel.png", "dogs/ü%.png")) -> Path:
    """Pictures, and a labels.csv that lists them in another form."""
    for name in names:
        place(folder, unicodedata.normalize("NFD", name).replace(".jpg", ".png"))
    rows = [(write(name.replace(".jpg", ".png")), "ab"[n % 2]) for n, name in enumerate(names)]
    pd.DataFrame(rows, columns=["file_label", "kind"]).to_csv(folder / "labels.csv", index=False)
    return folder


FORMS = {
    "composed": lambda name: unicodedata.normalize("NFC", name),
    "Windows": lambda name: name.replace("/", "\\"),
    "quoted": lambda name: name.replace("%", "%25").replace(" ", "%20").replace("Ä", "%C3%84"),
    "no suffix": lambda name: name.removesuffix(".png"),
    "capitals": str.upper,
    "blanks": lambda name: f" {name} ",
    "a dot": lambda name: f"./{name}",
    "a folder above": lambda name: f"data/pictures/{name}",
    "of another machine": lambda name: f"C:\\Users\\me\\{name}".replace("/", "\\"),
    "names alone": lambda name: name.partition("/")[2],
    "absolute": lambda name: f"/home/me/{name}",
}


@pytest.mark.parametrize("form", FORMS)
def test_names_in_another_form_mean_their_pictures(tmp_path, form):
    found = collect(listed_as(tmp_path, FORMS[form]))
    assert found.images.kind.tolist() == ["a", "b", "a"] and found.set_aside.empty
    assert all(open_image(found.path(name)) for name in found.images.image)
    assert found.labels.image.tolist() == found.images.image.tolist()
    assert any("written otherwise" in note for note in found.account.notes)


def test_names_are_relative_to_the_table_or_to_the_pictures(tmp_path):
    place(tmp_path, *(f"images/{n}" for n in FEW))
    (tmp_path / "labels.csv").write_text(
        "file_label,kind\nimages/0.png,a\n1.png,b\nimages/2.png,a\n"
    )
    assert collect(tmp_path).images.image.tolist() == FEW


def test_a_name_that_may_mean_two_pictures_and_two_names_of_one_are_refused(tmp_path):
    place(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "labels.csv").write_text("file_label,kind\n1.png,x\n")
    assert "'1.png' may be 'a/1.png' or 'b/1.png'" in refused(tmp_path)
    (tmp_path / "labels.csv").write_text("file_label,kind\nA/1.png,x\na/1,y\nb/1.png,z\n")
    assert "both mean 'a/1.png'" in refused(tmp_path)


def test_a_name_of_another_folder_is_no_picture_of_this_one(tmp_path):
    place(tmp_path, "b/1.png", "b/2.png", "b/3.png")
    (tmp_path / "labels.csv").write_text("file_label,kind\na/1.png,x\nb/2.png,x\nb/3.png,y\n")
    found = collect(tmp_path)
    assert found.images.image.tolist() == ["b/2.png", "b/3.png"]
    assert (found.account.seen, found.account.taken) == (4, 2)
    (tmp_path / "labels.csv").write_text("file_label,kind\nb/11.png,x\nb/12.png,y\n")
    assert "none of its 2 names is one of a picture" in (said := refused(tmp_path))
    assert "the nearest is 'b/1.png'" in said


def test_pictures_that_no_table_lists_are_counted(tmp_path):
    place(tmp_path, *FEW, "3.png")
    (tmp_path / "labels.csv").write_text("file_label,kind\n0.png,x\n1.png,y\nghost.png,y\n")
    account = collect(tmp_path).account
    assert (account.seen, account.taken) == (5, 2)
    assert account.left_out["in the folder, but not listed in labels.csv"] == (2, "'2.png'")
    assert account.left_out["listed in labels.csv but not in the folder"] == (1, "'ghost.png'")


def test_a_split_by_folders_is_kept_beside_a_table(tmp_path):
    names = [f"{side}/{n}" for side in ("train", "test") for n in FEW]
    place(tmp_path, *names)
    rows = pd.DataFrame({"file_label": names, "kind": list("xyxyxx")})
    rows.to_csv(tmp_path / "labels.csv", index=False)
    found = collect(tmp_path)
    assert found.class_columns == ["kind"] and found.split["test/0.png"] == "test"
    assert collect(tmp_path, split="none").split == {}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_metadata_of_an_image_folder_is_read(tmp_path, suffix):
    for side in ("train", "test"):
        place(tmp_path, *(f"{side}/{n}" for n in FEW))
        rows = [{"file_name": n, "kind": "ab"[int(n[0]) % 2]} for n in FEW]
        text = pd.DataFrame(rows).to_csv(index=False) if suffix == "csv" else ""
        lines = "\n".join(json.dumps(row | {"boxes": [1, 2]}) for row in rows)
        (tmp_path / side / f"metadata.{suffix}").write_text(text or lines)
    found = collect(tmp_path)
    assert found.class_columns == ["kind"] and found.account.taken == found.account.seen == 6
    assert sorted({*found.split.values()}) == ["test", "train"]


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (["1990.0", "2001", "", "7"], "holds numbers"),
        (["9.5e-05", "0.1", "0.2", "1"], "holds numbers"),
        (["0", "1", "0", "1"], "holds numbers"),
        (["2026-11-30", "2026-12-01", "", "2026-12-01"], "holds dates"),
        (["a", "b", "b", "a"], "no levels of classes from coarse to fine"),
    ],
)
def test_columns_that_may_be_no_classes_are_asked_about(tmp_path, column, why):
    place(tmp_path, *FEW, "3.png")
    table = pd.DataFrame({"file_label": [*FEW, "3.png"], "kind": list("xxyy"), "other": column})
    table.to_csv(tmp_path / "labels.csv", index=False)
    said = refused(tmp_path)
    assert why in said and "--classes kind" in said and "--classes ''" in said
    found = collect(tmp_path, class_columns=("kind",))
    assert found.account.taken == 4 and found.account.classes == {"kind": {"x": 2, "y": 2}}
    assert found.account.columns["other"] == (why.partition("holds ")[2].rstrip("s") or "text")


def test_numbers_in_a_column_that_is_called_so_are_classes(tmp_path):
    place(tmp_path, *FEW, "3.png")
    (tmp_path / "labels.csv").write_text("file_label,label\n0.png,0\n1.png,1\n2.png,1\n3.png,0\n")
    assert collect(tmp_path).account.classes == {"label": {"0": 2, "1": 2}}


def test_the_coarser_of_two_columns_is_proposed_first(tmp_path):
    place(tmp_path, *FEW, "3.png")
    rows = pd.DataFrame(
        {"file_label": [*FEW, "3.png"], "fine": list("abcc"), "coarse": list("xxyy")}
    )
    rows.to_csv(tmp_path / "labels.csv", index=False)
    assert "--classes coarse --classes fine" in refused(tmp_path)
    assert collect(tmp_path, class_columns=("coarse", "fine")).account.taken == 4


def test_a_column_that_may_be_a_split_or_a_class_is_asked_about(tmp_path):
    place(tmp_path, *FEW, "3.png")
    sides = ["train", "train", "val", "val"]
    table = pd.DataFrame({"file_label": [*FEW, "3.png"], "kind": list("xyxy"), "subset": sides})
    table.to_csv(tmp_path / "labels.csv", index=False)
    assert "--split subset keeps it" in refused(tmp_path)
    kept = collect(tmp_path, split="subset")
    assert (
        kept.class_columns == ["kind"]
        and sorted(kept.split.values()) == ["test"] * 2 + ["train"] * 2
    )
    assert "no column 'subsett'" in refused(tmp_path, split="subsett")


# ---- the account ----

part = st.sampled_from(["train", "test", "cat", "dog", "2023", "00001", "@eaDir", ".x", "images"])
leaf = st.sampled_from(
    ["0.png", "1.png", "2.PNG", "a.txt", "b.heic", "._0.png", "Thumbs.db", "é.png"]
)
path = st.tuples(st.lists(part, max_size=3), leaf).map(lambda each: "/".join([*each[0], each[1]]))
row = st.tuples(path, st.sampled_from(["x", "y", "", "7"]))


@settings(max_examples=150)
@given(
    st.lists(path, min_size=2, max_size=14, unique=True),
    st.none() | st.lists(row, max_size=8, unique_by=lambda each: each[0]),
    st.sampled_from([None, ()]),
    st.sampled_from([None, "none"]),
)
def test_the_account_of_any_folder_adds_up(tmp_path_factory, names, rows, classes, split):
    folder = tmp_path_factory.mktemp("any")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    absent = 0
    if rows is not None:
        pd.DataFrame(rows, columns=["file_label", "kind"]).to_csv(
            folder / "labels.csv", index=False
        )
    try:
        found = collect(folder, class_columns=classes, split=split)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
        return
    account = found.account
    absent = account.left_out.get("listed in labels.csv but not in the folder", (0, ""))[0]
    assert account.seen == count_files(folder) + absent
    assert account.seen == account.taken + sum(number for number, _ in account.left_out.values())
    assert account.taken == len(found.images)
    for column, counts in account.classes.items():
        assert sum(counts.values()) == account.taken, column
    account.write(folder / "account.json")
    assert Account.read(folder / "account.json") == account


def test_an_account_that_does_not_add_up_is_a_fault():
    with pytest.raises(RuntimeError, match="does not add up"):
        Account("files", 3, 1, {"no picture": (1, "'a'")})


def test_new_prints_the_account_and_keeps_it_and_control_letters_reach_no_terminal(tmp_path):
    names = [f"{kind}/{n}" for kind in ("cat", "dog\x1b[31m") for n in FEW]
    place(tmp_path / "pictures", *names, "\x1b[2J.txt")
    done = command(tmp_path, "new", "tested", tmp_path / "pictures")
    assert "7 files seen = 6 taken + 1 left out" in done.stdout
    assert "1 no picture (.txt); first: '\\x1b[2J.txt'" in done.stdout
    assert "dog\\x1b[31m 3" in done.stdout and "\x1b" not in done.stdout + done.stderr
    assert "# 7 files seen = 6 taken + 1 left out" in (tmp_path / "configs/tested.yaml").read_text()
    place(tmp_path / "years", *(f"{year}/{n}" for year in (2022, 2023) for n in FEW))
    done = command(tmp_path, "new", "years", tmp_path / "years")
    assert done.returncode == 1 and "--flat" in done.stderr
    assert not (tmp_path / "configs/years.yaml").exists()
    done = command(tmp_path, "new", "years", tmp_path / "years", "--flat")
    assert done.returncode == 0 and "6 pictures\n" in done.stdout
    assert "split: none" in (tmp_path / "configs/years.yaml").read_text()
    done = command(tmp_path, "new", "by_year", tmp_path / "years", "--classes", "class")
    assert "6 pictures in 2 classes" in done.stdout


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "AVIF", "JPEG2000", "PPM", "TIFF"])
def test_a_server_reads_what_the_command_reads(kind):
    file = io.BytesIO()
    ONE.save(file, kind)
    assert read_upload(file.getvalue()).size == (8, 8)


@pytest.mark.skipif(not reads_heif(), reason="needs pillow-heif")
def test_pictures_of_phones_are_read(tmp_path):
    for number in range(2):
        ONE.resize((64, 64)).save(tmp_path / f"IMG_{number}.HEIC", "HEIF")
    found = collect(tmp_path)
    assert found.account.taken == 2 and open_image(found.path("IMG_0.HEIC")).size == (64, 64)
    assert read_upload((tmp_path / "IMG_1.HEIC").read_bytes()).size == (64, 64)


@pytest.mark.parametrize("columns", [("level_1", "level_2"), ()])
def test_a_run_that_was_begun_before_is_asked_nothing_again(tmp_path, columns):
    """As former versions read it: a split as classes, or years without a word."""
    tops = ("train", "eval") if columns else ("2022", "2023")
    place(
        tmp_path / "pictures", *(f"{top}/{kind}/{n}" for top in tops for kind in "ab" for n in FEW)
    )
    write_study(tmp_path)
    with living_in(tmp_path):
        run = find_run("tiny", begin=True)
        header = ",".join(["image", *columns, "group", "side"])
        (run.labels / "images.csv").write_text(header + "\n")
        found = open_collection(run)
    assert found.class_columns == [*columns] and len(found.images) == 12

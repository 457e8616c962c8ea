"""Hostile files, folders, names and settings, through the command: used rightly, or refused in one
line and no more.
"""

import csv
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image

from imgsearch_utils import plots
from imgsearch_utils.grades.import_export import export_labels, import_labels
from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.grades.pairs import COLUMNS, canonical, read_pair_files, read_pairs
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.images.image_split import named_sample
from imgsearch_utils.search import classify
from imgsearch_utils.study import read_study
from imgsearch_utils.workspace import atomic_path, find_run, tables
from imgsearch_utils.workspace.tables import read_user_csv, user_csv_parts
from tests import tiny_study
from tests.tiny_study import living_in, typed

HOSTILE = "ran$ch_{$"  # matplotlib would read a formula between the dollars
SCORES = ["score", "p_similar", "p_grade_0", "p_grade_1", "p_grade_2", "p_grade_3", "cosine"]
posix = pytest.mark.skipif(os.name != "posix", reason="FIFOs and links are those of POSIX")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A finished round of 36 houses, one class of which has a hostile name."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tiny_study,
            "picture_of",
            lambda home, house: (
                home
                / "pictures"
                / (HOSTILE if house["house_type"] == "rustic" else house["house_type"])
                / house["file_label"]
            ),
        )
        tiny_study.make(folder)
    return folder


@pytest.fixture
def room(home, tmp_path) -> Path:
    """The same, for one test to write into; the pictures are shared."""
    for name in (
        "configs",
        "active_learning_labels",
        "active_learning_models",
        "active_learning_results",
        "vector_dbs",
    ):
        shutil.copytree(home / name, tmp_path / name)
    return tmp_path


def refused(where: Path, *arguments) -> str:
    """The one line of a command that is refused; what it left behind is nothing new."""
    before = sorted(where.rglob("*"))
    out, error = typed(where, *arguments)
    assert len(error.strip().splitlines()) == 1 and error.startswith("imgsearch: "), error
    assert "Traceback" not in error and len(error) < 1500
    assert sorted(where.rglob("*")) == before
    return error


def pairs_file(where: Path, **more) -> Path:
    names = [f"modern/modern_{n:04}.jpg" for n in range(1, 5)]
    table = pd.DataFrame({"image1": names[:-1], "image2": names[1:], **more})
    table.to_csv(where / "pairs.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    return where / "pairs.csv"


# ---- scores ----


def scored(home, file, *more):
    out, said = typed(home, "score", file, "--study", "tiny", *more)
    return out, said


def test_scores_of_another_run_give_way_and_are_named(home, tmp_path):
    plain, _ = scored(home, pairs_file(tmp_path))
    more = {"note": "kept\rhere", "id": "007", "big": 12345678901234567890, "round": 1}
    more |= {"similarity": 2.0, "source": 0.5, "annotators": 0.5, "side": 0.5, "group1": 0.5}
    again, said = scored(home, pairs_file(tmp_path, **dict.fromkeys(SCORES, 0.123), **more))
    assert f"made anew, in place of the file's own columns: {', '.join(SCORES)}\n" in said
    (tmp_path / "plain.csv").write_text(plain)
    (tmp_path / "again.csv").write_text(again, newline="")
    first, second = (
        pd.read_csv(tmp_path / "plain.csv"),
        pd.read_csv(tmp_path / "again.csv", dtype=str),
    )
    np.testing.assert_array_equal(second[SCORES].astype(float), first[SCORES])
    for name, value in more.items():
        assert second[name].tolist() == [str(value)] * 3
    third, _ = scored(home, tmp_path / "again.csv")
    assert pd.read_csv(StringIO(third))[SCORES].equals(first[SCORES])


def test_a_file_of_a_header_alone_has_no_scores_and_an_unknown_name_no_score(home, tmp_path):
    (tmp_path / "none.csv").write_text("image1,image2\n")
    out, said = scored(home, tmp_path / "none.csv")
    assert (
        out.strip() == ",".join(["image1", "image2", "similarity", *SCORES])
        and "0 pairs scored" in said
    )
    (tmp_path / "ghost.csv").write_text("image1,image2,score\nghost,modern/modern_0001.jpg,0.9\n")
    out, said = scored(home, tmp_path / "ghost.csv")
    assert not out and "none of its 1 pairs could be scored" in said and "'ghost'" in said


def test_a_file_that_is_read_in_parts_has_the_scores_of_a_small_one(home, tmp_path):
    """Names and grades of all kinds on both sides of the seams; an error after a seam leaves
    nothing written.
    """
    plain, _ = scored(home, pairs_file(tmp_path, note="x"))
    header, *rows = (tmp_path / "pairs.csv").read_text().splitlines()
    n = 2 * tables.PART + 5
    with (tmp_path / "long.csv").open("w") as file:
        file.write(header + "\n")
        file.writelines(rows[number % 3] + "\n" for number in range(n))
        file.write("ghost,other ghost,\n")
    _, said = scored(home, tmp_path / "long.csv", "--out", tmp_path / "out.csv")
    assert f" of {n + 1:,} pairs scored" in said and "2 image(s) are unknown" in said
    table, small = pd.read_csv(tmp_path / "out.csv"), pd.read_csv(StringIO(plain))
    assert len(table) == n + 1 and table[SCORES].iloc[-1].isna().all()
    expected = small.iloc[np.arange(n) % 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(table.iloc[:n], expected, check_exact=False, atol=2e-6)
    with (tmp_path / "long.csv").open("a") as file:
        file.write("one,field too many,here,\n")
    (tmp_path / "out.csv").unlink()
    for more in ([], ["--out", tmp_path / "out.csv"]):
        out, said = scored(home, tmp_path / "long.csv", *more)
        assert (
            f"row {n + 3}: expected 3 fields, got 4" in said
            and not out
            and not (tmp_path / "out.csv").exists()
        )


@given(
    st.lists(st.lists(st.text('ab,;\t"\n\r é', max_size=4), min_size=2, max_size=2), max_size=12),
    st.integers(1, 5),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_parts_of_a_table_are_the_table(tmp_path_factory, rows, size, end):
    path, text = tmp_path_factory.getbasetemp() / "parts.csv", StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["one", "two"], *rows])
    path.write_bytes(text.getvalue().encode())
    seen = []
    parts = list(user_csv_parts(path, size, lambda *done: seen.append(done)))
    kept = [row for row in rows if any(row)]
    assert pd.concat(parts).to_numpy().tolist() == kept == read_user_csv(path).to_numpy().tolist()
    assert pd.concat(parts).index.tolist() == [
        number for number, row in enumerate(rows, 2) if any(row)
    ]
    assert len(parts) == max(1, -(-len(rows) // size)) and seen[-1] == (path.stat().st_size,) * 2


# ---- names in figures ----

IMAGES = pd.DataFrame(
    {"class": [HOSTILE, "$x^{$", HOSTILE, "\\frac{$a$}"], "side": ["train", "train", "dev", "test"]}
)
MATRIX = pd.DataFrame(np.eye(2), index=[HOSTILE, "$\\bad{$"], columns=[HOSTILE, "$\\bad{$"])
CURVES = pd.DataFrame(
    {"study": "s", "loss": [HOSTILE, HOSTILE, "$_$"], "seed": 0, "labels": [1, 2, 1], "ap": 0.5}
)
CLASSES = pd.DataFrame(
    {
        "method": "linear probe",
        "rank": [1, 2, 3],
        "class": [HOSTILE, "a, $x_{$", "a, b"],
        "p": [0.5, 0.3, 0.2],
        "calibrated": True,
    }
)
ENCODERS = pd.DataFrame(
    {
        "encoder": [HOSTILE, "$x^{$"] * 3,
        "class": [HOSTILE, HOSTILE, "$_$"] * 2,
        "low": 0.4,
        "measure": ["AP", "AP", "P@10", "P@10", "nDCG@10", "nDCG@10"],
        "mean": 0.5,
        "high": 0.6,
    }
)
ON_A_MAP = pd.DataFrame(
    {"x": [0.0, 1, 2], "y": 0.0, "class": [HOSTILE, "$x^{$", HOSTILE], "picture": None}
)
DRAWN = {
    "class_counts": (plots.class_counts, IMAGES),
    "class_confusion": (plots.class_confusion, MATRIX, HOSTILE),
    "picture_grid": (
        plots.picture_grid,
        [Image.new("RGB", (9, 9))] * 2,
        [HOSTILE, "$\\bad{$\n0.50"],
    ),
    "curves_with_bands": (plots.curves_with_bands, CURVES, "loss", {"ap": "AP"}),
    "encoders": (plots.encoders, ENCODERS),
    "by_class": (plots.by_class, ENCODERS.drop_duplicates(["encoder", "class"]), "mAP"),
    "picture_map": (plots.picture_map, {HOSTILE: ON_A_MAP, "$_$": ON_A_MAP}),
    "classify": (classify.figure, Image.new("RGB", (9, 9)), CLASSES),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_names_are_drawn_as_they_stand(name, tmp_path):
    draw, *given_ = DRAWN[name]
    figure = draw(*given_)
    figure.savefig(tmp_path / "drawn.png", dpi=30)
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(tmp_path / "drawn.svg")
    shown = {text.get_text() for text in figure.findobj(Text)}
    assert any(HOSTILE in text.replace(r"\$", "$") for text in shown)
    assert not any(matplotlib.cbook.is_math_text(text) for text in shown)
    assert HOSTILE in (tmp_path / "drawn.svg").read_text()


def test_every_figure_that_draws_names_of_data_is_drawn_with_hostile_ones():
    """The others draw names of this package alone: sides, models, indexes, measures, grades."""
    public = {name for name in plots.__all__ if inspect.isfunction(getattr(plots, name))}
    own = {
        "grade_counts",
        "training_curves",
        "score_distributions",
        "confusion",
        "precision_recall",
        "rounds",
        "retrieval",
        "candidates",
        "explained_variance",
        "finetuning_curve",
        "costs",
    }
    helpers = {"save", "axes_grid", "of_rows", "legend_beside", "legend_below", "literal"}
    assert public - helpers == (set(DRAWN) - {"classify"}) | own


def test_two_classes_that_are_cut_alike_keep_a_bar_each():
    figure = classify.figure(Image.new("RGB", (9, 9)), CLASSES)
    assert len({patch.get_y() for patch in figure.axes[1].patches}) == 3


# ---- files that cannot be read or written ----


def test_what_is_no_file_to_read_or_write_is_one_line(home, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    good, picture, long = (
        pairs_file(tmp_path),
        "pictures/modern/modern_0001.jpg",
        "x" * 300 + ".csv",
    )
    for arguments, said in (
        (["score", tmp_path / "folder.csv"], "folder.csv: expected a CSV file, got a folder"),
        (["score", long], "File name too long"),
        (["score", "/dev/zero"], "expected a CSV file, got a FIFO, a socket or a device"),
        (["score", good, "--out", tmp_path / "folder.csv"], "folder.csv: Is a directory"),
        (["score", good, "--out", long], "File name too long"),
        (["score", good, "--out", "nowhere/x.csv"], "No such file or directory"),
        (["search", picture, "--show", "pictures"], "--show pictures: "),
        (["search", picture, "--show", "x" * 300 + ".png"], "File name too long"),
        (["search", "x" * 300], "no such file or folder"),
        (["classify", picture, "--show", "nowhere/x.svg"], "No such file"),
    ):
        shown = typed(home, *arguments, "--study", "tiny")[1].strip().splitlines()
        assert shown[-1].startswith("imgsearch: ") and said in shown[-1] and len(shown) <= 2, shown
    assert "got a folder" in refused(
        home, "labels", "import", tmp_path / "folder.csv", "--study", "tiny"
    )
    assert not list(tmp_path.glob("**/*.partial*")) and not list(home.glob("*.partial*"))


def test_a_full_disk_leaves_what_stood_there_and_nothing_half(room, home, tmp_path):
    resource = pytest.importorskip("resource")
    with living_in(room):
        journal = Journal(find_run("tiny").journal)
    many = [f"modern/modern_{n:04}.jpg" for n in range(1, 13)]
    table = pd.DataFrame(
        [(one, two) for one in many for two in many if one < two], columns=["image1", "image2"]
    )
    journal.append_many(table.assign(similarity=2.0), "ann", "person")
    table.to_csv(tmp_path / "many.csv", index=False)
    picture = home / "pictures/modern/modern_0001.jpg"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for arguments, out in (
        (["score", tmp_path / "many.csv", "--out"], "out.csv"),
        (["labels", "export"], "out.csv"),
        (["search", picture, "--show"], "out.png"),
        (["classify", picture, "--show"], "out.svg"),
    ):
        (room / out).write_text("what stood there")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            _, error = typed(room, *arguments, out, "--study", "tiny")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "File too large" in error.splitlines()[-1] and "Traceback" not in error
        assert (room / out).read_text() == "what stood there" and not list(room.glob(".*partial*"))
        _, said = typed(room, *arguments, out, "--study", "tiny")
        assert "imgsearch: " not in said and (room / out).stat().st_size > 1000


@posix
def test_output_that_cannot_be_written_is_one_line(room):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "imgsearch_utils.cli", "labels", "summary", "--study", "tiny"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=room,
            timeout=800,
            env=os.environ | {"IMGSEARCH_HOME": str(room)},
        )
    assert (done.returncode, done.stderr) == (1, "imgsearch: No space left on device\n")


@posix
def test_a_file_is_written_whole_or_not_and_devices_and_links_are_written_into(tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    with pytest.raises(KeyError), atomic_path(tmp_path / "link.csv") as partial:
        partial.write_text("half")
        raise KeyError
    assert (tmp_path / "real.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    with atomic_path(tmp_path / "link.csv") as partial:
        partial.write_text("new")
    assert (tmp_path / "real.csv").read_text() == "new" and (tmp_path / "link.csv").is_symlink()
    with atomic_path("/dev/null") as partial:
        partial.write_text("nothing")
    assert not Path("/dev/null").is_file()
    piped = (
        "from imgsearch_utils.workspace import atomic_path\n"
        "with atomic_path('/dev/stdout') as file: file.write_text('a')"
    )
    assert (
        subprocess.run([sys.executable, "-c", piped], capture_output=True, text=True).stdout == "a"
    )


# ---- runs and studies by name ----


@pytest.mark.parametrize(
    "command",
    [
        ["labels", "summary"],
        ["labels", "import", "pairs.csv"],
        ["labels", "export", "x.csv"],
        ["embed"],
        ["index"],
        ["score", "pairs.csv"],
        ["search", "x.jpg"],
        ["classify", "x.jpg"],
        ["tag"],
        ["serve", "--no-browser"],
    ],
    ids=" ".join,
)
def test_a_misspelt_run_or_study_is_refused_with_the_nearest_and_begins_nothing(room, command):
    pairs_file(room, similarity=3)
    study = ["tiny"] if command == ["tag"] else ["--study", "tiny"]
    wrong = ["tinny"] if command == ["tag"] else ["--study", "tinny"]
    assert "no run is called tinyy here" in (
        said := refused(room, *command, *study, "--run", "tinyy")
    )
    assert "Did you mean tiny?" in said
    assert "no study is called 'tinny'" in (said := refused(room, *command, *wrong))
    assert "Did you mean tiny?" in said


def test_a_study_named_as_a_built_in_one_is_refused_and_new_does_not_make_it(room):
    assert "has a study called grocery already" in refused(room, "new", "grocery", room)
    (room / "configs/grocery.yaml").write_text((room / "configs/tiny.yaml").read_text())
    said = refused(room, "labels", "summary", "--study", "grocery")
    assert "two studies are called grocery" in said and str(room / "configs/grocery.yaml") in said


@pytest.mark.parametrize(
    "command",
    [
        ["new"],
        ["labels", "summary", "--study"],
        ["search", "--study=tiny"],
        ["run"],
        ["score", "--study=tiny"],
        ["labels", "summary", "--study=tiny", "--run"],
    ],
    ids=" ".join,
)
def test_a_name_of_any_length_is_refused_in_a_line_that_can_be_read(room, command):
    for letters in (200, 5000):
        said = refused(room, *command, "a" * letters, *([room] if command == ["new"] else []))
        if command == ["new"]:
            assert "at most 80 characters" in said and len(said) < 250


def test_another_study_of_the_same_name_does_not_share_a_run(room):
    other = room / "elsewhere"
    other.mkdir()
    (other / "tiny.yaml").write_text(
        f"study: tiny\nimages: {{source: {other}}}\noracle: person\nrounds: 1\n"
    )
    for command in (
        ["run", other / "tiny.yaml"],
        ["labels", "summary", "--study", other / "tiny.yaml"],
    ):
        assert "images.source: " in refused(room, *command)


# ---- pictures and folders that are none ----


@posix
def test_a_folder_with_a_fifo_a_socket_a_device_and_broken_links_is_searched_without_them(
    home, tmp_path
):
    folder = tmp_path / "queries"
    folder.mkdir()
    shutil.copy(home / "pictures/modern/modern_0001.jpg", folder / "good.jpg")
    os.mkfifo(folder / "fifo.jpg")
    (folder / "broken.jpg").symlink_to("absent.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "dir.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as listening, living_in(folder):
        listening.bind("socket.png")
    for command in ("search", "classify"):
        began = time.monotonic()
        out, said = typed(home, command, folder, "--study", "tiny", "--json")
        assert time.monotonic() - began < 60
        assert [Path(each["query"]).name for each in json.loads(out)["queries"]] == ["good.jpg"]
        for name in ("fifo.jpg", "broken.jpg", "loop.jpg", "zero.png", "socket.png"):
            assert f"{name}': " in said, name
        assert len(said.splitlines()) == 5
    for name, reason in (
        ("fifo.jpg", "a FIFO, a socket or a device"),
        ("zero.png", "a FIFO, a socket or a device"),
        ("broken.jpg", "a link that leads nowhere"),
        ("loop.jpg", "a link that leads nowhere"),
    ):
        assert reason in refused(home, "search", folder / name, "--study", "tiny")


@posix
def test_a_studys_folder_names_its_fifos_and_the_links_that_it_does_not_follow(tmp_path):
    for number in range(2 * 3):
        tiny_study.draw(tmp_path, number)
        tiny_study.draw(tmp_path, 13 + number)
    pictures = tmp_path / "pictures"
    [kind, *_] = sorted(path.name for path in pictures.iterdir())
    os.mkfifo(pictures / kind / "x.jpg")
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(tiny_study.draw(tmp_path, 0), outside / "secret.jpg")
    (pictures / "linked").symlink_to(outside, target_is_directory=True)
    (pictures / kind / "out.jpg").symlink_to(outside / "secret.jpg")
    (pictures / kind / "loop").symlink_to(pictures, target_is_directory=True)
    (pictures / kind / "inside.jpg").symlink_to(next((pictures / kind).glob("*0002.jpg")).name)
    tiny_study.write_study(tmp_path)
    out, said = typed(tmp_path, "embed", "--study", "tiny")
    assert out.startswith("13 vectors")
    aside = [
        line.removeprefix("set aside: ")
        for line in said.splitlines()
        if line.startswith("set aside")
    ]
    assert {line.partition(": ")[0]: line.partition(": ")[2][:30] for line in aside} == {
        "linked": "a link to a folder, which lead",
        f"{kind}/x.jpg": "a FIFO, a socket or a device, ",
        f"{kind}/out.jpg": "a link that leads out of the d",
        f"{kind}/loop": "a link to a folder, which lead",
    }
    assert any("linked: a link to a folder, which leads out of" in line for line in aside)
    names = pd.read_csv(tmp_path / "vector_dbs/tiny/encoder/names.csv").image
    assert f"{kind}/inside.jpg" in set(names) and not names.str.contains("secret|out.jpg").any()


@posix
@pytest.mark.parametrize("command", [["labels", "import"], ["score"]], ids=" ".join)
def test_a_fifo_is_no_csv_and_what_a_shell_pipes_is(room, command):
    os.mkfifo(room / "fifo.csv")
    assert "got a FIFO" in refused(room, *command, room / "fifo.csv", "--study", "tiny")
    reading, writing = os.pipe()
    os.write(writing, pairs_file(room, similarity=3).read_bytes())
    os.close(writing)
    out, said = typed(room, *command, f"/dev/fd/{reading}", "--study", "tiny")
    os.close(reading)
    assert "3 rows" in out or "3 pairs scored" in said


# ---- settings ----

BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghi", "bcdefghij")
)
TINY = "study: hostile\nimages: {source: x}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            TINY + "rounds: 1000000000\n",
            "rounds: Input should be less than or equal to 1000, got 1000000000",
        ),
        (TINY + f"images: {{source: x, per_class: {10**20}}}\n", "images stands twice"),
        (
            f"study: hostile\nimages: {{source: x, per_class: {10**20}}}\n",
            "images.per_class: Input should be less than",
        ),
        (
            TINY + "asked_per_round: 10000000000000\n",
            "asked_per_round: Input should be less than or equal to 1000000",
        ),
        *(
            (
                TINY + f"head: {{{name}: {10**12}}}\n",
                f"head.{name}: Input should be less than or equal to",
            )
            for name in ("hidden", "epochs", "batch_size")
        ),
        *(
            (TINY + f"{name}: {10**12}\n", f"{name}: Input should be less than or equal to")
            for name in ("zeros_per_round", "dev_asked", "test_asked", "max_per_image", "seed")
        ),
        (TINY + "sizes: [1000000000]\n", "sizes.0: Input should be less than or equal to 10000000"),
        (TINY + f"sizes: {[9] * 100}\n", "sizes: Tuple should have at most 20 items"),
        (TINY + f"rounds: 1{'0' * 5000}\n", "not readable as YAML"),
        (TINY + f"rounds: 0x{'f' * 5000}\n", "rounds: "),
        (TINY + BOMB, "*a: aliases are not read"),
        ("a: &a [*a]\n", "aliases are not read"),
        (TINY + "rounds: " + "[" * 5000 + "]" * 5000, "nested more than 20 deep"),
        (TINY + "rounds: " + "{a: " * 3000, "nested more than 20 deep"),
        (TINY + "x: 1\n" * 30_000, "expected at most 100,000 characters"),
        (TINY + "rounds: 2\nrounds: 3\n", "rounds stands twice"),
        (TINY + "head: {epochs: 2, epochs: 3}\n", "epochs stands twice"),
        (TINY + "rounds:\t[\t2\n", "not readable as YAML"),
        ("\tstudy: hostile\n", "not readable as YAML"),
        ("- study\n", "expected a mapping of settings, got list"),
        ("null\n", "expected a mapping of settings, got NoneType"),
        (TINY + "head: 3\n", "head: "),
        (TINY + "head: [3]\n", "head: "),
        ("3: 4\n", ""),
        (TINY + "? [a, b]\n: 3\n", ""),
        (TINY + "2020-01-01: 3\n", ""),
        (TINY + "null: 3\n", ""),
        *(
            (TINY + f"head: {{{name}: {value}}}\n", f"head.{name}: Input should be a finite number")
            for name in ("learning_rate", "weight_decay", "margin", "drift", "class_share")
            for value in (".inf", ".nan")
        ),
        (
            TINY + "head: {targets: [0, .nan, 0.5, 1]}\n",
            "head.targets.1: Input should be a finite number",
        ),
        (TINY + "duplicate_cosine: .nan\n", "duplicate_cosine: Input should be a finite number"),
        (TINY + "indexes: [{name: exact, build: {m: .inf}}]\n", "indexes.0.build.m"),
        (
            TINY + f"indexes: [{{name: annoy, build: {{trees: {10**20}}}}}]\n",
            "expected a number up to 10,000,000",
        ),
        (
            TINY + f"indexes: [{{name: annoy, query: {{search_k: {[1] * 200}}}}}]\n",
            "should have at most 100 items",
        ),
        (
            TINY + "head: {learning_rate: 1.0e+300}\n",
            "head.learning_rate: Input should be less than or equal to 1000",
        ),
        (TINY + "".join(f"a{n}: 1\n" for n in range(10_000)), "no setting is called a0"),
        (TINY + f"sizes: {[1] * 30_000}\n", "sizes: Tuple should have at most 20 items"),
        (
            TINY + "rounds: !!python/object/apply:os.system ['touch evil']\n",
            "could not determine a constructor",
        ),
        (TINY + "rounds: !!python/name:os.system\n", "could not determine a constructor"),
        (TINY + f"obtain: {'x' * 90_000}\n", "no setting is called obtain"),
        (TINY + f"{'x' * 1000}: 3\n", "no setting is called xxx"),
        (TINY + f"{'x' * 90_000}: 3\n", "not readable as YAML"),
        (
            f"study: {'x' * 300}\nimages: {{source: x}}\n",
            "study: String should have at most 80 characters",
        ),
        (TINY + "rubric: {questions: 3}\n", "rubric.questions"),
        (TINY + "rubric: absent\n", "no rubric is called"),
        (TINY + "rubric: bomb\n", "aliases are not read"),
        (TINY + "rubric: folder\n", "no rubric is called 'folder'"),
        (TINY + "rubric: twice\n", "title stands twice"),
        (TINY + "rubric: ../hostile\n", "no rubric is called"),
    ],
    ids=lambda value: (
        value[:40].encode("unicode_escape").decode() if isinstance(value, str) else None
    ),
)
def test_absurd_settings_are_one_line_quickly(tmp_path, text, said):
    rubrics = tmp_path / "rubrics"
    rubrics.mkdir()
    (rubrics / "bomb.yaml").write_text(BOMB)
    (rubrics / "twice.yaml").write_text("title: one\ntitle: two\n")
    (rubrics / "folder.yaml").mkdir()
    (tmp_path / "hostile.yaml").write_text(text)
    began = time.process_time()
    line = refused(tmp_path, "run", "hostile.yaml")
    assert time.process_time() - began < 10
    assert said in line and (".yaml" in line or "--set" in line)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (["rounds=["], "--set 'rounds=[': not readable as YAML"),
        (["rounds"], "--set expects NAME=VALUE"),
        (["rounds=2", "rounds=3"], "--set rounds stands twice"),
        (["rounds=\t["], "not readable as YAML"),
        (["=3"], "no setting is called"),
        (["."], "--set expects"),
        (["head..epochs=3"], "head"),
        (["rounds.x=3"], "rounds"),
        (["head=3"], "head"),
        (["rounds=*a"], "aliases are not read"),
        (["rounds=!!python/object:os.system {}"], "could not determine a constructor"),
        (["head.learning_rate=.nan"], "head.learning_rate: Input should be a finite number"),
        (["rounds={a: 1, a: 2}"], "a stands twice"),
        (["rounds=" + "[" * 3000], "nested more than 20 deep"),
        (["rounds=999999999999"], "rounds: Input should be less than or equal to 1000"),
        (["ruonds=2"], "Did you mean rounds?"),
    ],
    ids=lambda value: value[0][:30] if isinstance(value, list) else "",
)
def test_settings_that_are_typed_are_checked_as_those_of_a_file(home, given_, said):
    assignments = [part for assignment in given_ for part in ("--set", assignment)]
    assert said in refused(home, "run", "tiny", *assignments)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
@settings(max_examples=60)
def test_any_value_of_a_setting_is_read_or_refused_in_one_line(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    for name in ("rounds", "head", "images", "indexes", "sizes", "rubric", "labels"):
        path.write_text(
            json.dumps({"study": "any", "images": {"source": "x"}, name: value}), encoding="utf-8"
        )
        try:
            read_study(path)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 1500


# ---- pairs ----

HEADER = "image1,image2,similarity\n"
A, B = "modern/modern_0001.jpg", "modern/modern_0002.jpg"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{HEADER}{A},{B},\x003\n", "got a NUL byte"),
        (f"{HEADER}{A}\x00,{B},3\n", "got a NUL byte"),
        (f"{HEADER}{A},{B},3\n".encode("utf-16"), "expected UTF-8 text, got byte 0"),
        (f"{HEADER}{A},{B},3\n".encode("utf-16-le"), "got a NUL byte"),
        (f"{HEADER}{A},{B},3\n".encode("utf-32"), "expected UTF-8 text, got byte 0"),
        (f"{HEADER}é{A},{B},3\n".encode("cp1252"), "expected UTF-8 text, got byte 25"),
        ("x" * 10_000_000, "a line of 10,000,000 letters or more"),
        (
            "image1,image2,similarity," + ",".join(f"c{n}" for n in range(1_000_000)) + "\n",
            "expected at most 1,000 columns, got 1,000,003",
        ),
        (",".join(f"c{n}" for n in range(900)) + "\n", "expected a column image1"),
        ("", "expected a column image1"),
        ("\n\n\n", "expected a column image1"),
        ("\ufeff", "expected a column image1"),
        (f'{HEADER}"{A},{B},3\n' + f"{A},{B},3\n" * 1000, "not readable as CSV"),
        (f'{HEADER}"{A}"x,{B},3\n', "not readable as CSV"),
        (f"{HEADER}{A},{B}\n", "row 2: expected 3 fields, got 2"),
        (f"{HEADER}{A},{B},3,4\n", "expected 3 fields, got 4"),
        (f"image1,image2,similarity,similarity\n{A},{B},3,1\n", "a column stands twice"),
        (f"{HEADER},{B},3\n", "row 2: image1 is empty"),
        *(
            (
                f'{HEADER}{A},{B},"{grade}"\n',
                f"row 2: similarity must be 0, 1, 2, 3 or empty, got '{grade}'",
            )
            for grade in (
                "３",
                "true",
                "1e0",
                "1,000",
                "1.000,0",
                "0x3",
                "1_0",
                "+3",
                "-0",
                "3.5",
                "nan",
                "inf",
                "NULL",
                "٣",
                "²",
                "3 3",
                "4",
                "3.0.0",
                "1 000",
            )
        ),
        (f"{HEADER}{A},{B},{'9' * 100_000}\n", "similarity must be"),
    ],
    ids=lambda value: repr(value[:60]),
)
def test_broken_pairs_are_one_line_and_nothing_is_written(home, tmp_path, content, said):
    file = tmp_path / "pairs.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    journal = home / "active_learning_labels/tiny/journal.csv"
    assert (
        said in refused(home, "labels", "import", file, "--study", "tiny") and not journal.exists()
    )
    if "similarity" not in said:
        assert said in refused(home, "score", file, "--study", "tiny")


@pytest.mark.parametrize("grade", ["3", "3.0", "3.", "3.000000", "3,0", "3,00", " 3 "])
def test_the_ways_to_write_a_grade(tmp_path, grade):
    (tmp_path / "pairs.csv").write_text(f'{HEADER}a,b,"{grade}"\n')
    assert read_pairs(tmp_path / "pairs.csv").similarity.tolist() == [3]


def test_a_header_alone_imports_nothing_and_odd_pairs_are_named(room):
    file = room / "pairs.csv"
    file.write_text(HEADER)
    out, _ = typed(room, "labels", "import", file, "--study", "tiny", "--json")
    assert json.loads(out)["imported"] == json.loads(out)["rows"] == 0
    file.write_text(
        f'{HEADER}{A},{A},3\n{A.upper()},{B}, 2\n" '
        f'{A}",{B},2\n"{A}\n",{B},1\n\u202e{A},{B},1\n{A},{B},1\n'
    )
    out, _ = typed(room, "labels", "import", file, "--study", "tiny", "--json")
    counts = json.loads(out)
    assert (counts["imported"], counts["self_pairs"], counts["unknown"], counts["rows"]) == (
        1,
        1,
        4,
        6,
    )
    problems = pd.read_csv(room / "active_learning_labels/tiny/import_problems.csv")
    detail = problems[problems.problem == "unknown"].detail
    assert detail.str.contains(
        f"it has '{A}', which is written otherwise", regex=False
    ).tolist() == [True, True, True, False]


def test_files_that_cannot_be_read_begin_no_run(tmp_path):
    tiny_study.write_study(tmp_path)
    for text in ("", f"{HEADER}{A},{B},7\n"):
        (tmp_path / "pairs.csv").write_text(text)
        refused(tmp_path, "labels", "import", "pairs.csv", "--study", "tiny")
    assert "absent.csv: no such file" in refused(
        tmp_path, "labels", "import", "absent.csv", "--study", "tiny"
    )


names_ = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
).filter(lambda name: name.strip())
odd_names = names_ | st.sampled_from(
    ["a\nb", "a,b", '"', " a", "\u202ea", "\U0001f3e0", "e\u0301", "é", "A", "a", "\r"]
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(odd_names, odd_names, st.integers(0, 3)), min_size=1, max_size=6))
def test_grades_survive_import_export_and_import_whatever_the_images_are_called(
    tmp_path_factory, rows
):
    home = tmp_path_factory.mktemp("round_trip")
    names = sorted(
        {name for row in rows for name in row[:2] if not set(name) & {"\r"}} | {"x", "y"}
    )
    np.save(
        home / "v.npy", np.random.default_rng(0).normal(size=(len(names), 8)).astype(np.float32)
    )
    pd.DataFrame({"file_label": names}).to_csv(home / "labels.csv", index=False)
    (home / "round.yaml").write_text(f"study: round\nimages: {{source: {home}, vectors: v.npy}}\n")
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.to_csv(home / "first.csv", index=False, quoting=1)
    with living_in(home):
        run = find_run("round.yaml", begin=True)
        counts, _ = import_labels(run, read_pair_files([home / "first.csv"]))
        usable = canonical(
            table[
                table.image1.isin(names) & table.image2.isin(names) & (table.image1 != table.image2)
            ]
        )
        assert counts["imported"] == len(usable.drop_duplicates(["image1", "image2"]))
        if not counts["imported"]:
            return
        assert export_labels(run, home / "out.csv") == counts["imported"]
        exported = read_pairs(home / "out.csv")
        assert import_labels(run, read_pair_files([home / "out.csv"]))[0]["imported"] == 0
        labels = Journal(run.journal).labels()
        pd.testing.assert_frame_equal(exported[COLUMNS], labels[COLUMNS], check_dtype=False)
        grades = (
            usable.groupby(["image1", "image2"])
            .similarity.agg(lambda g: sorted(g)[(len(g) - 1) // 2])
            .to_dict()
        )
        assert {(r.image1, r.image2): r.similarity for r in labels.itertuples()} == grades


@settings(max_examples=150)
@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: (HEADER + text).encode("utf-8", "replace"))
)
def test_any_bytes_are_a_table_or_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    for read in (read_user_csv, read_pairs):
        try:
            assert isinstance(read(path), pd.DataFrame)
        except ValueError as error:
            assert "any.csv" in str(error) and len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file_label,class\na\x00.jpg,x\n", "NUL byte"),
        ("file_label,class\nx,y\n".encode("utf-16"), "UTF-8"),
        (",".join(["file_label", *map(str, range(5000))]), "at most 1,000 columns"),
        ("file_label,\na,b\n", "has no name"),
        ('file_label,class\n"a.jpg,x\n', "not readable as CSV"),
        ("file_label,class\n", "0 usable picture(s)"),
        (f"file_label,class\n{'x' * 5000}.jpg,a\n", "0 usable picture(s) found"),
        ("file_label\n/dev/zero\n", "leads out"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_broken_labels_are_one_line(tmp_path, content, said):
    for number in range(3):
        tiny_study.draw(tmp_path, number)
    folder = tmp_path / "pictures" / tiny_study.HOUSES[0]["house_type"]
    (folder / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "mine.yaml").write_text(f"study: mine\nimages: {{source: {folder}}}\n")
    _, error = typed(tmp_path, "embed", "--study", "mine.yaml")
    assert said in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file_label\na\x00.jpg\n", "NUL byte"),
        ("file_label\na.jpg\na.jpg\n", "listed more than once"),
        ("file_label\nghost.jpg\n", "not in the collection, first: 'ghost.jpg'"),
        ("image\na.jpg\n", "file_label"),
    ],
)
def test_a_broken_sample_is_one_line(tmp_path, content, said):
    (tmp_path / "sampled_labels.csv").write_text(content)
    images = Images(
        pd.DataFrame({"image": ["a.jpg", "b.jpg"]}),
        Embeddings([], np.empty((0, 1), np.float32), {}),
    )
    with pytest.raises(ValueError, match=said) as caught:
        named_sample(images, tmp_path / "sampled_labels.csv")
    assert len(str(caught.value).splitlines()) == 1


@posix
@pytest.mark.parametrize(
    ("library", "arguments"), [("typer", ["--help"]), ("numpy", ["classify", "a.png"])]
)
def test_ctrl_c_while_a_library_is_loaded_is_quiet(tmp_path, library, arguments):
    """Interrupted where a library would be imported, with the command or later; it is loaded to its
    end.
    """
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    code = (
        "import signal, sys\n"
        # jobs in the background may ignore it
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {library!r}:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        f"sys.argv = ['imgsearch', *{arguments!r}]\n"
        "from imgsearch_utils.cli import entry\n"
        "try:\n"
        "    entry()\n"
        "finally:\n"
        f"    assert hasattr(sys.modules[{library!r}], '__version__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

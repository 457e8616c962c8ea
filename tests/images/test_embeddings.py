"""Vectors on disk agree or are refused; a picture is encoded once, whatever happens around it."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, rule
from PIL import Image

from imgsearch_utils import workspace
from imgsearch_utils.encoders import embed_collection as embedding
from imgsearch_utils.encoders.embed_collection import embed, read_vectors
from imgsearch_utils.encoders.encoder import Encoder
from imgsearch_utils.images import vector_store as store
from imgsearch_utils.images.collection import read_collection
from imgsearch_utils.images.embeddings import Embeddings, check_health
from imgsearch_utils.metrics.geometry import mean_cosine
from imgsearch_utils.study import ImageSettings
from imgsearch_utils.workspace import read_json, write_json

names_ = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def some(n=5, dim=4, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return Embeddings(
        [f"{i}.png" for i in range(n)], vectors, {"encoder": "e"}, [f"{i:064x}" for i in range(n)]
    )


class Counting:
    """An encoder of mean colours that remembers how many pictures it saw, and may be
    interrupted.
    """

    def __init__(self, name="means", stop_after=None):
        self.seen, self.stop_after = 0, stop_after
        self.encoder = Encoder(self.pixels, lambda batch: batch.mean((2, 3)), {"encoder": name})

    def pixels(self, picture):
        self.seen += 1
        if self.stop_after is not None and self.seen > self.stop_after:
            raise KeyboardInterrupt
        return torch.tensor(np.asarray(picture.resize((4, 4)), np.float32)).permute(2, 0, 1) - 100


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = tuple(int(value) for value in np.random.default_rng(seed).integers(0, 256, 3))
    Image.new("RGB", (6, 6), colour).save(path)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for number in range(6):
        paint(folder / f"{number}.png", number)
    return folder


def collection(folder):
    return read_collection(folder, ImageSettings(source=str(folder)))


def run(folder, counting):
    before = counting.seen
    embeddings, aside = embed(collection(folder), counting.encoder, folder.parent / "vectors")
    loaded = Embeddings.load(folder.parent / "vectors")
    assert loaded.names == embeddings.names and loaded.config == counting.encoder.config
    np.testing.assert_array_equal(loaded.vectors, embeddings.vectors)
    for name in embeddings.names:
        expected = counting.encoder.preprocess(Image.open(folder / name)).mean((1, 2))
        np.testing.assert_allclose(embeddings.of([name])[0], expected, rtol=1e-5)
        counting.seen -= 1
    return embeddings, aside, counting.seen - before


@given(names=st.lists(names_, min_size=1, max_size=6, unique=True), dim=st.integers(1, 5))
@settings(max_examples=50)
def test_what_is_saved_is_loaded(tmp_path_factory, names, dim):
    folder = tmp_path_factory.getbasetemp() / "saved"
    vectors = np.random.default_rng(0).normal(size=(len(names), dim)).astype(np.float32)
    for digests in ([], [f"{i:064x}" for i in range(len(names))]):
        saved = Embeddings(
            names, vectors[:, ::-1], {"encoder": "e", "nested": {"a": [1, None]}}, digests
        )
        saved.save(folder)
        loaded = Embeddings.load(folder)
        assert loaded.names == names and loaded.config == saved.config
        assert not any(loaded.digests) if not digests else loaded.digests == digests
        np.testing.assert_array_equal(loaded.vectors, vectors[:, ::-1])
        assert loaded.vectors.flags.c_contiguous and loaded.vectors.dtype == np.float32


@pytest.mark.parametrize(
    "damage, expected",
    [
        (
            lambda f: pd.read_csv(f / "names.csv").iloc[:-1].to_csv(f / "names.csv", index=False),
            "5 vectors for the 4 names",
        ),
        (lambda f: np.save(f / "vectors.npy", np.ones((5, 4))), "float64"),
        (lambda f: np.save(f / "vectors.npy", np.ones((5, 4), np.float32)[:4]), "not a folder"),
        (lambda f: np.save(f / "vectors.npy", np.ones(5, np.float32)), r"\(5,\)"),
        (
            lambda f: np.save(f / "vectors.npy", np.array([{}] * 5, object), allow_pickle=True),
            "not a folder",
        ),
        (
            lambda f: write_json(f / "config.json", {**read_json(f / "config.json"), "rows": 4}),
            "4 vectors for the 5 names",
        ),
        (
            lambda f: write_json(
                f / "config.json", {**read_json(f / "config.json"), "rows": "many"}
            ),
            "not a folder",
        ),
        (
            lambda f: write_json(
                f / "config.json", {**read_json(f / "config.json"), "chunks": [1]}
            ),
            "not a folder",
        ),
        (
            lambda f: (f / "vectors.npy").write_bytes((f / "vectors.npy").read_bytes()[:-9]),
            "not a folder",
        ),
        (lambda f: (f / "vectors.npy").write_bytes(b""), "not a folder"),
        (lambda f: (f / "vectors.npy").unlink(), "not a folder"),
        (lambda f: (f / "names.csv").unlink(), "not a folder"),
        (lambda f: (f / "names.csv").write_text(""), "not a folder"),
        (lambda f: (f / "names.csv").write_text("nom,sha256\n" + "a,b\n" * 5), "not a folder"),
        (lambda f: (f / "config.json").unlink(), "not a folder"),
        (lambda f: (f / "config.json").write_text("{"), "not a folder"),
        (lambda f: (f / "config.json").write_text('{"encoder": "e"}'), "digest, rows, chunks is"),
        (lambda f: (f / "names.csv").write_text("image,sha256\n" + "a,b\n" * 5), "more than once"),
        (lambda f: shutil.rmtree(f), "not a folder"),
    ],
)
def test_files_that_do_not_agree_are_refused(tmp_path, damage, expected):
    folder = tmp_path / "vectors"
    some().save(folder)
    damage(folder)
    with pytest.raises(ValueError, match=expected) as caught:
        Embeddings.load(folder)
    assert len(str(caught.value).splitlines()) == 1 and str(folder) in str(caught.value)


def reverse(folder):
    np.save(folder / "vectors.npy", np.load(folder / "vectors.npy")[::-1])


def swap_names(folder):
    table = pd.read_csv(folder / "names.csv")
    table.loc[[0, 1], "image"] = table.image[[1, 0]].to_numpy()
    table.to_csv(folder / "names.csv", index=False)


def change(folder):
    """As an editor might: the size and the time of the last change stay."""
    file = folder / "vectors.npy"
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("loaded_before", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        reverse,
        swap_names,
        change,
        lambda f: write_json(
            f / "config.json", {**read_json(f / "config.json"), "encoder": "another"}
        ),
        lambda f: shutil.copy(f.parent / "theirs" / "config.json", f),
        lambda f: shutil.copy(f.parent / "theirs" / "vectors.npy", f),
    ],
    ids=["reversed", "swapped", "a bit", "edited config", "another's config", "another's vectors"],
)
def test_what_was_not_saved_together_is_refused(tmp_path, damage, loaded_before):
    folder = tmp_path / "vectors"
    some().save(folder)
    replace(some(seed=1), config={"encoder": "theirs"}).save(tmp_path / "theirs")
    if loaded_before:
        Embeddings.load(folder)
    damage(folder)
    for again in (False, True, False):
        with pytest.raises(
            ValueError, match="not those that were saved together.*imgsearch embed"
        ) as caught:
            Embeddings.load(folder, again)
        assert str(folder) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_folder_is_read_wholly_once_and_known_by_its_stamp_then(tmp_path, monkeypatch):
    read, whole = [], store._is_whole
    monkeypatch.setattr(
        store, "_is_whole", lambda folder, *more: read.append(folder.name) or whole(folder, *more)
    )
    folder = tmp_path / "vectors"
    some().save(folder)
    for _ in range(2):
        assert Embeddings.load(folder).sha256 and not read
    shutil.copytree(folder, tmp_path / "copy")
    for _ in range(2):
        Embeddings.load(tmp_path / "copy")
        assert read == ["copy"]
    Embeddings.load(tmp_path / "copy", again=True)
    assert read == ["copy"] * 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_text(
            file.read_text().replace("0.png", "4.png").replace("4.png", "0.png", 1)
        ),
        lambda file: file.write_bytes(b""),
        Path.unlink,
        lambda file: file.write_text(file.read_text()[:-70]),
        lambda file: file.write_bytes(b"\xff" * 99),
    ],
)
def test_names_that_were_remembered_for_speed_are_used_only_as_they_were_written(tmp_path, damage):
    folder = tmp_path / "vectors"
    some().save(folder)
    damage(folder / ".names")
    for _ in range(2):
        found = Embeddings.load(folder)
        assert found.names == some().names and found.digests == some().digests
    assert (folder / ".names").is_file()


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 7), st.booleans())
def test_what_grew_is_what_is_saved_at_once(tmp_path_factory, sizes, chunk, left_behind):
    """Whatever the parts, and whatever a stopped writer left behind; to the same digest."""
    folder, whole = (tmp_path_factory.getbasetemp() / name for name in ("grown", "whole"))
    every, at = some(sum(sizes) + 1), 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "CHUNK", chunk)
        every.subset(every.names[:1]).save(folder)
        grown = Embeddings.load(folder)
        for size in sizes:
            if left_behind:
                for name in ("vectors.npy", "names.csv"):
                    with (folder / name).open("ab") as file:
                        file.write(b"left behind")
                assert Embeddings.load(folder).names == every.names[:at]
            grown = grown.append(folder, every.subset(every.names[at : at + size]))
            at += size
            assert grown.names == every.names[:at] and grown.digests == every.digests[:at]
            np.testing.assert_array_equal(grown.vectors, every.vectors[:at])
            np.testing.assert_array_equal(np.load(folder / "vectors.npy"), every.vectors[:at])
        every.save(whole)
        for file in ("vectors.npy", "names.csv", "config.json"):
            assert (folder / file).read_bytes() == (whole / file).read_bytes()
        assert Embeddings.load(folder, again=True).sha256 == Embeddings.load(whole).sha256


def test_appending_writes_what_is_new_alone_and_refuses_what_does_not_belong(tmp_path):
    folder, every = tmp_path / "vectors", some(9000, dim=8)
    every.subset(every.names[:8000]).save(folder)
    first = Embeddings.load(folder)
    mapped, inode = first.vectors, (folder / "vectors.npy").stat().st_ino
    both = first.append(folder, every.subset(every.names[8000:8500]))
    assert (folder / "vectors.npy").stat().st_ino == inode
    # who reads the old rows goes on reading them
    np.testing.assert_array_equal(mapped, every.vectors[:8000])
    for what, said in (
        (every.subset(every.names[8400:8600]), "'8400.png' has a vector already"),
        (replace(some(3, dim=4), names=list("abc")), "holds 8 numbers an image of e, got 4"),
        (replace(some(3, dim=8), names=list("abc"), config={"encoder": "f"}), "of e, got 8 of f"),
    ):
        with pytest.raises(ValueError, match=said):
            both.append(folder, what)
    with pytest.raises(ValueError, match="changed by another process since it was read"):
        first.append(folder, every.subset(every.names[8600:]))
    assert Embeddings.load(folder, again=True).names == every.names[:8500]


@pytest.mark.parametrize("exchanged", [True, False])
def test_writers_come_one_after_the_other_and_readers_always_find_the_folder(tmp_path, exchanged):
    """Two processes write, this one reads; without the exchange in one step too."""
    folder = tmp_path / "vectors"
    some(200, seed=9).save(folder)
    code = f"""
from pathlib import Path
from imgsearch_utils.workspace import storage
from tests.images.test_embeddings import some
if not {exchanged}:
    storage._exchange = lambda one, two: False
for seed in range(20):
    some(200, seed=seed).save(Path({str(folder)!r}))
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]
    known = {seed: some(200, seed=seed).vectors for seed in [*range(20), 9]}
    while any(writer.poll() is None for writer in writers):
        found = Embeddings.load(folder)
        assert any(np.array_equal(vectors, found.vectors) for vectors in known.values())
        assert not exchanged or (folder / "config.json").is_file()
    assert [writer.wait() for writer in writers] == [0, 0]
    np.testing.assert_array_equal(Embeddings.load(folder).vectors, known[19])
    some(5).save(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".vectors.lock", "vectors"]


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="root writes everywhere"
)
def test_a_read_only_folder_is_read(tmp_path):
    folder = tmp_path / "shared" / "vectors"
    some().save(folder)
    for name in (".verified.json", ".names"):
        (folder / name).unlink()
    for path in (folder, folder.parent):
        path.chmod(0o555)
    code = (
        "from imgsearch_utils.images.embeddings import *; "
        f"print(Embeddings.load(Path({str(folder)!r})).sha256)"
    )
    drop = (
        ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
        if os.geteuid() == 0
        else []
    )
    for path in tmp_path.parents:
        if path != Path("/"):
            path.stat()
    done = subprocess.run(
        [*drop, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    for path in (folder.parent, folder):
        path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 64 and sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "names.csv",
        "vectors.npy",
    ]


def test_rows_are_found_by_name():
    embeddings = some()
    assert embeddings.rows(["3.png", "0.png", "3.png"]).tolist() == [3, 0, 3]
    np.testing.assert_array_equal(embeddings.of(iter(["3.png"])), embeddings.vectors[[3]])
    assert embeddings.of([]).shape == (0, 4)
    with pytest.raises(ValueError, match=r"2 image\(s\) have no vector, first: 'x'"):
        embeddings.rows(["x", "0.png", "y", "x"])
    part = embeddings.subset(["4.png", "1.png"])
    assert part.names == ["4.png", "1.png"] and part.digests == [f"{4:064x}", f"{1:064x}"]
    np.testing.assert_array_equal(part.vectors, embeddings.vectors[[4, 1]])
    assert embeddings.subset(embeddings.names).config == embeddings.config


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(2, 12), st.integers(1, 6)), elements=st.floats(0.01, 9)
    )
)
def test_the_mean_cosine_is_that_of_a_plain_loop(vectors):
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for i, a in enumerate(vectors)
        for j, b in enumerate(vectors)
        if i != j
    ]
    assert mean_cosine(vectors) == pytest.approx(np.mean(cosines), abs=1e-9)


def test_healthy_vectors_pass_and_sick_ones_are_named():
    vectors = some(50).vectors
    before = vectors.copy()
    check_health(vectors, 50)
    np.testing.assert_array_equal(vectors, before)
    check_health(vectors[:2] * 0 + 1, 2)  # two pictures may be alike
    for value in (np.nan, np.inf, -np.inf):
        sick = vectors.copy()
        sick[[7, 9], 2] = value
        with pytest.raises(ValueError, match=r"2 vector\(s\).*first in row 7"):
            check_health(sick, 50)
    sick = vectors.copy()
    sick[3] = 0
    with pytest.raises(ValueError, match=r"1 vector\(s\) are zero.*first in row 3"):
        check_health(sick, 50)
    with pytest.raises(ValueError, match="collapsed: mean pairwise cosine 0.99"):
        check_health(vectors + 20, 50)
    with pytest.raises(ValueError, match="expected 51 vectors, one an image, got 50"):
        check_health(vectors, 51)
    for wrong in (vectors[0], vectors[:, :0], vectors[None]):
        with pytest.raises(ValueError, match=r"must be \(n_images, dim\)"):
            check_health(wrong, 50)


def vectors_study(folder, vectors, n=20, **save):
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text("file_label\n" + "".join(f"{i}.png\n" for i in range(n)))
    np.save(folder / "v.npy", vectors, **save)
    return read_collection(folder, ImageSettings(source=str(folder), vectors="v.npy"))


def test_a_study_of_vectors_is_read_in_the_order_of_its_labels(tmp_path):
    vectors = some(20).vectors
    for given_ in (vectors, vectors.astype(np.float64), np.asfortranarray(vectors)):
        found = read_vectors(vectors_study(tmp_path, given_))
        assert found.names == [f"{i}.png" for i in range(20)]
        np.testing.assert_array_equal(found.vectors, vectors)
        assert found.vectors.dtype == np.float32 and found.vectors.flags.c_contiguous
    one = read_vectors(vectors_study(tmp_path, vectors)).config
    assert one == read_vectors(vectors_study(tmp_path, vectors)).config
    assert one != read_vectors(vectors_study(tmp_path, vectors * 2)).config


@pytest.mark.parametrize(
    "vectors, expected",
    [
        (some(19).vectors, "expected 20 vectors.*got 19"),
        (some(20).vectors[:, :0], "must be"),
        (some(20).vectors * np.nan, "20 vector"),
        (some(20).vectors * 0, "20 vector"),
        (np.ones((20, 4)), "collapsed"),
        (some(20).vectors.astype(np.float64) * 1e300, "20 vector"),
        (np.ones(20), "must be"),
        (np.array([["a"]] * 20), "could not convert"),
        (np.array([[{}]] * 20, object), "Python objects"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_vectors_that_cannot_be_used_are_refused_with_their_file(tmp_path, vectors, expected):
    with pytest.raises(ValueError, match=f"v.npy: .*{expected}") as caught:
        read_vectors(vectors_study(tmp_path, vectors, allow_pickle=True))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_a_file_that_is_no_npy_is_refused(tmp_path, content):
    found = vectors_study(tmp_path, some(20).vectors)
    (tmp_path / "v.npy").write_bytes(content)
    with pytest.raises(ValueError, match="v.npy: no usable .npy file"):
        read_vectors(found)


FILES = st.sampled_from(["a.png", "b.png", "é, a\nnew one.png", "c.png", "d.png"])


class Folders(RuleBasedStateMachine):
    """Pictures come, change, go and change names; each is encoded once as long as it is there."""

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name) / "pictures"
        self.folder.mkdir()
        for colour in ("black", "white"):  # so that not all look alike
            Image.new("RGB", (6, 6), colour).save(self.folder / f"{colour}.png")
        self.counting, self.known, self.broken = Counting(), set(), set()

    def teardown(self):
        self.place.cleanup()

    @rule(name=FILES, seed=st.integers(0, 5))
    def paint(self, name, seed):
        paint(self.folder / name, seed)
        self.broken.discard(name)

    @rule(name=FILES, content=st.sampled_from([b"", b"broken"]))
    def spoil(self, name, content):
        (self.folder / name).write_bytes(content)
        self.broken.add(name)

    @rule(name=FILES)
    def remove(self, name):
        (self.folder / name).unlink(missing_ok=True)
        self.broken.discard(name)

    @rule(name=FILES, other=FILES, kept=st.booleans())
    def rename_or_copy(self, name, other, kept):
        if name in self.broken or name == other or not (self.folder / name).exists():
            return
        shutil.copy(self.folder / name, self.folder / other)
        self.broken.discard(other)
        if not kept:
            (self.folder / name).unlink()

    @rule()
    def another_encoder(self):
        self.counting, self.known = Counting(f"not {self.counting.encoder.config}"), set()

    @rule()
    def embed(self):
        embeddings, aside, encoded = run(self.folder, self.counting)
        names = {path.name for path in self.folder.iterdir()}
        assert sorted(embeddings.names) == sorted(names - self.broken)
        assert set(aside.image) == self.broken
        digests = {workspace.digest(self.folder / name) for name in embeddings.names}
        assert encoded == len(digests - self.known)
        self.known = digests


TestFolders = Folders.TestCase
TestFolders.settings = settings(max_examples=12, stateful_step_count=20)


def test_pictures_that_did_not_change_are_not_read_again_and_those_that_did_are(
    pictures, monkeypatch
):
    read = []
    monkeypatch.setattr(
        embedding, "digest", lambda path: read.append(path.name) or workspace.digest(path)
    )
    counting = Counting()
    run(pictures, counting)
    assert sorted(read) == [f"{number}.png" for number in range(6)]
    # so shortly after they were painted, a change might not be seen by the times
    run(pictures, counting)
    assert len(read) == 12
    monkeypatch.setattr(embedding, "LATELY", 0)
    for _ in range(3):
        read.clear()
        run(pictures, counting)
    assert not read
    before, colour = (pictures / "3.png").stat(), (pictures / "4.png").read_bytes()
    paint(pictures / "3.png", 77)
    # the status change still tells
    os.utime(pictures / "3.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    paint(pictures / "new.png", 88)
    embeddings, _, encoded = run(pictures, counting)
    assert sorted(read) == ["3.png", "new.png"] and encoded == 2 and len(embeddings.names) == 7
    read.clear()
    (pictures / "5.png").write_bytes(colour)
    embeddings, _, encoded = run(pictures, counting)
    assert read == ["5.png"] and encoded == 0
    np.testing.assert_array_equal(*embeddings.of(["4.png", "5.png"]))
    (pictures.parent / "vectors" / ".pictures.npy").write_bytes(b"broken")
    read.clear()
    assert run(pictures, counting)[2] == 0 and len(read) == 7


def test_broken_pictures_alone_give_one_line(pictures):
    for path in pictures.iterdir():
        path.write_bytes(b"broken")
    expected = "none of 6 pictures could be read; first: '0.png': not a readable picture"
    with pytest.raises(ValueError, match=expected) as caught:
        run(pictures, Counting())
    assert len(str(caught.value).splitlines()) == 1


def test_pictures_that_all_look_alike_are_refused(pictures):
    for number in range(6):
        Image.new("RGB", (6, 6 + number), "green").save(pictures / f"{number}.png")
    with pytest.raises(ValueError, match="collapsed"):
        run(pictures, Counting())


def test_an_interrupted_run_goes_on_after_the_last_saved_part(tmp_path):
    folder = tmp_path / "pictures"
    for number in range(1200):
        paint(folder / f"{number:04d}.png", number)
    with pytest.raises(KeyboardInterrupt):
        run(folder, Counting(stop_after=1100))
    saved = Embeddings.load(tmp_path / "vectors")
    assert len(saved.names) == 1024
    embeddings, _, encoded = run(folder, Counting())
    assert encoded == 1200 - 1024 and len(embeddings.names) == 1200

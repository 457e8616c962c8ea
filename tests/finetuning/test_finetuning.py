"""Fine-tuning: exactly resumed after kill -9, kept as an encoder by name, judged on what it never
saw.
"""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from imgsearch_utils.finetuning.backbone import Backbone
from imgsearch_utils.finetuning.pictures import Pictures, encode, read_squares
from imgsearch_utils.finetuning.settings import Finetuning, read_settings
from imgsearch_utils.finetuning.training import Lessons, batches_of, train
from imgsearch_utils.pictures.decoding import open_image
from imgsearch_utils.steps.finetuning import parts_of, verdict
from imgsearch_utils.vectors import Embeddings, Images
from imgsearch_utils.vectors.encoders import get_encoder
from imgsearch_utils.vectors.sides import read_sides
from imgsearch_utils.workspace import find_run
from tests import tiny_study
from tests.tiny_study import living_in, typed
from tests.vectors.test_encoders import tiny_clip  # noqa: F401  a fixture

QUICK = """\
study: tiny
version: {version}
blocks: 1
pixels: 48
epochs: 2
batch: 4
per_class: 2
augment: [crop, flip, trivial, colour]
class_head: 0.5
"""
#: the command, killed by itself before the n-th change of the weights
KILLED = """
import os, signal, sys, torch
from imgsearch_utils.cli import entry
from imgsearch_utils.finetuning import training
training.EVERY, step, left = 0, torch.optim.AdamW.step, [int(sys.argv.pop(1))]
def counted(*of, **more):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*of, **more)
torch.optim.AdamW.step = counted
sys.argv[0] = "imgsearch"
entry()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Houses, one of them grey and one of them in printer's colours, and a finished version called
    a.
    """
    folder = tmp_path_factory.mktemp("finetuning")
    tiny_study.make(folder)
    grey, printed = sorted((folder / "pictures/modern").iterdir())[:2]
    Image.open(grey).convert("L").save(grey)
    Image.open(printed).convert("CMYK").save(printed.with_suffix(".tmp"), "JPEG")
    printed.with_suffix(".tmp").replace(printed)
    (folder / "a.yaml").write_text(QUICK.format(version="a"))
    out, said = typed(folder, "finetune", "a.yaml")
    assert "tuned:tiny/a" in out, said
    return folder


def started(home, stop_at, config):
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(stop_at), "finetune", config],
        cwd=home,
        text=True,
        capture_output=True,
        env=os.environ | {"IMGSEARCH_HOME": str(home)},
        timeout=600,
    )


@pytest.mark.kill  # two processes load all libraries
def test_killed_it_ends_with_the_same_weights(home):
    (home / "b.yaml").write_text(QUICK.format(version="b"))
    stop_at = int(np.random.default_rng(5).integers(2, 8))
    print(f"killed before change {stop_at} of the weights")
    assert started(home, stop_at, "b.yaml").returncode == -signal.SIGKILL
    done = started(home, 0, "b.yaml")
    assert done.returncode == 0, done.stderr
    models, results = (
        home / "active_learning_models/tiny/tuned",
        home / "active_learning_results/tiny/tuned",
    )
    for file in ("weights.safetensors", "history.csv", "retrieval.csv"):
        folder = models if file.startswith("weights") else results
        assert (folder / "a" / file).read_bytes() == (folder / "b" / file).read_bytes(), file
    assert not list(models.glob("*.checkpoint*")) and not list(models.glob("*.partial"))
    out, _ = typed(home, "finetune", "b.yaml")
    assert "tuned:tiny/b is finished" in out


def test_only_the_last_blocks_changed_and_the_best_epoch_is_kept(home):
    tuned = load_file(home / "active_learning_models/tiny/tuned/a/weights.safetensors")
    about = json.loads((home / "active_learning_models/tiny/tuned/a/config.json").read_text())
    before = get_encoder("efficientnet_lite0", "torch").forward.state_dict()
    changed = {
        name for name in tuned if not torch.equal(tuned[name], before[name].cpu().contiguous())
    }
    history = pd.read_csv(home / "active_learning_results/tiny/tuned/a/history.csv")
    assert changed <= set(about["trained"]) and history.epoch.tolist() == [0, 1, 2]
    assert (
        history.best.sum() == 1
        and history.validation[history.best].item() == history.validation.max()
    )
    assert bool(changed) == (not history.best[0])
    assert (history.images[1:] > 0).all() and history.loss[1:].notna().all()


@pytest.mark.slow  # a study is embedded anew, and two encoders are compared
def test_it_is_an_encoder_by_name_everywhere(home):
    with living_in(home):
        encoder, frozen = (
            get_encoder("tuned:tiny/a", "torch"),
            get_encoder("efficientnet_lite0", "torch"),
        )
    picture = open_image(next((home / "pictures/rustic").iterdir()))
    vector, other = encoder.encode_images([picture])[0], frozen.encode_images([picture])[0]
    assert vector.shape == other.shape and not np.allclose(vector, other)
    backbone = Backbone.open("efficientnet_lite0", 1, 48)
    backbone.network.load_state_dict(
        load_file(home / "active_learning_models/tiny/tuned/a/weights.safetensors")
    )
    squares = read_squares([next((home / "pictures/rustic").iterdir())], 48)
    expected = encode(backbone.network, squares, 48, backbone.mean, backbone.std)[0]
    np.testing.assert_allclose(vector, expected, atol=1e-4)
    out, said = typed(home, "encoders", "efficientnet_lite0", "tuned:tiny/a", "--study", "tiny")
    assert "tuned:tiny/a" in out, said
    out, _ = typed(home, "finetune", "--list", "--study", "tiny")
    assert (
        "tuned:tiny/a" in out
        and "augment ['crop', 'flip', 'trivial', 'colour']" in out
        and "unseen images" in out
    )
    study = (home / "configs/tiny.yaml").read_text().replace("study: tiny", "study: other")
    (home / "configs/other.yaml").write_text(study + "encoder: tuned:tiny/a\n")
    out, said = typed(home, "embed", "--study", "other")
    assert "36 vectors, 36 of them new" in out, said
    out, said = typed(
        home, "search", "pictures/rustic/rustic_0003.jpg", "--study", "other", "-k", "3"
    )
    assert "rustic/rustic_0003.jpg" in out.splitlines()[2], said


def test_check_names_what_a_version_lost_and_what_was_changed(home, tmp_path):
    shutil.copytree(home, tmp_path / "copy", symlinks=True)
    copy = tmp_path / "copy"
    models, results = (
        copy / "active_learning_models/tiny/tuned/a",
        copy / "active_learning_results/tiny/tuned/a",
    )
    before, _ = typed(copy, "check", "--study", "tiny")
    with (results / "retrieval.csv").open("a") as file:
        file.write("\n")
    (models / "weights.safetensors").unlink()
    out, said = typed(copy, "check", "--study", "tiny")
    assert (
        "tuned" not in before and "make the version again: imgsearch finetune CONFIG" in out + said
    )
    assert "tuned/a/retrieval.csv is not the file that was written" in out + said
    assert "tuned/a/weights.safetensors is not there" in out + said
    out, _ = typed(copy, "finetune", "--list", "--study", "tiny")
    assert "tuned:tiny/a" in out and "lost a part" in out
    shutil.rmtree(models)
    out, said = typed(copy, "check", "--study", "tiny")
    assert "active_learning_models/tiny/tuned/a is not there" in out + said


def test_changed_weights_and_settings_are_refused(home, tmp_path):
    shutil.copytree(home, tmp_path / "copy", ignore=shutil.ignore_patterns("vector_dbs"))
    copy = tmp_path / "copy"
    file = copy / "active_learning_models/tiny/tuned/a/weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with living_in(copy):
        with pytest.raises(
            ValueError, match="weights.safetensors is not the file that was written"
        ):
            get_encoder("tuned:tiny/a")
        for name, said in (
            ("tuned:tiny/c", "run tiny has no fine-tuned version c"),
            ("tuned:tiny", "expected tuned:"),
            ("tuned:../x", "expected tuned:<run>"),
            ("tuned:tiny/../a", "expected tuned:<run>"),
        ):
            with pytest.raises(ValueError, match=said):
                get_encoder(name)
    (copy / "a.yaml").write_text(QUICK.format(version="a").replace("epochs: 2", "epochs: 3"))
    _, said = typed(copy, "finetune", "a.yaml")
    assert "version a of run tiny was made with other settings (epochs: 2 -> 3)" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study: tiny\nblocks: 0\n", "blocks"),
        ("study: tiny\nfoo: 1\n", "no setting is called foo"),
        ("study: tiny\naugment: [blur]\n", "augment"),
        ("study: tiny\nbatch: 4\n", "batch must hold two classes"),
        ("study: tiny\ngrid: {epochs: 3}\n", "grid: expected setting"),
        ("study: tiny\ngrid: {version: [a]}\n", "cannot vary"),
        ("[1]", "expected a mapping"),
        ("study: nope\n", "no study is called 'nope'"),
        ("study: tiny\nencoder: magic\n", "magic"),
        ("study: tiny\nlearn_from: grades\nloss: magic\n", "magic"),
        ("study: tiny\nheld_out_classes: 0.6\n", "leaves fewer than two of 3 classes"),
        ("study: tiny\nlearn_from: grades\n", "no graded pair of training images"),
        ("study: tiny\nencoder: timm:vit_tiny_patch16_224/none.pth\n", "no such checkpoint"),
        ("grid: {a: [1", "YAML"),
    ],
)
def test_what_does_not_fit_is_one_line(home, tmp_path, text, said):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    out, error = typed(home, "finetune", file)
    assert error.startswith("imgsearch: ") and said in error and len(error.splitlines()) == 1
    assert "Traceback" not in out


def test_a_grid_is_a_version_for_each_combination(tmp_path):
    (tmp_path / "grid.yaml").write_text(
        "study: tiny\nversion: v\ngrid: {augment: [[], [crop]], blocks: [1, 2, 3]}\n"
    )
    found = read_settings(tmp_path / "grid.yaml")
    assert [each.version for each in found] == [f"v-{n}" for n in range(1, 7)]
    assert {(each.augment, each.blocks) for each in found} == {
        (a, b) for a in ((), ("crop",)) for b in (1, 2, 3)
    }


def test_a_better_version_is_called_so_only_for_sure():
    table = pd.DataFrame(
        {
            "model": ["frozen", "fine-tuned"],
            "class": "",
            "measure": "AP",
            "mean": [0.5, 0.6],
            "gain": [np.nan, 0.1],
            "gain_low": [np.nan, 0.02],
            "gain_high": [np.nan, 0.2],
            "part": "unseen_images",
        }
    )
    assert verdict(table)[0] and "Better than the frozen encoder for sure" in verdict(table)[1]
    assert not verdict(table.assign(gain_low=-0.01))[0]
    worse = pd.concat([table, table.assign(part="unseen_classes", gain_low=-0.2, gain_high=-0.1)])
    assert not verdict(worse)[0] and "Worse for sure" in verdict(worse)[1]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=60),
    st.integers(0, 1000),
    st.integers(2, 5),
    st.integers(0, 3),
)
def test_batches_hold_whole_classes_and_no_picture_twice(classes, seed, per_class, epoch):
    given_ = Finetuning(study="x", seed=seed, per_class=per_class, batch=4 * per_class)
    lessons = Lessons(np.arange(len(classes)), np.array(classes))
    found = batches_of(lessons, given_, epoch)
    assert all(
        np.array_equal(one, two) for one, two in zip(found, batches_of(lessons, given_, epoch))
    )
    every = np.concatenate(found) if found else np.array([], int)
    assert len(set(every.tolist())) == len(every)
    for batch in found:
        counts = np.bincount(lessons.classes[batch])
        assert (counts[counts > 0] > 1).all() and (counts > 0).sum() > 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.floats(0, 0.5), st.integers(8, 60), st.integers(4, 8))
def test_what_is_held_out_teaches_nothing(seed, share, n, kinds):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(n)],
            "kind": rng.integers(0, kinds, n).astype(str),
            "group": rng.integers(0, n, n),
            "side": rng.choice(["train", "test"], n, p=[0.8, 0.2]),
        }
    )
    try:
        parts = parts_of(
            Images(table, Embeddings([], np.empty((0, 1)), {})),
            Finetuning(study="x", seed=seed, held_out_classes=share),
        )
    except ValueError:
        return
    train_, stop = parts.train.table, parts.validation.table
    for other in (stop, parts.unseen_classes.table):
        assert not {*train_.group} & {*other.group} and not {*train_.image} & {*other.image}
    assert not {*train_.kind} & {*parts.unseen_classes.table.kind}
    assert (train_.side == "train").all() and (parts.unseen_images.table.side == "test").all()
    assert not {*parts.unseen_images.table.kind} & {*parts.unseen_classes.table.kind}


def test_a_picture_is_changed_alike_at_the_same_time_only():
    squares = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), np.uint8)
    chosen = Finetuning(study="x", augment=("crop", "flip", "trivial", "colour"), pixels=32)
    one, other = (Pictures(squares, chosen, 32) for _ in range(2))
    first = one[0, 1]
    torch.manual_seed(77)
    assert (
        torch.equal(first, other[0, 1])
        and first.shape == (3, 32, 32)
        and first.dtype == torch.uint8
    )
    assert not torch.equal(first, one[1, 1])
    plain = Pictures(squares, Finetuning(study="x", augment=()), 32)[5, 2]
    assert torch.equal(plain, torch.from_numpy(squares[2, 4:36, 4:36].transpose(2, 0, 1).copy()))


@pytest.mark.parametrize("model", ["resnet18", "vit_tiny_patch16_224", "open_clip"])
def test_any_backbone_learns_in_its_last_block_alone(tmp_path, model, tiny_clip):
    if model == "open_clip":
        name, pixels = f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}", None
    else:
        torch.manual_seed(0)
        pixels = 64 if model != "vit_tiny_patch16_224" else None
        save_file(timm.create_model(model, num_classes=0).state_dict(), tmp_path / "a.safetensors")
        name = f"timm:{model}/{tmp_path / 'a.safetensors'}"
    backbone = Backbone.open(name, 1, pixels)
    before = {key: value.clone() for key, value in backbone.network.state_dict().items()}
    side = round(backbone.pixels / 0.875)
    squares = np.random.default_rng(0).integers(0, 255, (8, side, side, 3), np.uint8)
    scores = iter(range(10))
    history = train(
        backbone,
        squares,
        Lessons(np.arange(8), np.arange(8) % 2),
        Finetuning(study="x", epochs=1, batch=8, augment=("flip",), class_head=1.0),
        lambda: float(next(scores)),
        tmp_path / "checkpoint",
        say=lambda _: None,
    )
    after = backbone.network.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert changed and changed <= set(backbone.trained) and len(backbone.trained) < len(before)
    assert history.best.tolist() == [False, True]
    assert np.isfinite(
        encode(backbone.network, squares, backbone.pixels, backbone.mean, backbone.std)
    ).all()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_share_of_the_way_is_kept(share):
    backbone = Backbone.open("efficientnet_lite0", 2, 48)
    frozen, others = (
        backbone.weights(),
        {
            name: value.clone()
            for name, value in backbone.network.state_dict().items()
            if name not in backbone.trained
        },
    )
    with torch.no_grad():
        for parameter in backbone.parameters.values():
            parameter += 1
    backbone.go_back(frozen, share)
    for name, parameter in backbone.parameters.items():
        torch.testing.assert_close(parameter, frozen[name] + share, atol=1e-4, rtol=0)
    assert all(
        torch.equal(backbone.network.state_dict()[name], value) for name, value in others.items()
    )


def test_grades_teach_too_and_a_foreign_checkpoint_is_refused(tmp_path):
    squares = np.random.default_rng(0).integers(0, 255, (8, 55, 55, 3), np.uint8)
    pairs = np.array([(i, j, (i * j) % 4) for i in range(8) for j in range(i)])
    given_ = Finetuning(
        study="x",
        learn_from="grades",
        loss="graded_mse",
        epochs=2,
        batch=8,
        pixels=48,
        accumulate=3,
    )
    for identity in ("one", "one"):
        backbone, scores = Backbone.open("efficientnet_lite0", 1, 48), iter(range(10))
        history = train(
            backbone,
            squares,
            Lessons(np.arange(8), np.zeros(8, int), pairs),
            given_,
            lambda scores=scores: float(next(scores)),
            tmp_path / "checkpoint",
            identity,
            say=lambda _: None,
        )
        assert len(history) == 3 and history.loss[1:].notna().all()
    with pytest.raises(
        ValueError, match="not a checkpoint of this training .it is of other settings"
    ):
        train(
            backbone,
            squares,
            Lessons(np.arange(8), np.zeros(8, int), pairs),
            given_,
            lambda: 0.0,
            tmp_path / "checkpoint",
            "two",
        )


@pytest.mark.slow  # trains four times
def test_several_threads_give_the_same_weights_each_time(tmp_path):
    squares = np.random.default_rng(0).integers(0, 255, (48, 37, 37, 3), np.uint8)
    pairs = np.array([(i, j, (i * j) % 4) for i in range(48) for j in range(i)])
    given_ = Finetuning(study="x", learn_from="grades", epochs=1, batch=512, pixels=32)
    found, threads = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for number in range(4):
            backbone, scores = Backbone.open("efficientnet_lite0", 1, 32), iter(range(10))
            train(
                backbone,
                squares,
                Lessons(np.arange(48), np.zeros(48, int), pairs),
                given_,
                lambda scores=scores: float(next(scores)),
                tmp_path / f"{number}",
                say=lambda _: None,
            )
            found.append(
                b"".join(each.detach().numpy().tobytes() for each in backbone.parameters.values())
            )
    finally:
        torch.set_num_threads(threads)
    assert len(set(found)) == 1 and not torch.are_deterministic_algorithms_enabled()


def test_sides_of_the_study_are_kept(home):
    with living_in(home):
        table = read_sides(find_run("tiny"))
    parts = parts_of(Images(table, Embeddings([], np.empty((0, 1)), {})), Finetuning(study="tiny"))
    assert set(parts.validation.names) == set(table.image[table.side == "dev"])
    assert set(parts.unseen_images.names) == set(table.image[table.side == "test"])
    assert len(parts.unseen_classes) == 0

"""Encoders by name: real weights, exact preprocessing, and the loading code of open_clip and timm
on tiny models.
"""

import ast
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from imgsearch_utils.drawn_houses import write_houses
from imgsearch_utils.pictures.collection import read_collection
from imgsearch_utils.study import ImageSettings
from imgsearch_utils.vectors import embedding
from imgsearch_utils.vectors.backends import BACKENDS, on_backend
from imgsearch_utils.vectors.embedding import embed
from imgsearch_utils.vectors.embeddings import Embeddings
from imgsearch_utils.vectors.encoder import Encoder
from imgsearch_utils.vectors.encoders import ENCODERS, get_encoder
from imgsearch_utils.workspace import digest

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")
TINY_TIMM = "test_resnet.r160_in1k"


def pictures(n, size=(90, 70), seed=0):
    rng = np.random.default_rng(seed)
    return [
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).resize((300, 260))
        for _ in range(n)
    ]


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """A small CLIP of random weights, registered with open_clip as ``tiny-clip``; the model and its
    folder.
    """
    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 64,
            "head_width": 32,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    (folder / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip").eval()
    torch.save(model.state_dict(), folder / "plain.pt")
    in_training = {
        "epoch": 3,
        "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()},
    }
    torch.save(in_training, folder / "epoch.pt")
    save_file(model.state_dict(), folder / "weights.safetensors")
    return model, folder


@pytest.fixture(scope="session")
def tiny_timm(tmp_path_factory):
    torch.manual_seed(1)
    model = timm.create_model(TINY_TIMM, pretrained=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that train and eval mode differ
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    folder = tmp_path_factory.mktemp("timm")
    torch.save(model.state_dict(), folder / "plain.pth")
    state = model.state_dict()
    save_file(state, folder / "weights.safetensors")
    body = {key: value for key, value in state.items() if not key.startswith("fc.")}
    torch.save(body, folder / "headless.pth")
    classifier = {"fc.weight": state["fc.weight"][:10], "fc.bias": state["fc.bias"][:10]}
    torch.save(body | classifier, folder / "ten_classes.pth")
    torch.save(state | {"layer9.weight": torch.ones(3)}, folder / "larger.pth")
    return model, folder


@pytest.fixture(
    scope="session", params=["efficientnet_lite0", "efficientnet_lite2", "timm:", "open_clip:"]
)
def encoder(request, tiny_clip, tiny_timm):
    """One encoder of every entry of the registry."""
    rest = {
        "timm:": f"{TINY_TIMM}/{tiny_timm[1] / 'plain.pth'}",
        "open_clip:": f"tiny-clip/{tiny_clip[1] / 'plain.pt'}",
    }
    return get_encoder(request.param + rest.get(request.param, ""))


def test_no_entry_of_the_registry_escapes_these_tests():
    elsewhere = {"tuned:"}  # tests/finetuning
    assert set(ENCODERS) - elsewhere == {
        "efficientnet_lite0",
        "efficientnet_lite2",
        "timm:",
        "open_clip:",
    }


def test_a_batch_of_one_equals_a_batch_of_many(encoder, tmp_path):
    several = pictures(5)
    together = encoder.encode_images(several)
    assert together.dtype == np.float32 and together.shape[0] == 5 and np.isfinite(together).all()
    alone = np.concatenate([encoder.encode_images([picture]) for picture in several])
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-4 * np.abs(together).max())
    assert np.abs(together[0] - together[1]).max() > 1e-3
    for number, picture in enumerate(several):
        picture.save(tmp_path / f"{number}.png")
    from_files = encoder.encode([tmp_path / f"{number}.png" for number in range(5)])
    np.testing.assert_allclose(from_files, together, rtol=1e-3, atol=1e-4 * np.abs(together).max())


def test_configurations_are_plain_and_tell_encoders_apart(encoder):
    assert {"encoder", "weights", "preprocessing"} <= encoder.config.keys()
    assert json.loads(json.dumps(encoder.config)).keys() == encoder.config.keys()


def test_encoders_need_no_gradients_and_change_nothing(encoder):
    picture = pictures(1)[0]
    before = np.asarray(picture).copy()
    first = encoder.encode_images([picture])
    np.testing.assert_array_equal(first, encoder.encode_images([picture]))
    np.testing.assert_array_equal(before, np.asarray(picture))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (20_000, 2), (2, 20_000), (20_000, 1)])
def test_pictures_of_any_shape_are_encoded_without_filling_memory(encoder, size):
    vectors = encoder.encode_images([Image.new("RGB", size, "green")])
    assert np.isfinite(vectors).all()


def test_unreadable_files_are_named_and_the_others_encoded(encoder, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, picture in zip(paths, pictures(5)):
        picture.save(path)
    paths[1].write_bytes(b"")
    paths[4].write_text("text")
    vectors, failures = encoder.encode_files(paths)
    assert sorted(failures) == [1, 4] and "1.png" in failures[1] and "empty" in failures[1]
    assert np.isnan(vectors[[1, 4]]).all() and np.isfinite(vectors[[0, 2, 3]]).all()
    with pytest.raises(ValueError, match="1.png"):
        encoder.encode(paths)
    vectors, failures = encoder.encode_files(paths[4:])
    assert len(vectors) == 1 and list(failures) == [0]


def test_lite0_sees_pixels_less_127_over_128():
    encoder = get_encoder("efficientnet_lite0")
    shades = np.zeros((224, 224, 3), np.uint8)
    shades[:, :112], shades[:, 112:] = (0, 127, 255), (255, 0, 127)
    # 256: no scaling, crop 224
    big = Image.fromarray(np.pad(shades, ((16, 16), (16, 16), (0, 0)), mode="edge"))
    seen = encoder.preprocess(big)
    assert seen.shape == (3, 224, 224) and seen.dtype == torch.float32
    np.testing.assert_array_equal(
        seen.numpy(), (shades.transpose(2, 0, 1).astype(np.float32) - 127) / 128
    )
    assert seen.min() == -127 / 128 and seen.max() == 1
    assert get_encoder("efficientnet_lite2").preprocess(big).shape == (3, 260, 260)


@pytest.mark.slow  # encodes 648 photographs
def test_lite0_finds_the_same_grocery_as_was_measured_before(shared_data):
    """BASELINES: fine P@1 .843, leave one out by cosine."""
    labels = pd.read_csv(shared_data / "grocery" / "labels.csv")
    vectors = get_encoder("efficientnet_lite0").encode(
        [shared_data / "grocery/images" / f for f in labels.file_label]
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    first = cosine.argmax(1)
    assert (labels.fine.to_numpy() == labels.fine.to_numpy()[first]).mean() == pytest.approx(
        0.843, abs=0.01
    )


@pytest.mark.parametrize("file", ["plain.pt", "epoch.pt", "weights.safetensors"])
def test_open_clip_loads_a_checkpoint_and_gives_the_models_own_vectors(tiny_clip, file):
    model, folder = tiny_clip
    encoder = get_encoder(f"open_clip:tiny-clip/{folder / file}")
    several = pictures(3)
    preprocessing = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    transform = open_clip.transform.image_transform_v2(preprocessing, is_train=False)
    with torch.inference_mode():
        expected = model.encode_image(
            torch.stack([transform(picture) for picture in several])
        ).numpy()
    np.testing.assert_allclose(encoder.encode_images(several), expected, rtol=1e-4, atol=1e-5)
    assert encoder.config["encoder"] == "open_clip:tiny-clip" and file in encoder.config["weights"]


def test_open_clip_encodes_texts_beside_pictures(tiny_clip):
    model, folder = tiny_clip
    encoder = get_encoder(f"open_clip:tiny-clip/{folder / 'plain.pt'}")
    texts = ["a red house", "a blue barn, seen from the road"]
    with torch.inference_mode():
        expected = model.encode_text(open_clip.tokenize(texts)).numpy()
    vectors = encoder.encode_texts(texts)
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert (
        vectors.dtype == np.float32
        and vectors.shape[1] == encoder.encode_images(pictures(1)).shape[1]
    )
    assert get_encoder("efficientnet_lite0").encode_texts is None


def test_a_tokenizer_that_would_need_the_network_gives_one_line(tiny_clip):
    _, folder = tiny_clip
    config = json.loads((folder / "tiny-clip.json").read_text())
    config["text_cfg"]["hf_tokenizer_name"] = str(folder / "absent")
    (folder / "hub-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "hub-clip.json")
    encoder = get_encoder(f"open_clip:hub-clip/{folder / 'plain.pt'}")
    with pytest.raises(
        ValueError, match="open_clip:hub-clip: its tokenizer is not at hand"
    ) as caught:
        encoder.encode_texts(["a house"])
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    """66 drawn houses' files: enough for the back end of many files."""
    folder = tmp_path_factory.mktemp("houses")
    write_houses(folder, 22)
    return sorted((folder / "all_images").glob("*.jpg"))


def cosines(a, b):
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "open_clip:"])
def test_back_ends_give_the_same_vectors_of_drawn_houses(name, houses, tiny_clip):
    pytest.importorskip("onnxruntime", reason='needs pip install "imgsearch-utils[onnx]"')
    name = f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}" if name == "open_clip:" else name
    encoders = {backend: get_encoder(name, backend) for backend in BACKENDS}
    vectors = {backend: encoder.encode(houses) for backend, encoder in encoders.items()}
    assert cosines(vectors["torch"], vectors["onnxruntime"]).min() > 0.999999
    np.testing.assert_allclose(
        vectors["torch"], vectors["onnxruntime"], atol=1e-5 * np.abs(vectors["torch"]).max()
    )
    # so many files are worth its start
    np.testing.assert_array_equal(vectors["auto"], vectors["onnxruntime"])
    np.testing.assert_array_equal(
        encoders["auto"].encode(houses[:5]), encoders["torch"].encode(houses[:5])
    )
    # what was encoded before stays of use
    assert encoders["torch"].config == encoders["onnxruntime"].config
    opened = [Image.open(path) for path in houses[:6]]
    np.testing.assert_array_equal(
        encoders["onnxruntime"].encode_images(opened), vectors["onnxruntime"][:6]
    )


@pytest.mark.slow  # the same pictures are encoded four times
def test_vectors_are_the_same_bytes_however_the_work_is_cut(houses, tmp_path, monkeypatch):
    """In one go; stopped and gone on with after any part, in more threads; with pictures that came
    later.
    """
    encoder, few = get_encoder("efficientnet_lite0"), tmp_path / "few"
    every = read_collection(houses[0].parent.parent, ImageSettings(source="houses"))
    embed(every, encoder, tmp_path / "whole")
    expected = {
        name: (tmp_path / "whole" / name).read_bytes()
        for name in ("vectors.npy", "names.csv", "config.json")
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for n in (1, 65):
            names = every.images.image.tolist()[:n]
            paths = [every.path(name) for name in names]
            vectors, _ = encoder.encode_files(paths, many=True)
            folder = tmp_path / f"{n} first"
            Embeddings(names, vectors, encoder.config, list(map(digest, paths))).save(folder)
            monkeypatch.setattr(embedding, "BULK", 0)  # what was saved is a part of so many
            embed(every, encoder, folder)
            monkeypatch.undo()
            assert {name: (folder / name).read_bytes() for name in expected} == expected
        few.mkdir()
        for path in houses[:63]:  # so few that another network encodes them
            shutil.copy(path, few)
        embed(read_collection(few, ImageSettings(source="few")), encoder, tmp_path / "grown")
        embed(every, encoder, tmp_path / "grown")
        assert {name: (tmp_path / "grown" / name).read_bytes() for name in expected} == expected
    finally:
        torch.set_num_threads(threads)


def test_many_files_with_broken_ones_among_them(houses, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(houses[0].read_bytes()[:2000])
    paths = [broken, *houses, broken]
    seen = []
    vectors, failures = get_encoder("efficientnet_lite0").encode_files(
        paths, progress=lambda batches: (seen.append(len(batch)) or batch for batch in batches)
    )
    assert sorted(failures) == [0, len(paths) - 1] and all(
        "broken.jpg" in reason for reason in failures.values()
    )
    assert (
        np.isnan(vectors[[0, -1]]).all()
        and np.isfinite(vectors[1:-1]).all()
        and sum(seen) == len(paths)
    )
    some = [0, 1, 2, 35, 64, 65]
    expected = get_encoder("efficientnet_lite0", "torch").encode([houses[i] for i in some])
    assert cosines(vectors[1:-1][some], expected).min() > 0.999999  # each in its own row


def test_bfloat16_finds_nearly_the_same_neighbours(houses):
    if not any(
        torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")
    ):
        with pytest.raises(ValueError, match="has no bfloat16 arithmetic"):
            get_encoder("efficientnet_lite0@bfloat16")
        return
    single, half = (
        get_encoder("efficientnet_lite0", "torch"),
        get_encoder("efficientnet_lite0@bfloat16"),
    )
    assert half.config == single.config | {"dtype": "bfloat16"}
    vectors = half.encode(houses)
    agreement = cosines(single.encode(houses), vectors)
    assert vectors.dtype == np.float32 and 0.99 < agreement.min() < agreement.max() < 1
    with pytest.raises(ValueError, match="single precision"):
        get_encoder("efficientnet_lite0@bfloat16", "onnxruntime")


def test_texts_and_pictures_in_bfloat16_share_their_space(tiny_clip):
    if not torch.cpu.get_capabilities().get("avx512_bf16"):
        pytest.skip("this processor has no bfloat16 arithmetic")
    name = f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}"
    single, half = (
        get_encoder(n).encode_texts(["a red house", "a blue barn"])
        for n in (name, f"{name}@bfloat16")
    )
    assert 0.99 < cosines(single, half).min() < 1


def test_a_back_end_that_is_missing_or_unknown_gives_one_line(monkeypatch):
    with pytest.raises(ValueError, match="no back end is called onnxrt. Did you mean onnxruntime"):
        get_encoder("efficientnet_lite0", "onnxrt")
    monkeypatch.setenv("IMGSEARCH_BACKEND", "torhc")
    with pytest.raises(ValueError, match="no back end is called torhc. Did you mean torch"):
        get_encoder("efficientnet_lite0")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as where it is not installed
    with pytest.raises(
        ValueError, match=r'onnxruntime is not installed: pip install "imgsearch-utils\[onnx]'
    ) as told:
        get_encoder("efficientnet_lite0", "onnxruntime")
    assert len(str(told.value).splitlines()) == 1


class Turned(torch.nn.Module):
    """Gives other vectors once it is exported, as a network in training mode does."""

    def forward(self, pictures):
        vectors = pictures.mean((2, 3))
        return vectors.flip(1) if torch.jit.is_tracing() else vectors


def test_an_export_that_gives_other_vectors_is_refused(houses):
    pytest.importorskip("onnxruntime", reason='needs pip install "imgsearch-utils[onnx]"')
    odd = Encoder(get_encoder("efficientnet_lite0").preprocess, Turned(), {"encoder": "odd"})
    with pytest.raises(ValueError, match="odd: onnxruntime gives other vectors than torch"):
        on_backend(odd, "onnxruntime")
    with pytest.warns(UserWarning, match="odd: .*; encoding with torch"):
        vectors = on_backend(odd, "auto").encode(houses)
    np.testing.assert_array_equal(vectors, on_backend(odd, "torch").encode(houses))


def test_clip_pixels_are_scaled_once(tiny_clip):
    """The published study rescaled them twice: white must be (1 - mean) / std."""
    encoder = get_encoder(f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}")
    seen = encoder.preprocess(Image.new("RGB", (50, 40), "white"))
    white = (1 - np.array(open_clip.OPENAI_DATASET_MEAN)) / np.array(open_clip.OPENAI_DATASET_STD)
    np.testing.assert_allclose(
        seen.numpy(), np.broadcast_to(white[:, None, None], (3, 32, 32)), rtol=1e-5
    )


@pytest.mark.parametrize(
    "file", ["plain.pth", "weights.safetensors", "headless.pth", "ten_classes.pth"]
)
def test_timm_loads_a_checkpoint_and_gives_the_models_own_features(tiny_timm, file):
    model, folder = tiny_timm
    encoder = get_encoder(f"timm:{TINY_TIMM}/{folder / file}")
    several = pictures(3)
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(model), is_training=False
    )
    with torch.inference_mode():
        batch = torch.stack([transform(picture) for picture in several])
        expected = model.forward_head(model.forward_features(batch), pre_logits=True).numpy()
    np.testing.assert_allclose(encoder.encode_images(several), expected, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_a_larger_model_is_refused(tiny_timm):
    with pytest.raises(
        ValueError, match="larger.pth: not a checkpoint of timm:test_resnet.*first layer9.weight"
    ):
        get_encoder(f"timm:{TINY_TIMM}/{tiny_timm[1] / 'larger.pth'}")


def test_another_checkpoint_of_the_same_name_is_another_encoder(tiny_clip, tmp_path):
    model, folder = tiny_clip
    other = {k: v + 0.01 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    torch.save(other, tmp_path / "plain.pt")
    one, two = (
        get_encoder(f"open_clip:tiny-clip/{place / 'plain.pt'}") for place in (folder, tmp_path)
    )
    assert one.config != two.config
    assert np.abs(one.encode_images(pictures(1)) - two.encode_images(pictures(1))).max() > 1e-3


class Planted:
    def __reduce__(self):
        return os.mkdir, (os.environ["PLANTED"],)


@pytest.mark.parametrize("prefix", ["open_clip:tiny-clip", f"timm:{TINY_TIMM}"])
def test_a_checkpoint_that_would_run_code_is_refused(tiny_clip, tmp_path, monkeypatch, prefix):
    monkeypatch.setenv("PLANTED", str(tmp_path / "ran"))
    torch.save({"state_dict": Planted()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="bad.pt|weights") as caught:
        get_encoder(f"{prefix}/{tmp_path / 'bad.pt'}")
    assert not (tmp_path / "ran").exists() and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("prefix", ["open_clip:tiny-clip", f"timm:{TINY_TIMM}"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint", "another model"])
def test_a_file_that_is_no_checkpoint_of_the_model_is_refused_by_name(
    tiny_clip, tmp_path, prefix, content
):
    path = tmp_path / "odd.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(torch.nn.Linear(3, 4).state_dict(), path)
    with pytest.raises(ValueError, match=r"odd\.pt") as caught:
        get_encoder(f"{prefix}/{path}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "name, expected",
    [
        ("efficientnet_lite1", "Did you mean efficientnet_lite0|Did you mean efficientnet_lite2"),
        ("openclip:ViT-B-32/openai", "Did you mean open_clip:?"),
        ("tim:resnet18", "Did you mean timm:?"),
        ("", "Choose from"),
        ("timm:resnet18x/x.pt", "timm has no model resnet18x. Did you mean resnet18"),
        ("open_clip:ViT-B-33/openai", "open_clip has no model ViT-B-33. Did you mean ViT-B-32"),
        (
            "open_clip:ViT-B-32/opnai",
            "neither a checkpoint file nor known weights. Did you mean openai",
        ),
        ("open_clip:ViT-B-32", "neither a checkpoint file nor known weights"),
        ("open_clip:tiny-clip//absent/file.pt", "/absent/file.pt is neither"),
        ("timm:resnet18//absent/file.pt", "/absent/file.pt: no such checkpoint"),
    ],
)
def test_an_unknown_name_gives_the_nearest(tiny_clip, name, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        get_encoder(name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow  # a process that loads both libraries of encoders
def test_weights_that_would_need_the_network_give_one_line(tmp_path):
    code = """
from imgsearch_utils.vectors.encoders import get_encoder
for name in ("open_clip:ViT-B-32/laion2b_s34b_b79k", "timm:resnet18"):
    try:
        get_encoder(name)
    except ValueError as error:
        print(repr(str(error)))
"""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "TORCH_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=800
    )
    lines = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2, done.stderr
    for line, name in zip(lines, ("open_clip:ViT-B-32", "timm:resnet18")):
        assert (
            len(line.splitlines()) == 1
            and "not at hand" in line
            and f"encoder: {name}/<file>" in line
        )

"""Classify: right more often than chance on pictures it never saw, with probabilities that mean
something.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from imgsearch_utils import workspace
from imgsearch_utils.geometry import normalised
from imgsearch_utils.pictures.decoding import open_image
from imgsearch_utils.search.classify import Classifier, by_words, ready_made
from imgsearch_utils.study import ClassifierSettings
from imgsearch_utils.vectors.encoders import get_encoder
from tests.tiny_study import command, living_in, typed
from tests.vectors.test_encoders import tiny_clip  # noqa: F401  a fixture

METHODS = ["neighbours", "linear probe"]


@pytest.fixture(scope="module")
def home(tiny):
    return tiny


@pytest.fixture
def classifier(home):
    with living_in(home):
        return Classifier.fit(workspace.find_run("tiny"))


def test_a_picture_is_named_with_its_likeliest_classes_and_a_figure(home, tmp_path):
    name = "pictures/rustic/rustic_0003.jpg"
    done = command(home, "classify", name, "--study", "tiny", "--show", tmp_path / "classes.png")
    assert done.returncode == 0, done.stderr
    about, header, first, *_, trust = done.stdout.strip().splitlines()
    assert about == f"{name} - class of run tiny" and header.split() == [
        "neighbours",
        "linear",
        "probe",
        "ImageNet",
    ]
    assert (
        trust.startswith("right on the 9 test images: neighbours ")
        and "most frequent class 33%" in trust
    )
    with Image.open(tmp_path / "classes.png") as figure:
        assert figure.width > 2 * figure.height


def test_a_folder_as_json_with_the_broken_one_skipped(home, tmp_path):
    shutil.copytree(home / "pictures/modern", tmp_path / "queries")
    (tmp_path / "queries/torn.jpg").write_text("no picture")
    out, said = typed(home, "classify", tmp_path / "queries", "--study", "tiny", "--json")
    assert "torn.jpg" in said and len(said.strip().splitlines()) == 1
    found = json.loads(out)
    assert (found["run"], found["level"], len(found["queries"])) == ("tiny", "class", 12)
    assert {row["method"] for row in found["on_test"]} == {
        *METHODS,
        "nearest image",
        "most frequent class",
    }
    for answer in found["queries"]:
        table = pd.DataFrame(answer["classes"])
        for method, rows in table.groupby("method"):
            assert (
                rows["rank"].tolist() == list(range(1, len(rows) + 1))
                and rows.p.is_monotonic_decreasing
            )
            assert rows.p.sum() == pytest.approx(1) if method in METHODS else rows.p.sum() < 1
            assert rows.calibrated.all() == (method in METHODS)


def test_probabilities_are_calibrated_by_cross_validation_on_training_images(classifier):
    train = classifier.images.train
    x, truth, groups = classifier.prepare(train.vectors), train.table["class"], train.table.group
    assert classifier.calibrated
    for name in METHODS:
        model, temperature = classifier.methods[name]
        held_out = np.zeros((len(train), 3))
        for learn, hold in GroupKFold(5).split(x, groups=groups):
            assert not set(groups.iloc[learn]) & set(groups.iloc[hold])
            fold = clone(model).fit(x[learn], truth.iloc[learn])
            held_out[np.ix_(hold, np.searchsorted(model.classes_, fold.classes_))] = (
                fold.predict_proba(x[hold])
            )
        raw = np.log(0.95 * held_out + 0.05 / 3)

        def lost(t, raw=raw):
            p = np.exp(raw / t)
            return log_loss(
                truth, p / p.sum(1, keepdims=True), labels=["farmhouse", "modern", "rustic"]
            )

        assert lost(temperature) <= min(lost(t) for t in (0.1, 0.3, 0.7, 1, 1.5, 3, 10)) + 1e-6
        found = classifier.classify(train.vectors[:4])
        p = found[found.method == name].pivot(index="query", columns="class", values="p").to_numpy()
        now = np.log(0.95 * model.predict_proba(x[:4]) + 0.05 / 3) / temperature
        np.testing.assert_allclose(p, np.exp(now) / np.exp(now).sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "classes", "first"),
    [
        ("resnet18", 1000, "tench, Tinca tinca"),
        ("mobilenetv2_100", 7, "class 0"),
        ("vit_tiny_patch16_224", 5, "class 0"),
    ],
)
def test_any_timm_classifier_by_its_checkpoint(home, tmp_path, model, classes, first):
    torch.manual_seed(0)
    network = timm.create_model(model, num_classes=classes).eval()
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    name = f"timm:{model}/{tmp_path / 'a.safetensors'}"
    files = sorted((home / "pictures/modern").iterdir())[:3]
    pictures = [open_image(file) for file in files]
    found = ready_made(pictures, ClassifierSettings(name=name, batch=2), classes)
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(network), is_training=False
    )
    with torch.inference_mode():
        expected = network(torch.stack([*map(transform, pictures)])).softmax(1).numpy()
    assert set(found.method) == {f"timm:{model}"} and not found.calibrated.any()
    np.testing.assert_allclose(found.p.to_numpy().reshape(3, -1), -np.sort(-expected, 1), atol=1e-5)
    np.testing.assert_allclose(
        found.set_index(["class", "query"]).p[first].loc[[0, 1, 2]], expected[:, 0], atol=1e-5
    )
    out, _ = typed(home, "classify", files[0], "--study", "tiny", "--classifier", name, "--json")
    rows = [
        row for row in json.loads(out)["queries"][0]["classes"] if row["method"] == f"timm:{model}"
    ]
    assert len(rows) == 5 and rows[0]["p"] == pytest.approx(expected[0].max(), abs=1e-5)


def test_a_classifier_that_is_not_there_is_one_line(home, tmp_path):
    save_file(
        timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "bare.safetensors"
    )
    (tmp_path / "torn.pth").write_bytes(b"no weights")
    for name, said in (
        ("magic", "no classifier is called magic; expected efficientnet_lite0, or timm:<model>"),
        ("timm:resnet81", "timm has no model resnet81. Did you mean resnet18?"),
        (f"timm:resnet18/{tmp_path / 'gone.pth'}", "no such checkpoint for timm:resnet18"),
        (f"timm:resnet18/{tmp_path / 'torn.pth'}", "not a checkpoint of timm:resnet18"),
        (
            f"timm:resnet18/{tmp_path / 'bare.safetensors'}",
            "it has no classifier (fc.bias is absent)",
        ),
    ):
        _, error = typed(
            home,
            "classify",
            "pictures/modern/modern_0001.jpg",
            "--study",
            "tiny",
            "--classifier",
            name,
        )
        assert said in error and len(error.splitlines()) == 1
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="classifier.device is cuda, and there is none here"):
            ready_made([Image.new("RGB", (9, 9))], ClassifierSettings(device="cuda"))


def test_words_of_an_encoder_beside_the_studys_own(home, tiny_clip):
    name = f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}"
    arguments = ["classify", "pictures/rustic/rustic_0003.jpg", "--study", "tiny", "--words"]
    out, said = typed(home, *arguments, name)
    assert out.splitlines()[1].split() == ["neighbours", "linear", "probe", "words", "ImageNet"], (
        said
    )
    _, said = typed(home, *arguments, "efficientnet_lite0")
    assert (
        said.strip()
        == "imgsearch: efficientnet_lite0 has no tower for text; take an open_clip encoder"
    )


def test_words_are_softmax_of_cosines(tiny_clip):
    encoder = get_encoder(f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}")
    vectors = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    classes = ["red_barn", "blue-house", "shed"]
    texts = normalised(
        encoder.encode_texts(
            ["a photo of a red barn", "a photo of a blue house", "a photo of a shed"]
        )
    )
    logits = 100 * normalised(vectors) @ texts.T
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    table = by_words(encoder, vectors, classes, top=2)
    for query, rows in table.groupby("query"):
        np.testing.assert_allclose(rows.p, np.sort(p[query])[::-1][:2], rtol=1e-4)
        assert rows["class"].iloc[0] == classes[p[query].argmax()]
    with pytest.raises(
        ValueError, match="efficientnet_lite0 has no tower for text; take an open_clip encoder"
    ):
        by_words(get_encoder("efficientnet_lite0"), vectors, classes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.jpg"], "nothing.jpg: no such file or folder"),
        (["cli.yaml"], "'cli.yaml': not a readable picture"),
        (["good.jpg", "--level", "clas"], "no class column is called clas. Did you mean class?"),
        (["good.jpg", "--run", "other"], "no run is called other here"),
        (
            ["good.jpg", "--show", "x.nothing"],
            "--show x.nothing: Format 'nothing' is not supported",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_line(home, tmp_path, arguments, said):
    shutil.copytree(home, tmp_path / "copy")
    (tmp_path / "copy/cli.yaml").write_text("no picture")
    shutil.copy(home / "pictures/modern/modern_0001.jpg", tmp_path / "copy/good.jpg")
    _, error = typed(tmp_path / "copy", "classify", *arguments, "--study", "tiny")
    assert said in error and len(error.strip().splitlines()) == 1


def test_studies_that_cannot_be_classified_say_why(home, tmp_path):
    copy = shutil.copytree(home, tmp_path / "copy")
    images = copy / "active_learning_labels/tiny/images.csv"
    table = pd.read_csv(images)
    for change, said in (
        (table.drop(columns="class"), "the images of run tiny have no classes"),
        (table.assign(**{"class": "one"}), "classifying needs two classes of class"),
        (None, "run tiny has no images.csv yet; run 01_data_tagging first"),
    ):
        images.unlink() if change is None else change.to_csv(images, index=False)
        _, error = typed(copy, "classify", "pictures/modern/modern_0001.jpg", "--study", "tiny")
        assert said in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"image,class\na.jpg,one\n",
        b"\xff\xfe",
        bytes(99),
        b"image,class,group,side\na.jpg,one,x,dev\n",
    ],
)
def test_a_broken_table_of_images_is_one_line_that_names_it(home, tmp_path, content):
    copy = shutil.copytree(home, tmp_path / "copy")
    (copy / "active_learning_labels/tiny/images.csv").write_bytes(content)
    _, error = typed(copy, "classify", "pictures/modern/modern_0001.jpg", "--study", "tiny")
    assert (
        "tiny/images.csv: expected the run's images" in error
        and len(error.strip().splitlines()) == 1
    )


def test_a_class_of_no_training_image_counts_as_wrong_and_one_group_of_images_as_uncalibrated(
    home, tmp_path
):
    copy = shutil.copytree(home, tmp_path / "copy")
    images = copy / "active_learning_labels/tiny/images.csv"
    table = pd.read_csv(images)
    rare = (table.side != "train") & (table["class"] == "modern")
    table.assign(**{"class": table["class"].mask(rare, "castle")}).to_csv(images, index=False)
    with living_in(copy):
        found = Classifier.fit(workspace.find_run("tiny")).evaluate()
        assert (found.accuracy <= 2 / 3 + 1e-9).all() and found.low.notna().all()
        table.assign(side="train", group=0).to_csv(images, index=False)
        without = Classifier.fit(workspace.find_run("tiny"))
    assert without.evaluate().empty
    assert not without.classify(without.images.vectors[:2]).calibrated.any()

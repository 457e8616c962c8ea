"""Encoders compared: any of them by a checkpoint, measured as defined, with baselines; what is
missing is a row.
"""

import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score

from imgsearch_utils.evaluation import baselines, encoder_comparison
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.workspace import PUBLISHED, find_run
from tests import tiny_study
from tests.encoders.test_encoder_names import tiny_clip  # noqa: F401  a fixture
from tests.tiny_study import command, living_in, typed

pytestmark = pytest.mark.slow  # all pictures are encoded by several networks
BACKBONES = ("resnet18",)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The tiny study; a picture of it is grey, one is CMYK."""
    folder = tmp_path_factory.mktemp("encoders")
    (folder / "pictures" / "modern").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (50, 60, 4), np.uint8)
    Image.fromarray(noise[..., 0]).save(folder / "pictures" / "modern" / "grey.png")
    Image.fromarray(noise, "CMYK").save(folder / "pictures" / "modern" / "cmyk.jpg")
    tiny_study.make(folder)
    return folder


@pytest.fixture(scope="module")
def compared(home):
    """The embedded encoders, compared."""
    with living_in(home):
        return encoder_comparison.compare_encoders(find_run("tiny"), encoder_comparison.EMBEDDED)


def test_the_table_has_every_encoder_two_joined_and_the_baselines(compared):
    joined = compared.encoders.encoder[2]
    assert compared.encoders.encoder.tolist() == [
        *encoder_comparison.EMBEDDED,
        joined,
        baselines.COLOURS,
        baselines.RANDOM,
    ]
    assert (
        all(name in joined for name in encoder_comparison.EMBEDDED)
        and (compared.encoders.missing == "").all()
    )
    assert compared.encoders.dimension.tolist() == [1280, 1280, 2560, 128, 64]
    assert (compared.encoders.images_per_s[:2] > 0).all() and compared.encoders.images_per_s[
        2:
    ].isna().all()
    np.testing.assert_allclose(
        compared.encoders.megabytes, compared.encoders.dimension * 38 * 4 / 1e6, atol=0.01
    )
    every = compared.retrieval[compared.retrieval["class"] == ""]
    assert set(every.measure) == {
        f"{name}@{k}" for name in ("P", "nDCG", "judged", "AP") for k in (1, 5, 10)
    } | {"AP", "R-precision"}
    known = every.dropna(subset=["low", "high"])
    assert (known.low <= known["mean"] + 1e-9).all() and (known["mean"] <= known.high + 1e-9).all()
    of_class = compared.retrieval[compared.retrieval["class"] != ""]
    assert set(of_class["class"]) == {"farmhouse", "modern", "rustic"}


def test_measures_are_those_of_the_definition(home, compared):
    with living_in(home):
        run = find_run("tiny")
        table, collection = read_split(run), open_collection(run)
        test = table[table.side == "test"]
        unit = normalised(baselines.colour_histograms(collection, test.image))
    assert np.allclose((unit**2).sum(1), 1)
    same = test["class"].to_numpy()[:, None] == test["class"].to_numpy()
    cosine, others = (unit @ unit.T).round(12), ~np.eye(len(test), dtype=bool)
    each, precision = [], []
    for row in range(len(test)):
        similar, score = same[row][others[row]], cosine[row][others[row]]
        first = np.argsort(-score, kind="stable")
        each.append(average_precision_score(similar, score) if similar.any() else np.nan)
        precision.append(similar[first[: similar.sum()]].mean() if similar.any() else np.nan)
    found = compared.retrieval[
        (compared.retrieval.encoder == baselines.COLOURS) & (compared.retrieval["class"] == "")
    ]
    found = found.set_index("measure")["mean"]
    assert found["AP"] == pytest.approx(np.nanmean(each), abs=1e-6)
    assert found["R-precision"] == pytest.approx(np.nanmean(precision), abs=1e-6)
    assert found["AP@10"] <= found["AP"] + 1e-9


def test_few_labels_say_the_class_better_than_chance_by_an_encoder(compared):
    accuracy = compared.few_labels.set_index(["encoder", "method"]).accuracy
    assert (
        set(compared.few_labels.method) == {"nearest", "label spreading"}
        and accuracy.between(0, 1).all()
    )
    assert accuracy[encoder_comparison.EMBEDDED[0], "nearest"] > 1 / 3


def test_vectors_are_made_once_and_the_command_writes_the_tables(home, compared):
    folder = home / "vector_dbs" / "tiny" / "encoders"
    stamps = {file: file.stat().st_mtime_ns for file in folder.rglob("vectors.npy")}
    assert len(stamps) == 2
    out, said = typed(home, "encoders", "--study", "tiny")
    assert "mAP" in out and "random ranking" in out and "efficientnet_lite2: " in said
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("vectors.npy")} == stamps
    kept = pd.read_csv(
        home / "active_learning_results/tiny/encoders/retrieval.csv", keep_default_na=False
    )
    np.testing.assert_allclose(
        kept["mean"].replace("", np.nan).astype(float), compared.retrieval["mean"], atol=1e-6
    )
    out, _ = typed(home, "encoders", "efficientnet_lite0", "--study", "tiny", "--json")
    found = json.loads(out)
    assert [row["encoder"] for row in found["encoders"]] == [
        "efficientnet_lite0",
        baselines.COLOURS,
        baselines.RANDOM,
    ]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_of_random_weights_is_compared_by_its_checkpoint(
    home, tmp_path, name, monkeypatch
):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=3)
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        for _ in range(8):  # batch norms learn what comes in, else all vectors are nearly one
            model.train()(torch.rand(8, 3, 96, 96) * 4 - 2)
    save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    monkeypatch.setenv("IMGSEARCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("IMGSEARCH_BACKEND", "torch")
    monkeypatch.setattr(encoder_comparison, "TIMED", 2)
    with living_in(home):
        found = encoder_comparison.compare_encoders(find_run("tiny"), [f"timm:{name}"])
    row = found.encoders.iloc[0]
    assert row.encoder == f"timm:{name}" and row.missing == "" and row.images_per_s > 0
    every = found.retrieval[(found.retrieval["class"] == "") & (found.retrieval.measure == "AP")]
    assert every.encoder.tolist() == [f"timm:{name}", baselines.COLOURS, baselines.RANDOM]
    assert every["mean"].between(0, 1).all()


def test_a_clip_by_path_and_weights_that_are_missing_are_rows(
    home, tiny_clip, tmp_path, monkeypatch
):
    clip = f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}"
    lost = f"timm:resnet18/{tmp_path / 'resnet18.safetensors'}"
    with living_in(home):
        found = encoder_comparison.compare_encoders(find_run("tiny"), [clip, lost])
        with pytest.raises(ValueError, match="none of the encoders has its weights here"):
            encoder_comparison.compare_encoders(find_run("tiny"), [lost])
        with pytest.raises(ValueError, match="timm has no model resnet81. Did you mean resnet18"):
            encoder_comparison.compare_encoders(find_run("tiny"), ["timm:resnet81"])
    about = found.encoders.set_index("encoder")
    assert (
        about.missing[clip] == ""
        and "no such checkpoint for timm:resnet18; place it there" in about.missing[lost]
    )
    assert pd.isna(about.dimension[lost]) and lost not in set(found.retrieval.encoder)
    # as HF_HUB_OFFLINE=1 in a new process
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    done = command(home, "encoders", "efficientnet_lite0", "timm:resnet18", "--study", "tiny")
    assert done.returncode == 0, done.stderr
    assert "call it resnet18.safetensors, in a folder that IMGSEARCH_WEIGHTS names" in done.stderr


def test_a_published_run_shows_what_is_there(home, compared, monkeypatch):
    with living_in(home):
        run = find_run("tiny")
        encoder_comparison.kept_comparison(run, ["efficientnet_lite0"])
        (run.labels / PUBLISHED).touch()
        try:
            again = encoder_comparison.kept_comparison(run, ["no encoder of this name"])
        finally:
            (run.labels / PUBLISHED).unlink()
    assert again.encoders.encoder.tolist() == [
        "efficientnet_lite0",
        baselines.COLOURS,
        baselines.RANDOM,
    ]


def test_where_nothing_can_be_compared_it_says_why(tmp_path):
    tiny_study.write_study(tmp_path)
    assert "no run is called tiny here" in typed(tmp_path, "encoders", "--study", "tiny")[1]
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        Image.fromarray(np.full((30, 30, 3), 20 * number, np.uint8)).save(
            tmp_path / "pictures" / f"{number}.png"
        )
    with living_in(tmp_path):
        find_run("tiny", begin=True)
    said = typed(tmp_path, "encoders", "--study", "tiny")[1]
    assert said.startswith("imgsearch: ") and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("lows", "better", "command"),
    [
        ((-0.1, 0.1), "b + c", "encoder=c"),
        ((0.1, 0.1), "b, b + c", "encoder=b"),
        ((-0.1, -0.1), "none", "encoder=c"),
    ],
)
def test_another_encoder_is_advised_only_beyond_chance(lows, better, command):
    retrieval = pd.DataFrame(
        {
            "encoder": ["a", "b", "b + c", "b"],
            "class": ["", "", "", "houses"],
            "measure": "AP",
            "gain_low": [np.nan, *lows, 0.5],
        }
    )
    comparison = encoder_comparison.Comparison(pd.DataFrame(), retrieval, pd.DataFrame())
    said = encoder_comparison.advise(comparison, ["a", "b", "c"], "tiny")
    assert said[0].endswith(f"intervals above 0: {better}.")
    assert ("No single other encoder" in said[1]) == (command == "encoder=c")
    assert said[2] == f"  imgsearch run tiny --run another --set {command}"

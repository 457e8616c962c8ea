"""Pictures of another kind than the collection are close to nothing; its own kind is in reach."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils import workspace
from imgsearch_utils.drawn_houses import draw_house, sample_houses
from imgsearch_utils.encoders.encoder_names import shared_encoder
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.images.image_split import group_near_duplicates, split_by_group
from imgsearch_utils.learning import learn
from imgsearch_utils.learning.model import models_to_dict
from imgsearch_utils.search.searcher import Searcher
from imgsearch_utils.study import HeadSettings, parse_study
from imgsearch_utils.workspace import Run
from tests.tiny_study import living_in

pytestmark = pytest.mark.slow  # two collections of 240 real pictures are encoded and learnt
DATA = Path(os.environ.get("IMGSEARCH_DATA", "absent"))
KINDS = ("houses", "groceries")
N = 240  # pictures of each kind


def pictures_of(kind: str, folder: Path) -> pd.DataFrame:
    """Files and classes of N pictures."""
    if kind == "houses":
        rows = []
        for house in sample_houses(N // 3, seed=3).to_dict("records"):
            file = folder / house["file_label"]
            draw_house(house, 160).save(file)
            rows.append((file, house["house_type"]))
        return pd.DataFrame(rows, columns=["file", "kind"])
    table = pd.read_csv(DATA / "grocery/labels.csv").sample(N, random_state=0)
    return pd.DataFrame(
        {
            "file": [DATA / "grocery/images" / name for name in table.file_label],
            "kind": table.coarse,
        }
    )


def make(home: Path, kind: str) -> tuple[Run, np.ndarray]:
    """A run that learnt from grades by class; its database lacks the test images, whose vectors are
    returned.
    """
    folder = home / "datasets" / kind
    folder.mkdir(parents=True)
    table = pictures_of(kind, folder)
    table["image"] = [Path(file).name for file in table.file]
    encoder = shared_encoder("efficientnet_lite0")
    all_ = Embeddings(table.image.tolist(), encoder.encode(table.file.tolist()), encoder.config)
    images, _ = group_near_duplicates(Images(table[["image", "kind"]], all_), 0.98)
    images = split_by_group(images, 0, 0.25, 0)
    rng, train = np.random.default_rng(0), images.train
    i, j = np.triu_indices(len(train), 1)
    some = rng.choice(len(i), 1_500, replace=False)
    pairs = pd.DataFrame(
        {"image1": np.take(train.names, i[some]), "image2": np.take(train.names, j[some])}
    )
    pairs["group1"], pairs["group2"] = images.of_pairs(pairs, "group")
    pairs["same_class"] = images.same_class(pairs)
    pairs = pairs.assign(similarity=np.where(pairs.same_class, 3.0, 0.0), side="train", drawn=True)
    pairs = pairs.assign(strategy="random")
    learnt = learn(images, pairs, HeadSettings(hidden=64, epochs=8), 0)
    kept = all_.of(train.names)
    run = Run(
        kind,
        parse_study({"study": kind, "images": {"source": kind, "vectors": "v.npy"}, "rounds": 1}),
    )
    np.save(folder / "v.npy", kept)
    table.rename(columns={"image": "file_label"}).set_index("file_label").loc[
        train.names, ["kind"]
    ].to_csv(folder / "labels.csv")
    with living_in(home):
        Embeddings(train.names, kept, all_.config).save(run.vectors / "encoder")
        this = run.round(0)
        for where in (this.model, run.round(1).labels, this.results):
            where.mkdir(parents=True)
        learnt.models["head"].head.save(this.model)
        workspace.write_json(
            this.model / "calibration.json",
            models_to_dict({"encoder": learnt.models["encoder"], "head": learnt.models["head"]}),
        )
        workspace.write_json(this.results / "metrics.json", {"promoted": True})
    return run, all_.of(images.split("test").names)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if not (DATA / "grocery/images").is_dir():
        pytest.skip("needs photographs: set IMGSEARCH_DATA to the folder that holds grocery")
    home = tmp_path_factory.mktemp("reach")
    return home, {kind: make(home, kind) for kind in KINDS}


@pytest.mark.parametrize("model", ["encoder", "head"])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_another_kind_are_not_close_and_those_of_its_own_are_in_reach(
    made, kind, model
):
    home, runs = made
    with living_in(home):
        searcher = Searcher.open(runs[kind][0], model)
    assert searcher.model.out_of_collection_cosine > 0
    other = next(name for name in KINDS if name != kind)
    strange, own = (searcher.search(runs[name][1], 10).groupby("query") for name in (other, kind))
    far = (own.p_similar.max() == 0).mean()
    close = strange.close.any().mean()
    print(f"{kind}, {model}: {close:.1%} of strange pictures close, {far:.1%} of its own far")
    assert len(strange) >= 50 and len(own) >= 50
    assert close <= 0.05 and far <= 0.05
    assert own.close.any().mean() > 0.5
    # without a reach it would call nearly all of them close
    if (kind, model) == ("houses", "head"):
        blind = replace(
            searcher, model=replace(searcher.model, out_of_collection_cosine=-1.0)
        ).search(runs[other][1], 10)
        assert blind.groupby("query").close.any().mean() > 0.5

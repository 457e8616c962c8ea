"""A study of 36 small drawn houses in class folders, with one round: what the tests of search
ask.
"""

import io
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imgsearch_utils import cli, workspace
from imgsearch_utils.drawn_houses import draw_house, sample_houses
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.ground import Ground
from imgsearch_utils.learning.heads import PLAIN, Head
from imgsearch_utils.learning.learner import own_reach
from imgsearch_utils.learning.model import models_to_dict
from imgsearch_utils.pictures.collection import open_collection
from imgsearch_utils.study import HeadSettings
from imgsearch_utils.vectors import Images
from imgsearch_utils.vectors.embedding import embed_run
from imgsearch_utils.vectors.sides import split_by_group

# of each type; the last one is kept for later
HOUSES = sample_houses(13, seed=5).to_dict("records")


def picture_of(home: Path, house: dict) -> Path:
    return home / "pictures" / house["house_type"] / house["file_label"]


def draw(home: Path, number: int) -> Path:
    """Draw one house into its class folder."""
    file = picture_of(home, HOUSES[number])
    file.parent.mkdir(parents=True, exist_ok=True)
    draw_house(HOUSES[number], 160).save(file)
    return file


@contextmanager
def living_in(home: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGSEARCH_HOME", str(home))
        patch.chdir(home)
        yield


def write_study(home: Path, **settings) -> None:
    lines = [
        "study: tiny",
        f"images: {{source: {home / 'pictures'}}}",
        "oracle: person",
        "rounds: 1",
        *(f"{name}: {value}" for name, value in settings.items()),
    ]
    (home / "configs").mkdir(exist_ok=True)
    (home / "configs" / "tiny.yaml").write_text("\n".join(lines) + "\n")


def make(home: Path, promoted: bool = True, **settings) -> workspace.Run:
    """Draw, embed, split, and finish a round: its head is a random one, the calibrations are fitted
    on dev pairs.
    """
    for number in range(len(HOUSES)):
        if number % 13 < 12:
            draw(home, number)
    write_study(home, **settings)
    with living_in(home):
        run = workspace.find_run("tiny", begin=True)
        collection = open_collection(run)
        embeddings, _ = embed_run(run, collection)
        table = collection.images.assign(group=np.arange(len(collection.images)))
        images = split_by_group(Images(table, embeddings), 0.25, 0.25, 0)
        workspace.write_atomic(run.labels / "images.csv", images.table.to_csv(index=False))
        chosen, train, dev = (
            HeadSettings(head="mlp", hidden=64, class_share=0),
            images.train,
            images.side("dev"),
        )
        ground = Ground.of(train.vectors, train.classes.to_numpy(str), chosen)
        torch.manual_seed(0)
        head = Head.untrained(ground, chosen, PLAIN, (torch.zeros(0, len(ground.mean)),) * 2)
        one, two = np.triu_indices(len(dev), 1)
        pairs = pd.DataFrame({"image1": np.take(dev.names, one), "image2": np.take(dev.names, two)})
        grades, reach = np.where(images.same_class(pairs), 3, 0), own_reach(train)
        models = {
            model.name: replace(
                model,
                reach=reach,
                calibration=Calibration.fit(model.cosines(images, pairs), grades),
            )
            for model in (Model(), Model.with_head(head))
        }
        this = run.round(0)
        for folder in (this.model, run.round(1).labels):
            folder.mkdir(parents=True)
        head.save(this.model)
        workspace.write_json(this.model / "calibration.json", models_to_dict(models))
        workspace.write_json(this.results / "metrics.json", {"promoted": promoted})
        return run


def command(home: Path, *arguments) -> subprocess.CompletedProcess:
    """What a user types, in this process, where the libraries are loaded already; ``python -m``
    takes seconds more.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        living_in(home),
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["imgsearch", *map(str, arguments)])
        try:
            cli.entry()
        except SystemExit as stop:  # with its last words, or a number
            code = 1 if isinstance(stop.code, str) else stop.code or 0
            print(
                stop.code if isinstance(stop.code, str) else "",
                end="\n" * isinstance(stop.code, str),
                file=err,
            )
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def typed(home: Path, *arguments) -> tuple[str, str]:
    """Standard output and standard error of ``command``."""
    done = command(home, *arguments)
    return done.stdout, done.stderr

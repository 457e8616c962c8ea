"""vectors.with_ray: workers give the bytes that one process gives, also where one of them is
killed.
"""

import contextlib
import importlib.util
import os
import sys

import numpy as np
import psutil
import pytest

from imgsearch_utils.drawn_houses import draw_house, sample_houses
from imgsearch_utils.encoders.embed_collection import embed
from imgsearch_utils.encoders.encoder_names import shared_encoder
from imgsearch_utils.images import read_collection
from imgsearch_utils.study import ImageSettings
from tests.tiny_study import typed

ENCODER = "efficientnet_lite0"


NOBODY = "no Ray cluster answers at "


def test_what_the_command_refuses(tmp_path):
    for given, message in (
        (("--engine", "spark"), "--engine knows ray alone, got 'spark'"),
        (("--address", "auto"), "give --engine ray too"),
        (("--engine", "ray", "--address", "127.0.0.1:1"), NOBODY),
        (("--engine", "ray", "--address", "ray://nobody.invalid:70000"), NOBODY),
    ):
        if message is NOBODY and not importlib.util.find_spec("ray"):
            continue
        _, said = typed(tmp_path, "embed", *given)
        assert message in said and len(said.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def by_ray():
    """The function, and Ray of this machine, stopped in the end."""
    if not importlib.util.find_spec("ray"):
        pytest.skip('pip install "imgsearch-utils[ray]"')
    from imgsearch_utils.encoders.with_ray import by_ray

    before = dict(os.environ)
    yield by_ray(ENCODER)
    sys.modules["ray"].shutdown()
    for name in {*os.environ} - {*before}:
        del os.environ[name]


def workers():
    """Processes of this one's Ray that encode."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
            found += [one] if "MapWorker" in " ".join(one.cmdline()) else []
    return found


@pytest.mark.engine  # a cluster of workers is started
def test_the_same_bytes_as_in_one_process_though_a_worker_is_killed(by_ray, tmp_path):
    folder = tmp_path / "pictures"
    for house in sample_houses(70, seed=3).to_dict("records"):
        file = folder / house["house_type"] / house["file_label"]
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_house(house, 64).save(file)
    (folder / "rustic" / "torn.jpg").write_bytes(b"no picture")
    collection = read_collection(folder, ImageSettings(source=str(folder)))
    alone, aside = embed(collection, shared_encoder(ENCODER), tmp_path / "alone")
    killed = []

    def progress(batches):
        for number, batch in enumerate(batches):
            yield batch
            if number == 0 and not killed:
                [victim, *_] = workers()
                victim.kill()
                killed.append(victim.pid)

    with pytest.raises(RuntimeError, match="this process uses Ray already; leave the address out"):
        sys.modules["imgsearch_utils.encoders.with_ray"].by_ray(ENCODER, "127.0.0.1:1")
    together, also_aside = embed(
        collection, shared_encoder(ENCODER), tmp_path / "ray", progress, by_ray
    )
    assert killed and len(alone.names) > 150
    assert together.names == alone.names and np.array_equal(together.vectors, alone.vectors)
    assert also_aside.equals(aside) and aside.image.tolist() == ["rustic/torn.jpg"]
    for name in ("vectors.npy", "names.csv"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()

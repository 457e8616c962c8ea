"""The network kept beside a run's vectors: the same pixels, the same vectors, no torch; another
content is not used.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from imgsearch_utils.drawn_houses import write_houses
from imgsearch_utils.encoders.embed_collection import NETWORK, embed_run, load_embeddings
from imgsearch_utils.encoders.encoder import Encoder
from imgsearch_utils.encoders.onnx_encoder import GRAPH, LITE, KeptEncoder, lite_pixels
from imgsearch_utils.images import open_collection, open_image
from imgsearch_utils.search.database import encoder_of
from imgsearch_utils.workspace import find_run


@settings(max_examples=60)
@given(
    st.integers(1, 700), st.integers(1, 700), st.sampled_from(sorted(LITE)), st.integers(0, 2**31)
)
def test_pixels_are_those_of_torchvision(width, height, name, seed):
    side = LITE[name]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((width, height))
    if max(width, height) > 8 * min(width, height):
        return  # the middle of a strip is cut out before
    resize = v2.Resize(round(side / 0.875), interpolation=v2.InterpolationMode.BICUBIC)
    expected = (
        np.asarray(v2.Compose([resize, v2.CenterCrop(side)])(picture))
        .transpose(2, 0, 1)
        .astype(np.float32)
    )
    np.testing.assert_array_equal(lite_pixels(picture, side), (expected - 127) / 128)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A workspace with the vectors of 66 drawn houses, and the run's network beside them."""
    pytest.importorskip("onnxruntime", reason='needs pip install "imgsearch-utils[onnx]"')
    home = tmp_path_factory.mktemp("home")
    write_houses(home / "datasets" / "houses", 22)
    (home / "configs").mkdir()
    (home / "configs" / "kept.yaml").write_text(
        "study: kept\nimages: {source: houses}\noracle: person\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGSEARCH_HOME", str(home))
        run = find_run("kept", begin=True)
        embed_run(run, open_collection(run))
        yield run


def test_a_query_has_the_bytes_of_the_picture_in_the_database(kept):
    database = load_embeddings(kept)
    encoder = encoder_of(kept, database)
    assert isinstance(encoder, KeptEncoder) and encoder.config == database.config
    some = database.names[:5]
    pictures = [open_image(open_collection(kept).path(name)) for name in some]
    np.testing.assert_array_equal(encoder.encode_images(pictures), database.of(some))


def test_a_search_imports_no_torch(kept):
    picture = open_collection(kept).path(load_embeddings(kept).names[0])
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "imgsearch_utils.cli",
        "search",
        picture,
        "--study",
        "kept",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and picture.name in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert {"onnxruntime", "pandas"} <= imported and not {
        "torch",
        "timm",
        "sklearn",
        "torchvision",
    } & imported


def test_another_network_is_not_used(kept, monkeypatch):
    database = load_embeddings(kept)
    monkeypatch.setenv("IMGSEARCH_BACKEND", "torch")
    assert isinstance(encoder_of(kept, database), Encoder)
    monkeypatch.delenv("IMGSEARCH_BACKEND")
    file = kept.vectors / NETWORK / GRAPH
    graph = file.read_bytes()
    file.write_bytes(graph[:-1] + bytes([graph[-1] ^ 1]))
    try:
        encoder = encoder_of(kept, database)
    finally:
        file.write_bytes(graph)
    assert isinstance(encoder, Encoder) and isinstance(encoder.forward, torch.nn.Module)
    assert isinstance(encoder_of(kept, database), KeptEncoder)

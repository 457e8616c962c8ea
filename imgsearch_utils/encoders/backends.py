"""What an encoder's network runs on: torch, onnxruntime where it is installed, bfloat16 where the
processor has it.
"""

import contextlib
import copy
import functools
import importlib.util
import io
import warnings
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from imgsearch_utils.encoders.encoder import DEVICE, Encoder
from imgsearch_utils.encoders.onnx_encoder import onnx_session
from imgsearch_utils.study import nearest

BACKENDS = ("auto", "torch", "onnxruntime")
# of the largest value: more means that the exported network is another; usual is 1e-6
AGREES = 1e-3


def on_backend(encoder: Encoder, backend: str) -> Encoder:
    """Let an encoder whose `forward` is a torch module run on a back end, one of `BACKENDS`.

    ``auto`` is torch, and for many files onnxruntime where it is installed and no GPU is used. The
    vectors of the two differ by rounding alone (about 1e-6 of the largest value), so an encoder's
    configuration does not name it.

    Raises
    ------
    ValueError for an unknown back end, and where onnxruntime is asked for and missing, or cannot
        run this network
    """
    if backend not in BACKENDS:
        raise ValueError(f"no back end is called {backend}. {nearest(backend, BACKENDS)}")
    start = functools.cache(lambda: _onnxruntime(encoder))
    if backend == "onnxruntime":
        return replace(encoder, forward=start(), bulk=start)
    installed = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
    plain = isinstance(encoder.forward, torch.nn.Module)  # not so in bfloat16
    if backend == "torch" or DEVICE != "cpu" or not (installed and plain):
        return encoder

    @functools.cache
    def start_or_warn():
        try:
            return start()
        except ValueError as error:
            warnings.warn(f"{error}; encoding with torch", stacklevel=3)

    return replace(encoder, bulk=start_or_warn)


def export(encoder: Encoder) -> bytes:
    """The network as ONNX: `pictures` (n, 3, height, width) -> `vectors` (n, dim)."""
    network = copy.deepcopy(encoder.forward)  # the exporter leaves traces in it
    pictures, graph = torch.zeros(2, *_shape(encoder)), io.BytesIO()
    # without gradients
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.enable_grad():
        warnings.simplefilter("ignore")  # attention is one fused operation that ONNX does not know
        torch.onnx.export(
            network,
            (pictures,),
            graph,
            input_names=["pictures"],
            output_names=["vectors"],
            dynamic_axes={"pictures": {0: "n"}},
            dynamo=False,
        )
    return graph.getvalue()


def _shape(encoder: Encoder) -> torch.Size:
    return encoder.preprocess(Image.new("RGB", (64, 64))).shape


class OnnxNetwork:
    """A network that several threads may call at once; `graph` is its ONNX file."""

    def __init__(self, graph: bytes):
        self.graph, self._session = graph, onnx_session(graph, 1, 1)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        vectors = [
            self._session.run(None, {"pictures": batch[i : i + 1].numpy()})[0]
            for i in range(len(batch))
        ]
        return torch.from_numpy(np.concatenate(vectors))


def _onnxruntime(encoder: Encoder) -> OnnxNetwork:
    """Export the network, and check that it gives the vectors of torch."""
    name = encoder.config["encoder"]
    for package in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise ValueError(
                f"back end onnxruntime: {package} is not installed: pip install "
                '"imgsearch-utils[onnx]", '
                "or take back end torch"
            ) from None
    if DEVICE != "cpu" or encoder.config.get("dtype"):
        raise ValueError(
            f"{name}: onnxruntime is for single precision on the processor alone; take back end "
            "torch"
        )
    try:
        network = OnnxNetwork(export(encoder))
    except Exception as error:  # the exporter and onnxruntime raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name}: onnxruntime cannot run this network ({reason}); take back end torch"
        ) from None

    noise = torch.rand(2, *_shape(encoder), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = encoder.forward(noise)
    difference = float((network(noise) - expected).abs().max() / expected.abs().max())
    if not difference <= AGREES:
        raise ValueError(
            f"{name}: onnxruntime gives other vectors than torch (differ by {difference:.1g} of "
            "the "
            "largest value); take back end torch"
        )
    return network


def in_bfloat16(encoder: Encoder) -> Encoder:
    """Compute on torch in bfloat16: twice as fast or more. Vectors differ by about 1 %, so the
    configuration says it.

    Raises
    ------
    ValueError
        where the processor (or the GPU) has no bfloat16 arithmetic; emulated, it would be slower
    """
    able = torch.cpu.get_capabilities()
    if not (
        torch.cuda.is_bf16_supported()
        if DEVICE == "cuda"
        else any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    ):
        raise ValueError(
            f"{encoder.config['encoder']}: this machine has no bfloat16 arithmetic; leave "
            "@bfloat16 out"
        )
    network = encoder.forward.to(torch.bfloat16)
    return replace(
        encoder,
        forward=lambda pictures: network(pictures.bfloat16()),
        config=encoder.config | {"dtype": "bfloat16"},
    )

"""An encoder at work: picture files to vectors, on torch or, where that is installed, onnxruntime."""

import contextlib
import copy
import functools
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image

from imgsearch_utils.images import open_image
from imgsearch_utils.study import nearest

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ("auto", "torch", "onnxruntime")
BLOCK = 4  # pictures in one run of onnxruntime; what more pictures need does not stay in a core's cache
BULK = 64  # files from which on the second that onnxruntime takes to start is won back
AGREES = 1e-3  # of the largest value: more means that the exported network is another; usual is 1e-6


@dataclass(frozen=True)
class Encoder:
    """A frozen network and its preprocessing.

    preprocess : picture -> (3, height, width) float tensor
    forward : (n, 3, height, width) -> (n, dim)
    config : what made the vectors; two encoders agree exactly when their configurations are equal
    encode_texts : n texts -> (n, dim) float32 in the space of the pictures, not normalised; None without a text tower
    bulk : starts a `forward` that several threads may call at once, for many files; None where there is none
    """

    preprocess: Callable[[Image.Image], torch.Tensor]
    forward: Callable[[torch.Tensor], torch.Tensor]
    config: dict
    encode_texts: Callable[[list[str]], np.ndarray] | None = None
    bulk: Callable[[], Callable[[torch.Tensor], torch.Tensor] | None] = lambda: None

    def encode_images(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Encode decoded pictures in one batch: (n, dim) float32, not normalised."""
        return _run(self.forward, [self._tensor(picture) for picture in pictures])

    def _tensor(self, picture: Image.Image) -> torch.Tensor:
        width, height = picture.size
        side = 8 * min(width, height)  # of a longer strip the middle: scaled by its short side, it would fill memory
        if max(width, height) > side:
            left, top = max(0, width - side) // 2, max(0, height - side) // 2
            picture = picture.crop((left, top, left + min(width, side), top + min(height, side)))
        return self.preprocess(picture)

    def encode(self, paths: Sequence[Path], batch_size: int = 32) -> np.ndarray:
        """Encode picture files: (n, dim) float32; raises ValueError at the first unreadable one."""
        vectors, failures = self.encode_files(paths, batch_size)
        if failures:
            raise ValueError(next(iter(failures.values())))
        return vectors

    def encode_files(self, paths: Sequence[Path], batch_size: int = 32, progress=iter):
        """Encode picture files in as many threads as torch may use.

        With onnxruntime each thread decodes a few pictures and runs the network on them, so that no core waits for
        another. torch's network uses all cores by itself: one batch at a time, while other threads decode the next.

        Parameters
        ----------
        progress : wraps the iterable of batches, e.g. ``tqdm``

        Returns
        -------
        vectors : (n, dim) float32; NaN where a file could not be read
        failures : {position: reason}
        """
        bulk = self.bulk() if len(paths) >= BULK else None
        forward, turn = (bulk, contextlib.nullcontext()) if bulk else (self.forward, Lock())
        size = min(batch_size, BLOCK) if bulk else batch_size

        def encode(batch: range) -> list[np.ndarray | str]:
            loaded = [self._load(paths[i]) for i in batch]
            good = [tensor for tensor in loaded if not isinstance(tensor, str)]
            with turn:
                found = iter(_run(forward, good) if good else ())
            return [row if isinstance(row, str) else next(found) for row in loaded]

        batches = [range(start, min(start + size, len(paths))) for start in range(0, len(paths), size)]
        with ThreadPoolExecutor(torch.get_num_threads() + (not bulk)) as pool:
            done = pool.map(encode, batches)
            rows = [row for _ in progress(batches) for row in next(done)]
        failures = {i: row for i, row in enumerate(rows) if isinstance(row, str)}
        width = next((len(row) for row in rows if not isinstance(row, str)), 0)
        return np.stack([np.full(width, np.nan, np.float32) if isinstance(r, str) else r for r in rows]), failures

    def _load(self, path: Path) -> torch.Tensor | str:
        try:
            return self._tensor(open_image(path))
        except ValueError as error:
            return str(error)


def _run(forward: Callable, tensors: list[torch.Tensor]) -> np.ndarray:
    with torch.inference_mode():
        return forward(torch.stack(tensors).to(DEVICE)).float().cpu().numpy()


def on_backend(encoder: Encoder, backend: str) -> Encoder:
    """Let an encoder whose `forward` is a torch module run on a back end, one of `BACKENDS`.

    ``auto`` is torch, and for many files onnxruntime where it is installed and no GPU is used. The vectors of the two
    differ by rounding alone (about 1e-6 of the largest value), so an encoder's configuration does not name it.

    Raises
    ------
    ValueError
        for an unknown back end, and where onnxruntime is asked for and missing, or cannot run this network
    """
    if backend not in BACKENDS:
        raise ValueError(f"no back end is called {backend}. {nearest(backend, BACKENDS)}")
    start = functools.cache(lambda: _onnxruntime(encoder))
    if backend == "onnxruntime":
        return replace(encoder, forward=start(), bulk=start)
    there = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
    plain = isinstance(encoder.forward, torch.nn.Module)  # not so in bfloat16
    if backend == "torch" or DEVICE != "cpu" or not (there and plain):
        return encoder

    @functools.cache
    def start_or_warn():
        try:
            return start()
        except ValueError as error:
            warnings.warn(f"{error}; encoding with torch", stacklevel=3)

    return replace(encoder, bulk=start_or_warn)


def _onnxruntime(encoder: Encoder) -> Callable[[torch.Tensor], torch.Tensor]:
    """Export the network, and check that it gives the vectors of torch."""
    name = encoder.config["encoder"]
    try:
        import onnx  # noqa: F401 - torch.onnx.export needs it
        import onnxruntime
    except ImportError as error:
        raise ValueError(f'back end onnxruntime: {error.name} is not installed: pip install "imgsearch-utils[onnx]", '
                         "or take back end torch") from None
    if DEVICE != "cpu" or encoder.config.get("dtype"):
        raise ValueError(f"{name}: onnxruntime is for single precision on the processor alone; take back end torch")
    shape = encoder.preprocess(Image.new("RGB", (64, 64))).shape
    pictures, graph = torch.rand(BLOCK + 1, *shape, generator=torch.Generator().manual_seed(0)), io.BytesIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.enable_grad():  # without
            warnings.simplefilter("ignore")  # gradients attention is one fused operation that ONNX does not know
            network = copy.deepcopy(encoder.forward)  # the exporter leaves traces in it
            torch.onnx.export(network, (pictures[:2],), graph, input_names=["pictures"], dynamo=False,
                              output_names=["vectors"], dynamic_axes={"pictures": {0: "n"}})  # fmt: skip
            expected = encoder.forward(pictures).detach()
        sessions = {}
        for n in (1, BLOCK):  # a fixed number lets it compute all shapes beforehand: a third faster
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            options.add_free_dimension_override_by_name("n", n)
            sessions[n] = onnxruntime.InferenceSession(graph.getvalue(), options, ["CPUExecutionProvider"])
    except Exception as error:  # the exporter and onnxruntime raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{name}: onnxruntime cannot run this network ({reason}); take back end torch") from None

    def forward(batch: torch.Tensor) -> torch.Tensor:
        whole = len(batch) // BLOCK * BLOCK
        starts = [*range(0, whole, BLOCK), *range(whole, len(batch))]
        parts = [batch[i : i + (BLOCK if i < whole else 1)].numpy() for i in starts]
        vectors = [sessions[len(part)].run(None, {"pictures": part})[0] for part in parts]
        return torch.from_numpy(np.concatenate(vectors))

    difference = float((forward(pictures) - expected).abs().max() / expected.abs().max())
    if not difference <= AGREES:
        raise ValueError(f"{name}: onnxruntime gives other vectors than torch (differ by {difference:.1g} of the "
                         "largest value); take back end torch")
    return forward


def in_bfloat16(encoder: Encoder) -> Encoder:
    """Compute in bfloat16: twice as fast or more, its vectors differ by about 1 %, which its configuration says.

    Raises
    ------
    ValueError
        where the processor (or the GPU) has no bfloat16 arithmetic; emulated, it would be slower
    """
    able = torch.cpu.get_capabilities()
    if not (torch.cuda.is_bf16_supported() if DEVICE == "cuda" else
            any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))):
        raise ValueError(f"{encoder.config['encoder']}: this machine has no bfloat16 arithmetic; leave @bfloat16 out")
    network = encoder.forward.to(torch.bfloat16)
    return replace(encoder, forward=lambda pictures: network(pictures.bfloat16()),
                   config=encoder.config | {"dtype": "bfloat16"})  # fmt: skip

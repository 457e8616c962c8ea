"""An encoder at work: picture files to vectors, in threads."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image

from imgsearch_utils.encoders.onnx_encoder import BULK
from imgsearch_utils.images.decoding import middle_of_strip, open_image

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# : pictures that a network gets at once. One on a processor: sums are then made in one order,
# whatever is encoded
# : beside a picture, and larger batches gain nothing there. A GPU always gets so many, the last
# batch filled up
BATCH = 1 if DEVICE == "cpu" else 32


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: sums are then made in one order, and small networks gain little
    from more.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Encoder:
    """A frozen network and its preprocessing.

    preprocess : picture -> (3, height, width) float tensor
    forward : (n, 3, height, width) -> (n, dim)
    config : what made the vectors; two encoders agree exactly when their configurations are equal
    encode_texts : n texts -> (n, dim) float32 in the space of the pictures, not normalised; None
        without a text tower
    bulk : starts a `forward` that several threads may call at once, for many files; None where
        there is none
    batch : pictures that the network gets at once
    """

    preprocess: Callable[[Image.Image], torch.Tensor]
    forward: Callable[[torch.Tensor], torch.Tensor]
    config: dict
    encode_texts: Callable[[list[str]], np.ndarray] | None = None
    bulk: Callable[[], Callable[[torch.Tensor], torch.Tensor] | None] = lambda: None
    batch: int = BATCH

    def encode_images(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Encode decoded pictures in one batch, a single one on one thread: (n, dim) float32, not
        normalised.
        """
        tensors = [self._tensor(picture) for picture in pictures]
        # for one picture, threads gain little on idle cores, and on busy ones wait for each other
        # in every layer
        alone = len(tensors) == 1 and isinstance(self.forward, torch.nn.Module)
        with one_thread() if alone else contextlib.nullcontext():
            return _run(self.forward, tensors)

    def _tensor(self, picture: Image.Image) -> torch.Tensor:
        return self.preprocess(middle_of_strip(picture))

    def encode(self, paths: Sequence[Path]) -> np.ndarray:
        """Encode picture files: (n, dim) float32; raises ValueError at the first unreadable one."""
        vectors, failures = self.encode_files(paths)
        if failures:
            raise ValueError(next(iter(failures.values())))
        return vectors

    def encode_files(self, paths: Sequence[Path], progress=iter, many: bool | None = None):
        """Encode picture files in as many threads as torch may use, each decoding a picture and
        running the network.

        A picture's vector is the same bytes however the work is cut: it depends on the network
        alone, and on `many`.

        Parameters
        ----------
        progress : wraps the iterable of batches, e.g. ``tqdm``
        many : whether to take the network for many files, where there is one; when not given, from
            ``BULK`` files on

        Returns
        -------
        vectors : (n, dim) float32; NaN where a file could not be read
        failures : {position: reason}
        """
        many = len(paths) >= BULK if many is None else many
        forward = (self.bulk() if many else None) or self.forward
        turn = contextlib.nullcontext() if DEVICE == "cpu" else Lock()

        def encode(batch: range) -> list[np.ndarray | str]:
            loaded = [self._load(paths[i]) for i in batch]
            good = [tensor for tensor in loaded if not isinstance(tensor, str)]
            with turn:
                vectors_of_good = iter(
                    _run(forward, good + good[-1:] * (BATCH - len(good))) if good else ()
                )
            return [row if isinstance(row, str) else next(vectors_of_good) for row in loaded]

        batches = [range(at, min(at + BATCH, len(paths))) for at in range(0, len(paths), BATCH)]
        workers = torch.get_num_threads()
        with one_thread(), ThreadPoolExecutor(workers + (DEVICE != "cpu")) as pool:
            done = pool.map(encode, batches)
            rows = [row for _ in progress(batches) for row in next(done)]
        failures = {i: row for i, row in enumerate(rows) if isinstance(row, str)}
        width = next((len(row) for row in rows if not isinstance(row, str)), 0)
        return np.stack(
            [np.full(width, np.nan, np.float32) if isinstance(r, str) else r for r in rows]
        ), failures

    def _load(self, path: Path) -> torch.Tensor | str:
        try:
            return self._tensor(open_image(path))
        except ValueError as error:
            return str(error)


def _run(forward: Callable, tensors: list[torch.Tensor]) -> np.ndarray:
    with torch.inference_mode():
        return forward(torch.stack(tensors).to(DEVICE)).float().cpu().numpy()

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

from imgsearch_utils.pictures.decoding import open_image

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = 8 if DEVICE == "cpu" else 32  # pictures a batch of torch; larger ones are slower on a processor
BLOCK = 4  # pictures that a thread takes at once: what more of them need does not stay in a core's cache
BULK = 64  # for fewer files, starting the network for many files takes longer than it saves


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: sums are then made in one order, and small networks gain little from more."""
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

    def encode(self, paths: Sequence[Path], batch_size: int = BATCH) -> np.ndarray:
        """Encode picture files: (n, dim) float32; raises ValueError at the first unreadable one."""
        vectors, failures = self.encode_files(paths, batch_size)
        if failures:
            raise ValueError(next(iter(failures.values())))
        return vectors

    def encode_files(self, paths: Sequence[Path], batch_size: int = BATCH, progress=iter):
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

"""Exact search by matrix product and top-k in blocks, on the GPU where there is one."""

import numpy as np

from .base import Index, register

BLOCK = 2**24  # scores held at once


@register("torch")
class TorchExact(Index):
    """Exact search by torch; needs nothing beyond torch on a GPU either."""

    module = "torch"

    def _build(self, vectors):
        torch = self.library()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._vectors = torch.tensor(vectors, device=self._device)

    def _search(self, queries, k):
        torch = self.library()
        rows = max(1, BLOCK // self.count)
        with torch.inference_mode():
            blocks = torch.as_tensor(queries).split(rows)
            found = [torch.topk(block.to(self._device) @ self._vectors.T, k).indices.cpu() for block in blocks]
        return torch.cat(found).numpy()

    def _write(self, path):
        with path.open("wb") as file:
            np.save(file, self._vectors.cpu().numpy(), allow_pickle=False)

    def _read(self, path):
        self._build(np.load(path, allow_pickle=False))

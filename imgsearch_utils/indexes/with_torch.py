"""Exact search by matrix product and top-k in blocks, on the GPU where there is one."""

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import register

BLOCK = 2**24  # scores held at once


@register("torch")
class TorchExact(Index):
    """Exact search by torch; needs nothing beyond torch on a GPU either."""

    module = "torch"

    def _build(self, vectors):
        torch = self.library()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._vectors = torch.tensor(vectors, device=self._device)

    def _add(self, vectors):
        torch = self.library()
        self._vectors = torch.cat([self._vectors, torch.tensor(vectors, device=self._device)])

    def _search(self, queries, k, allowed=None):
        torch = self.library()
        found_ids = []
        with torch.inference_mode():
            for block in torch.as_tensor(queries).split(max(1, BLOCK // self.count)):
                scores = block.to(self._device) @ self._vectors.T
                if allowed is not None:
                    scores[:, ~torch.as_tensor(allowed, device=self._device)] = -torch.inf
                best = torch.topk(scores, k)
                found_ids.append(best.indices.masked_fill(best.values == -torch.inf, -1).cpu())
        return torch.cat(found_ids).numpy()

    def _vectors_added(self):
        return self._vectors.cpu().numpy()

"""Two rankings that need no network, which an encoder or a head has to beat: by colour, and at
random.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from imgsearch_utils.images import Collection, Embeddings, Images, open_image
from imgsearch_utils.learning.model import Model

RANDOM, COLOURS = "random ranking", "colour histogram"
BINS = (8, 4, 4)  # of hue, saturation and value
WIDTH = 64  # of the random vectors


def colour_histograms(collection: Collection, names: Sequence[str]) -> np.ndarray:
    """Square roots of the shares of each colour in a picture, (n, 128): their product is the
    Bhattacharyya coefficient.

    Hue, saturation and value in ``BINS`` (Swain & Ballard, Color Indexing, IJCV 7, 1991).
    """
    rows = []
    for name in names:
        small = open_image(collection.path(name)).resize((64, 64), Image.Resampling.BILINEAR)
        counts, _ = np.histogramdd(
            np.asarray(small.convert("HSV")).reshape(-1, 3), BINS, [(0, 256)] * 3
        )
        rows.append(np.sqrt(counts.ravel() / counts.sum()))
    return np.array(rows)


def baselines(images: Images, collection: Collection, seed: int) -> dict[str, Images]:
    """The same images with vectors that rank them by colour (where there are pictures), and at
    random.
    """
    vectors = {RANDOM: np.random.default_rng(seed).normal(size=(len(images), WIDTH))}
    if collection.folder is not None:
        vectors = {COLOURS: colour_histograms(collection, images.names)} | vectors
    return {name: with_vectors(images, name, rows) for name, rows in vectors.items()}


def rankings(
    models: dict[str, Model], images: Images, collection: Collection, seed: int
) -> dict[str, tuple[Images, Model]]:
    """What ``relevance.compare_rankings`` compares: the images ranked by each model, and by the
    baselines.
    """
    by_models = {name: (images, model) for name, model in models.items()}
    others = baselines(images, collection, seed)
    return by_models | {name: (other, Model()) for name, other in others.items()}


def with_vectors(images: Images, name: str, vectors: np.ndarray) -> Images:
    """The same images with other vectors (n, d), in the table's order."""
    return Images(
        images.table, Embeddings(images.names, np.asarray(vectors, np.float32), {"encoder": name})
    )

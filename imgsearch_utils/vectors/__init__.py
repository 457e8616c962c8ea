"""In: pictures, or vectors made elsewhere. Out: one vector an image by a frozen encoder, kept with what made it.

``Images`` holds the study's images with their classes, groups, sides and vectors: the other rooms pass it on.
"""

from imgsearch_utils.vectors.embeddings import Embeddings
from imgsearch_utils.vectors.encoder import Encoder
from imgsearch_utils.vectors.images import Images

__all__ = ["Embeddings", "Encoder", "Images"]

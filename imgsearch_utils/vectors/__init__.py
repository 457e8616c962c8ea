"""In: pictures, or vectors made elsewhere. Out: one vector an image by a frozen encoder, kept with what made it.

``Images`` holds the study's images with their classes, groups, sides and vectors: the other rooms pass it on.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={
    "embeddings": ["Embeddings"],
    "encoder": ["Encoder"],
    "images": ["Images"],
})

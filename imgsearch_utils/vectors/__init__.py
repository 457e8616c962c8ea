"""In: pictures, or vectors made elsewhere. Out: one vector an image by a frozen encoder, kept with
what made it.

``Images`` holds the study's images with their classes, groups, sides and vectors: the other rooms
pass it on. Also who is near whom, and which images are nearly the same picture."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "duplicates": ["SAME_PICTURE", "near_duplicate_groups"],
        "embeddings": ["Embeddings"],
        "encoder": ["Encoder"],
        "images": ["Images"],
    },
)

"""In: a folder of pictures, or of vectors with labels. Out: which images there are, decoded when
they are asked for.

Also settings for a folder of one's own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "collection": ["Collection", "open_collection", "read_collection", "thumbnails"],
        "decoding": ["open_image", "side_by_side"],
    },
)

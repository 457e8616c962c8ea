"""In: a folder of pictures, or of vectors with labels. Out: which images there are, with their
classes, near-duplicate groups, splits and vectors (``Images``).

Pictures are decoded here, vectors lie on disk here, and labels beside them are asked by SQL.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "collection": ["Collection", "open_collection", "read_collection", "thumbnails"],
        "decoding": ["open_image", "side_by_side"],
        "embeddings": ["Embeddings"],
        "near_duplicates": ["SAME_PICTURE", "near_duplicate_groups"],
        "study_images": ["Images"],
    },
)

"""In: a folder of pictures, or of vectors with labels. Out: which images there are, decoded when they are asked for.

Also which of them are nearly the same picture, and settings for a folder of one's own.
"""

from imgsearch_utils.pictures.collection import Collection, open_collection, read_collection, thumbnails
from imgsearch_utils.pictures.decoding import open_image, side_by_side
from imgsearch_utils.pictures.duplicates import SAME_PICTURE, near_duplicate_groups

__all__ = ["SAME_PICTURE", "Collection", "near_duplicate_groups", "open_collection", "open_image", "read_collection",
           "side_by_side",
           "thumbnails"]

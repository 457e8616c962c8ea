"""In: a run, and a picture, words or an image's name. Out: the most similar images, with a calibrated P(similar).

Also a picture's class, and scores of any pairs.
"""

from imgsearch_utils.search.searcher import Searcher, search

__all__ = ["Searcher", "search"]

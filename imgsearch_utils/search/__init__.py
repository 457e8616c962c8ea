"""In: a run, and a picture, words or an image's name. Out: the most similar images, with a
calibrated P(similar).

Also a picture's class, and scores of any pairs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"searcher": ["Searcher", "search"]}
)

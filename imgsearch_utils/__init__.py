"""Teach an image search engine what you mean by "similar"."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """``imgsearch_utils.search(picture)``, loaded when it is first asked for: it brings the encoders along."""
    if name == "search":
        from imgsearch_utils.searcher import search

        return search
    raise AttributeError(f"module imgsearch_utils has no attribute {name}")

"""In: a run, and a person in front of a screen, or a program that asks over HTTP. Out: grades and votes in the journal.

Each page is a module of JavaScript with its .css. A widget shows it in JupyterLab, a server as a page of its own; both
talk to the same Python, `Tagging` or `Searching`.
"""

import importlib

_HOME = {"SearchPage": "widgets", "Tagger": "widgets", "contact_sheet": "tagger", "static_page": "search_page"}
__all__ = list(_HOME)


def __getattr__(name: str):
    """Import on first use: a server needs no widgets, and its page is to be there in a moment."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

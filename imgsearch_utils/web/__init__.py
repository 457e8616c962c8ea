"""In: a run, and a person in front of a screen, or a program that asks over HTTP. Out: grades and
votes in the journal.

Each page is a module of JavaScript with its .css. A widget shows it in JupyterLab, a server as a
page of its own; both talk to the same Python, `Tagging`, `Searching` or `Mapped`."""

import lazy_loader  # a server needs no widgets, and its page is to be there in a moment

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "search_page": ["static_page"],
        "tagging_page": ["contact_sheet"],
        "widgets": ["MapPage", "SearchPage", "Tagger", "Teacher"],
    },
)

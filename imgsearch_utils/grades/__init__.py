"""In: what people, files or oracles say of pairs. Out: one current grade a pair, from a journal
that loses nothing.

Also how far the annotators agree.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "journal": ["Journal"],
        "pairs": ["read_pairs", "write_pairs"],
        "usable_grades": ["graded_pairs"],
    },
)

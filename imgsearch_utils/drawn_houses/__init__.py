"""The embedded data set: drawn houses whose attributes answer the nine questions of the rubric."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attributes": ["HOUSE_TYPES", "QUESTIONS", "grade_pairs", "sample_houses"],
        "drawing": ["draw_house", "write_houses"],
    },
)

"""In: graded pairs and the encoder's vectors. Out: a head whose cosines follow the grades.

And its calibration, and what both are worth on pairs that the head did not learn from.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={
    "heads": ["HEADS", "Head", "load_head"],
    "losses": ["LOSSES"],
    "model": ["Model", "load_models", "model_in_use"],
    "training": ["train_head"],
})

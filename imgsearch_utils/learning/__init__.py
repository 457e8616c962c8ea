"""In: graded pairs and the encoder's vectors. Out: the model that search uses.

Candidates are trained, judged on images that they did not see, chosen between, calibrated, and
measured."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "heads": ["HEADS", "Head", "Recipe", "load_head"],
        "learner": ["CANDIDATES", "learn"],
        "losses": ["LOSSES"],
        "model": ["Model", "load_models", "model_in_use"],
        "head_training": ["train_head"],
    },
)

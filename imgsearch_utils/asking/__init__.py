"""In: the train images, a model, the pairs graded so far. Out: the pairs to ask next.

Also grades worth a second look, and whether more grades are worth while.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "choice": ["automatic_zeros", "choose_pairs", "redrafted"],
        "pool": ["Pool"],
        "strategies": ["COLD", "STRATEGIES", "first_strategy", "usual_strategy"],
    },
)

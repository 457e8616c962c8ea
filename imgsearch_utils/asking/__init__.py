"""In: the train images, a model, the pairs graded so far. Out: the pairs to ask next.

Also grades worth a second look, and whether more grades are worth while.
"""

from imgsearch_utils.asking.choice import automatic_zeros, choose_pairs
from imgsearch_utils.asking.pool import Pool
from imgsearch_utils.asking.strategies import COLD, STRATEGIES

__all__ = ["COLD", "STRATEGIES", "Pool", "automatic_zeros", "choose_pairs"]

"""In: graded pairs and the encoder's vectors. Out: a head whose cosines follow the grades.

And its calibration, and what both are worth on pairs that the head did not learn from.
"""

from imgsearch_utils.learning.heads import HEADS, Head, load_head
from imgsearch_utils.learning.losses import LOSSES
from imgsearch_utils.learning.model import Model, load_models, model_in_use
from imgsearch_utils.learning.training import train_head

__all__ = ["HEADS", "LOSSES", "Head", "Model", "load_head", "load_models", "model_in_use", "train_head"]

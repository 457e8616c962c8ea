"""What the drawn houses add to the core: pictures to begin with, and an oracle that grades them."""

import numpy as np
import pandas as pd

from imgsearch_utils.drawn_houses.attributes import grade_pairs
from imgsearch_utils.drawn_houses.drawing import write_houses
from imgsearch_utils.grades.oracles import ORACLES
from imgsearch_utils.images.collection import SOURCES
from imgsearch_utils.workspace import DRAWN

SOURCES.register(DRAWN)(write_houses)


@ORACLES.register("rubric")
def rubric(pairs: pd.DataFrame, known: pd.DataFrame) -> np.ndarray:
    """Grades by the study's nine questions, read off the drawn houses' attributes."""
    return grade_pairs(known, pairs)

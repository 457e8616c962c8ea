"""The embedded data set: drawn houses whose attributes answer the nine questions of the rubric."""

from imgsearch_utils.drawn_houses.attributes import HOUSE_TYPES, QUESTIONS, grade_pairs, sample_houses
from imgsearch_utils.drawn_houses.drawing import draw_house, write_houses

__all__ = ["HOUSE_TYPES", "QUESTIONS", "draw_house", "grade_pairs", "sample_houses", "write_houses"]

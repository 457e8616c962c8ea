"""In: what people, files or oracles say of pairs. Out: one current grade a pair, from a journal that loses nothing.

Also how far the annotators agree.
"""

from imgsearch_utils.labels.graded import graded_pairs
from imgsearch_utils.labels.journal import Journal
from imgsearch_utils.labels.pairs import read_pairs, write_pairs

__all__ = ["Journal", "graded_pairs", "read_pairs", "write_pairs"]

"""In: vectors, and the settings of some indexes. Out: what each finds and costs at every setting, and the one to take.

Measured as ann-benchmarks and VIBE do.
"""

from imgsearch_utils.neighbours.choose import pareto, recommend, recommend_by_size
from imgsearch_utils.neighbours.compare import (
    compare_indexes,
    distances_of,
    exact_neighbours,
    hold_out,
    points_of,
    recall_of,
    time_singles,
)
from imgsearch_utils.neighbours.data import drawn_like, read_hdf5, write_hdf5

__all__ = [
    "compare_indexes",
    "distances_of",
    "drawn_like",
    "exact_neighbours",
    "hold_out",
    "pareto",
    "points_of",
    "read_hdf5",
    "recall_of",
    "recommend",
    "recommend_by_size",
    "time_singles",
    "write_hdf5",
]

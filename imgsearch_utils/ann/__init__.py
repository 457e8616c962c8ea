"""Comparing nearest-neighbour indexes, and choosing one: what notebook 03 calls."""

from .choose import pareto, recommend, recommend_by_size, relevance_lost
from .compare import compare_indexes, distances_of, exact_neighbours, hold_out, points_of, recall_of, time_singles
from .data import drawn_like, read_hdf5, write_hdf5

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
    "relevance_lost",
    "time_singles",
    "write_hdf5",
]

"""In: vectors, and the settings of some indexes. Out: what each finds and costs at every setting,
and the one to take.

Measured as ann-benchmarks and VIBE do.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "choose": ["pareto", "recommend", "recommend_by_size"],
        "compare": [
            "compare_filtered",
            "compare_indexes",
            "distances_of",
            "exact_neighbours",
            "hold_out",
            "points_of",
            "recall_of",
            "time_singles",
        ],
        "data": ["drawn_like", "read_hdf5", "write_hdf5"],
    },
)

"""In: unit vectors, and the name of an index. Out: the ids of the vectors nearest to each query;
what several indexes find and cost, and which to take.

Build arguments stand apart from query arguments, one contract holds for all back ends, and they are
compared as ann-benchmarks and VIBE do.
"""

import lazy_loader

from imgsearch_utils.indexes import with_annoy, with_faiss, with_hnswlib, with_torch  # noqa: F401  each registers its own
from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_files import (
    IndexFileError,
    fingerprint,
    is_made_of,
    load,
    made_of,
)
from imgsearch_utils.indexes.index_names import (
    INDEXES,
    MissingPackage,
    Unreachable,
    arguments_of,
    check_arguments,
    find,
    register,
)
from imgsearch_utils.indexes.scan import Scan, among

# comparing needs libraries that searching does not
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "drawn_vectors": ["drawn_like", "read_hdf5", "write_hdf5"],
        "index_choice": ["pareto", "recommend", "recommend_by_size"],
        "index_comparison": [
            "compare_filtered",
            "compare_indexes",
            "distances_of",
            "exact_neighbours",
            "hold_out",
            "points_of",
            "recall_of",
            "time_singles",
        ],
    },
)
__all__ = [
    "INDEXES",
    "Index",
    "IndexFileError",
    "MissingPackage",
    "Scan",
    "Unreachable",
    "among",
    "arguments_of",
    "check_arguments",
    "find",
    "fingerprint",
    "is_made_of",
    "load",
    "made_of",
    "register",
]

INDEXES.load_wings()

"""In: unit vectors, and the name of an index. Out: the ids of the vectors nearest to each query;
what several indexes find and cost, and which to take.

Build arguments stand apart from query arguments, one contract holds for all back ends, and they are
compared as ann-benchmarks and VIBE do.
"""

from imgsearch_utils.indexes import (  # noqa: F401  each registers its own
    with_annoy,
    with_faiss,
    with_hnswlib,
    with_torch,
)
from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.drawn_vectors import drawn_like, read_hdf5, write_hdf5
from imgsearch_utils.indexes.index_choice import pareto, recommend, recommend_by_size
from imgsearch_utils.indexes.index_comparison import (
    compare_filtered,
    compare_indexes,
    distances_of,
    exact_neighbours,
    hold_out,
    points_of,
    recall_of,
    time_singles,
)
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
    "compare_filtered",
    "compare_indexes",
    "distances_of",
    "drawn_like",
    "exact_neighbours",
    "find",
    "fingerprint",
    "hold_out",
    "is_made_of",
    "load",
    "made_of",
    "pareto",
    "points_of",
    "read_hdf5",
    "recall_of",
    "recommend",
    "recommend_by_size",
    "register",
    "time_singles",
    "write_hdf5",
]

INDEXES.load_wings()

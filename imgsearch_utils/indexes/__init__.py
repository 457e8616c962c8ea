"""In: unit vectors, and the name of an index. Out: the ids of the vectors nearest to each query.

Build arguments stand apart from query arguments, and one contract holds for all back ends.
"""

from imgsearch_utils.indexes import (  # noqa: F401  each registers its own
    with_annoy,
    with_faiss,
    with_hnswlib,
    with_lancedb,
    with_milvus,
    with_pgvector,
    with_pynndescent,
    with_scann,
    with_torch,
    with_usearch,
)
from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.files import IndexFileError, fingerprint, is_made_of, load, made_of
from imgsearch_utils.indexes.registry import (
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
    "find",
    "fingerprint",
    "is_made_of",
    "load",
    "made_of",
    "register",
]

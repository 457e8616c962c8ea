"""Nearest-neighbour indexes by name: build arguments apart from query arguments, one contract for all."""

from . import with_annoy, with_faiss, with_hnswlib, with_milvus, with_pynndescent, with_torch, with_usearch  # noqa: F401  each registers its own
from .base import Index, normalised
from .files import IndexFileError, fingerprint, load
from .registry import INDEXES, MissingPackage, arguments_of, check_arguments, find, register

__all__ = [
    "INDEXES",
    "Index",
    "IndexFileError",
    "MissingPackage",
    "arguments_of",
    "check_arguments",
    "find",
    "fingerprint",
    "load",
    "normalised",
    "register",
]

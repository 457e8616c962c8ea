"""In: unit vectors. Out: their nearest, by engines beyond the core: graphs, databases, servers.

A wing: ``INDEXES.find`` imports it by entry point, and each module registers its own.
"""

from imgsearch_utils.engines import (  # noqa: F401  each registers its own
    with_lancedb,
    with_milvus,
    with_pgvector,
    with_pynndescent,
    with_scann,
    with_usearch,
)

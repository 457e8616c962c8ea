"""Vectors that come in Parquet files, and what is said of each."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.shards.samples import cells_of, schema_of
from imgsearch_utils.workspace import atomic_path

# what a vector may be named by
NAMES = ("file_label", "image", "image_path", "path", "name", "key", "id", "url")
ROWS = 4096  # of a shard that are held at once


def unpack_vectors(shards: Sequence[Path], file: Path, progress: Callable = iter) -> pd.DataFrame:
    """Write the vectors of Parquet files to one ``.npy`` file, float32, and return what is said of
    each, a row each.

    The first column of lists holds the vectors; the first column of ``NAMES`` that is there names
    them (else their place does), and is `file_label` of the table."""
    from pyarrow import parquet

    schema = schema_of(shards[0])
    listed = [field.name for field in schema if _is_list(field.type)]
    if not listed:
        raise ValueError(
            f"{shards[0]}: no column holds pictures or vectors: {', '.join(schema.names)}"
        )
    named = next((name for name in NAMES if name in schema.names), "")
    rows, at, out, tables = (
        sum(parquet.read_metadata(shard).num_rows for shard in shards),
        0,
        None,
        [],
    )
    if not rows:
        raise ValueError(f"{shards[0]}: no rows")
    with atomic_path(file) as partial:
        for shard in progress(shards):
            with parquet.ParquetFile(shard) as opened:
                for batch in opened.iter_batches(ROWS):
                    values = _numbers(batch.column(listed[0]))
                    if values is None or out is not None and values.shape[1] != out.shape[1]:
                        raise ValueError(
                            f"{shard}: the column {listed[0]!r} does not hold one number of "
                            "numbers in "
                            "each row"
                        )
                    if out is None:
                        out = np.lib.format.open_memmap(
                            partial, "w+", np.float32, (rows, values.shape[1])
                        )
                    out[at : at + len(values)] = values
                    said = batch.drop_columns(
                        [name for name in schema.names if name in listed]
                    ).to_pandas()
                    label = (
                        said.pop(named).astype(str)
                        if named
                        else [f"{n:09}" for n in range(at, at + len(values))]
                    )
                    cells = [cells_of(row) for row in said.to_dict("records")]
                    tables.append(pd.DataFrame(cells, dtype=object).assign(file_label=list(label)))
                    at += len(values)
        out.flush()
        del out
        table = pd.concat(tables).fillna("")
        twice = table.file_label[table.file_label.duplicated()]
        if len(twice):
            raise ValueError(
                f"{named}: {twice.iloc[0]!r} stands more than once; the names of vectors must "
                "differ"
            )
    return table[["file_label", *table.columns.drop("file_label")]]


def _is_list(kind):
    import pyarrow as pa

    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _numbers(column):
    """A column of lists as an array (n, dim); None where they are not of one length, or hold
    anything but numbers.
    """
    try:
        values = np.array(column.to_pylist(), np.float32)
    except (ValueError, TypeError, KeyError):
        return None
    return values if values.ndim == 2 else None

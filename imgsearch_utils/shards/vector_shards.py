"""Vectors that come in Parquet files, and what is said of each."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import parquet

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
    schema = schema_of(shards[0])
    lists = [field.name for field in schema if "list<" in str(field.type)]
    if not lists:
        raise ValueError(
            f"{shards[0]}: no column holds pictures or vectors: {', '.join(schema.names)}"
        )
    name_column = next((name for name in NAMES if name in schema.names), "")
    rows = sum(parquet.read_metadata(shard).num_rows for shard in shards)
    if not rows:
        raise ValueError(f"{shards[0]}: no rows")
    at, out, tables = 0, None, []
    with atomic_path(file) as partial:
        for shard in progress(shards):
            for batch in parquet.ParquetFile(shard).iter_batches(ROWS):
                values = _numbers(batch[lists[0]])
                if out is None:
                    shape = (rows, values.shape[-1])
                    out = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
                if values.shape != (len(batch), out.shape[1]):
                    raise ValueError(
                        f"{shard}: the column {lists[0]!r} does not hold one number of numbers in "
                        "each row"
                    )
                out[at : at + len(batch)] = values
                said = batch.drop_columns(lists).to_pylist()
                labels = (
                    [str(row.pop(name_column)) for row in said]
                    if name_column
                    else [f"{n:09}" for n in range(at, at + len(batch))]
                )
                tables.append(pd.DataFrame(map(cells_of, said)).assign(file_label=labels))
                at += len(batch)
        out.flush()
        table = pd.concat(tables).fillna("")
        twice = table.file_label[table.file_label.duplicated()]
        if len(twice):
            raise ValueError(
                f"{name_column}: {twice.iloc[0]!r} stands more than once; the names of vectors "
                "must "
                "differ"
            )
    return table[["file_label", *table.columns.drop("file_label")]]


def _numbers(column) -> np.ndarray:
    """A column of lists as an array (n, dim); (1,) where they are not of one length, or hold
    anything but numbers.
    """
    try:
        return np.array(column.to_pylist(), np.float32)
    except (ValueError, TypeError, KeyError):
        return np.zeros(1)

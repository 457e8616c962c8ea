"""Vectors that come in Parquet files, and what is said of each."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from imgsearch_utils.shards.samples import FREE, TIMES, cells_of, schema_of
from imgsearch_utils.study import listed
from imgsearch_utils.workspace import atomic_path

# what a vector may be named by
NAMES = ("file_label", "image", "image_path", "path", "name", "key", "id", "url")
HELD = 64_000_000  # bytes of a shard that are held at once


def unpack_vectors(
    shards: Sequence[Path], file: Path, progress: Callable = iter, column: str = ""
) -> tuple[pd.DataFrame, list[str]]:
    """Write the vectors of Parquet files to one ``.npy`` file, float32, and return what is said of
    each, a row each, and notes on what was not read.

    The first column of ``NAMES`` that is there names them (else their place does), and is
    `file_label` of the table; its last column `shard` is the place of each one's shard.

    column : that holds the vectors, where several columns hold lists of numbers

    Raises
    ------
    ValueError
        where there are several such columns and none is named; rows of other lengths; names that
        stand twice; vectors that are far larger than their file
    """
    schema = schema_of(shards[0])
    chosen = _chosen(shards[0], schema, column)
    lists = [field.name for field in schema if _is_list(field.type)]
    text = [each.name for each in schema if _names(each.type)]
    name_column = next((name for name in NAMES if name in text), "")
    rows = sum(parquet.read_metadata(shard).num_rows for shard in shards)
    if not rows:
        raise ValueError(f"{shards[0]}: no rows")
    at, out, tables = 0, None, []
    with atomic_path(file) as partial:
        for number, shard in enumerate(progress(shards)):
            dim = out.shape[1] if out is not None else _length(shard, chosen)
            size = shard.stat().st_size
            if 4 * dim * parquet.read_metadata(shard).num_rows > FREE + TIMES * size:
                raise ValueError(
                    f"{shard}: its vectors take more than {(FREE + TIMES * size) // 10**6:,} MB, "
                    f"and the file {size:,} bytes; it is no file of vectors"
                )
            _check_lengths(shard, chosen, dim)
            for batch in parquet.ParquetFile(shard).iter_batches(max(1, HELD // (32 * dim))):
                values = _numbers(batch[chosen])
                if out is None:
                    out = np.lib.format.open_memmap(partial, "w+", np.float32, (rows, dim))
                if values.shape != (len(batch), dim):
                    raise _ragged(shard, chosen)
                out[at : at + len(batch)] = values
                said = batch.drop_columns(lists).to_pylist()
                labels = (
                    [str(row.pop(name_column)) for row in said]
                    if name_column
                    else [f"{n:09}" for n in range(at, at + len(batch))]
                )
                cells = pd.DataFrame(map(cells_of, said), index=range(len(batch)))
                tables.append(cells.assign(file_label=labels, shard=number))
                at += len(batch)
        out.flush()
        table = pd.concat(tables, ignore_index=True).fillna("")
        twice = table.file_label[table.file_label.duplicated()]
        if len(twice):
            raise ValueError(
                f"{name_column}: {twice.iloc[0]!r} stands more than once; the names of vectors "
                "must differ"
            )
    unread = [name for name in lists if name != chosen]
    notes = [f"the column {chosen} was taken for the vectors"]
    notes += [f"not in labels.csv, as no cell holds it: {listed(unread)}"] if unread else []
    others = [name for name in table if name not in ("file_label", "shard")]
    return table[["file_label", *others, "shard"]], notes


def _names(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _chosen(shard: Path, schema: pa.Schema, column: str) -> str:
    """The column that holds the vectors."""
    numbers = [
        field.name
        for field in schema
        if _is_list(field.type)
        and (
            pa.types.is_floating(field.type.value_type)
            or pa.types.is_integer(field.type.value_type)
        )
    ]
    if column and column not in numbers:
        raise ValueError(
            f"{shard}: the column {column!r} holds no lists of numbers; these do: "
            f"{listed(numbers) or 'none'}"
        )
    if not numbers:
        raise ValueError(f"{shard}: no column holds pictures or vectors: {listed(schema.names)}")
    if len(numbers) > 1 and not column:
        lengths = [f"{name} ({_length(shard, name)} numbers)" for name in numbers]
        raise ValueError(
            f"{shard}: several columns hold lists of numbers, {listed(lengths)}, and nothing is "
            f"guessed: name the one of the vectors, --column {numbers[-1]}"
        )
    return column or numbers[0]


def _length(shard: Path, column: str) -> int:
    """How many numbers the first list of a column has."""
    for batch in parquet.ParquetFile(shard).iter_batches(1, columns=[column]):
        return len(batch[column][0]) if batch[column][0].is_valid else 0
    return 0


def _check_lengths(shard: Path, column: str, dim: int) -> None:
    """Refuse a shard whose lists are not all so long, by what it says of itself, before it is
    read.
    """
    about = parquet.read_metadata(shard)
    for group in map(about.row_group, range(about.num_row_groups)):
        for each in map(group.column, range(group.num_columns)):
            if each.path_in_schema.split(".")[0] != column:
                continue
            if not dim or each.num_values != group.num_rows * dim:
                raise _ragged(shard, column)


def _ragged(shard: Path, column: str) -> ValueError:
    return ValueError(
        f"{shard}: the column {column!r} does not hold one number of numbers in each row"
    )


def _numbers(column) -> np.ndarray:
    """A column of lists as an array (n, dim); (1,) where they are not of one length, or hold
    anything but numbers.
    """
    try:
        return np.array(column.to_pylist(), np.float32)
    except (ValueError, TypeError, KeyError):
        return np.zeros(1)

"""A Parquet file -> `RawSheet`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedhealth.data.readers.raw_sheet import RawSheet, damaged, number_rows

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(content: bytes, path: Path) -> RawSheet:
    """All columns; categories are their texts, and dates are ISO text."""
    with damaged(path, "a Parquet file"):
        import pyarrow as pa
        from pyarrow import parquet

        table = parquet.ParquetFile(pa.BufferReader(content)).read()
        columns = [_cells(column) for column in table.columns]
    return RawSheet([name.strip() for name in table.column_names], number_rows(columns))


def _cells(column: "pa.ChunkedArray[Any]") -> list[Any]:
    """The values of a column; numbers keep their precision, so that a 5.2 of four bytes is not 5.199999809265137."""
    import pyarrow as pa

    if pa.types.is_temporal(column.type):
        column = column.cast(pa.string())
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        column = column.cast(pa.string())
    narrow = {pa.float16(): np.float16, pa.float32(): np.float32}.get(column.type)
    values: list[Any] = column.to_pylist()
    return [None if value is None else narrow(value) for value in values] if narrow else values

"""Tables as files of each format, by the formats' real writers."""

import csv
import io
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

Columns = Mapping[str, list[Any]]
"""Name -> one value for each patient; None is missing."""


def to_csv(columns: Mapping[str, list[str]]) -> bytes:
    """A CSV of texts."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return stream.getvalue().encode()


def to_excel(columns: Columns) -> bytes:
    """A workbook with one sheet."""
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(list(columns))
    for row in zip(*columns.values(), strict=True):
        book.active.append(row)
    return save(book)


def save(book: Any) -> bytes:
    """The bytes of an openpyxl workbook."""
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def to_parquet(columns: Columns) -> bytes:
    """A Parquet file."""
    stream = io.BytesIO()
    parquet.write_table(pa.table(dict(columns)), stream)
    return stream.getvalue()


def to_frame(columns: Columns) -> pd.DataFrame:
    """A frame with NaN for a missing number and an empty text for a missing text."""
    return pd.DataFrame({name: _series(values) for name, values in columns.items()})


def _series(values: list[Any]) -> "pd.Series[Any]":
    if any(isinstance(value, str) for value in values):
        return pd.Series([value or "" for value in values])
    if any(isinstance(value, date) for value in values):
        return pd.Series(values, dtype=object)
    return pd.Series([np.nan if value is None else value for value in values], dtype=np.float64)


def written(write: Callable[..., None], columns: Columns | pd.DataFrame, **options: Any) -> bytes:
    """The bytes that one of pyreadstat's writers, which need a path, gives for a table."""
    frame = columns if isinstance(columns, pd.DataFrame) else to_frame(columns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        write(frame, str(path), **options)
        return path.read_bytes()


def to_spss(columns: Columns, **options: Any) -> bytes:
    """An SPSS file."""
    import pyreadstat

    return written(pyreadstat.write_sav, columns, **options)


def to_stata(columns: Columns, **options: Any) -> bytes:
    """A Stata file."""
    import pyreadstat

    return written(pyreadstat.write_dta, columns, **options)


def to_transport(columns: Columns, version: int = 5) -> bytes:
    """A SAS transport file with one data set."""
    import pyreadstat

    return written(pyreadstat.write_xport, columns, file_format_version=version, table_name="PATIENTS")


WRITERS: dict[str, Callable[[Columns], bytes]] = {
    "p.xlsx": to_excel,
    "p.parquet": to_parquet,
    "p.sav": to_spss,
    "p.dta": to_stata,
    "p.xpt": to_transport,
}
"""A file's name -> what writes it."""


def twenty_patients() -> dict[str, list[Any]]:
    """Valid patients of the heart disease schema, ill and healthy, with missing values."""
    count = 20
    return {
        "age": [40.0 + patient for patient in range(count)],
        "sex": [float(patient % 2) for patient in range(count)],
        "cp": [1.0 + patient % 4 for patient in range(count)],
        "trestbps": [120.0 + patient for patient in range(count)],
        "chol": [None, *(200.5 + patient for patient in range(count - 1))],
        "fbs": [float(patient % 3 == 0) for patient in range(count)],
        "restecg": [float(patient % 3) for patient in range(count)],
        "thalach": [150.0 - patient for patient in range(count)],
        "exang": [float(patient % 2) for patient in range(count)],
        "oldpeak": [patient / 10 for patient in range(count)],
        "slope": [1.0 + patient % 3 for patient in range(count)],
        "ca": [float(patient % 4) for patient in range(count - 1)] + [None],
        "thal": [(3.0, 6.0, 7.0)[patient % 3] for patient in range(count)],
        "target": [float(patient % 4 > 1) for patient in range(count)],
    }

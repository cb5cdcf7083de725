"""Parquet files as pandas and Arrow write them."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from fedhealth.common.errors import UsageError
from fedhealth.data.csv_table import Sheet
from fedhealth.data.readers.read_any import read_any
from fedhealth.data.schema_file import heart_disease

HEART = heart_disease()
FILE = Path("p.parquet")


def write(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(table, stream)
    return stream.getvalue()


def read(**columns: Any) -> Sheet:
    return read_any(write(pa.table(columns)), FILE, HEART)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([5.2, None, float("nan"), 63], pa.float32()), ["5.2", "", "", "63"]),
        (pa.array([0.5, None, -0.0, 63], pa.float16()), ["0.5", "", "0", "63"]),
        (pa.array([5.2, 1e-5, 1e16, float("inf")], pa.float64()), ["5.2", "0.00001", "10000000000000000", "inf"]),
        (pa.array([1, None, 2**60, 0], pa.int64()), ["1", "", str(2**60), "0"]),
        (pa.array([Decimal("5.20"), None, Decimal("200.00"), Decimal(0)]), ["5.2", "", "200", "0"]),
        (pa.array([True, None, False, True]), ["true", "", "false", "true"]),
        (pa.array(["male ", None, "", "female"]).dictionary_encode(), ["male", "", "", "female"]),
        (pa.array([b"63", None, b"", b"NA"]), ["63", "", "", "NA"]),
        (pa.array([date(2026, 2, 5)] * 4), ["2026-02-05"] * 4),
        (
            pa.array([datetime(2026, 2, 5, 10, tzinfo=UTC)] * 4, pa.timestamp("s", "UTC")),
            ["2026-02-05 10:00:00.000Z"] * 4,
        ),
        (pa.nulls(4), [""] * 4),
    ],
    ids=lambda values: str(values.type) if isinstance(values, pa.Array) else "",
)
def test_every_type_becomes_the_text_that_a_csv_would_have(values: Any, texts: list[str]) -> None:
    sheet = read(age=[1, 2, 3, 4], chol=values)
    assert [cells for _, cells in sheet.patients] == [[str(row), text] for row, text in enumerate(texts, start=1)]


def test_the_index_of_pandas_is_an_unknown_column_and_rows_count_from_2() -> None:
    stream = io.BytesIO()
    pd.DataFrame({"age": [63.0, 40.0], "sex": pd.Categorical(["male", "female"])}, index=[7, 9]).to_parquet(stream)
    sheet = read_any(stream.getvalue(), FILE, HEART)
    assert sheet.header == ["age", "sex", "__index_level_0__"]
    assert sheet.patients == [(2, ["63", "male", "7"]), (3, ["40", "female", "9"])]


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1 and no more PAR1", write(pa.table({"age": [1]}))[:-9]])
def test_a_damaged_file_is_one_line(content: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        read_any(content, FILE, HEART)
    line = str(caught.value)
    assert line.startswith("p.parquet: cannot be read as a Parquet file (")
    assert line.endswith("); export it again, or as a CSV")
    assert "\n" not in line

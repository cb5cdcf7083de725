"""Rows of the UCI files are parsed strictly: a table, or an error that names file, row and column."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import UsageError
from fedhealth.data.cell_words import NUMBER
from fedhealth.data.sources import uci
from fedhealth.data.sources.heart import COLUMN_NAMES, FEATURE_NAMES, FEATURES, LABEL
from tests.support.examples import examples
from tests.support.sources_fixtures import one_line

GOOD_ROW = "61,1,1,141,231,1,2,151,0,2.2,3,0,6,0"


def parse(text: str) -> pd.DataFrame:
    return uci.parse_uci_rows(text.encode(), "cleveland", "some.data")


def test_a_row_becomes_its_values():
    table = parse(GOOD_ROW)
    assert list(table.columns) == list(COLUMN_NAMES)
    assert table.iloc[0].tolist() == [61, 1, 1, 141, 231, 1, 2, 151, 0, 2.2, 3, 0, 6, 0, 0, "cleveland"]
    assert [str(kind) for kind in table.dtypes] == ["float64"] * 13 + ["int64", "int64", "str"]


@pytest.mark.parametrize("row", ["61,1,1,?,0,1,2,-9,0,.7,?,?,?,4", "61,1,1,0,-9,1,2,?,0,0.7,-9,?,-9.0,4"])
def test_every_missing_mark_becomes_nan(row):
    values = parse(row).iloc[0]
    assert [name for name in FEATURE_NAMES if math.isnan(values[name])] == [
        "trestbps",
        "chol",
        "thalach",
        "slope",
        "ca",
        "thal",
    ]
    assert values["oldpeak"] == 0.7
    assert (values["num"], values["target"]) == (4, 1)


def test_zero_is_a_value_where_it_is_no_missing_mark():
    values = parse("61,0,1,141,231,0,0,151,0,0,3,0,6,0").iloc[0]
    assert [values[name] for name in ("sex", "fbs", "restecg", "exang", "oldpeak", "ca")] == [0] * 6


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("61,1,1,141,231,1,2,151,0,2.2,3,0,6", "13 fields, expected 14"),
        (GOOD_ROW + ",0", "15 fields, expected 14"),
        (GOOD_ROW.replace("231", "many"), "chol is 'many', expected a number"),
        (GOOD_ROW.replace("231", "nan"), "chol is 'nan'"),
        (GOOD_ROW.replace("231", "inf"), "chol is 'inf'"),
        (GOOD_ROW.replace("231", "2_3"), "chol is '2_3'"),
        (GOOD_ROW.replace("231", ""), "chol is ''"),
        (GOOD_ROW.replace("231", "٢٣١"), "chol is"),
        (GOOD_ROW.replace("231", "1e999"), "chol is inf mg/dl, outside 50..700"),
        (GOOD_ROW.replace("231", "5.97"), "chol is 5.97 mg/dl, outside 50..700"),
        ("?" + GOOD_ROW[2:], "age is missing"),
        ("61,1,5" + GOOD_ROW[6:], "cp is 5, expected one of 1, 2, 3, 4"),
        (GOOD_ROW.replace(",3,0,6,", ",3,0.5,6,"), "ca is 0.5, expected one of 0, 1, 2, 3"),
        (GOOD_ROW.replace(",3,0,6,", ",3,0,4,"), "thal is 4, expected one of 3, 6, 7"),
        (GOOD_ROW[:-1] + "?", "num is missing"),
        (GOOD_ROW[:-1] + "5", "num is 5"),
    ],
)
def test_a_faulty_field_is_named_by_file_row_and_column(row, fault):
    with pytest.raises(UsageError) as error:
        parse(f"{GOOD_ROW}\n{row}\n")
    assert one_line(error).startswith("some.data: row 2: ")
    assert fault in str(error.value)


def test_every_fault_of_a_file_gets_a_line():
    with pytest.raises(UsageError) as error:
        parse("\n".join([GOOD_ROW[:-1] + "9"] * 25))
    assert len(str(error.value).splitlines()) == 21


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_refused(text):
    with pytest.raises(UsageError, match="no patients"):
        parse(text)


def test_a_byte_order_mark_and_crlf_change_nothing():
    content = b"\xef\xbb\xbf" + f"{GOOD_ROW}\r\n{GOOD_ROW}\r\n\r\n".encode()
    table = uci.parse_uci_rows(content, "va", "some.data")
    pd.testing.assert_frame_equal(table, uci.parse_uci_rows(f"{GOOD_ROW}\n{GOOD_ROW}\n".encode(), "va", "some.data"))


@given(st.binary(max_size=300))
def test_any_bytes_give_a_table_or_a_usage_error(content):
    try:
        table = uci.parse_uci_rows(content, "va", "some.data")
    except UsageError:
        return
    assert list(table.columns) == list(COLUMN_NAMES)


@settings(max_examples=examples(300))
@given(
    st.lists(
        st.one_of(st.sampled_from(["?", "-9", "0", "1", "3", "55", "120"]), st.text(max_size=4), st.floats().map(str)),
        min_size=13,
        max_size=15,
    )
)
def test_any_fields_give_values_in_range_or_a_usage_error(fields):
    try:
        table = parse(",".join(fields))
    except UsageError as error:
        assert "some.data" in str(error)
        return
    values = table.iloc[0]
    for column, text in zip((*FEATURES, LABEL), fields, strict=True):
        assert text.strip() == "?" or NUMBER.fullmatch(text.strip().strip('"'))
        value = values[column.name]
        assert math.isnan(value) or value in column.codes or column.minimum <= value <= column.maximum

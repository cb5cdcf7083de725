"""The separator is found from the header and must hold for all rows."""

from pathlib import Path

import pytest

from fedhealth.common.errors import DataError
from fedhealth.data.separators import describe_single_column, holds_several_values, show_cell, split_records
from fedhealth.data.sources.heart import HEART

FILE = Path("p.csv")
HEADER = "age,sex,cp"


def refusal(text: str) -> str:
    with pytest.raises(DataError) as caught:
        split_records(text, FILE, HEART)
    (line,) = caught.value.faults
    return line.removeprefix("p.csv: ")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_every_separator_is_found(separator: str) -> None:
    text = f"{HEADER}\n63,1,4\n\n".replace(",", separator)
    assert split_records(text, FILE, HEART) == [["age", "sex", "cp"], ["63", "1", "4"], []]


def test_the_names_decide_and_not_the_number_of_fields() -> None:
    text = "age;sex;note, or remark, or both, or none\n63;1;x,y,z,w\n"
    assert split_records(text, FILE, HEART)[1] == ["63", "1", "x,y,z,w"]


def test_the_line_for_excel_names_the_separator_and_is_no_row() -> None:
    assert split_records("sep=;\r\nage;sex\r\n63;1\r\n", FILE, HEART) == [["age", "sex"], ["63", "1"]]
    assert split_records('"sep=|"\nage|sex\n', FILE, HEART) == [["age", "sex"]]


def test_names_that_two_separators_split_equally_well_are_a_question() -> None:
    line = "its first line can be split by commas or by semicolons; save it with one separator"
    assert refusal("age,sex;cp\n1,2;3\n") == line
    assert refusal("a,b;c\n1,2;3\n") == line


@pytest.mark.parametrize("rows", ["63;1;4\n64;0;3\n", "63,1,4\n64;0;3\n65;0;3\n"])
def test_rows_with_another_separator_than_the_header_are_named(rows: str) -> None:
    line = refusal(f"{HEADER}\n{rows}")
    assert line.endswith("(and 1 more) is separated by semicolons, the header by commas; save it with one separator")


def test_a_separator_in_quotes_separates_nothing() -> None:
    assert split_records('age,sex,cp\n63,1,"4;5"\n', FILE, HEART)[1] == ["63", "1", "4;5"]


def test_broken_quotation_is_named_by_its_line() -> None:
    assert refusal('age,sex\n63,"') == "line 2: unexpected end of data; check the quotation marks up to this line"


@pytest.mark.parametrize(
    ("header", "start"),
    [
        ("age,sex,cp", "each of its lines is one text in quotation marks"),
        ("63,1,4", "each of its lines is one text in quotation marks"),
        ("age sex cp", "its columns are separated by blanks; save it with commas"),
        ("63.0 1.0 4.0", "has no header line and is separated by blanks; write commas"),
        ("Geachte heer", "is no table with a header line and commas"),
        ("63", "is no table with a header line and commas"),
    ],
)
def test_a_single_column_is_described_without_its_content(header: str, start: str) -> None:
    line = describe_single_column(HEART, header)
    assert line.startswith(start)
    assert "63" not in line
    assert "Geachte" not in line


def test_fourteen_values_separated_by_blanks_get_the_header_of_uci() -> None:
    line = describe_single_column(HEART, " ".join(["63"] * 14))
    assert line.endswith("age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,num")
    assert "if the columns are in the schema's order" in line


@pytest.mark.parametrize(
    ("text", "several"),
    [
        *[("1,5", False), ("high", False), ("63;1", True), ("63 1 4", True)],
        *[("2026-02-05", False), ("2026-02-05T10:30:00", False), ("2026-02-05 and 63", True)],
    ],
)
def test_a_cell_that_may_be_a_whole_row_is_known(text: str, several: bool) -> None:
    assert holds_several_values(text) is several
    assert show_cell(text) == ("several values" if several else text)

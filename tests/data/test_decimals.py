"""Decimal commas and points: the whole file decides, or one line asks."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import DataError
from fedhealth.data.csv_table import read_sheet
from fedhealth.data.decimals import read_decimals
from fedhealth.data.schema import Column
from fedhealth.data.schema_file import heart_disease
from tests.support.examples import examples

COLUMNS = {
    0: Column("oldpeak", "ST depression", "number", minimum=-8, maximum=10),
    1: Column("platelets", "platelets", "number", minimum=10, maximum=850_000),
}
"""Platelets may be 150 and 150,000; an ST depression cannot be in the thousands."""


def read(*rows: tuple[Any, Any], choice: Any = "auto") -> tuple[list[tuple[Any, ...]], list[str]]:
    numbered = [(row, list(cells)) for row, cells in enumerate(rows, start=2)]
    found, notes = read_decimals(numbered, COLUMNS, choice, Path("p.csv"))
    assert [row for row, _ in found] == [row for row, _ in numbered]
    return [tuple(cells) for _, cells in found], notes


def refusal(*rows: tuple[Any, Any], choice: Any = "auto") -> str:
    with pytest.raises(DataError) as caught:
        read(*rows, choice=choice)
    (line,) = caught.value.faults
    return line.removeprefix("p.csv: ")


def left_out(sign: str, count: str) -> list[str]:
    return [f'platelets: "{sign}" between thousands is left out (in {count})']


def test_commas_alone_are_decimal_commas_and_points_alone_decimal_points() -> None:
    assert read(("2,3", "200")) == ([("2.3", "200")], [])
    assert read(("2.3", "200")) == ([("2.3", "200")], [])
    assert read(("1,234", "200")) == ([("1.234", "200")], []), "1234 is no ST depression"
    assert read(("1.234", "200")) == ([("1.234", "200")], [])


def test_a_file_with_both_marks_stays_as_it_is() -> None:
    assert read(("2.3", "2,5")) == ([("2.3", "2,5")], [])
    assert read(("1.234", "2"), ("1,234", "2")) == ([("1.234", "2"), ("1,234", "2")], [])


@pytest.mark.parametrize(
    ("text", "comma", "point"), [("150.000", "150000", "150.000"), ("150,000", "150.000", "150000")]
)
def test_a_number_that_may_be_in_the_thousands_is_a_question_until_it_is_answered(
    text: str, comma: str, point: str
) -> None:
    rows = (("1", "2"), ("2", text))
    assert refusal(*rows) == (
        f"row 3: platelets is {text}, which is {comma} with a decimal comma and {point} with a decimal point; "
        "give --decimal comma or --decimal point"
    )
    assert read(*rows, choice="comma")[0][1] == ("2", comma)
    assert read(*rows, choice="point")[0][1] == ("2", point)
    assert read(*rows, choice="comma" if "." in text else "point")[1] == left_out(text[3], "1 cell")


def test_other_cells_of_the_file_decide_and_one_row_does_not() -> None:
    assert read(("2.3", "150.000")) == ([("2.3", "150.000")], []), "the same point is a decimal point elsewhere"
    assert read(("2,3", "150,000")) == ([("2.3", "150.000")], [])
    assert read(("1", "263.358,03"), ("2", "150.000")) == (
        [("1", "263358.03"), ("2", "150000")],
        left_out(".", "2 cells"),
    )
    assert read(("2.3", "1,150,000")) == ([("2.3", "1150000")], left_out(",", "1 cell"))
    assert refusal(("2,3", "150.000")).startswith("row 2: platelets is 150.000, which is 150000 with a decimal comma")


def test_numbers_with_the_other_mark_than_the_chosen_one_are_one_line_each() -> None:
    with pytest.raises(DataError) as caught:
        read(("2.3", "200"), ("2,3", "1.5e3"), choice="comma")
    assert caught.value.faults == [
        "p.csv: row 2: oldpeak is 2.3, which has no decimal comma; correct it or leave out --decimal",
        "p.csv: row 3: platelets is 1.5e3, which has no decimal comma; correct it or leave out --decimal",
    ]
    assert refusal(("2,3", "200"), choice="point").startswith("row 2: oldpeak is 2,3, which has no decimal point")
    assert read(("2.3", "1.5e3"), choice="point") == ([("2.3", "1.5e3")], [])


def test_only_text_is_judged_because_a_typed_number_has_no_mark() -> None:
    assert read((1.5, "2,5"), ("0,5", 150.125)) == ([(1.5, "2.5"), ("0.5", 150.125)], [])


def test_other_text_and_rows_that_end_early_stay_as_they_are() -> None:
    assert read(("see note 1,2", "1,2,3"), ("2,5", "1.2.3")) == ([("see note 1,2", "1,2,3"), ("2.5", "1.2.3")], [])
    assert read_decimals([(2, ["2,5"])], COLUMNS, "auto", Path("p.csv")) == ([(2, ["2.5"])], [])


def write(number: Decimal, mark: str, grouped: bool) -> str:
    text = f"{number:,f}" if grouped else f"{number:f}"
    return text if mark == "." else text.translate(str.maketrans(",.", ".,"))


@settings(max_examples=examples(500), deadline=None)
@given(
    numbers=st.lists(
        st.builds(lambda digits, shift: Decimal(digits).scaleb(-shift), st.integers(0, 10**8), st.integers(0, 4)),
        min_size=1,
        max_size=6,
    ),
    mark=st.sampled_from([",", "."]),
    grouped=st.booleans(),
)
def test_numbers_are_never_misread_whatever_their_marks(numbers: list[Decimal], mark: str, grouped: bool) -> None:
    """With the right choice every number is read; without one they are read, or left as they are, or a question."""
    rows = [("0", write(number, mark, grouped)) for number in numbers]
    found, _ = read(*rows, choice="comma" if mark == "," else "point")
    assert [Decimal(text) for _, text in found] == numbers
    try:
        found, _ = read(*rows)
    except DataError as error:
        assert len(error.faults) == 1
    else:
        assert all(Decimal(text) == number for (_, text), number in zip(found, numbers, strict=True))


def test_a_csv_is_read_so_in_the_columns_of_the_schema_only() -> None:
    content = b"age;oldpeak;hospital;note\n63;2,3;Ward 1,5;1,5\n40;0,5;1,5;x\n"
    sheet = read_sheet(content, Path("p.csv"), heart_disease())
    assert sheet.patients == [(2, ["63", "2.3", "Ward 1,5", "1,5"]), (3, ["40", "0.5", "1,5", "x"])]

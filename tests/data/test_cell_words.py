"""One cell as text -> a number."""

import math

import pytest

from fedhealth.data.cell_words import MISSING_MARKS, code_of, is_word, parse_cell
from fedhealth.data.schema import plain_words
from fedhealth.data.sources.heart import COLUMNS, HEART


@pytest.mark.parametrize("column", HEART.categories, ids=lambda column: column.name)
def test_every_meaning_of_a_code_is_a_word_for_it(column) -> None:
    for code, meaning in column.codes.items():
        assert parse_cell(column, meaning.upper()) == code
        assert code_of(column, f" {meaning} ") == str(code)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sex", "M", 1),
        ("sex", "female", 0),
        ("fbs", "TRUE", 1),
        ("exang", "No", 0),
        ("cp", "Non_Anginal", 3),
        ("cp", "ASY", 4),
        ("restecg", "ST-T abnormality", 1),
        ("slope", "Down", 3),
        ("thal", "reversable defect", 7),
        ("target", "Presence", 1),
        ("target", "absent", 0),
        ("chol", "233", 233),
        ("cp", "4.0", 4),
        ("oldpeak", ".7", 0.7),
    ],
)
def test_words_and_numbers_have_their_value(name: str, text: str, value: float) -> None:
    assert parse_cell(COLUMNS[name], text) == value


@pytest.mark.parametrize(("name", "text"), [("sex", "true"), ("chol", "normal"), ("slope", "m"), ("age", "two")])
def test_a_word_of_another_column_has_no_value(name: str, text: str) -> None:
    assert parse_cell(COLUMNS[name], text) == math.inf
    assert not is_word(COLUMNS[name], text)


@pytest.mark.parametrize("mark", ["", "?", "NA", "NaN", "N/A", "#N/A", "NULL", "None", "<NA>", ".", "-"])
@pytest.mark.parametrize("name", ["chol", "thal", "ca", "target"])
def test_marks_of_a_missing_value_are_missing_in_every_column(mark: str, name: str) -> None:
    assert math.isnan(parse_cell(COLUMNS[name], mark))


def test_no_word_is_a_mark_of_a_missing_value() -> None:
    words = {word for column in (*HEART.categories, *HEART.outcomes) for word in column.code_of_word}
    assert not words & MISSING_MARKS
    assert all(plain_words(word) == word for word in words)


def test_a_flag_may_say_none_for_no_vessel_and_a_file_may_not() -> None:
    """`None` in a file is what pandas and Python write for a missing value."""
    ca = COLUMNS["ca"]
    assert code_of(ca, "None") == "0"
    assert math.isnan(parse_cell(ca, "None"))

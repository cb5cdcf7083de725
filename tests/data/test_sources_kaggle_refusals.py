"""What is no Kaggle copy, or a spoilt one, is refused in one line that says what was found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import UsageError
from fedhealth.data.sources import kaggle
from tests.support.examples import examples
from tests.support.sources_fixtures import (
    IMPUTED_HEADER,
    IMPUTED_ROWS,
    RECODED_HEADER,
    RECODED_ROWS,
    WORDS_HEADER,
    WORDS_ROWS,
    make_csv,
)

RECODED = make_csv(RECODED_HEADER, RECODED_ROWS)
WORDS = make_csv(WORDS_HEADER, WORDS_ROWS)
IMPUTED = make_csv(IMPUTED_HEADER, IMPUTED_ROWS)


def test_two_copies_in_a_folder_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(WORDS)
    (tmp_path / "b.csv").write_bytes(IMPUTED)
    with pytest.raises(UsageError, match=r"more than one Kaggle copy in it \(a\.csv, b\.csv\)"):
        kaggle.load_path(tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"sepal,petal\n1,2\n", "found columns sepal, petal;"),
        (RECODED.replace(b",", b";"), "found columns age;sex;cp"),
        (RECODED.replace(b"target", b"condition"), "thal, condition;"),
        (RECODED.partition(b"\n")[2], r"found no header line \(14 fields\);"),
        (b"", r"found no header line \(0 fields\);"),
        (b"\x1b[31mred,b\n1,2\n", r"found columns \\x1b\[31mred, b;"),
    ],
)
def test_another_file_is_refused_in_one_line_with_what_was_expected_and_found(tmp_path, content, found):
    path = tmp_path / "heart.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=found) as error:
        kaggle.load_path(path)
    assert str(error.value).startswith(str(path))
    assert "expected the four UCI files" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_error_about_a_file_without_header_shows_no_patient(tmp_path):
    (tmp_path / "heart.csv").write_bytes(RECODED.partition(b"\n")[2])
    with pytest.raises(UsageError) as error:
        kaggle.load_path(tmp_path / "heart.csv")
    assert "231" not in str(error.value)


@pytest.mark.parametrize(
    "content", ["größe,b\n".encode("latin-1"), RECODED.decode().encode("utf-16"), b"a,\x00b\r\r\x00"]
)
def test_bytes_that_are_no_text_are_refused(tmp_path, content):
    (tmp_path / "heart.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"heart\.csv: "):
        kaggle.load_path(tmp_path / "heart.csv")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="found no CSV"):
        kaggle.load_path(tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (RECODED.replace(b"47,0,1,118", b"47,0,4,118", 1), "row 3: cp is '4', expected one of 0, 1, 2, 3"),
        (RECODED.replace(b"0,0,1,1\n", b"0,0,6,1\n", 1), "row 2: thal is '6', expected one of 0, 1, 2, 3"),
        (RECODED.replace(b"58,1,0,136", b"58,1,0,1360"), "row 6: trestbps is 1360 mm Hg, outside 50..300"),
        (RECODED.replace(b"58,1,0,136", b"58,1,0,"), "row 6: trestbps is ''"),
        (RECODED + b"1,2\n", "row 7: 2 fields, expected 14"),
        (WORDS.replace(b"VA Long Beach", b"Boston"), "row 6: dataset is 'Boston', expected one of cleveland"),
        (WORDS.replace(b"non-anginal,121", b"crushing,121"), "row 4: cp is 'crushing'"),
        (WORDS.replace(b"36,Male", b",Male"), "row 4: age is missing"),
        (IMPUTED.replace(b"38,M,ASY", b"38,X,ASY"), "row 3: Sex is 'X', expected one of f, m"),
        (IMPUTED.replace(b"Down,0", b"Down,2"), "row 4: HeartDisease is '2', expected one of 0, 1"),
        (RECODED_HEADER.encode(), "no patients in it"),
    ],
)
def test_a_faulty_value_is_named_by_file_row_and_column(content, fault):
    with pytest.raises(UsageError) as error:
        kaggle.parse_copy(content, "heart.csv")
    assert str(error.value).startswith("heart.csv: ")
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_a_copy_whose_target_was_turned_back_already_is_refused():
    rows = [row[:-1] + str(1 - int(row[-1])) for row in RECODED_ROWS]
    with pytest.raises(UsageError, match="the target was edited"):
        kaggle.parse_copy(make_csv(RECODED_HEADER, rows), "heart.csv")


FIELDS = st.one_of(
    st.sampled_from(["", "0", "1", "2", "3", "4", "61", "304", "male", "Cleveland", "ASY", "Up", "N", "TRUE", "?"]),
    st.text(max_size=5),
)


@settings(max_examples=examples(200))
@given(
    st.sampled_from([RECODED_HEADER, WORDS_HEADER, IMPUTED_HEADER]),
    st.lists(st.lists(FIELDS, min_size=11, max_size=17).map(",".join), max_size=3),
)
def test_any_rows_under_a_known_header_give_a_table_or_a_usage_error(header, rows):
    try:
        source = kaggle.parse_copy("\n".join([header, *rows]).encode(), "heart.csv")
    except UsageError as error:
        assert "heart.csv: " in str(error)
        return
    assert source is not None
    assert set(source.table["target"]) <= {0, 1}


@given(st.binary(max_size=200))
def test_any_bytes_give_nothing_or_a_usage_error(content):
    try:
        assert kaggle.parse_copy(content, "heart.csv") is None
    except UsageError as error:
        assert "heart.csv: " in str(error)

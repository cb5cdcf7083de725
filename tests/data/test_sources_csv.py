"""CSVs of patients whom nobody has published: converted where one reading is possible, a question where two are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.csv_source import load_path, parse_source
from fedhealth.data.sources.heart import COLUMN_NAMES, FEATURE_NAMES
from fedhealth.data.sources.readings import AUTO, Answers
from tests.support.examples import examples
from tests.support.layout_files import (
    IMPUTED_NAMES,
    KAGGLE_303,
    LAYOUTS_READ_BY_CREATE,
    RENAMED,
    STATLOG_NAMES,
    Row,
    invent_patients,
    kaggle_303,
    label,
    recode,
    rename,
    to_bytes,
    zero_based,
)

PATIENTS = invent_patients()
GRADES = [int(row["num"]) for row in PATIENTS]


def values_of(rows: list[Row], names: tuple[str, ...] = FEATURE_NAMES) -> np.ndarray:
    return np.array([[float(row.get(name) or "nan") for name in names] for row in rows])


def parse(rows: list[Row], answers: Answers = AUTO, **options: str) -> Source:
    return parse_source(to_bytes(rows, **options), "lakeside.csv", answers)


def refusal(rows: list[Row], answers: Answers = AUTO) -> str:
    with pytest.raises(UsageError) as caught:
        parse(rows, answers)
    return str(caught.value).removeprefix("lakeside.csv: ")


def check_patients(table: pd.DataFrame, names: tuple[str, ...] = FEATURE_NAMES) -> None:
    """Compare with the invented patients."""
    np.testing.assert_array_equal(table[list(names)].to_numpy(dtype=float), values_of(PATIENTS, names))
    assert table["target"].tolist() == [int(grade > 0) for grade in GRADES]
    assert list(table.columns) == list(COLUMN_NAMES)
    assert [str(kind) for kind in table.dtypes] == ["float64"] * 13 + ["int64", "int64", "str"]


# --- one reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS_READ_BY_CREATE)
def test_a_layout_that_leaves_one_reading_is_converted(layout: str) -> None:
    rows = LAYOUTS_READ_BY_CREATE[layout](PATIENTS)
    source = parse(rows)
    read = [name for name in FEATURE_NAMES if name in IMPUTED_NAMES] if len(rows[0]) == 12 else None
    check_patients(source.table, tuple(read or FEATURE_NAMES))
    assert source.name == "own"
    assert "which is no published copy" in source.description
    assert set(source.table["hospital"]) == {"Lakeside" if "dataset" in rows[0] else "lakeside"}


def test_grades_are_kept_and_two_labels_become_grades_0_and_1() -> None:
    assert parse(PATIENTS).table["num"].tolist() == GRADES
    assert parse(label(PATIENTS, "target")).table["num"].tolist() == [int(grade > 0) for grade in GRADES]


def test_our_own_file_with_both_labels_and_a_hospital_is_read_as_it_is() -> None:
    rows = [{**row, "target": str(int(row["num"] > "0")), "hospital": "lake"} for row in PATIENTS]
    source = parse(rows)
    check_patients(source.table)
    assert source.table["num"].tolist() == GRADES
    assert set(source.table["hospital"]) == {"lake"}


def test_columns_that_are_not_there_are_missing_for_all_with_a_warning() -> None:
    source = parse(LAYOUTS_READ_BY_CREATE["letters"](PATIENTS))
    assert source.table[["ca", "thal"]].isna().all(axis=None)
    assert source.warnings == ("lakeside.csv: ca, thal: not in the file, so missing for all patients",)


@pytest.mark.parametrize("options", [{"separator": ";"}, {"separator": "\t"}, {"end": "\r\n"}])
def test_separators_and_line_ends_do_not_matter(options: dict[str, str]) -> None:
    check_patients(parse(PATIENTS, **options).table)


def test_unknown_columns_are_ignored_with_a_warning_and_a_running_number_without() -> None:
    rows = [{"id": str(number), "bmi": "25", **row} for number, row in enumerate(PATIENTS)]
    assert parse(rows).warnings == ("lakeside.csv: unknown columns are ignored: bmi",)


def test_the_hash_of_the_file_is_kept_under_its_name() -> None:
    (name,) = parse(PATIENTS).sha256
    assert name == "lakeside.csv"


# --- two readings -----------------------------------------------------------------------------------------------------

ZERO = "--codes zero-based (cp 0 is typical angina) or --codes kaggle-303 (cp 0 is asymptomatic)"
LABEL_1 = "--label-1 ill or --label-1 healthy"


@pytest.mark.parametrize("rows", [zero_based(PATIENTS), zero_based(PATIENTS, 1)], ids=["thal from 0", "thal from 1"])
def test_codes_from_0_with_a_target_are_a_question_and_the_flags_answer_it(rows: list[Row]) -> None:
    for ill in ("1", "0"):
        labelled = label(rows, "target", healthy=str(1 - int(ill)), ill=ill)
        line = refusal(labelled)
        assert line.startswith("its codes fit more than one layout, and its labels (target) may mean")
        assert f"give {ZERO}, and {LABEL_1}" in line
        answers = Answers("zero-based", "ill" if ill == "1" else "healthy")
        check_patients(parse(labelled, answers).table)


def test_the_303_copys_codes_on_other_patients_are_not_called_that_copy() -> None:
    """The header alone would fit: a file of invented values under it is no Cleveland file."""
    line = refusal(kaggle_303(PATIENTS))
    assert LABEL_1 in line
    source = parse(kaggle_303(PATIENTS), Answers("kaggle-303", "healthy"))
    check_patients(source.table)
    assert source.name == "own"
    assert set(source.table["hospital"]) == {"lakeside"}


def test_one_open_question_asks_for_one_flag() -> None:
    rows = label(zero_based(PATIENTS, 1), "target")
    assert LABEL_1 in refusal(rows, Answers(codes="zero-based"))
    assert "--codes" not in refusal(rows, Answers(codes="zero-based"))
    assert ZERO in refusal(rows, Answers(label_1="ill"))
    assert "--label-1" not in refusal(rows, Answers(label_1="ill"))


def test_codes_that_are_ucis_as_well_as_counted_from_0_are_a_question() -> None:
    few = [{**row, "cp": "2", "slope": "1", "thal": ""} for row in label(PATIENTS, "target")]
    line = refusal(few)
    assert line.startswith("its codes fit more than one layout")
    assert "--codes uci or --codes zero-based" in line
    assert set(parse(few, Answers(codes="uci")).table["cp"]) == {2}


def test_condition_decides_only_for_the_codes_that_it_was_published_with() -> None:
    assert ZERO in refusal(label(zero_based(PATIENTS, 1), "condition"))
    check_patients(parse(label(zero_based(PATIENTS), "condition")).table)


def test_the_renamed_303_copy_with_a_label_that_looks_turned_round_is_a_question() -> None:
    rows = rename(label(recode(PATIENTS, KAGGLE_303), "output"), RENAMED)
    assert refusal(rows).endswith("so output may be turned round; give --label-1 ill or --label-1 healthy")


def test_an_answer_that_looks_turned_round_is_a_warning() -> None:
    source = parse(label(PATIENTS, "target"), Answers(label_1="healthy"))
    assert source.warnings == (
        "lakeside.csv: exercise angina and ST depression are lower in those who count as ill, so target may be turned round; "
        "check what the label means (--label-1)",
    )


@pytest.mark.parametrize("name", ["target", "num"])
def test_labels_1_and_2_are_a_question_that_names_both_meanings(name: str) -> None:
    rows = label(PATIENTS, name, healthy="1", ill="2")
    line = refusal(rows)
    assert f"({name}) may mean 1 = healthy, 2 = ill or 0 = healthy, 1 to 4 = ill; give {LABEL_1}" in line
    check_patients(parse(rows, Answers(label_1="healthy")).table)
    assert parse(rows, Answers(label_1="ill")).table["target"].all()


@pytest.mark.parametrize("name", ["target", "num"])
def test_a_label_without_a_healthy_patient_must_be_confirmed(name: str) -> None:
    rows = label(PATIENTS, name, healthy="3", ill="4")
    assert refusal(rows).startswith(f"{name} is 0 in no row, so no patient is healthy; give --label-1 ill")
    assert parse(rows, Answers(label_1="ill")).table["num"].tolist() == [3, 4] * 12


def test_a_thallium_scan_of_1_and_2_only_cannot_be_decided_by_a_flag() -> None:
    few = [row for row in zero_based(PATIENTS) if row["thal"] != "0"]
    assert refusal(label(few, "target"), Answers("zero-based", "ill")) == (
        "thal may be counted from 0 or from 1; write UCI's codes 3, 6 and 7"
    )


def test_flags_that_contradict_the_file_are_refused() -> None:
    line = refusal(label(PATIENTS, "target"), Answers(codes="zero-based"))
    assert line == "its codes are not those of --codes zero-based; give --codes uci"
    line = refusal(PATIENTS, Answers(label_1="healthy"))
    assert line.endswith("which --label-1 healthy contradicts; leave --label-1 out")


# --- faults -----------------------------------------------------------------------------------------------------------


def change(rows: list[Row], place: int, **cells: str) -> list[Row]:
    return [{**row, **cells} if number == place else row for number, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            change(PATIENTS, 3, cp="9"),
            "row 5: cp is 9, not one of 1, 2, 3, 4 (UCI's codes); correct the value or drop the",
        ),
        (change(zero_based(PATIENTS), 3, slope="7"), "row 5: slope is 7, not one of 0, 1, 2 (codes counted from 0)"),
        (change(PATIENTS, 3, num="5"), "row 5: num is 5, not a label of a known layout"),
        (change(PATIENTS, 3, num="sick"), "row 5: num is sick, not a label of a known layout"),
        (change(label(PATIENTS, "target", "no", "yes"), 3, target="2"), "row 5: target is 2, not a label of a known"),
        (change(PATIENTS, 3, cp="1 61 231 145"), "row 5: cp is several values, not one of 1, 2, 3, 4 (UCI's codes)"),
        (change(PATIENTS, 3, age="7"), "row 5: age is 7 years, outside 18..120; correct the value or drop the row"),
        (change(PATIENTS, 3, num=""), "row 5: num is missing; give the diagnosis or drop the row"),
    ],
)
def test_a_faulty_cell_is_named_by_row_and_column(rows: list[Row], line: str) -> None:
    assert refusal(rows).startswith(line)


def test_a_fault_has_the_files_own_name_of_the_column() -> None:
    rows = rename(label(change(PATIENTS, 3, trestbps="12.7"), "Heart Disease", "Absence", "Presence"), STATLOG_NAMES)
    assert refusal(rows).startswith("row 5: BP is 12.7 mm Hg, outside 50..300; is it in kPa")


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            rename(PATIENTS, {"age": "age", "sex": "sex"}),
            "of our 13 measurements it has only age, sex: another data set",
        ),
        ([{k: v for k, v in row.items() if k != "num"} for row in PATIENTS], "has no column for the diagnosis (target"),
        ([{k: v for k, v in row.items() if k != "cp"} for row in PATIENTS], "has no column for cp; add each with"),
        ([{**row, "BP": "120"} for row in PATIENTS], "trestbps and BP are both trestbps; keep one"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(rows: list[Row], line: str) -> None:
    assert refusal(rows).startswith(line)


# --- files and folders ------------------------------------------------------------------------------------------------


def test_the_one_csv_of_a_folder_with_our_columns_is_found(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "Heart Data.CSV").write_bytes(to_bytes(PATIENTS))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "notes.txt").write_text("read me")
    check_patients(load_path(tmp_path).table)


def test_a_csv_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "heart.txt").write_bytes(b"\xef\xbb\xbf" + to_bytes(PATIENTS))
    check_patients(load_path(tmp_path / "heart.txt").table)


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({}, "found no CSV and not the four UCI files"),
        (
            {"a.csv": to_bytes(PATIENTS), "b.csv": to_bytes(PATIENTS)},
            "several CSVs in it are heart disease data (a.csv, b.csv); give one",
        ),
        ({"a.csv": b"a,b\n1,2\n", "b.csv": b"x"}, "none of the 2 CSVs in it has the columns of heart disease data"),
    ],
)
def test_a_folder_without_one_such_csv_is_refused(tmp_path: Path, files: dict[str, bytes], line: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_path(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: {line}")


FIELDS = st.one_of(
    st.sampled_from(["", "0", "1", "2", "3", "4", "61", "male", "ASY", "Up", "N", "TRUE", "?", "NULL", "1,5"]),
    st.text(max_size=5),
)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.sampled_from([list(LAYOUTS_READ_BY_CREATE[layout](PATIENTS)[0]) for layout in LAYOUTS_READ_BY_CREATE]),
    st.lists(st.lists(FIELDS, min_size=11, max_size=17), max_size=3),
)
def test_any_rows_under_a_known_header_give_a_table_or_lines(header: list[str], rows: list[list[str]]) -> None:
    text = "\n".join(",".join(fields) for fields in [header, *rows])
    try:
        table = parse_source(text.encode("utf-8", "replace"), "heart.csv").table
    except UsageError as error:
        lines = error.faults if isinstance(error, DataError) else [str(error)]
        assert all(line.startswith("heart.csv: ") and line.isprintable() for line in lines)
        return
    assert set(table["target"]) <= {0, 1}


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_usage_error(content: bytes) -> None:
    with pytest.raises(UsageError, match=r"^heart\.csv: "):
        parse_source(content, "heart.csv")

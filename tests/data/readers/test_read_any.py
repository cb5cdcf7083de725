"""A file of any format gives the same sheet as a CSV with the same cells, or one line."""

import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import UsageError
from fedhealth.data.csv_table import Sheet
from fedhealth.data.hospital import parse_hospital
from fedhealth.data.new_patients import read_new_patients
from fedhealth.data.readers.read_any import ReadOptions, read_any
from fedhealth.data.schema_file import heart_disease
from tests.support.examples import examples
from tests.support.format_files import WRITERS, to_csv, to_excel, to_spss, twenty_patients

pytest.importorskip("openpyxl", reason="pip install -r requirements-formats.txt")
pytest.importorskip("pyreadstat", reason="pip install -r requirements-formats.txt")

HEART = heart_disease()
NAMES = list(twenty_patients())
NUMBERS = st.builds(
    lambda digits, shift: Decimal(digits).scaleb(-shift), st.integers(-99_999, 99_999), st.integers(0, 4)
)
WORDS = st.sampled_from(["male", "female", "NA", "n/a", "", "63 ", " 5.2", "no value", "é"])


def plain(number: Decimal | None) -> str:
    return "" if number is None else f"{number:f}" if number.as_tuple().exponent == 0 else f"{number.normalize():f}"


def read(content: bytes, name: str, **options: Any) -> Sheet:
    return read_any(content, Path(name), HEART, ReadOptions(**options))


def refusal(content: bytes, name: str, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        read(content, name, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{name}: ")
    return line.removeprefix(f"{name}: ")


@settings(max_examples=examples(200), deadline=None)
@given(
    numbers=st.lists(
        st.tuples(*(st.none() | NUMBERS for _ in range(6)), WORDS).filter(any), min_size=1, max_size=8
    ).filter(lambda rows: any(row[-1].strip() for row in rows)),
    name=st.sampled_from(list(WRITERS)),
)
def test_every_format_gives_the_sheet_of_the_csv(numbers: list[tuple[Any, ...]], name: str) -> None:
    header = [*NAMES[:6], "note"]
    columns = {key: [row[place] for row in numbers] for place, key in enumerate(header)}
    stored = {
        key: [None if v is None else v if isinstance(v, str) else float(v) for v in columns[key]] for key in header
    }
    texts = {key: [v if isinstance(v, str) else plain(v) for v in columns[key]] for key in header}
    assert read(WRITERS[name](stored), name) == read(to_csv(texts), "p.csv", decimal="point")


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_hospital_of_every_format_has_the_patients_of_the_csv(name: str) -> None:
    table = twenty_patients()
    texts = {key: ["" if value is None else f"{value:g}" for value in values] for key, values in table.items()}
    expected = parse_hospital(to_csv(texts), Path("p.csv"))
    hospital = parse_hospital(WRITERS[name](table), Path(name))
    np.testing.assert_array_equal(hospital.patients.features, expected.patients.features)
    np.testing.assert_array_equal(hospital.patients.labels, expected.patients.labels)
    assert (hospital.name, hospital.warnings) == (expected.name, expected.warnings)


@pytest.mark.parametrize("name", list(WRITERS))
def test_new_patients_of_every_format_are_read(name: str) -> None:
    table = {key: values[:2] for key, values in twenty_patients().items()}
    patients = read_new_patients(WRITERS[name](table), Path(name), HEART)
    assert patients.rows == (2, 3)
    assert patients.features[1].tolist() == [41, 1, 2, 121, 200.5, 0, 1, 149, 1, 0.1, 2, 1, 6]


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_date_where_a_number_is_expected_is_one_line_with_the_date(name: str) -> None:
    content = WRITERS[name](twenty_patients() | {"oldpeak": [date(2026, 2, 5)] * 20})
    with pytest.raises(UsageError) as caught:
        parse_hospital(content, Path(name))
    first = str(caught.value).splitlines()[0]
    assert first == (
        f'{name}: row 2: oldpeak is "2026-02-05", not a number of mm in -8..10; correct the value or leave the cell empty'
    )


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_file_with_the_ending_of_another_format_is_one_line(name: str) -> None:
    content = WRITERS[name](twenty_patients())
    for other in {*WRITERS, "p.csv"} - {name}:
        line = refusal(content, other)
        assert line.startswith(f"is named {Path(other).suffix}, but is a")
        assert line.endswith(f"give it the ending {Path(name).suffix}")
    assert read(content, "export").header == NAMES


@pytest.mark.parametrize("name", list(WRITERS))
def test_text_with_the_ending_of_another_format_is_one_line(name: str) -> None:
    line = refusal(b"age,sex\n63,1\n", name)
    assert line.startswith(f"is named {Path(name).suffix}, but is no ")
    assert line.endswith("; give the file as it was exported")


@settings(max_examples=examples(200), deadline=None)
@given(name=st.sampled_from(list(WRITERS)), share=st.floats(0.1, 0.95))
def test_a_file_that_was_cut_off_is_one_line_or_is_whole(name: str, share: float) -> None:
    """Only a SAS transport file between two of its records of 80 bytes looks whole: it has no number of rows."""
    content = WRITERS[name](twenty_patients())
    cut = content[: int(len(content) * share)]
    assume(name != "p.xpt" or len(cut) % 80)
    try:
        sheet = read(cut, name)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert sheet == read(content, name)


@pytest.mark.parametrize(
    ("name", "package"), [("p.xlsx", "openpyxl"), ("p.parquet", "pyarrow"), ("p.sav", "pyreadstat")]
)
def test_a_missing_package_is_one_line(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = WRITERS[name](twenty_patients())
    monkeypatch.setitem(sys.modules, package, None)
    assert refusal(content, name) == f"needs the package {package}; pip install -r requirements-formats.txt"


def test_a_csv_is_read_without_the_heavy_packages() -> None:
    program = (
        "import sys\nfrom fedhealth.data.readers import read_any\n"
        "sys.exit(bool({'openpyxl', 'pyarrow', 'pyreadstat'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_sheet_is_only_for_a_workbook() -> None:
    assert refusal(b"age,sex\n63,1\n", "p.csv", sheet="A") == "--sheet is for Excel workbooks; leave it out"


def test_words_in_any_case_and_marks_of_other_programs_are_read_without_a_mapping() -> None:
    table = twenty_patients()
    table["sex"] = ["Male", "F", "m", "FEMALE"] * 5
    table["fbs"] = ["Yes", "NO", True, False, None] * 4
    table["chol"] = ["NULL", "NA", "N/A", "#N/A", "None", ".", "-", "", *[200] * 12]
    hospital = parse_hospital(to_excel(table), Path("p.xlsx"))
    places = HEART.places
    assert hospital.patients.features[:4, places["sex"]].tolist() == [1, 0, 1, 0]
    assert hospital.patients.features[:4, places["fbs"]].tolist() == [1, 0, 1, 0]
    assert np.isnan(hospital.patients.features[:8, places["chol"]]).all()
    marks = [line for line in hospital.warnings if "read as missing" in line]
    assert marks == ['"NULL", "N/A", "#N/A", "None", ".", "-" are read as missing (in 6 cells of chol)']


def test_redcap_s_checkboxes_and_omop_s_long_form_are_refused_in_one_line() -> None:
    rows = {"person_id": [1.0, 1.0], "measurement_concept_id": [3027114.0, 3004249.0], "value_as_number": [5.2, 120.0]}
    with pytest.raises(UsageError) as caught:
        parse_hospital(to_spss(rows | {"unit_source_value": ["mmol/L", "mmHg"]}), Path("p.sav"))
    assert "\n" not in str(caught.value)
    table = twenty_patients() | {"fbs": ["Checked", "Unchecked"] * 10}
    with pytest.raises(UsageError) as caught:
        parse_hospital(to_excel(table), Path("p.xlsx"))
    assert str(caught.value).startswith('p.xlsx: row 2: fbs is "Checked", not one of 0 (no), 1 (yes)')

"""A hospital's CSV: what is read, what is refused and in which words, and the split into train and test."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.hospital import FULL_DATASET, Hospital, load_hospital, parse_hospital
from fedhealth.data.patients import (
    ENOUGH_PATIENTS,
    MINIMUM_PATIENTS,
    Patients,
    enough_patients,
    fits_usual_split,
    hold_validation,
    split_patients,
)
from fedhealth.data.schema import Column
from fedhealth.data.schema_file import parse_schema
from fedhealth.data.sources.heart import COLUMN_NAMES, FEATURE_NAMES, FEATURES, HEART, HOSPITAL, LABEL, TARGET
from fedhealth.data.sources.load import load_source
from tests.support.examples import examples
from tests.support.layout_files import (
    RENAMED,
    WORDS,
    invent_patients,
    kaggle_303,
    kaggle_918,
    label,
    recode,
    rename,
    to_bytes,
    union_1190,
    zero_based,
)
from tests.support.processes import ROOT

HEADER = list(COLUMN_NAMES)
SEX_CODES = "0 (female), 1 (male)"
CP_CODES = "1 (typical angina), 2 (atypical angina), 3 (non-anginal pain), 4 (asymptomatic)"
NUM_CODES = "0 (healthy), 1 (disease, grade 1), 2 (disease, grade 2), 3 (disease, grade 3), 4 (disease, grade 4)"

Write = Callable[..., Path]


def invent_patient(number: int) -> dict[str, str]:
    """One made-up patient; even numbers are healthy."""
    num = number % 2 * (1 + number % 4)
    numbers = {
        "age": 40 + number % 40,
        "trestbps": 120 + number % 50,
        "chol": 200 + number % 300,
        "thalach": 150,
        "ca": 0,
    }
    codes = {"sex": number % 2, "cp": 1 + number % 4, "fbs": 0, "restecg": 2, "exang": 1, "slope": 2, "thal": 7}
    row = {**numbers, **codes, "oldpeak": 1.5, LABEL.name: num, TARGET: int(num > 0), HOSPITAL: "lakeside"}
    return {name: str(row[name]) for name in HEADER}


def sample_patients(count: int = 22) -> list[dict[str, str]]:
    return [invent_patient(number) for number in range(count)]


def to_csv(patients: list[dict[str, str]], header: list[str] | None = None) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, header or HEADER, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(patients)
    return out.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes `text` (or 22 invented patients, the twelfth, in row 13, changed by `cells`) as client_1.csv."""

    def write_csv(text: str | bytes | None = None, **cells: str) -> Path:
        if text is None:
            patients = sample_patients()
            patients[11] |= cells
            text = to_csv(patients)
        path = tmp_path / "client_1.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_csv


def refusal(path: Path, name: str | None = None) -> list[str]:
    """The lines that refuse `path`, each without its beginning `path: `."""
    with pytest.raises(UsageError) as caught:
        load_hospital(path, name)
    lines = caught.value.faults if isinstance(caught.value, DataError) else str(caught.value).split("\n")
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_written_table_comes_back_value_by_value(write: Write) -> None:
    hospital = load_hospital(write())
    expected = [[float(patient[name]) for name in FEATURE_NAMES] for patient in sample_patients()]
    np.testing.assert_array_equal(hospital.patients.features, expected)
    np.testing.assert_array_equal(hospital.patients.labels, [0, 1] * 11)
    assert hospital.patients.features.dtype == np.float64
    assert hospital.patients.labels.dtype == np.float32
    assert len(hospital.patients) == 22
    assert (hospital.name, hospital.source, hospital.warnings) == ("lakeside", "own", ())


def test_column_order_blanks_byte_order_mark_and_crlf_do_not_matter(write: Write) -> None:
    plain = load_hospital(write()).patients
    text = to_csv(sample_patients(), header=HEADER[::-1])
    text = text.replace("age", " age ", 1).replace(",", " , ").replace("\n", "\r\n")
    other = load_hospital(write(b"\xef\xbb\xbf" + text.encode())).patients
    np.testing.assert_array_equal(other.features, plain.features)
    np.testing.assert_array_equal(other.labels, plain.labels)


@pytest.mark.parametrize("cell", ["", " ", "?", "NA", "NaN", "nan"])
def test_a_missing_cell_is_nan_without_a_warning(write: Write, cell: str) -> None:
    hospital = load_hospital(write(chol=cell, thal=cell))
    missing = np.isnan(hospital.patients.features)
    assert missing[11, FEATURE_NAMES.index("chol")]
    assert missing[11, FEATURE_NAMES.index("thal")]
    assert missing.sum() == 2
    assert hospital.warnings == ()


def test_marks_of_a_missing_value_are_nan_and_counted(write: Write) -> None:
    hospital = load_hospital(write(chol="0", trestbps="0.0", thal="-9", oldpeak="-9.0"))
    missing = np.isnan(hospital.patients.features[11])
    assert [FEATURE_NAMES[i] for i in np.flatnonzero(missing)] == ["trestbps", "chol", "oldpeak", "thal"]
    assert hospital.warnings == (
        "trestbps: 0 is read as missing (in 1 of 22 rows)",
        "chol: 0 is read as missing (in 1 of 22 rows)",
        "oldpeak: -9 is read as missing (in 1 of 22 rows)",
        "thal: -9 is read as missing (in 1 of 22 rows)",
    )


@pytest.mark.parametrize(("cell", "value"), [(".7", 0.7), ("+1.", 1.0), ("1e0", 1.0), ("-2.6", -2.6), ("0.1", 0.1)])
def test_numbers_may_be_written_in_any_usual_way(write: Write, cell: str, value: float) -> None:
    assert load_hospital(write(oldpeak=cell)).patients.features[11, FEATURE_NAMES.index("oldpeak")] == value


@pytest.mark.parametrize("column", HEART.numbers, ids=lambda column: column.name)
def test_both_ends_of_a_range_are_inside(write: Write, column: Column) -> None:
    for value in (column.minimum, column.maximum):
        features = load_hospital(write(**{column.name: f"{value:g}"})).patients.features
        assert features[11, FEATURE_NAMES.index(column.name)] == value


@pytest.mark.parametrize("label", [TARGET, LABEL.name])
def test_one_label_column_is_enough(write: Write, label: str) -> None:
    path = write(to_csv(sample_patients(), header=[*FEATURE_NAMES, label]))
    np.testing.assert_array_equal(load_hospital(path).patients.labels, [0, 1] * 11)


def test_of_two_label_columns_one_may_be_empty(write: Write) -> None:
    patients = [{**patient, (TARGET if i < 6 else LABEL.name): ""} for i, patient in enumerate(sample_patients())]
    np.testing.assert_array_equal(load_hospital(write(to_csv(patients))).patients.labels, [0, 1] * 11)


def test_blank_lines_are_no_patients_but_count_as_rows(write: Write) -> None:
    lines = write(age="7").read_text().splitlines()
    path = write("\n".join([*lines[:2], "", "," * 15, *lines[2:], "", ""]))
    assert refusal(path) == ["row 15: age is 7 years, outside 18..120; correct the value or drop the row"]


def test_a_line_break_in_quotes_stays_inside_its_row(write: Write) -> None:
    patients = sample_patients()
    patients[0]["hospital"] = "north\nwing"
    patients[11]["age"] = "7"
    assert refusal(write(to_csv(patients)))[0].startswith("row 13: age is 7")


def test_a_quoted_cell_may_follow_a_blank(write: Write) -> None:
    text = to_csv(sample_patients()).replace("lakeside", ' "Lakeside, north wing"')
    assert load_hospital(write(text)).name == "Lakeside, north wing"


def test_the_repr_shows_no_patient(write: Write) -> None:
    assert repr(load_hospital(write()).patients) == "Patients()"


# --- warnings, name, source -------------------------------------------------------------------------------------------


def test_unknown_columns_are_ignored_with_a_warning(write: Write) -> None:
    path = write(to_csv(sample_patients(), header=["bmi", *HEADER, ""]))
    assert load_hospital(path).warnings == ("unknown columns are ignored: bmi, (no name)",)
    path = write(to_csv(sample_patients(), header=[*HEADER, *(f"x{i}" for i in range(11))]))
    assert load_hospital(path).warnings == ("unknown columns are ignored: x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, ...",)


def test_rows_that_end_early_are_read_as_missing_with_a_warning(write: Write) -> None:
    text = to_csv(sample_patients(), header=[TARGET, *FEATURE_NAMES])
    hospital = load_hospital(write(text.removesuffix(",7\n")))
    assert hospital.warnings == ("cells that a row lacks are read as missing (in 1 of 22 rows)",)
    assert np.isnan(hospital.patients.features[-1, FEATURE_NAMES.index("thal")])


@pytest.mark.parametrize(("target", "state"), [("0", "healthy"), ("1", "ill")])
def test_one_class_only_is_a_warning_where_both_labels_agree(write: Write, target: str, state: str) -> None:
    patients = [{**patient, TARGET: target, LABEL.name: target} for patient in sample_patients()]
    hospital = load_hospital(write(to_csv(patients, header=[*FEATURE_NAMES, LABEL.name, TARGET])))
    assert hospital.warnings == (f"all 22 patients are {state}: a model can be trained, but the AUROC is n/a",)


def test_patients_who_differ_in_the_last_column_alone_do_not_repeat() -> None:
    names = [f"x{place}" for place in range(20)]
    columns = "".join(
        f'[[column]]\nname = "{name}"\nmeaning = "m"\nkind = "number"\nrange = [0, 99]\n' for name in names
    )
    outcome = '[[outcome]]\nname = "dead"\nmeaning = "m"\nkind = "yes/no"\npositive = [1]\n'
    schema = parse_schema(f'title = "t"\nsource = "s"\n{columns}{outcome}', "t.toml")
    rows = [[*["1"] * 19, str(place), str(place % 2)] for place in range(40)]
    for repeats in (0, 3):
        text = "\n".join(",".join(row) for row in [[*names, "dead"], *rows, *rows[:repeats]])
        found = [
            line for line in parse_hospital(text.encode(), Path("p.csv"), schema=schema).warnings if "repeat" in line
        ]
        assert found == ([] if not repeats else [f"patients repeat (3 of 43 rows): {REPEATS}"])


REPEATS = "the test may hold patients that were trained on"


def test_more_than_one_repeated_row_in_20_is_a_warning(write: Write) -> None:
    patients = sample_patients(38)
    assert load_hospital(write(to_csv([*patients, *patients[:2]]))).warnings == ()
    line = "patients repeat (3 of 41 rows): the test may hold patients that were trained on"
    assert load_hospital(write(to_csv([*patients, *patients[:3]]))).warnings == (line,)


def test_the_given_name_wins_and_is_stripped(write: Write) -> None:
    assert load_hospital(write(), name="  St. Mary ").name == "St. Mary"


def test_several_hospitals_in_one_file_leave_the_name_to_the_file(write: Write) -> None:
    assert load_hospital(write(hospital="hillside")).name == "client_1"
    assert load_hospital(write(to_csv(sample_patients(), header=[*FEATURE_NAMES, TARGET]))).name == "client_1"


def test_a_file_of_several_hospitals_is_a_warning_unless_patients_were_dealt_out_on_purpose(write: Write) -> None:
    line = "the rows name 2 hospitals; each should join with a file of its own"
    path = write(hospital="hillside")
    assert load_hospital(path).warnings == (line,)
    assert load_hospital(path, name="both").warnings == (line,)
    record_dataset(path, split="natural")
    assert load_hospital(path).warnings == (line,)
    record_dataset(path, split="iid")
    assert load_hospital(path).warnings == ()
    everybody = path.rename(path.with_name(FULL_DATASET))
    record_dataset(everybody, split="iid")
    assert load_hospital(everybody).warnings == (line,)


def test_the_name_in_the_file_is_kept_beside_a_given_one(write: Write) -> None:
    hospital = load_hospital(write(), name="cleveland")
    assert (hospital.name, hospital.name_in_file) == ("cleveland", "lakeside")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_a_bad_given_name_is_refused(write: Write, name: str) -> None:
    with pytest.raises(UsageError, match=r'^--name is ".*"; give --name 1 to 100 printable characters$'):
        load_hospital(write(), name=name)


@pytest.mark.parametrize("name", ["union", "All together", " mean "])
def test_no_hospital_has_the_name_of_all_of_them(write: Write, name: str) -> None:
    line = f'--name is "{name}", which tables call all hospitals together; give another --name'
    with pytest.raises(UsageError, match=f"^{line}$"):
        load_hospital(write(), name=name)


def test_a_bad_name_in_the_file_is_refused_unless_one_is_given(write: Write) -> None:
    path = write(to_csv([{**patient, HOSPITAL: "north\nwing"} for patient in sample_patients()]))
    line = 'the hospital\'s name is "north\\nwing"; give --name 1 to 100 printable characters'
    assert refusal(path) == [line]
    assert load_hospital(path, name="north").name == "north"


def test_one_synthetic_row_makes_the_source_synthetic_and_a_mixture_is_a_warning(write: Write) -> None:
    hospital = load_hospital(write(hospital="synthetic-lakeside"))
    assert hospital.source == "synthetic"
    assert hospital.warnings == (
        "the rows name 2 hospitals; each should join with a file of its own",
        "invented and real patients are mixed (synthetic: 1 of 22 rows)",
    )
    everyone = [{**patient, HOSPITAL: "synthetic-lakeside"} for patient in sample_patients()]
    hospital = load_hospital(write(to_csv(everyone)))
    assert (hospital.source, hospital.name, hospital.warnings) == ("synthetic", "synthetic-lakeside", ())


def record_dataset(path: Path, **changes: object) -> None:
    """dataset.json beside `path` that lists it rightly, but for `changes`."""
    file = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": [1], "name": path.name}
    record: dict[str, object] = {"source": "uci", "files": ["?", {}, file]}
    path.with_name("dataset.json").write_text(json.dumps({**record, **changes}))


def test_dataset_json_gives_the_source_of_the_very_file_it_lists(write: Write) -> None:
    path = write()
    record_dataset(path, source="uci")
    assert load_hospital(path).source == "uci"
    path.write_text(path.read_text() + "\n")
    assert load_hospital(path).source == "own"
    record_dataset(path)
    copy = path.rename(path.with_name("copy.csv"))
    assert load_hospital(copy).source == "own"


def test_synthetic_rows_stay_synthetic_whatever_dataset_json_holds(write: Write) -> None:
    path = write(hospital="synthetic-lakeside")
    record_dataset(path)
    assert load_hospital(path).source == "synthetic"


@pytest.mark.parametrize("changes", [{"source": 3}, {"source": " "}, {"source": {}}, {"files": {}}, {"files": None}])
def test_a_strange_dataset_json_is_ignored(write: Write, changes: dict[str, object]) -> None:
    path = write()
    record_dataset(path, **changes)
    assert load_hospital(path).source == "own"


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_dataset_json_is_ignored(write: Write, damaged: bytes) -> None:
    path = write()
    path.with_name("dataset.json").write_bytes(damaged)
    assert load_hospital(path).source == "own"


# --- refused cells ----------------------------------------------------------------------------------------------------

OR_EMPTY = "; correct the value or leave the cell empty"
OR_DROP = "; correct the value or drop the row"


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        ({"chol": "-4"}, f"chol is -4 mg/dl, outside 50..700{OR_EMPTY}"),
        ({"age": "17.5"}, f"age is 17.5 years, outside 18..120{OR_DROP}"),
        ({"thalach": "251"}, f"thalach is 251 beats/min, outside 40..250{OR_EMPTY}"),
        ({"oldpeak": "1e999"}, f"oldpeak is 1e999 mm, outside -8..10{OR_EMPTY}"),
        ({"oldpeak": "-inf"}, f'oldpeak is "-inf", not a number of mm in -8..10{OR_EMPTY}'),
        ({"chol": "high"}, f'chol is "high", not a number of mg/dl in 50..700{OR_EMPTY}'),
        ({"chol": "2_00"}, f'chol is "2_00", not a number of mg/dl in 50..700{OR_EMPTY}'),
        ({"chol": "٢٠٠"}, f'chol is "٢٠٠", not a number of mg/dl in 50..700{OR_EMPTY}'),
        ({"chol": "a\nb\x1b[2J"}, f'chol is "a\\nb\\x1b[2J", not a number of mg/dl in 50..700{OR_EMPTY}'),
        ({"chol": "x" * 41}, f'chol is "{"x" * 37}...", not a number of mg/dl in 50..700{OR_EMPTY}'),
        (
            {"chol": "5.2"},
            "chol is 5.2 mg/dl, outside 50..700; is it in mmol/l (then multiply it by 38.67) or in g/l (then multiply it "
            "by 100)? give mg/dl",
        ),
        (
            {"chol": "7.5"},
            "chol is 7.5 mg/dl, outside 50..700; is it in mmol/l (then multiply it by 38.67)? give mg/dl",
        ),
        (
            {"trestbps": "12.7"},
            "trestbps is 12.7 mm Hg, outside 50..300; is it in kPa (then multiply it by 7.5) or in cmHg (then multiply it "
            "by 10)? give mm Hg",
        ),
        ({"trestbps": "5"}, "trestbps is 5 mm Hg, outside 50..300; is it in cmHg (then multiply it by 10)? give mm Hg"),
        ({"oldpeak": "1,5"}, 'oldpeak is "1,5", not a number of mm in -8..10; write the decimal comma as a point'),
        ({"cp": "5"}, f"cp is 5, not one of {CP_CODES}{OR_DROP}"),
        ({"cp": "0"}, f"cp is 0, not one of {CP_CODES}{OR_DROP}"),
        ({"thal": "2"}, f"thal is 2, not one of 3 (normal), 6 (fixed defect), 7 (reversible defect){OR_EMPTY}"),
        ({"sex": "mail"}, f'sex is "mail", not one of {SEX_CODES}{OR_DROP}'),
        ({"age": "63;1;4;145"}, f"age is not one value but several{OR_DROP}"),
        ({"fbs": "0.5"}, f"fbs is 0.5, not one of 0 (no), 1 (yes){OR_EMPTY}"),
        ({"ca": "1.5"}, f"ca is 1.5, not one of 0 (none), 1 (one), 2 (two), 3 (three){OR_EMPTY}"),
        ({"thal": "5"}, f"thal is 5, not one of 3 (normal), 6 (fixed defect), 7 (reversible defect){OR_EMPTY}"),
        ({"age": ""}, "age is missing; give a number of years in 18..120 or drop the row"),
        ({"sex": "?"}, f"sex is missing (?); give one of {SEX_CODES} or drop the row"),
        ({"cp": "-9"}, f"cp is missing (-9); give one of {CP_CODES} or drop the row"),
        ({"num": "5"}, f"num is 5, not one of {NUM_CODES}{OR_DROP}"),
        ({"target": "7"}, f"target is 7, not one of 0 (healthy), 1 (disease){OR_DROP}"),
        ({"target": "sick"}, f'target is "sick", not one of 0 (healthy), 1 (disease){OR_DROP}'),
        (
            {"target": "0"},
            "target is 0 but num is 4; target must be 1 where num is above 0, else 0; correct one of them",
        ),
        (
            {"target": "0", "num": "1"},
            "target is 0 but num is 1; target must be 1 where num is above 0, else 0; correct one of them",
        ),
        ({"target": "", "num": "?"}, "target and num are both missing; fill in one or drop the row"),
    ],
)
def test_a_refused_cell_is_named_in_one_line(write: Write, cells: dict[str, str], line: str) -> None:
    assert refusal(write(**cells)) == [f"row 13: {line}"]


@pytest.mark.parametrize(("label", "codes"), [(TARGET, "0 (healthy), 1 (disease)"), (LABEL.name, NUM_CODES)])
def test_the_only_label_may_not_be_missing(write: Write, label: str, codes: str) -> None:
    patients = sample_patients()
    patients[11][label] = ""
    path = write(to_csv(patients, header=[*FEATURE_NAMES, label]))
    assert refusal(path) == [f"row 13: {label} is missing; give one of {codes} or drop the row"]


def test_all_faults_come_together_by_row_and_then_by_column(write: Write) -> None:
    patients = sample_patients()
    patients[9] |= {"target": "7", "age": "no"}
    patients[1] |= {"thal": "4", "chol": "9999", "sex": ""}
    starts = ["row 3: sex is", "row 3: chol is", "row 3: thal is", "row 11: age is", "row 11: target is"]
    path = write(to_csv(patients, header=HEADER[::-1]))
    assert [line[: len(start)] for line, start in zip(refusal(path), starts, strict=True)] == starts


def test_more_than_20_faults_are_all_kept_and_20_printed(write: Write) -> None:
    path = write(to_csv([{**patient, "age": "0"} for patient in sample_patients(30)]))
    with pytest.raises(DataError) as caught:
        load_hospital(path)
    assert len(caught.value.faults) == 30
    assert str(caught.value).splitlines()[20:] == ["... and 10 more faults"]


def test_every_feature_is_bounded_or_has_codes() -> None:
    """Text in a cell is carried as infinity, which only a bound or a list of codes refuses."""
    for column in FEATURES:
        assert column.codes or np.isfinite([column.minimum, column.maximum]).all(), column.name


# --- refused files ----------------------------------------------------------------------------------------------------


def test_a_missing_file_a_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    missing = "no such file; give the hospital's CSV, or make one with create_dataset.py"
    assert refusal(tmp_path / "nowhere.csv") == [missing]
    assert refusal(tmp_path) == ["is a folder; give the hospital's CSV file"]
    assert refusal(Path(os.devnull)) == ["is no regular file; give the hospital's CSV file"]
    assert refusal(tmp_path / ("x" * 300)) == [
        "cannot be read (File name too long); check the path and its permissions"
    ]


def test_an_unreadable_file_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for chmod 000, which root reads all the same."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    path = write()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(path) == ["cannot be read (Permission denied); check the path and its permissions"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty; give a CSV with a header and a row for each patient"),
        (b"\xef\xbb\xbf\n , \r\n", "is empty; give a CSV with a header and a row for each patient"),
        (b"age\xff", 'is not text (byte 0xff at position 3 is not UTF-8); save it as "CSV UTF-8"'),
        ("age".encode("utf-16-be"), 'is not text (it holds zero bytes); save it as "CSV UTF-8"'),
        (b"PK\x03\x04", "is a zip archive; unpack it and give the CSV that is in it"),
        (
            b"@relation heart\n@data\n63,1\n",
            "is an ARFF file (Weka, OpenML); save its data as a CSV whose first line holds the columns' names",
        ),
        (b"Dear Madam\n", "is no table with a header line and commas; give the hospital's CSV"),
        (b'age,sex\n63,"', "line 2: unexpected end of data; check the quotation marks up to this line"),
        (b'"age"x,sex', "line 1: ',' expected after '\"'; check the quotation marks up to this line"),
    ],
)
def test_a_file_that_is_no_csv_is_refused(write: Write, content: bytes, line: str) -> None:
    assert refusal(write(content)) == [line]


@pytest.mark.parametrize("names", [str.upper, str.title, str])
def test_capital_letters_in_the_header_do_not_matter(write: Write, names: Callable[[str], str]) -> None:
    header = [names(name) for name in HEADER]
    patients = [{names(name): text for name, text in patient.items()} for patient in sample_patients()]
    assert load_hospital(write(to_csv(patients, header=header))).name == "lakeside"


@pytest.mark.parametrize(
    "rows",
    [
        rename(kaggle_303(invent_patients(), "output"), RENAMED),
        label(zero_based(invent_patients()), "condition"),
        kaggle_918(invent_patients()),
        union_1190(invent_patients()),
    ],
)
def test_the_names_of_another_layout_lead_to_its_conversion(write: Write, rows: list[dict[str, str]]) -> None:
    (line,) = refusal(write(to_bytes(rows)))
    assert line.startswith("its columns have the names of another layout (")
    assert line.endswith("; convert it with create_dataset.py --source FILE")


def test_in_another_schema_the_names_of_another_layout_lead_to_a_mapping(write: Write) -> None:
    text = (ROOT / "fedhealth" / "schemas" / "heart-disease.toml").read_text(encoding="utf-8")
    other = parse_schema(text.replace('unit = "mg/dl"', 'unit = "mg%"'), "other.toml")
    path = write(to_bytes(rename(kaggle_303(invent_patients(), "output"), RENAMED)))
    with pytest.raises(DataError, match=r"of another layout \(.*\); name them in a mapping \(--mapping FILE\)$"):
        load_hospital(path, schema=other)


def test_another_layout_without_a_diagnosis_is_not_sent_to_a_conversion_that_refuses_it(write: Write) -> None:
    rows = [{name: text for name, text in row.items() if name != "num"} for row in invent_patients()]
    (line,) = refusal(write(to_bytes(rename(rows, RENAMED))))
    assert line.endswith(", and none holds the diagnosis; add it as target")


@pytest.mark.parametrize("rows", [zero_based(invent_patients()), zero_based(invent_patients(), 1)])
def test_codes_of_another_layout_are_one_line(write: Write, rows: list[dict[str, str]]) -> None:
    line = (
        "cp, slope, thal: not the schema's codes but those of another layout, counted from 0; convert the file or "
        "write the schema's codes (docs/own-files.md)"
    )
    assert refusal(write(to_bytes(label(rows, "target")))) == [line]
    rows[3]["slope"] = "9"
    assert refusal(write(to_bytes(label(rows, "target")))) == [line]


def test_the_labels_of_another_layout_are_one_line(write: Write) -> None:
    patients = [{**patient, TARGET: patient["num"]} for patient in sample_patients()]
    line = "target goes above 1: it holds the grades of num (0 healthy, 1 to 4 ill); name the column num"
    assert refusal(write(to_csv(patients, header=[*FEATURE_NAMES, TARGET]))) == [line]


def test_another_data_set_is_named_by_our_columns_only(write: Write) -> None:
    path = write("male,age,education,totChol,sysBP\n" + "1,61,2,231,141\n" * 20)
    line = "of our 13 measurements it has only age: another data set, or names that docs/own-files.md does not list; "
    line += "a table of other columns needs another --schema"
    assert refusal(path) == [line]


def test_missing_columns_that_must_be_known_are_all_named(write: Write) -> None:
    header = [name for name in HEADER if name not in ("sex", "thal", "num", "target")]
    line = (
        "missing columns: sex, target (or num); add each with its values "
        "(age, sex, cp, the diagnosis: these must be known of every patient)"
    )
    assert refusal(write(to_csv(sample_patients(), header=header))) == [line]


def test_a_feature_that_can_be_missing_may_lack_its_column(write: Write) -> None:
    whole = load_hospital(write(to_csv(sample_patients())))
    absent = ("ca", "thal", "chol")
    hospital = load_hospital(write(to_csv(sample_patients(), header=[name for name in HEADER if name not in absent])))
    expected = whole.patients.features.copy()
    expected[:, [FEATURE_NAMES.index(name) for name in absent]] = np.nan
    assert np.array_equal(hospital.patients.features, expected, equal_nan=True)
    assert "chol, ca, thal: not in the file, so missing for all patients" in hospital.warnings
    assert not any("not in the file" in line for line in whole.warnings)


def test_with_too_few_columns_or_names_of_another_layout_a_missing_column_is_still_refused(write: Write) -> None:
    few = [name for name in HEADER if name not in FEATURE_NAMES[3:10]]
    assert refusal(write(to_csv(sample_patients(), header=few)))[0].startswith("of our 13 measurements it has only ")
    other = to_csv(sample_patients()).replace("thalach", "thalachh", 1)
    assert "names of another layout (thalachh)" in refusal(write(other))[0]


def test_a_file_without_a_header_is_named(write: Write) -> None:
    path = write(to_csv(sample_patients()).split("\n", 1)[1])
    assert refusal(path) == ["has no header line; add a first line with the names of its 16 columns"]
    path = write(to_csv(sample_patients(), header=[*FEATURE_NAMES, LABEL.name]).split("\n", 1)[1])
    names = ",".join([*FEATURE_NAMES, LABEL.name])
    line = f"has no header line; add this first line if the columns are in the schema's order: {names}"
    assert refusal(path) == [line]


def test_a_doubled_column_is_refused_and_a_doubled_unknown_one_is_not(write: Write) -> None:
    path = write(to_csv(sample_patients(), header=["chol", *HEADER]))
    assert refusal(path) == ["chol stands 2 times in the header; keep one"]
    path = write(to_csv(sample_patients(), header=["", *HEADER, ""]))
    assert len(load_hospital(path).patients) == 22


WIDE = (
    "does a value hold the separator, such as a decimal comma? "
    "write such values in quotation marks, or with a decimal point"
)


def test_rows_with_too_many_fields_are_named(write: Write) -> None:
    lines = to_csv(sample_patients()).splitlines()
    lines[4] += ",x"
    lines[7] += ",1,2"
    assert refusal(write("\n".join(lines))) == [
        f"row 5 has 17 fields, the header 16; {WIDE}",
        f"row 8 has 18 fields, the header 16; {WIDE}",
    ]


def test_no_patients_and_too_few_patients_are_refused_and_seventeen_are_enough(write: Write) -> None:
    assert refusal(write(to_csv([]))) == ["has a header and no patients; give at least 17 rows"]
    assert refusal(write(to_csv(sample_patients(7)))) == ["needs at least 17 patients to train and test; has 7"]
    assert refusal(write(to_csv(sample_patients(16)))) == ["needs at least 17 patients to train and test; has 16"]
    assert len(load_hospital(write(to_csv(sample_patients(17)))).patients) == 17


def test_patients_that_the_usual_split_cannot_divide_are_a_warning(write: Write) -> None:
    line = (
        "20 patients are too few for the usual split (--test-share 0.25): fewer than 5 would be tested, and no results of so "
        "few leave a hospital; ask the coordinator for a larger --test-share"
    )
    assert load_hospital(write(to_csv(sample_patients(20)))).warnings == (line,)
    more_healthy = [*sample_patients(19), invent_patient(22)]
    assert load_hospital(write(to_csv(more_healthy))).warnings == ()


# --- other separators, words and marks --------------------------------------------------------------------------------


@pytest.mark.parametrize(("separator", "decimal"), [(";", ","), (";", "."), ("\t", ","), ("|", ".")])
def test_other_separators_and_decimal_commas_are_read(write: Write, separator: str, decimal: str) -> None:
    plain = load_hospital(write()).patients
    header, *rows = csv.reader(io.StringIO(to_csv(sample_patients())))
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, lineterminator="\r\n").writerows(
        [header, *([cell.replace(".", decimal) for cell in row] for row in rows)]
    )
    other = load_hospital(write(out.getvalue())).patients
    np.testing.assert_array_equal(other.features, plain.features)
    np.testing.assert_array_equal(other.labels, plain.labels)


def test_the_line_that_gives_excel_the_separator_is_read(write: Write) -> None:
    path = write("sep=;\r\n" + to_csv(sample_patients()).replace(",", ";").replace("1.5", "1,5"))
    np.testing.assert_array_equal(load_hospital(path).patients.features, load_hospital(write()).patients.features)


def test_decimal_commas_beside_decimal_points_are_named_cell_by_cell(write: Write) -> None:
    assert refusal(write(oldpeak="1,2")) == [
        'row 13: oldpeak is "1,2", not a number of mm in -8..10; write the decimal comma as a point'
    ]


def test_words_for_codes_are_read(write: Write) -> None:
    rows = label(invent_patients(), "target", "Absence", "Presence")
    words = load_hospital(write(to_bytes(recode(rows, WORDS)))).patients
    codes = load_hospital(write(to_bytes(invent_patients()))).patients
    np.testing.assert_array_equal(words.features, codes.features)
    np.testing.assert_array_equal(words.labels, codes.labels)


def test_other_marks_of_a_missing_value_are_read_and_counted(write: Write) -> None:
    patients = sample_patients()
    patients[3] |= {"chol": "NULL", "ca": "None", "thal": "."}
    patients[5] |= {"chol": "NULL", "oldpeak": "#N/A", "thal": "-"}
    hospital = load_hospital(write(to_csv(patients)))
    assert hospital.warnings == (
        '"NULL", "#N/A", "None", ".", "-" are read as missing (in 6 cells of chol, oldpeak, ca, thal)',
    )
    assert np.isnan(hospital.patients.features).sum() == 6


def test_a_value_that_may_be_a_code_of_a_missing_one_is_a_warning(write: Write) -> None:
    patients = sample_patients(40)
    for number, patient in enumerate(patients):
        patient["thalach"] = "99" if number % 8 == 0 else str(130 + number)
    assert load_hospital(write(to_csv(patients))).warnings == (
        "thalach: 99 stands in 5 of 40 rows, far from all others; if it means that the value is not known, leave these cells "
        "empty",
    )


# --- whatever the file holds ------------------------------------------------------------------------------------------


def check_schema(hospital: Hospital) -> None:
    """Every value is one that the schema allows; every text is one printable line."""
    patients = hospital.patients
    assert patients.features.shape == (len(patients), len(FEATURES))
    assert len(patients) >= MINIMUM_PATIENTS
    assert set(np.unique(patients.labels)) <= {0.0, 1.0}
    for column, values in zip(FEATURES, patients.features.T, strict=True):
        known = values[~np.isnan(values)]
        assert column.can_be_missing or len(known) == len(values)
        assert ((column.minimum <= known) & (known <= column.maximum)).all()
        assert not column.codes or set(known) <= set(column.codes)
    assert all(text.isprintable() for text in (hospital.name, hospital.source, *hospital.warnings))


def load_or_refuse(path: Path) -> None:
    try:
        check_schema(load_hospital(path))
    except UsageError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))


FUZZ = settings(max_examples=examples(150), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@FUZZ
@given(content=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused(write: Write, content: bytes) -> None:
    load_or_refuse(write(content))
    load_or_refuse(write(to_csv(sample_patients()).encode() + content))


BITES = ["", "?", "-9", "0", "1", "2", "3", "60", "nan", "inf", "-1", "1e999", "0.5", "9" * 50, " ", "é", "\0"]
BITES += [",", "\n", "\r", '"', ";", *HEADER, "synthetic-x"]


@FUZZ
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 12) | st.integers(1, 12), st.integers(0, 15), st.sampled_from(BITES) | st.text()),
        max_size=4,
    ),
    quoted=st.booleans(),
    cut=st.integers(0, 3),
)
def test_any_mutation_of_a_valid_file_is_read_or_refused(
    write: Write, edits: list[tuple[int, int, str]], quoted: bool, cut: int
) -> None:
    rows = [HEADER.copy(), *(list(patient.values()) for patient in sample_patients())]
    for row, column, bite in edits:
        rows[row][column] = bite
    rows = rows[: len(rows) - cut]
    out = io.StringIO(newline="")
    if quoted:
        csv.writer(out).writerows(rows)
    else:
        out.write("\n".join(",".join(row) for row in rows))
    load_or_refuse(write(out.getvalue().encode("utf-8", "replace")))


def cells_of(column: Column) -> st.SearchStrategy[str]:
    """Valid cells of one column, written exactly."""
    values = st.sampled_from(sorted(column.codes)) if column.codes else st.floats(column.minimum, column.maximum)
    texts = values.map(repr)
    return texts | st.just("") if column.can_be_missing else texts


@FUZZ
@given(rows=st.lists(st.tuples(*map(cells_of, FEATURES), st.sampled_from("01")), min_size=17, max_size=21))
def test_every_valid_table_comes_back_exactly(write: Write, rows: list[tuple[str, ...]]) -> None:
    patients = [dict(zip([*FEATURE_NAMES, TARGET], row, strict=True)) for row in rows]
    loaded = load_hospital(write(to_csv(patients, header=[*FEATURE_NAMES, TARGET]))).patients
    expected = np.array([[float(cell or "nan") for cell in row[:-1]] for row in rows])
    for column, values in zip(FEATURES, expected.T, strict=True):
        values[np.isin(values, column.missing_marks)] = np.nan
    np.testing.assert_array_equal(loaded.features, expected)
    np.testing.assert_array_equal(loaded.labels, [float(row[-1]) for row in rows])


def test_a_cell_of_a_hundred_thousand_digits_is_refused_at_once(write: Write) -> None:
    """A number pattern that backtracks would need hours."""
    start = "row 13: chol is "
    assert refusal(write(chol="1" * 100_000))[0].startswith(start)
    assert refusal(write(chol="1" * 100_000 + "x"))[0].startswith(start)


def test_no_heavy_package_is_imported_to_read_a_file() -> None:
    heavy = "{'tensorflow', 'flwr', 'sklearn', 'pyarrow.csv'}"
    code = f"import sys, fedhealth.data.hospital; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the split --------------------------------------------------------------------------------------------------------


def number_patients(labels: list[int]) -> Patients:
    """Patients whose first feature is their number."""
    features = np.zeros((len(labels), len(FEATURES)))
    features[:, 0] = np.arange(len(labels))
    return Patients(features=features, labels=np.array(labels, dtype=np.float32))


def numbers_of(patients: Patients) -> list[int]:
    return [int(number) for number in patients.features[:, 0]]


@FUZZ
@given(
    labels=st.lists(st.integers(0, 1), min_size=2, max_size=60),
    test_share=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_split_is_disjoint_complete_ordered_and_leaves_no_part_empty(
    labels: list[int], test_share: float, seed: int
) -> None:
    patients = number_patients(labels)
    train, test = split_patients(patients, test_share, seed)
    assert sorted(numbers_of(train) + numbers_of(test)) == list(range(len(labels)))
    for part in (train, test):
        assert len(part) >= 1
        assert numbers_of(part) == sorted(numbers_of(part))
        np.testing.assert_array_equal(part.labels, patients.labels[numbers_of(part)])
    if len(labels) > 2:  # two patients of two classes cannot fill both parts
        assert set(train.labels) == set(labels)


@pytest.mark.parametrize(
    ("healthy", "ill", "test_share", "test_healthy", "test_ill"),
    [
        (30, 10, 0.3, 9, 3),
        (8, 115, 0.25, 2, 29),
        (20, 0, 0.25, 5, 0),
        (0, 20, 0.25, 0, 5),
        (19, 1, 0.25, 5, 0),
        (1, 19, 0.9, 0, 17),
        (6, 4, 0.01, 1, 0),
        (4, 6, 0.01, 0, 1),
        (6, 4, 0.99, 5, 3),
    ],
)
def test_each_class_gives_its_share(
    healthy: int, ill: int, test_share: float, test_healthy: int, test_ill: int
) -> None:
    _, test = split_patients(number_patients([0] * healthy + [1] * ill), test_share, seed=0)
    assert [int((test.labels == label).sum()) for label in (0, 1)] == [test_healthy, test_ill]


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    patients = number_patients([0, 1] * 20)
    splits = {seed: numbers_of(split_patients(patients, 0.25, seed)[1]) for seed in range(20)}
    assert splits == {seed: numbers_of(split_patients(patients, 0.25, seed)[1]) for seed in range(20)}
    assert len({tuple(split) for split in splits.values()}) == 20


def test_the_split_of_seed_0_never_changes() -> None:
    """Results of earlier versions stay comparable only as long as this holds."""
    assert numbers_of(split_patients(number_patients([0, 1] * 10), 0.25, seed=0)[1]) == [3, 5, 8, 16]


def test_a_share_of_its_own_is_a_split_of_its_own() -> None:
    """Were one split inside the other, the sums of two runs would differ by the values of one patient."""
    patients = number_patients([0, 1] * 100)
    tested = [set(numbers_of(split_patients(patients, share, seed=0)[1])) for share in (0.25, 0.26, 0.25 + 1e-9)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len(tested[one] ^ tested[other]) > 50


def test_validation_patients_are_a_share_of_each_class_of_those_to_train_on_and_no_others() -> None:
    train, test = split_patients(number_patients([0] * 40 + [1] * 80), 0.25, seed=0)
    kept, held = hold_validation(train, 0.2, seed=0)
    assert [int((held.labels == label).sum()) for label in (0, 1)] == [6, 12]
    assert sorted(numbers_of(kept) + numbers_of(held)) == numbers_of(train)
    assert not set(numbers_of(held)) & set(numbers_of(test))
    assert numbers_of(hold_validation(train, 0.2, seed=0)[1]) == numbers_of(held)
    assert numbers_of(hold_validation(train, 0.2, seed=1)[1]) != numbers_of(held)


def test_the_draw_of_validation_patients_is_not_that_of_test_patients_again() -> None:
    """The same patients, share and seed: with one stream for both, the second draw would be known from the first."""
    patients = number_patients([0, 1] * 100)
    tested, held = (set(numbers_of(split(patients, 0.25, 0)[1])) for split in (split_patients, hold_validation))
    assert len(tested ^ held) > 50


def test_the_smallest_hospitals_are_those_that_the_usual_split_can_divide() -> None:
    """All numbers of ill patients, for all sizes around the two limits."""
    fits = {
        count: [fits_usual_split(number_patients([1] * ill + [0] * (count - ill))) for ill in range(count + 1)]
        for count in range(MINIMUM_PATIENTS - 2, 2 * ENOUGH_PATIENTS)
    }
    assert [any(fits[count]) for count in (MINIMUM_PATIENTS - 2, MINIMUM_PATIENTS - 1, MINIMUM_PATIENTS)] == [0, 0, 1]
    assert not all(fits[ENOUGH_PATIENTS - 1])
    assert all(all(fits[count]) for count in range(ENOUGH_PATIENTS, 2 * ENOUGH_PATIENTS))


@pytest.mark.parametrize(("num_train", "num_test", "enough"), [(10, 5, True), (9, 5, False), (10, 4, False)])
def test_a_part_may_be_too_small_for_sums_and_counts(num_train: int, num_test: int, enough: bool) -> None:
    train, test = number_patients([0] * num_train), number_patients([1] * num_test)
    assert enough_patients(train, test) is enough


def test_one_patient_cannot_be_split() -> None:
    with pytest.raises(UsageError, match=r"^1 patients cannot be split into train and test; give 2 or more$"):
        split_patients(number_patients([1]), 0.25, seed=0)


# --- the real hospitals -----------------------------------------------------------------------------------------------


@pytest.mark.uci
@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("cleveland", {"patients": 303, "ill": 139, "no chol": 0}),
        ("hungarian", {"patients": 294, "ill": 106, "no chol": 23}),
        ("switzerland", {"patients": 123, "ill": 115, "no chol": 123}),
        ("va", {"patients": 200, "ill": 149, "no chol": 56}),
    ],
)
def test_a_real_hospital_loads(tmp_path: Path, uci_folder: Path, file: str, counts: dict[str, int]) -> None:
    raw = (uci_folder / f"processed.{file}.data").read_text()
    path = tmp_path / "client_1.csv"
    path.write_text(",".join([*FEATURE_NAMES, LABEL.name]) + "\n" + raw)
    loaded = load_hospital(path)
    check_schema(loaded)
    assert not any("far from all others" in line for line in loaded.warnings)
    no_chol = int(np.isnan(loaded.patients.features[:, FEATURE_NAMES.index("chol")]).sum())
    ill = int(loaded.patients.labels.sum())
    assert {"patients": len(loaded.patients), "ill": ill, "no chol": no_chol} == counts
    frame = pd.read_csv(path, na_values="?")[list(FEATURE_NAMES)].to_numpy(dtype=float)
    known = ~np.isnan(loaded.patients.features)
    np.testing.assert_array_equal(loaded.patients.features[known], frame[known])


@pytest.mark.uci
def test_the_files_that_create_dataset_writes_load_as_uci(tmp_path: Path, uci_folder: Path) -> None:
    table = load_source(str(uci_folder), url="", patients=40, seed=0, raw_folder=Path("nowhere")).table
    found = {}
    for number, (name, rows) in enumerate(table.groupby(HOSPITAL, sort=False), start=1):
        path = tmp_path / f"client_{number}.csv"
        rows.to_csv(path, index=False)
        record_dataset(path)
        hospital = load_hospital(path)
        assert (hospital.name, hospital.source) == (name, "uci")
        expected = rows[list(FEATURE_NAMES)].to_numpy(dtype=float)
        np.testing.assert_array_equal(hospital.patients.features, expected)
        found[name] = (len(hospital.patients), int(hospital.patients.labels.sum()))
    assert found == {"cleveland": (303, 139), "hungary": (294, 106), "switzerland": (123, 115), "va": (200, 149)}

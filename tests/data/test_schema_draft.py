"""The draft of a schema from a table: what it guesses, what it asks, and that no value of few patients is in it."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.column_draft import ColumnDraft, draft_column, round_outwards
from fedhealth.data.hospital import load_hospital
from fedhealth.data.label_words import label_words
from fedhealth.data.new_patients import read_new_patients
from fedhealth.data.schema_draft import draft_schema
from fedhealth.data.schema_file import parse_schema
from fedhealth.data.sources.load import load_own_table
from fedhealth.data.sources.readings import AUTO
from tests.support.examples import examples
from tests.support.format_files import to_spss, to_stata

TWENTY = range(20)


def write_table(path: Path, columns: Mapping[str, Sequence[object]]) -> Path:
    """A CSV of these columns."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerows([columns.keys(), *zip(*columns.values(), strict=True)])
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def draft(*texts: object, name: str = "x", least: int = 5) -> ColumnDraft:
    return draft_column(name, [str(text) for text in texts], least)


EXPECTED = """\
# Drafted from mine.csv. Decide each line that has a question mark (docs/schemas.md).
# Codes and texts of fewer than 5 patients are not shown, and ranges are rounded outwards.

title = "died"  # ? what is predicted
source = "drafted from a table"  # ? who defined the columns
hospital = "Site"

[[column]]
name = "age"
meaning = "age"  # ? in words
kind = "number"
unit = ""  # ?
range = [30, 80]  # ? what a patient can have
# ? No cell is empty here. If the value is known of every patient: can-be-missing = false.

[[column]]
name = "stage"
meaning = "stage"  # ? in words
kind = "category"
codes = { 1 = "code 1", 2 = "code 2" }
# ? 9 is far from all others, and is not drafted. If it means that the value is not known: missing-marks = [9].
# ? Give each code its word. If the numbers are amounts or grades to calculate with: kind = "number".

[[column]]
name = "colour"
meaning = "colour"  # ? in words
kind = "category"
codes = { 0 = "blue", 1 = "Red" }
# ? Not shown: 1 more text of fewer than 5 patients. Add what is missing.

[[outcome]]
name = "died"
meaning = "died"  # ? in words
kind = "yes/no"
positive = [1]  # ? the codes of the patients who have what is predicted

# Left out:
# case: numbers of patients or records, it seems.
# seen: dates; add the time between two of them as a number of days if it matters.
"""


def test_a_draft_asks_what_a_person_must_decide_and_can_be_loaded_as_it_is(tmp_path: Path) -> None:
    table = {
        "case": [100 + 7 * each for each in TWENTY],
        "age": [64 - each for each in TWENTY],
        "Site": ["north"] * 20,
        "stage": ["", *[1] * 7, *[2] * 7, *[9] * 5],
        "colour": ["", *["Red"] * 5, "red", *["blue"] * 11, "green", "green"],
        "seen": ["2020-01-31"] * 10 + ["2021-12-01"] * 10,
        "died": [0, 1] * 10,
    }
    text = draft_schema(write_table(tmp_path / "mine.csv", table), "died", least=5)
    assert text == EXPECTED
    schema = parse_schema(text, "draft")
    assert schema.feature_names == ("age", "stage", "colour")
    assert schema.outcome.positive == (1,)


def test_a_draft_is_complete_once_its_questions_are_answered(tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "mine.csv", {"age": [45 + each % 9 for each in TWENTY], "status": ["dead", "alive"] * 10}
    )
    text = draft_schema(table, None, least=5)
    assert "# ? Which column is to be predicted?" in text and "# With two codes: status.\n" in text
    with pytest.raises(DataError, match='missing key "outcome"'):
        parse_schema(text, "draft")
    answered = text.replace('title = ""', 'title = "death"').replace(
        '[[column]]\nname = "status"', '[[outcome]]\npositive = [1]\nname = "status"'
    )
    schema = parse_schema(answered, "draft")
    (tmp_path / "my.toml").write_text(answered, encoding="utf-8")
    assert load_hospital(table, schema=schema).patients.labels.tolist() == [1.0, 0.0] * 10


def test_a_table_without_a_column_is_read_by_its_hospital_and_by_create_dataset_alike(tmp_path: Path) -> None:
    columns = {"age": [45 + each % 9 for each in TWENTY], "hb": [11 + each % 7 for each in TWENTY]}
    table = write_table(tmp_path / "mine.csv", {**columns, "stage": [0, 1, 2, 3] * 5, "died": [0, 1] * 10})
    schema = parse_schema(draft_schema(table, "died", least=5), "draft")
    lacking = write_table(tmp_path / "lacking.csv", {**columns, "died": [0, 1] * 10})
    line = "stage: not in the file, so missing for all patients"
    assert line in load_hospital(lacking, schema=schema).warnings
    source = load_own_table(str(lacking), schema, AUTO)
    assert source.table["stage"].isna().all() and list(source.table)[:3] == ["age", "hb", "stage"]
    assert f"{lacking}: {line}" in source.warnings
    assert line in read_new_patients(lacking.read_bytes(), lacking, schema).warnings


def test_an_outcome_in_other_codes_is_asked_about(tmp_path: Path) -> None:
    table = write_table(tmp_path / "mine.csv", {"age": [40 + each % 9 for each in TWENTY], "y": [1, 2] * 10})
    text = draft_schema(table, "Y", least=5)
    assert "positive = []  # ? which of 1, 2 are the patients" in text
    with pytest.raises(DataError, match=r"draft: line \d+: y: an outcome needs some of its codes"):
        parse_schema(text, "draft")
    assert parse_schema(text.replace("positive = []", "positive = [2]"), "draft").outcome.positive == (2,)


def test_a_column_that_is_the_outcome_in_other_words_is_asked_about(tmp_path: Path) -> None:
    grades = [0, 1, 0, 2] * 5
    table = {"grade": grades, "other": [0, 0, 1, 1] * 5, "ill": [int(grade > 0) for grade in grades]}
    parts = draft_schema(write_table(tmp_path / "mine.csv", table), "ill", least=5).split("\n\n")
    assert ["goes with one value of the outcome" in part for part in parts[2:4]] == [True, False]


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        ("none", '--outcome "none" is no column of '),
        ("age", r"--outcome is age \(a number\); give a column with codes, such as 0 and 1"),
        ("name", r"--outcome is name \(fewer than two texts"),
        ("twice", '--outcome "twice" stands 2 times in the header of '),
    ],
)
def test_a_column_that_cannot_be_the_outcome_is_one_line(tmp_path: Path, outcome: str, line: str) -> None:
    columns = {"age": [40 + each for each in reversed(TWENTY)], "name": [f"patient {'x' * each}" for each in TWENTY]}
    table = write_table(tmp_path / "mine.csv", {**columns, "twice": [0, 1] * 10, "Twice": [0, 1] * 10})
    with pytest.raises(UsageError, match=line):
        draft_schema(table, outcome, least=5)


def test_a_file_that_is_no_table_of_patients_is_refused_as_by_client_py(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        draft_schema(tmp_path / "none.csv", None, least=5)
    with pytest.raises(DataError, match="needs at least 17 patients"):
        draft_schema(write_table(tmp_path / "few.csv", {"a": [1, 2], "b": [0, 1]}), None, least=5)
    with pytest.raises(DataError, match="has no header line"):
        draft_schema(write_table(tmp_path / "bare.csv", {"1": [2] * 20, "3": [4] * 20}), None, least=5)


def test_columns_that_no_schema_may_have_are_left_out(tmp_path: Path) -> None:
    names = ["a=b", "", "c d", "C_D", "ok", "also"]
    rows = [names, *([str(row % 2)] * 6 for row in TWENTY)]
    (tmp_path / "mine.csv").write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")
    text = draft_schema(tmp_path / "mine.csv", "ok", least=5)
    assert parse_schema(text, "draft").column_names == ("also", "ok", "hospital")
    assert re.findall(r"^# ([^?\n]*?): ", text, re.MULTILINE) == ["a=b", "(no name)", "c d", "C_D"]


def test_decimal_commas_are_read(tmp_path: Path) -> None:
    lines = ["hb;died", *(f"{12 + each % 3},{each % 10};{each % 2}" for each in TWENTY)]
    (tmp_path / "mine.csv").write_text("\n".join(lines), encoding="utf-8")
    assert "range = [11, 16]" in draft_schema(tmp_path / "mine.csv", "died", least=5)


# --- one column -------------------------------------------------------------------------------------------------------


def test_whole_numbers_of_few_kinds_are_codes_and_many_are_a_number() -> None:
    assert draft(*[1, 2, 3] * 7).codes == {1: "code 1", 2: "code 2", 3: "code 3"}
    assert draft(*[0, 1] * 10).kind == draft(*["yes", "n"] * 10).kind == draft(*[0.0, 1.0] * 10).kind == "yes/no"
    assert draft(*[0.5, 1.5] * 10).kind == "number"
    assert draft(*reversed(range(40, 60))).kind == "number"
    assert draft(*["m", "Female"] * 10).codes == {0: "female", 1: "male"}


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["", "NA", "?"] * 9, "none of its cells has a value"),
        ([7] * 20, "all its cells have the same value"),
        (["01.02.2020", "3/4/99", "2020-01-01T10:00", ""] * 5, "dates"),
        ([f"P{each}" for each in range(30)], "free text, names or IDs"),
        (["x" * 50, "y"] * 10, "free text, names or IDs"),
        ([f"p{each}" for each in TWENTY], "fewer than two texts that 5 patients have"),
        ([1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144], "numbers of patients or records"),
        ([1e7, 2e7, 1.5e7], "numbers beyond 1,000,000; add it in a larger unit"),
        ([1e-6, 2e-6, 3e-6], "numbers less than 0.001 apart; add it in a smaller unit"),
    ],
)
def test_what_is_no_feature_is_left_out_with_the_reason(texts: list[object], reason: str) -> None:
    left_out = draft(*texts)
    assert left_out.kind is None and left_out.reason.startswith(reason)


def test_numbers_of_patients_are_known_by_a_name_too() -> None:
    numbers = [7, 3, 9, 1, 12, 40, 31, 28, 5, 60]
    assert [draft(*numbers, name=name).kind for name in ("id", "Patient_ID", "record", "case no")] == [None] * 4
    assert [draft(*numbers, name=name).kind for name in ("x", "number of vessels", "fluid", "nose")] == ["number"] * 4


def test_marks_of_a_missing_value_are_shown_if_enough_patients_have_them_and_are_in_no_range() -> None:
    values = [51, 47, 63, 55, 58, 49, 60, 52, 66, 45] * 2
    shown, hidden = draft(*values, *[999] * 5, *[-9] * 5), draft(*values, *[999] * 4)
    assert shown.ends == hidden.ends == draft(*values).ends == ("30", "80")
    assert any("missing-marks = [-9, 999]" in line for line in shown.notes)
    assert any(line.startswith("A number of fewer than 5 patients, not shown, is far") for line in hidden.notes)
    assert "999" not in repr(hidden)
    assert "not known" not in repr(draft(*values, *[70] * 5))
    assert draft(*[0, 1] * 10, *[9] * 5).kind == "yes/no"
    assert any("missing-marks = [0]" in line for line in draft(*[200 + 3 * each for each in TWENTY], *[0] * 5).notes)


def test_texts_among_numbers_are_a_note() -> None:
    numbers = list(range(60, 40, -1)) * 2
    assert 'texts instead of numbers: "unknown". Leave' in draft(*numbers, *["unknown"] * 5).notes[1]
    assert "texts instead of numbers, each in fewer than 5 rows" in draft(*numbers, "secret").notes[1]


# --- disclosure -------------------------------------------------------------------------------------------------------

NUMBERS = st.decimals(-(10**6), 10**6, places=3) | st.integers(-1000, 1000).map(Decimal)


@settings(max_examples=examples(500))
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=30), places=st.integers(0, 3))
def test_an_end_of_a_range_shows_the_extreme_value_only_as_one_of_ten(numbers: list[Decimal], places: int) -> None:
    """Its place is known to one step, which is at least ten units of the last digit and a tenth of the span."""
    unit = Decimal(1).scaleb(-places)
    rounded = [number.quantize(unit) for number in numbers]
    low, high = round_outwards([str(number) for number in rounded])
    last = Decimal(1).scaleb(min(0, *(number.normalize().as_tuple().exponent for number in rounded)))  # type: ignore[type-var]
    for end, extreme, zero in ((low, min(rounded), min(rounded) >= 0), (high, max(rounded), max(rounded) <= 0)):
        if zero and end == 0:
            continue
        distance = abs(end - extreme)
        assert distance >= 10 * last and 10 * distance >= max(rounded) - min(rounded)
        same = [round_outwards([str(extreme + shift * last), *map(str, rounded)]) for shift in (1, -1)]
        assert any(end in ends for ends in same)
    assert low < min(rounded) or low == min(rounded) == 0 or low == 0 < min(rounded)


CELLS = st.sampled_from(["", "NA", "yes", "no", "3", "4.5", "1e999", "-9", "red", "2020-01-01"]) | st.text(max_size=50)


@settings(max_examples=examples(500))
@given(
    common=st.lists(CELLS, min_size=1, max_size=3),
    rare=st.lists(st.integers(10**7, 10**9).map(lambda number: f"word{number}x"), min_size=1, max_size=9, unique=True),
    numeric=st.booleans(),
)
def test_no_text_of_few_patients_is_in_a_draft(common: list[str], rare: list[str], numeric: bool) -> None:
    texts = [text.strip() for text in [*common * 9, *rare * 4, *(["17.5", "3"] * 20 if numeric else [])]]
    assert not any(word in repr(draft(*texts)) for word in rare)


@settings(max_examples=examples(300))
@given(columns=st.lists(st.lists(CELLS, min_size=20, max_size=20), min_size=2, max_size=5), data=st.data())
def test_a_draft_of_any_table_is_a_schema_once_an_outcome_is_in_it(
    columns: list[list[str]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = data.draw(st.lists(st.text(min_size=1, max_size=8), min_size=len(columns), max_size=len(columns)))
    table = dict(zip(names, columns, strict=True)) | {"died": ["0", "1"] * 10, "sex": ["m", "f"] * 10}
    path = write_table(tmp_path_factory.mktemp("draft") / "any.csv", table)
    try:
        text = draft_schema(path, "died", least=5)
    except UsageError as error:
        assert str(error).startswith((f"{path}: ", "--outcome"))
        return
    assert "sex" in parse_schema(text, "draft").feature_names or "sex: another column" in text


def test_a_draft_of_codes_that_enough_patients_have_accepts_its_own_table(tmp_path: Path) -> None:
    table = {
        "age": [45 + 3 * (each % 11) for each in range(60)],
        "hb": [f"{11 + each % 7}.{each % 10}" for each in range(60)],
        "stage": [each % 3 for each in range(60)],
        "smoker": ["yes", "no", ""] * 20,
        "died": [0, 1] * 30,
    }
    path = write_table(tmp_path / "mine.csv", table)
    schema = parse_schema(draft_schema(path, "died", least=5), "draft")
    assert len(load_hospital(path, schema=schema).patients) == 60


# --- labels of SPSS and Stata files ------------------------------------------------------------------------------------

GRADES = {1: "mild", 2: "Moderate ", 3: "severe", 9: "NA"}
LABELLED: dict[str, list[object]] = {
    "grade": [1.0 + place % 3 for place in TWENTY],
    "smoker": [float(place % 2) for place in TWENTY],
    "treated": [1.0 + place % 2 for place in TWENTY],
    "weight": [60.5 + place for place in range(19)] + [999.0],
    "pain": [float(place % 4) for place in TWENTY],
    "died": [float(place % 2) for place in TWENTY],
}
LABELS = {
    "grade": GRADES,
    "smoker": {0: "No", 1: "Yes"},
    "treated": {1: "yes", 2: "no"},
    "weight": {999: "not weighed"},
    "pain": {0: "no pain at all", 3: "worst"},
    "died": {0: "alive", 1: "dead"},
}


@pytest.mark.parametrize(("write", "name"), [(to_spss, "p.sav"), (to_stata, "p.dta")])
def test_labels_of_a_file_are_the_words_of_its_codes(write: Callable[..., bytes], name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(write(LABELLED, variable_value_labels=LABELS))
    text = draft_schema(tmp_path / name, "died", 5)
    schema = parse_schema(text, "my.toml")
    assert schema.columns["grade"].codes == {1: "mild", 2: "Moderate", 3: "severe"}
    assert (schema.columns["smoker"].kind, schema.columns["treated"].codes) == ("yes/no", {1: "yes", 2: "no"})
    assert schema.columns["pain"].codes == {0: "no pain at all", 1: "code 1", 2: "code 2", 3: "worst"}
    assert schema.columns["weight"].maximum < 999
    assert schema.outcome.codes == {0: "alive", 1: "dead"}
    assert '# ? The file has the labels 999 = "not weighed". If one means that the value is not known' in text
    if name == "p.sav":  # the weight of 999 is a question for the hospital
        accepted = {**LABELLED, "weight": [60.5 + place for place in TWENTY]}
        (tmp_path / name).write_bytes(write(accepted, variable_value_labels=LABELS))
        assert len(load_hospital(tmp_path / name, schema=schema).patients) == 20


def test_a_label_that_no_schema_may_have_as_a_word_is_a_placeholder() -> None:
    labels = {1.0: "1", 2.0: "low", 3.0: "LOW", 4.0: "unknown\nvalue", 5.5: "half"}
    assert label_words(labels) == {1: "code 1", 2: "low", 3: "LOW (3)", 4: "unknown value"}


def test_a_row_for_each_measurement_is_refused_as_by_client_py(tmp_path: Path) -> None:
    rows = range(40)
    names = ("measurement_id", "person_id", "measurement_concept_id", "value_as_number", "unit_concept_id")
    table = write_table(tmp_path / "measurement.csv", {name: list(rows) for name in names})
    for refused in (lambda: draft_schema(table, None, 5), lambda: load_hospital(table)):
        with pytest.raises(DataError) as caught:
            refused()
        assert str(caught.value) == (
            f"{table}: is an OMOP table with a row for each event; give a table with a row for each patient and a column "
            "for each measurement, in one unit"
        )


def test_a_checkbox_of_redcap_is_a_column_of_its_own_with_a_note(tmp_path: Path) -> None:
    columns = {f"drugs___{code}": [int(place % code == 0) for place in range(40)] for code in (2, 3)}
    table = write_table(tmp_path / "redcap.csv", {**columns, "died": [place % 2 for place in range(40)]})
    text = draft_schema(table, "died", 5)
    schema = parse_schema(text, "my.toml")
    assert schema.feature_names == ("drugs___2", "drugs___3")
    assert text.count("writes 0 also if the question was never asked") == 2
    assert len(load_hospital(table, schema=schema).patients) == 40

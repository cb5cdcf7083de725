"""A mapping file is checked against the schema when it is read: one line for each fault, with the file's line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.mapping import FileMapping
from fedhealth.data.mapping_file import load_mapping, parse_mapping
from fedhealth.data.schema_file import heart_disease

HEART = heart_disease()


def parse(text: str) -> FileMapping:
    return parse_mapping(text, "my.toml", HEART)


def faults(text: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        parse(text)
    assert not any("\n" in line for line in caught.value.faults)
    return [line.removeprefix("my.toml: ") for line in caught.value.faults]


def of_column(line: str, name: str = "chol") -> str:
    return f'[[column]]\nname = "{name}"\n{line}\n'


def test_names_units_codes_and_marks_are_read() -> None:
    mapping = parse(
        """
missing-marks = [999, "n.b."]

[[column]]
name = "CHOL"
in-file = "Cholesterin"
from = "MMOL / l"

[[column]]
name = "sex"
codes = { W = "Female", 2 = 1, D = "1" }
missing-marks = ["9"]
"""
    )
    chol, sex = mapping.columns
    assert (mapping.file, mapping.marks) == ("my.toml", {999.0, "n.b."})
    assert (chol.name, chol.in_file, chol.line, chol.conversion.factor) == ("chol", "Cholesterin", 4, 38.67)
    assert (sex.name, sex.in_file, sex.line, sex.conversion.factor) == ("sex", "sex", 9, 1)
    assert (sex.codes, sex.marks) == ({"w": 0, 2.0: 1, "d": 1}, {9.0})
    assert mapping.has_codes("SEX")
    assert not mapping.has_codes("Cholesterin")


def test_an_empty_file_maps_nothing() -> None:
    assert parse("") == FileMapping("my.toml", ())


def test_a_unit_without_a_factor_in_the_schema_needs_one() -> None:
    assert faults(of_column('from = "nmol/l"')) == [
        'line 3: chol: the schema has no factor for "nmol/l" (it has mg/dl, mmol/l, g/l); give factor, which makes it mg/dl'
    ]
    assert parse(of_column('from = "nmol/l"\nfactor = 0.5')).columns[0].conversion == (0.5, 0)
    assert parse(of_column('from = "nmol/l"\nfactor = 0.5\noffset = -3')).columns[0].conversion == (0.5, -3)
    assert parse(of_column('from = "mg/dl"')).columns[0].conversion == (1, 0)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            of_column('from = "mmol/l"\nfactor = 39'),
            'line 4: chol: the schema has the factor of "mmol/l": 38.67; leave factor out',
        ),
        (of_column('from = "x"\nfactor = 0'), "line 4: chol: factor is 0; give a number above 0"),
        (of_column('from = "x"\nfactor = nan'), "line 4: chol: factor is nan; give a number above 0"),
        (of_column("factor = 2"), "line 3: chol: factor needs the unit of the file; give from"),
        (of_column("offset = 2"), "line 3: chol: offset needs the unit of the file; give from"),
        (
            of_column('from = "x"\nfactor = 1\noffset = inf'),
            "line 5: chol: offset is inf; give what is added after the factor",
        ),
        (
            of_column('from = "mmol/l"\noffset = 1'),
            'line 4: chol: the schema has the factor of "mmol/l": 38.67; leave offset out',
        ),
        (of_column('from = "mm"', "sex"), "line 3: sex: has codes and no unit; leave out from"),
        (of_column('codes = { low = "0" }'), "line 3: chol: the schema has no codes for it; leave out codes"),
        (
            of_column('codes = { W = "woman" }', "sex"),
            'line 3: sex: "W" is to be woman, which is none of 0 (female), 1 (male)',
        ),
        (
            of_column("codes = { W = 2 }", "sex"),
            'line 3: sex: "W" is to be 2, which is none of 0 (female), 1 (male)',
        ),
        (
            of_column("codes = { w = 0, W = 1 }", "sex"),
            'line 3: sex: "w" and "W" are one code; keep one',
        ),
        (
            of_column('codes = { 1 = 0, "1.0" = 1 }', "sex"),
            'line 3: sex: "1" and "1.0" are one code; keep one',
        ),
        (
            of_column("codes = { 9 = 0 }\nmissing-marks = [9]", "sex"),
            'line 4: sex: "9" is a code and a mark of a missing value; keep one',
        ),
        (of_column('in-file = " "'), "line 3: chol: in-file is empty; give the column's name in the file"),
        (
            of_column("", "cholesterin"),
            "line 2: cholesterin: is no column of the schema; give one of its names, and the file's name as in-file",
        ),
        (
            of_column("codes = { a = 1 }", "hospital"),
            "line 3: hospital: the hospital's name has no codes; leave it out",
        ),
        (of_column('unit = "mmol/l"'), 'line 3: unknown key "unit"; see docs/own-files.md'),
        (of_column("from = 5"), "line 3: from: expected"),
        ('[[column]]\nfrom = "mmol/l"\n', 'line 1: missing key "name"; see docs/own-files.md'),
        ("colunm = 5\n", 'line 1: unknown key "colunm"; see docs/own-files.md'),
        (
            of_column('in-file = "A"') + of_column('in-file = "B"'),
            'line 5: "chol" is the name of line 1 too; one column of the file is one of the schema',
        ),
        (
            of_column("") + of_column("", "CHOL"),
            'line 5: "chol" is the name of line 1 too; one column of the file is one of the schema',
        ),
        (
            of_column('in-file = "A"') + of_column('in-file = "a"'),
            'line 5: "chol" is the name of line 1 too; one column of the file is one of the schema',
        ),
        (
            of_column('in-file = "A"') + of_column('in-file = "a"', "age"),
            'line 6: "a" is the in-file of line 1 too; one column of the file is one of the schema',
        ),
    ],
)
def test_every_fault_is_one_line_with_the_line_of_the_file(text: str, line: str) -> None:
    (found,) = faults(text)
    assert found.startswith(line)


def test_faults_stand_in_the_order_of_the_lines() -> None:
    text = of_column("factor = 2") + of_column("", "x") + of_column("codes = { W = 2 }", "sex")
    assert [line.split(":")[0] for line in faults(text)] == ["line 3", "line 5", "line 9"]


def test_a_file_that_cannot_be_read_or_is_no_toml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    with pytest.raises(UsageError, match=r"my.toml: cannot be read \(.*\); give a mapping file \(TOML\)"):
        load_mapping(path, HEART)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"my.toml: is not UTF-8 text; give a mapping file \(TOML\)"):
        load_mapping(path, HEART)
    path.write_text("name: chol")
    with pytest.raises(DataError, match=r"my.toml: line 1: is not TOML \(.*\); docs/own-files.md has an example"):
        load_mapping(path, HEART)
    path.write_text(of_column('in-file = "Chol"'), encoding="utf-8-sig")
    assert load_mapping(path, HEART).columns[0].in_file == "Chol"


VALUES = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.sampled_from(["chol", "sex", "", "mmol/l"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=3,
)


@given(
    st.dictionaries(
        st.sampled_from(["name", "in-file", "from", "factor", "codes", "missing-marks", "other"]), VALUES, max_size=4
    )
)
def test_any_column_is_a_mapping_or_a_fault_with_a_line(keys: dict[str, object]) -> None:
    text = "[[column]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    try:
        assert parse(text).columns[0].name in HEART.column_names
    except DataError as error:
        assert all(line.startswith("my.toml: line ") and "\n" not in line for line in error.faults)

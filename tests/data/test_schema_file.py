"""Schema files: what each fault says and where, and that nothing but a Schema or such lines comes of any text."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.schema import AGREED, Column, Schema
from fedhealth.data.schema_file import heart_disease, load_schema, parse_schema
from fedhealth.data.schema_keys import ColumnTable, SchemaTable
from fedhealth.data.toml_lines import find_lines
from tests.support.examples import examples

PAGE = (Path(__file__).parents[2] / "docs" / "schemas.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILE = """\
title = "illness"
source = "nobody"

[[column]]
name = "size"
meaning = "size"
kind = "number"
range = [0, 100]

[[column]]
name = "place"
meaning = "place"
codes = { 1 = "left", 2 = "right" }

[[outcome]]
name = "ill"
meaning = "ill"
kind = "yes/no"
positive = [1]
"""
SIZE, PLACE, ILL = 5, 11, 16
"""The lines of the names."""


def lines_of(text: str) -> list[str]:
    """The faults of a file, without its name."""
    with pytest.raises(DataError) as refused:
        parse_schema(text, "my.toml")
    assert all(line.startswith("my.toml: line ") for line in refused.value.faults)
    return [line.removeprefix("my.toml: ") for line in refused.value.faults]


def with_line(after: int, line: str) -> str:
    """The file with one more line after line `after`."""
    lines = FILE.split("\n")
    return "\n".join([*lines[:after], line, *lines[after:]])


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_example_of_the_page_is_a_schema() -> None:
    schema = parse_schema(EXAMPLE, "readmission.toml")
    assert schema.feature_names == ("age", "sex", "hba1c", "smoker")
    assert schema.outcome.codes == {0: "no", 1: "yes"}
    assert schema.columns["age"].missing_marks == (-9.0,)
    assert schema.columns["hba1c"].other_names == ("hba1c(%)", "a1c")
    assert schema.columns["sex"].code_of_word["woman"] == schema.columns["sex"].code_of_word["f"] == 1


def test_the_page_describes_every_key_and_no_other() -> None:
    whole, column = PAGE.split("## Keys of a column")
    assert re.findall(r"^\| `([a-z-]+)` \|", whole, re.MULTILINE) == list(SchemaTable.__struct_encode_fields__)
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", column, re.MULTILINE)) == sorted(
        ColumnTable.__struct_encode_fields__
    )


def test_every_example_in_the_table_of_keys_is_a_value_of_its_key() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|.*\| `([^`]+)` \|$", PAGE, re.MULTILINE)
    assert len(rows) == 20
    for key, example in rows:
        assert tomllib.loads(f"{key} = {example}")


def test_the_page_names_what_hospitals_must_have_in_common() -> None:
    (paragraph,) = re.findall(r"Each column has a fingerprint of its (.*?);", PAGE, re.DOTALL)
    keys = {"minimum": "range", "maximum": "range", "reference_std": "reference-deviation"}
    assert set(re.findall("`(.*?)`", paragraph)) == {keys.get(name, name.replace("_", "-")) for name in AGREED}


def test_the_page_shows_the_lines_of_a_file_with_faults(tmp_path: Path) -> None:
    faulty = (
        EXAMPLE.replace("[18, 120]", "[120, 18]").replace('2 = "male"', '2 = "1"').replace('unit = "%"', 'units = "%"')
    )
    (tmp_path / "readmission.toml").write_text(faulty, encoding="utf-8")
    with pytest.raises(DataError) as refused:
        load_schema(tmp_path / "readmission.toml")
    lines = [f"error: {line.replace(str(tmp_path), '')[1:]}" for line in refused.value.faults]
    assert "\n".join(lines) in PAGE


# --- one fault, one line ----------------------------------------------------------------------------------------------

WITH_A_LINE: dict[tuple[int, str], tuple[str, str]] = {
    (1, "colour = 1"): ("line 2", 'unknown key "colour"; see docs/schemas.md'),
    (1, 'hospital = ""'): ("line 2", "hospital: give a name of 1 to 100 printable characters"),
    (1, 'hospital = "Size"'): ("line 2", '"size" is a name of size and of Size; each needs its own'),
    (1, "missing-marks = [nan]"): ("line 2", "missing-marks: nan is no number of a file"),
    (1, "missing-marks = [2]"): ("line 14", "place, codes: 2 is a code and stands for a missing value"),
    (1, 'hospital-other-names = ["ILL"]'): ("line 1", '"ill" is a name of ill and of hospital'),
    (1, 'hospital-other-names = [" "]'): ("line 2", "hospital-other-names: one of them is empty"),
    (SIZE, "colour = 1"): ("line 6", 'unknown key "colour"; see docs/schemas.md'),
    (SIZE, 'name = "b"'): ("line 6", "is not TOML (Cannot overwrite a value); docs/schemas.md has an example"),
    (SIZE, "unit = 3"): ("line 6", "unit: expected a text, got a whole number; see docs/schemas.md"),
    (SIZE, 'unit = "\\n"'): ("line 6", "size, unit: has a character that cannot be printed"),
    (SIZE, "positive = [1]"): ("line 6", "size, positive: only an [[outcome]] has positive codes"),
    (SIZE, "other-units = { mm = [0.1, inf] }"): (
        "line 6",
        'size, other-units: the offset of "mm" is inf; give what is added after the factor',
    ),
    (SIZE, "other-units = { mm = 0 }"): ("line 6", 'size, other-units: the factor of "mm" is 0; give a number above 0'),
    (SIZE, "reference-mean = 5"): ("line 6", "size, reference-mean: give both"),
    (SIZE, "reference-deviation = 5"): ("line 6", "size, reference-deviation: give both"),
    (SIZE, "reference-mean = inf\nreference-deviation = 1"): ("line 6", "size, reference-mean: is inf; give a number"),
    (SIZE, "reference-mean = 1\nreference-deviation = 0"): ("line 7", "size, reference-deviation: is 0; give a number"),
    (SIZE, "missing-marks = [inf]"): ("line 6", "size, missing-marks: inf is no number of a file"),
    (SIZE, "subgroups = [50]"): ("line 6", "size, subgroups: patients without the value would be in no subgroup"),
    (SIZE, "subgroups = [9, 5]\ncan-be-missing = false"): ("line 6", "size, subgroups: give the edges of the bands"),
    (SIZE, "subgroups = true\ncan-be-missing = false"): ("line 6", "size, subgroups: give the edges of the bands"),
    (SIZE, "subgroups = [200]\ncan-be-missing = false"): ("line 6", "size, subgroups: an edge is not inside the range"),
    (SIZE, 'codes = { 1 = "one" }'): ("line 6", "size, codes: at least two codes with words are needed"),
    (SIZE, 'codes = { 1 = "one", 200 = "many" }'): ("line 6", "size, codes: 200 is outside the range 0..100"),
    (SIZE, "words = { many = 200 }"): ("line 6", 'size, words: "many" is 200, which is none of the codes'),
    (SIZE, 'other-names = [""]'): ("line 6", "size, other-names: one of them is empty"),
    (SIZE, 'other-names = ["Place"]'): ("line 12", '"place" is a name of size and of place'),
    (SIZE, 'other-names = ["HOSPITAL"]'): ("line 1", '"hospital" is a name of size and of hospital'),
    (PLACE, "range = [0, 1]"): ("line 12", 'place, range: only a [[column]] of kind = "number" has it'),
    (PLACE, 'unit = "m"'): ("line 12", 'place, unit: only a [[column]] of kind = "number" has it'),
    (PLACE, "reference-mean = 0"): ("line 12", 'place, reference-mean: only a [[column]] of kind = "number" has it'),
    (PLACE, "words = { up = 3 }"): ("line 12", 'place, words: "up" is 3, which is none of the codes'),
    (PLACE, "words = { left = 2 }"): ("line 12", 'place, words: "left" is the word of the code 1, not of 2'),
    (PLACE, 'words = { "a b" = 1, a_b = 2 }'): ("line 12", 'place, words: "a_b" is the word of the code 1, not of 2'),
    (PLACE, 'words = { "2" = 1 }'): ("line 12", 'place, words: "2" reads as a number; give a word'),
    (PLACE, "words = { None = 1 }"): ("line 12", 'place, words: "None" stands for a missing value in files'),
    (PLACE, "missing-marks = [-9, 2]"): ("line 12", "place, missing-marks: 2 is a code and stands for a missing value"),
    (PLACE, "subgroups = true"): ("line 12", "place, subgroups: patients without the value would be in no subgroup"),
    (PLACE, "subgroups = [1]\ncan-be-missing = false"): ("line 12", "place, subgroups: give true"),
    (PLACE, 'kind = "number"\nrange = [0, true]'): ("line 13", "range: expected a number, got true or false"),
    (PLACE, 'kind = "text"'): ("line 12", 'kind: "text" is none of its values; see docs/schemas.md'),
    (ILL, "range = [0, 1]"): ("line 17", 'ill, range: only a [[column]] of kind = "number" has it'),
    (ILL, "can-be-missing = true"): ("line 17", "ill, can-be-missing: an outcome is known of every patient"),
    (ILL, "subgroups = true"): ("line 17", "ill, subgroups: only a [[column]] has subgroups"),
    (ILL, 'codes = { 0 = "no", 1 = "yes", 2 = "perhaps" }'): ("line 17", "ill, codes: 3 codes are not yes/no"),
}
CHANGED: dict[tuple[str, str], tuple[str, str]] = {
    ('title = "illness"\n', ""): ("line 1", 'missing key "title"; see docs/schemas.md'),
    ('"illness"', '" "'): ("line 1", "title: give what is predicted, in one line"),
    ('"nobody"', '"\\u0007"'): ("line 2", "source: has a character that cannot be printed"),
    ('"nobody"', "[]"): ("line 2", "source: expected a text, got a list"),
    ('meaning = "size"\n', ""): ("line 4", 'missing key "meaning"; see docs/schemas.md'),
    ('meaning = "size"', 'meaning = ""'): ("line 6", "size, meaning: give what the column holds"),
    ('name = "size"', 'name = ""'): ("line 5", "column, name: give a name of 1 to 100 printable characters"),
    ('name = "size"', 'name = "_-"'): ("line 5", "_-, name: give a name of 1 to 100 printable characters"),
    ('name = "size"', 'name = "si=ze"'): ("line 5", "si=ze, name: give a name of 1 to 100 printable characters"),
    ('name = "size"', f'name = "{"x" * 101}"'): ("line 5", f"{'x' * 37}..., name: give a name of 1 to 100"),
    ('name = "size"', 'name = "PLACE"'): ("line 11", '"place" is a name of PLACE and of place; each needs its own'),
    ('name = "size"', 'name = "pl a-c_e"'): (
        "line 11",
        '"place" is a name of pl a-c_e and of place; each needs its own',
    ),
    ('name = "ill"', 'name = "size"'): ("line 16", '"size" is a name of size and of size; each needs its own'),
    ("range = [0, 100]\n", ""): ("line 4", "size: a number needs its valid range"),
    ("[0, 100]", "[100, 0]"): ("line 8", "size, range: 100..0 is empty; give the lower end first"),
    ("[0, 100]", "[7, 7]"): ("line 8", "size, range: 7..7 is empty"),
    ("[0, 100]", "[nan, 7]"): ("line 8", "size, range: nan..7 is empty"),
    ("[0, 100]", "[0, inf]"): ("line 8", "size, range: 0..inf goes beyond 1e+06; give it in a larger unit"),
    ("[0, 100]", "[-1e7, 0]"): ("line 8", "size, range: -1e+07..0 goes beyond 1e+06"),
    ("[0, 100]", "[0, 1e-4]"): ("line 8", "size, range: 0..0.0001 is narrower than 0.001; give it in a smaller unit"),
    ("[0, 100]", f"[0, {'9' * 400}]"): ("line 8", "range: number out of range"),
    ("[0, 100]", f"[0, {'9' * 5000}]"): ("line 20", "is not TOML (Exceeds the limit"),
    ("[0, 100]", "[0]"): ("line 8", "range: expected a list of length 2, got 1"),
    ("[0, 100]", "[" * 3000): ("line 20", "is not TOML ("),
    ('1 = "left"', '1.5 = "left"'): ("line 13", "codes: expected a text, got a table"),
    ('1 = "left"', '"1.5" = "left"'): ("line 13", 'place, codes: "1.5" is no whole number of at most 15 digits'),
    ('1 = "left"', '"01" = "left"'): ("line 13", 'place, codes: "01" is no whole number'),
    ('1 = "left"', '"--1" = "left"'): ("line 13", 'place, codes: "--1" is no whole number'),
    ('1 = "left"', '"\u00b2" = "left"'): ("line 13", 'place, codes: "\u00b2" is no whole number'),
    ('1 = "left"', f'{"9" * 5000} = "left"'): ("line 13", f'place, codes: "{"9" * 37}..." is no whole number'),
    ('1 = "left"', '1 = " "'): ("line 13", "place, codes: 1 has no word that can be printed"),
    ('1 = "left"', '1 = "le\\nft"'): ("line 13", "place, codes: 1 has no word that can be printed"),
    ('1 = "left"', '1 = "NaN"'): ("line 13", 'place, codes: "NaN" stands for a missing value in files'),
    ('1 = "left"', '1 = "-2"'): ("line 13", 'place, codes: "-2" reads as a number'),
    ('1 = "left"', '1 = "RIGHT"'): ("line 13", 'place, codes: two codes have the word "right"; give each its own'),
    ('1 = "left", ', ""): ("line 13", "place, codes: at least two codes with words are needed"),
    ('codes = { 1 = "left", 2 = "right" }\n', ""): (
        "line 10",
        "place, codes: at least two codes with words are needed",
    ),
    ("positive = [1]\n", ""): ("line 15", "ill: an outcome needs some of its codes, and not all"),
    ("[1]", "[0, 1]"): ("line 19", "ill, positive: an outcome needs some of its codes, and not all"),
    ("[1]", "[2]"): ("line 19", "ill, positive: an outcome needs some of its codes, and not all"),
    ("[1]", "[true]"): ("line 19", "positive: expected a whole number, got true or false"),
    ("[1]", "[1.0]"): ("line 19", "positive: expected a whole number, got a number"),
    ("[[outcome]]", "[outcome]"): (
        "line 15",
        "outcome: expected a list; of tables, write [[outcome]] before the keys of each",
    ),
    ("[[column]]\n", "[[colum]]\n"): ("line 4", 'unknown key "colum"'),
}


@pytest.mark.parametrize(("added", "expected"), WITH_A_LINE.items(), ids=[str(key) for key in WITH_A_LINE])
def test_a_line_too_many_is_one_fault_with_its_line(added: tuple[int, str], expected: tuple[str, str]) -> None:
    (line,) = lines_of(with_line(*added))
    assert line.startswith(": ".join(expected)) and line.isprintable()


@pytest.mark.parametrize(
    ("change", "expected"), CHANGED.items(), ids=[old[:20] + "->" + new[:20] for old, new in CHANGED]
)
def test_a_wrong_value_is_one_fault_with_its_line(change: tuple[str, str], expected: tuple[str, str]) -> None:
    assert change[0] in FILE
    (line,) = lines_of(FILE.replace(*change))
    assert line.startswith(": ".join(expected)) and line.isprintable()
    assert len(line) < 250


def test_an_outcome_that_is_a_number_is_refused() -> None:
    (line,) = lines_of(FILE.replace('kind = "yes/no"', 'kind = "number"\nrange = [0, 90]\nunit = "days"'))
    assert line.startswith("line 18: ill, kind: risks of an event are predicted, not numbers; give the table a column")


@pytest.mark.parametrize("kind", ["column", "outcome"])
def test_a_file_without_columns_or_without_an_outcome_is_refused(kind: str) -> None:
    parts = re.split(r"(?=\[\[)", FILE)
    kept = "".join(part for part in parts if not part.startswith(f"[[{kind}]]"))
    assert lines_of(kept) == [f'line 1: missing key "{kind}"; see docs/schemas.md']
    (line,) = lines_of(f"{kind} = []\n{kept}")
    assert line.startswith(f"line 1: there is no [[{kind}]]; give ")


def test_faults_come_in_the_order_of_the_lines_and_all_at_once() -> None:
    lines = lines_of(FILE.replace("[0, 100]", "[100, 0]").replace('"right"', '""').replace("[1]", "[3]"))
    assert [line.split(":")[0] for line in lines] == ["line 8", "line 13", "line 19"]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read \(No such file or directory\); give a schema file"):
        load_schema(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_schema(tmp_path)
    (tmp_path / "latin.toml").write_bytes(FILE.replace("illness", "maladie é").encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        load_schema(tmp_path / "latin.toml")


# --- lines ------------------------------------------------------------------------------------------------------------


def test_a_key_is_found_where_tables_and_texts_look_alike() -> None:
    text = '''\
title = """
[[column]]
name = "no"
"""
source = 'x # [[column]]'  # name = 1
# [[column]]
[["column"]]
"name" = "a"
meaning = "\u2028\x0b"
codes.1 = "one"
range = [
  0,
]
[[column]]
[column.words]
x = 1
'''
    paths = [
        ("title",),
        ("source",),
        ("column", 0),
        ("column", 0, "name"),
        ("column", 0, "codes"),
        ("column", 0, "range"),
    ]
    assert find_lines(text, [*paths, ("column", 0, "unit"), ("column", 1, "words")]) == [1, 5, 7, 8, 10, 11, 7, 15]


def test_tables_in_one_line_have_that_line() -> None:
    table = '{ name = "size", meaning = "size", kind = "number", range = [1, 0] }'
    body = FILE.split("[[outcome]]")[1]
    lines = lines_of(f'title = "x"\nsource = ""\ncolumn = [{table}]\n[[outcome]]{body}')
    assert lines == ["line 3: size, range: 1..0 is empty; give the lower end first"]


def test_ten_thousand_columns_are_read_and_their_faults_found() -> None:
    column = '[[column]]\nname = "{}"\nmeaning = "m"\nkind = "number"\nrange = [0, 1]\n'
    many = [column.format(f"c{number}") for number in range(10_000)]
    head, outcome = FILE.split("[[column]]", maxsplit=1)[0], "[[outcome]]" + FILE.split("[[outcome]]")[1]
    assert len(parse_schema(head + "".join(many) + outcome, "x").features) == 10_000
    assert lines_of(head + "".join([*many, column.format("more")]) + outcome) == [
        "line 4: column: 10001 are too many; 10000 are possible"
    ]
    lines = lines_of(head + "".join(many).replace("[0, 1]", "[1, 0]") + outcome)
    assert (lines[0][:8], len(lines)) == ("line 8: ", 10_000)


# --- what the order in the file does not change -----------------------------------------------------------------------


def test_the_order_of_codes_marks_and_positives_in_the_file_makes_no_difference() -> None:
    one = FILE.replace(
        "positive = [1]", 'codes = { 0 = "a", 2 = "b", 10 = "c", -1 = "d" }\npositive = [10, 2, 2]'
    ).replace("yes/no", "category")
    other = one.replace('{ 0 = "a", 2 = "b", 10 = "c", -1 = "d" }', '{ 10 = "c", -1 = "d", 2 = "b", 0 = "a" }')
    other = other.replace("[10, 2, 2]", "[2, 10]")
    schema, same = parse_schema(one, "x"), parse_schema(other, "x")
    assert schema == same and schema.fingerprint == same.fingerprint
    assert [list(each.outcome.codes) for each in (schema, same)] == [[-1, 0, 2, 10]] * 2
    marked = [parse_schema(with_line(1, f"missing-marks = {marks}"), "x") for marks in ("[-9, 0.5]", "[0.5, -9, -9]")]
    assert marked[0].fingerprint == marked[1].fingerprint


# --- any text ---------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(-(10**6), 10**6) | st.floats() | st.sampled_from([0, 1, -9, 10**400])
VALUES = st.recursive(
    TEXT | NUMBERS | st.booleans() | st.sampled_from(["number", "category", "yes/no", "name"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["0", "1", "-1"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def keys(kind: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Tables with some of the keys, each with any value."""
    return st.dictionaries(st.sampled_from(kind.__struct_encode_fields__) | TEXT, VALUES, max_size=6)


def to_toml(value: object) -> str:
    """A value as TOML, in one line."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(each):08x}" for each in value) + '"'
        case list():
            return f"[{', '.join(map(to_toml, value))}]"
        case Mapping():
            return f"{{ {', '.join(f'{to_toml(key)} = {to_toml(each)}' for key, each in value.items())} }}"
    return repr(value)


def table_text(head: str, table: Mapping[str, Any]) -> str:
    return "\n".join([head, *(f"{to_toml(key)} = {to_toml(value)}" for key, value in table.items()), ""])


def read(text: str) -> Schema | None:
    """The schema of any text; None after lines that begin with the file's name."""
    try:
        schema = parse_schema(text, "any.toml")
    except DataError as error:
        assert all(re.match(r"any\.toml: line [1-9]\d*: ", line) and line.isprintable() for line in error.faults)
        return None
    assert parse_schema(schema.text, "any.toml") == schema
    assert parse_schema(schema.text, "any.toml").fingerprint == schema.fingerprint
    return schema


@settings(max_examples=examples(500))
@given(text=TEXT)
def test_any_text_is_a_schema_or_lines_with_its_name(text: str) -> None:
    read(text)


@settings(max_examples=examples(1000))
@given(whole=keys(SchemaTable), column=keys(ColumnTable), outcome=keys(ColumnTable))
def test_any_tables_are_a_schema_or_lines_with_its_name(
    whole: dict[str, Any], column: dict[str, Any], outcome: dict[str, Any]
) -> None:
    read(table_text("", whole) + table_text("[[column]]", column) + table_text("[[outcome]]", outcome))


@settings(max_examples=examples(1000))
@given(changed=st.sampled_from([SIZE, PLACE, ILL]), table=keys(ColumnTable))
def test_a_sound_file_with_any_keys_changed_is_a_schema_or_lines_with_its_name(
    changed: int, table: dict[str, Any]
) -> None:
    """As a person does: one table has some keys of other values."""
    parts = re.split(r"(?=\[\[)", FILE)
    place = {SIZE: 1, PLACE: 2, ILL: 3}[changed]
    kind = "outcome" if changed == ILL else "column"
    sound = tomllib.loads(parts[place])[kind][0]
    parts[place] = table_text(f"[[{kind}]]", {**sound, **table})
    read("".join(parts))


@settings(max_examples=examples(500))
@given(place=st.integers(0, len(FILE)), length=st.integers(0, 5), text=TEXT)
def test_a_sound_file_with_any_characters_changed_is_a_schema_or_lines_with_its_name(
    place: int, length: int, text: str
) -> None:
    read(FILE[:place] + text + FILE[place + length :])


def test_the_schemas_here_round_trip_through_their_text() -> None:
    for schema in (heart_disease(), parse_schema(EXAMPLE, "x"), parse_schema(FILE.replace("\n", "\r\n"), "x")):
        assert read(schema.text) == schema


def test_a_number_with_an_empty_table_of_codes_has_none() -> None:
    schema = parse_schema(with_line(SIZE, "codes = {}"), "x")
    assert schema.columns["size"] == Column("size", "size", "number", minimum=0, maximum=100)

"""`python -m fedhealth schema`: the draft on stdout, the check of a table, and what both refuse."""

from pathlib import Path

import pytest

from fedhealth.cli.commands.schema import main
from fedhealth.data.column_draft import round_outwards
from fedhealth.data.schema_file import load_schema
from tests.support.hospital_files import write_hospitals

PAGE = (Path(__file__).parents[2] / "docs" / "schemas.md").read_text(encoding="utf-8")
TABLE = "\n".join(["age,smoker,died", *(f"{45 + each % 9},{each % 3 % 2},{each % 2}" for each in range(40)), "50,,1"])


def test_a_draft_goes_to_stdout_and_its_table_passes_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, schema = tmp_path / "mine.csv", tmp_path / "my.toml"
    table.write_text(TABLE, encoding="utf-8")
    assert main(["draft", str(table), "--outcome", "died"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"decide the {out.count('# ?')} lines with # ? in it, then: ")
    schema.write_text(out, encoding="utf-8")
    assert main(["check", str(schema), str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"died: 2 columns; died = 1 (yes); fingerprint {load_schema(schema).fingerprint}",
        "mine: 41 patients, with the outcome 21",
        "column  values            missing",
        "age     30 to 70                0",
        "smoker  0 no, 1 yes  fewer than 5",
        f"client.py {table} --schema {schema} can take part",
    ]


def test_a_check_shows_no_count_of_few_patients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, schema = tmp_path / "mine.csv", tmp_path / "my.toml"
    rows = ["age,smoker,died", *(f"{45 + each % 9},{'' if each > 2 else 1},{int(each > 3)}" for each in range(40))]
    table.write_text("\n".join(rows), encoding="utf-8")
    assert main(["draft", str(table), "--outcome", "died"]) == 0
    text = capsys.readouterr().out.replace(
        "[[outcome]]", '[[column]]\nname = "smoker"\nmeaning = "s"\nkind = "yes/no"\n\n[[outcome]]'
    )
    schema.write_text(text, encoding="utf-8")
    assert main(["check", str(schema), str(table)]) == 0
    out = capsys.readouterr().out
    assert "mine: 40 patients, with the outcome more than 35" in out
    assert "smoker  0 no, 1 yes  more than 35" in out


def test_a_check_gives_the_lines_of_client_py_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, schema = tmp_path / "mine.csv", tmp_path / "my.toml"
    table.write_text(TABLE, encoding="utf-8")
    assert main(["draft", str(table), "--outcome", "died"]) == 0
    schema.write_text(capsys.readouterr().out, encoding="utf-8")
    table.write_text(TABLE.replace("50,,1", "500,,1"), encoding="utf-8")
    assert main(["check", str(schema), str(table)]) == 2
    assert "row 42: age is 500" in capsys.readouterr().err
    schema.write_text("title = 1", encoding="utf-8")
    assert main(["check", str(schema), str(table)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {schema}: line 1: title: expected a text")


def test_a_table_of_patients_of_one_class_is_refused_by_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (table,) = list(write_hospitals(tmp_path).values())[:1]
    rows = table.read_text(encoding="utf-8").splitlines()
    header = rows[0].split(",")
    place = header.index("num")
    only = [row for row in rows[1:] if row.split(",")[place] == "0"]
    table.write_text("\n".join([rows[0], *only]), encoding="utf-8")
    heart = Path(__file__).parents[2] / "fedhealth" / "schemas" / "heart-disease.toml"
    assert main(["check", str(heart), str(table)]) == 0
    assert "are healthy: a model can be trained, but the AUROC is n/a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["draft"], "schema draft: 0 given; give one file, the table"),
        (["draft", "a", "b"], "schema draft: 2 given; give one file, the table"),
        (["check", "a"], "schema check: 1 given; give two files, the schema and the table"),
        (["check", "a", "b", "--outcome", "c"], "--outcome is for draft"),
        (["draft", "a", "--min-count", "0"], "--min-count is 0; give 1 or more"),
        (["draft", "no/such/file.csv"], "no/such/file.csv: no such file"),
    ],
)
def test_wrong_flags_are_one_line(flags: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {line}")


def test_the_page_s_example_of_a_rounded_range_is_what_is_done() -> None:
    assert [f"{end.normalize():f}" for end in round_outwards(["29", "77", "54"])] == ["10", "90"]
    assert "of ages from 29 to 77 the range is 10 to 90" in PAGE

"""create_dataset.py from flags to files, on made-up patients."""

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import create_dataset
import fedhealth
from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import RunError, UsageError
from fedhealth.data.dataset_writer import csv_bytes, shortest
from fedhealth.data.hospital import load_hospital
from fedhealth.data.partition_plot import MOST_ROWS, choose_rows, draw_hospitals
from fedhealth.data.partition_table import hospital_table
from fedhealth.data.patients import SYNTHETIC_PREFIX
from fedhealth.data.schema import Column
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.heart import COLUMN_NAMES, FEATURE_NAMES, FEATURES, HEART, HOSPITALS, LABEL
from tests.support.tables import sample_table

README = Path(__file__).parents[2] / "data" / "README.md"
# The import of flwr-datasets imports urllib3, which asks once whether the machine has IPv6 by binding a local socket.
pytestmark = pytest.mark.filterwarnings("ignore:A test tried to use socket.socket")

SIZES = {"cleveland": 46, "hungary": 40, "switzerland": 24, "va": 25}


def sample_patients(sizes: dict[str, int] = SIZES) -> pd.DataFrame:
    """Made-up patients with valid values; every third `ca` is missing."""
    table = sample_table(sizes)
    valid = {"cp": 4.0, "trestbps": 130.0, "chol": 250.0, "thalach": 150.0, "oldpeak": 1.4, "thal": 3.0}
    table = table.assign(**valid)
    table.loc[::3, "ca"] = np.nan
    return table


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Source:
    """The result of a patched `load_source`, in an empty folder, without the plot (which takes most of the time)."""
    sampled = Source("uci", "135 patients made up for this test", sample_patients(), {"some.data": "ab12"})
    monkeypatch.setattr(create_dataset, "load_source", lambda *_, **__: sampled)
    monkeypatch.setattr(create_dataset, "draw_hospitals", lambda *_, **__: b"<svg/>")
    monkeypatch.chdir(tmp_path)
    return sampled


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_natural_split_writes_the_files_that_the_readme_names(source: Source) -> None:
    assert create_dataset.main([]) == 0
    clients = [f"client_{i}.csv" for i in (1, 2, 3, 4)]
    assert sorted(read_all(Path("data"))) == [*clients, "dataset.json", "full_dataset.csv", "hospitals.svg"]
    pd.testing.assert_frame_equal(pd.read_csv("data/full_dataset.csv"), source.table, check_dtype=False)
    hospitals = [pd.read_csv(f"data/{name}") for name in clients]
    assert [part["hospital"].unique().tolist() for part in hospitals] == [[name] for name in SIZES]
    assert all(list(part.columns) == list(COLUMN_NAMES) for part in hospitals)


def test_cells_are_short_and_a_missing_one_is_empty(source: Source) -> None:
    text = csv_bytes(HEART, source.table.head(2)).decode()
    patient = source.table.iloc[1]
    assert text.startswith(
        "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,num,target,hospital\n"
    )
    assert text.splitlines()[1].split(",")[11] == ""
    assert (
        text.splitlines()[2]
        == f"{patient['age']:.0f},1,4,130,250,1,1,150,1,1.4,1,1,3,{patient['num']},{patient['target']},cleveland"
    )
    assert "\r" not in text


@settings(derandomize=True)
@given(st.floats(-1e9, 1e9))
def test_a_short_number_reads_back_as_itself(number: float) -> None:
    assert float(shortest(number)) == number
    assert "e" not in shortest(number)


@pytest.mark.parametrize("split", ["natural", "iid", "label-skew", "quantity-skew", "feature-skew"])
def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(source: Source, split: str) -> None:
    for out, seed in (("first", "5"), ("again", "5"), ("other", "6")):
        assert create_dataset.main(["--split", split, "--alpha", "5", "--seed", seed, "--out", out]) == 0
    first, again, other = (read_all(Path(out)) for out in ("first", "again", "other"))
    assert first == again
    assert first["client_1.csv"] != other["client_1.csv"]
    assert first["full_dataset.csv"] == other["full_dataset.csv"]


def test_every_hospital_s_file_is_one_that_a_client_can_load(source: Source) -> None:
    create_dataset.main([])
    for number, (name, patients) in enumerate(SIZES.items(), start=1):
        hospital = load_hospital(Path(f"data/client_{number}.csv"))
        assert (hospital.name, len(hospital.patients), hospital.source) == (name, patients, "uci")


def test_dataset_json_describes_the_content_and_the_source_of_each_file(source: Source) -> None:
    create_dataset.main(["--split", "label-skew", "--clients", "3", "--alpha", "2", "--seed", "7"])
    said = json.loads(Path("data/dataset.json").read_text())
    assert (said["source"], said["description"]) == ("uci", source.description)
    assert said["sha256"] == {"some.data": "ab12"}
    assert (said["rows"], said["version"]) == (len(source.table), fedhealth.__version__)
    assert (said["split"], said["clients"], said["alpha"], said["seed"]) == ("label-skew", 3, 2.0, 7)
    assert said["schema"] == HEART.fingerprint
    assert {name: facts["rows"] for name, facts in said["hospitals"].items()} == SIZES
    names = ["full_dataset.csv", "client_1.csv", "client_2.csv", "client_3.csv"]
    assert [file["name"] for file in said["files"]] == names
    for file in said["files"]:
        content = (Path("data") / file["name"]).read_bytes()
        patients = pd.read_csv(Path("data") / file["name"])
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert (file["rows"], file["ill"]) == (len(patients), patients["target"].sum())
        assert file["missing"] == patients[list(FEATURE_NAMES)].isna().sum().to_dict()
        assert file["hospitals"] == patients["hospital"].value_counts().to_dict()


def test_alpha_is_recorded_only_where_it_was_used(source: Source) -> None:
    create_dataset.main(["--split", "iid"])
    assert "alpha" not in json.loads(Path("data/dataset.json").read_text())


def test_the_first_line_names_the_source_and_warnings_go_to_stderr(
    source: Source, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(create_dataset, "load_source", lambda *_, **__: replace(source, warnings=("beware",)))
    create_dataset.main([])
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == source.description
    assert printed.err == "warning: beware\n"


def test_piped_output_is_plain_lines_that_end_with_the_next_commands(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    create_dataset.main(["--split", "iid", "--clients", "3", "--out", "some where"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert re.search(r"^client_3\.csv +mixed +45 +\d+\.\d +\d+ +100\.0 +\d\.\d$", out, re.MULTILINE)
    assert "\nnext: python server.py --hospitals 3\n" in out
    assert out.rstrip().endswith("python client.py 'some where/client_1.csv'")


def test_the_next_commands_have_the_schema_of_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema, table = tmp_path / "my schema.toml", tmp_path / "table.csv"
    schema.write_bytes((Path(fedhealth.__file__).parent / "schemas" / "lung-cancer.toml").read_bytes())
    rows = [f"{40 + i},{1 + i % 2},1,90,80,900,{i % 7},{i // 2 % 2},{1 + i % 2}" for i in range(42)]
    table.write_text("age,sex,ph.ecog,ph.karno,pat.karno,meal.cal,wt.loss,dead,inst\n" + "\n".join(rows) + "\n")
    out = tmp_path / "data"
    assert create_dataset.main(["--source", str(table), "--schema", str(schema), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"next: python server.py --hospitals 2 --schema '{schema}'",
        f"then, for each hospital in its own terminal: python client.py {out / 'client_1.csv'} --schema '{schema}'",
    ]


def test_the_script_is_one_screen() -> None:
    assert len(Path(create_dataset.__file__).read_text(encoding="utf-8").splitlines()) <= 80


def test_parts_of_one_hospital_are_named_after_their_files(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    one = replace(source, table=sample_patients({"cleveland": 90}))
    monkeypatch.setattr(create_dataset, "load_source", lambda *_, **__: one)
    create_dataset.main(["--split", "iid"])
    files = [Path(f"data/client_{i}.csv") for i in range(1, 5)]
    assert [load_hospital(file).name for file in files] == [file.stem for file in files]
    create_dataset.main(["--split", "iid", "--clients", "2"])
    assert load_hospital(files[0]).name == "client_1"


def test_a_terminal_gets_a_ruled_table_unless_it_is_too_narrow(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ruled = hospital_table(HEART, [source.table], terminal=True)
    assert "─" in ruled
    monkeypatch.setenv("COLUMNS", "60")
    assert hospital_table(HEART, [source.table], terminal=True) == hospital_table(HEART, [source.table], terminal=False)


def test_files_of_surplus_hospitals_are_removed_but_other_files_are_not(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    create_dataset.main(["--split", "iid", "--clients", "6"])
    Path("data/client_6.csv").write_text("changed by hand")
    Path("data/client_9.csv").write_text("of somebody else")
    create_dataset.main(["--split", "iid", "--clients", "3"])
    assert not Path("data/client_4.csv").exists()
    assert not Path("data/client_5.csv").exists()
    assert Path("data/client_6.csv").read_text() == "changed by hand"
    assert Path("data/client_9.csv").read_text() == "of somebody else"
    assert "warning: data/client_6.csv: kept" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["client_1.csv", "client_3.csv", "full_dataset.csv"])
@pytest.mark.parametrize("before", ["nothing", "another split", "damaged dataset.json"])
def test_a_file_that_the_script_did_not_write_is_never_overwritten(
    source: Source, capsys: pytest.CaptureFixture[str], name: str, before: str
) -> None:
    Path("data").mkdir()
    if before != "nothing":
        create_dataset.main(["--split", "iid"])
    if before == "damaged dataset.json":
        Path("data/dataset.json").write_text("{")
    for other in Path("data").glob("*.csv"):
        if before == "damaged dataset.json" and other.name != name:
            other.unlink()
    (Path("data") / name).write_text("a hospital's own")
    files = read_all(Path("data"))
    capsys.readouterr()
    assert create_dataset.main(["--seed", "3"]) == 2
    assert capsys.readouterr().err == (
        f"error: data/{name}: is not as create_dataset.py wrote it and would be lost; "
        "move it away or give another folder with --out\n"
    )
    assert read_all(Path("data")) == files


def test_several_files_that_would_be_lost_are_counted(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/client_2.csv").mkdir(parents=True)
    Path("data/client_1.csv").write_text("a hospital's own")
    assert create_dataset.main([]) == 2
    assert capsys.readouterr().err.startswith(
        "error: data/client_1.csv (and 1 more): is not as create_dataset.py wrote"
    )


def test_an_interrupted_run_is_completed_by_the_same_command(source: Source) -> None:
    create_dataset.main(["--split", "iid"])
    create_dataset.main(["--seed", "3"])
    whole = read_all(Path("data"))
    Path("data/dataset.json").unlink()
    Path("data/client_4.csv").unlink()
    assert create_dataset.main(["--seed", "3"]) == 0
    assert read_all(Path("data")) == whole


@pytest.mark.parametrize("listed", ["../secret.csv", "README.md", "/etc/hostname", "client_0.csv", "x/client_7.csv"])
def test_a_forged_dataset_json_does_not_remove_other_files(source: Source, listed: str) -> None:
    Path("data/x").mkdir(parents=True)
    victim = Path("data") / listed
    if not victim.is_absolute():
        victim.write_text("keep me")
    sha256 = hashlib.sha256(b"keep me").hexdigest()
    Path("data/dataset.json").write_text(json.dumps({"files": [{"name": listed, "sha256": sha256}]}))
    assert create_dataset.main([]) == 0
    assert victim.is_absolute() or victim.read_text() == "keep me"


@pytest.mark.parametrize("damaged", [b"", b"\xff", b"[]", b'{"files": 3}', b'{"files": [null]}', b"[" * 100_000])
def test_a_damaged_dataset_json_is_replaced(source: Source, damaged: bytes) -> None:
    Path("data").mkdir()
    Path("data/dataset.json").write_bytes(damaged)
    assert create_dataset.main([]) == 0
    assert json.loads(Path("data/dataset.json").read_text())["clients"] == 4


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_2(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("a file")
    assert create_dataset.main(["--out", "taken"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: taken/full_dataset.csv: cannot be written")
    assert error.count("\n") == 1


def test_a_split_that_cannot_be_made_writes_nothing(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    assert create_dataset.main(["--split", "iid", "--clients", "70"]) == 2
    assert "give fewer" in capsys.readouterr().err
    assert not Path("data").exists()


def test_a_failed_download_ends_with_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> Source:
        raise RunError("no network")

    monkeypatch.setattr(create_dataset, "load_source", fail)
    assert create_dataset.main(["--source", "uci"]) == 1
    assert capsys.readouterr().err == "error: no network\n"


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "client_1.csv"
    path.write_text("old")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UsageError, match="No space left on device"):
        write_file(path, b"new")
    assert read_all(tmp_path) == {"client_1.csv": b"old"}


def test_written_files_have_the_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_file(tmp_path / "client_1.csv", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "client_1.csv").stat().st_mode & 0o777 == 0o644


def words_of(svg: bytes) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_synthetic_patients_are_marked_in_every_file(tmp_path: Path) -> None:
    assert create_dataset.main(["--source", "synthetic", "--patients", "160", "--out", str(tmp_path)]) == 0
    assert "synthetic patients" in words_of((tmp_path / "hospitals.svg").read_bytes())
    for number in (1, 2, 3, 4):
        assert load_hospital(tmp_path / f"client_{number}.csv").source == "synthetic"


def natural_parts(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [part for _, part in table.groupby("hospital", sort=False)]


def test_the_picture_names_hospitals_shares_and_columns_and_has_no_date() -> None:
    table = sample_patients().assign(target=0)
    table.loc[table["hospital"] == "va", "target"] = 1
    svg = draw_hospitals(HEART, natural_parts(table), title="How 4 hospitals differ")
    words = words_of(svg)
    assert all(name in words for name in (*SIZES, *FEATURE_NAMES, "client_4", "100 %", "How 4 hospitals differ"))
    assert f"all: {100 * table['target'].mean():.0f} %" in words
    assert b"date>" not in svg
    assert draw_hospitals(HEART, natural_parts(table), title="How 4 hospitals differ") == svg


def test_the_picture_marks_synthetic_patients_in_red_and_no_others() -> None:
    table = sample_patients()
    assert "synthetic" not in words_of(draw_hospitals(HEART, natural_parts(table), title=""))
    table["hospital"] = SYNTHETIC_PREFIX + table["hospital"]
    svg = draw_hospitals(HEART, [table.iloc[:45], table.iloc[45:]], title="").decode()
    assert re.search(r'<text style="[^"]*fill: #ff0000[^"]*"[^>]*>synthetic patients<', svg)


@pytest.mark.slow
def test_a_picture_of_many_hospitals_shows_some_and_says_so() -> None:
    chosen = choose_rows(300)
    assert (len(chosen), chosen[0], chosen[-1]) == (MOST_ROWS, 0, 299)
    assert len(set(chosen)) == MOST_ROWS
    assert choose_rows(3) == [0, 1, 2]
    table = sample_patients()
    words = words_of(draw_hospitals(HEART, [table.iloc[i : i + 2] for i in range(0, 88, 2)], title="Many"))
    assert "(40 of 44 hospitals, evenly chosen)" in words


def test_odd_names_and_columns_without_any_value_can_be_drawn() -> None:
    table = sample_patients({"St. <Mary's> & $x^2$ {": 12, "[red]b[/red]": 12}).assign(thal=np.nan, age=19.0)
    assert "St. <Mary's> & $x^2$ {" in words_of(draw_hospitals(HEART, natural_parts(table), title="$"))
    assert "[red]b[/red]" in hospital_table(HEART, natural_parts(table), terminal=True)


@pytest.mark.parametrize("column", [*FEATURES, LABEL], ids=lambda column: column.name)
def test_the_data_page_describes_each_column_as_the_schema_does(column: Column) -> None:
    (line,) = re.findall(rf"^\| `{column.name}` \|.*$", README.read_text(), re.MULTILINE)
    _, meaning, unit, valid, missing = (cell.strip() for cell in line.strip("|").split("|"))
    assert (meaning, unit) == (column.meaning, column.unit)
    codes = "; ".join(f"{code} {what}" for code, what in column.codes.items())
    assert valid == (codes or f"{column.minimum:g} to {column.maximum:g}")
    marks = " and ".join(f"`{mark:g}`" for mark in column.missing_marks)
    assert missing == (f"{marks} too" if column.can_be_missing else "not allowed")


def test_the_data_page_names_all_columns_and_hospitals_and_the_licence() -> None:
    page = README.read_text()
    assert re.findall(r"^\| `([a-z]+)` \| [^|]+\|[^|]*\|", page, re.MULTILINE)[:16] == list(COLUMN_NAMES)
    assert all(f"`{name}`: {full_name}" in page for name, full_name in HOSPITALS.items())
    assert "CC BY 4.0" in page
    assert "10.24432/C52P4X" in page


@pytest.mark.uci
def test_the_real_hospitals_have_the_published_numbers(
    uci_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create_dataset.main(["--source", str(uci_folder), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    # The table of hospitals in data/README.md.
    rows = re.findall(
        r"^\| `(client_\d\.csv)` \| `(\w+)`.*?\| (\d+) \| ([\d.]+) % \| ([\d.]+) % \| (\d+) \|$",
        README.read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 4
    for file, hospital, patients, ill, men, age in rows:
        assert re.search(rf"^{re.escape(file)} +{hospital} +{patients} +{ill} +{age} +{men} ", out, re.MULTILINE)
    said = json.loads((tmp_path / "dataset.json").read_text())
    assert said["files"][0]["missing"]["chol"] == 30 + 172
    assert said["files"][0]["missing"]["trestbps"] == 59 + 1
    assert said["files"][0]["ill"] == 509

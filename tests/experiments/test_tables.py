"""The public tables of docs/own-table.md: who is in them, and that their schemas describe them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments import compare, tables
from experiments.splits import deal_to_hospitals
from fedhealth.common.errors import UsageError
from fedhealth.data.hospital import load_hospital
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from tests.support.processes import ROOT

NAMES = ("breast-cancer", "lung-cancer")
pytestmark = pytest.mark.filterwarnings("ignore:A test tried to use socket.socket")


def schema_path(name: str) -> Path:
    return ROOT / "fedhealth" / "schemas" / f"{name}.toml"


def write_table(folder: Path, name: str, *flags: str) -> Path:
    assert tables.main([name, "--out", str(folder), *flags]) == 0
    return folder / f"{name}.csv"


@pytest.mark.parametrize(("name", "patients", "positive"), [("breast-cancer", 569, 212), ("lung-cancer", 67, 43)])
def test_the_shipped_schema_reads_the_table_without_a_warning_about_its_columns(
    name: str, patients: int, positive: int, tmp_path: Path
) -> None:
    schema = load_schema(schema_path(name))
    path = write_table(tmp_path, name)
    hospital = load_hospital(path, "all", schema)
    assert len(hospital.patients) == patients
    assert int(hospital.patients.labels.sum()) == positive
    assert [line for line in hospital.warnings if "column" in line] == []
    assert {*pd.read_csv(path).columns} <= {*schema.column_names}


def test_the_lung_cancer_table_has_the_institutions_that_can_take_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(write_table(tmp_path, "lung-cancer"))
    assert table["inst"].value_counts().to_dict() == {1: 30, 12: 20, 3: 17}
    assert table.groupby("inst")["dead"].sum().to_dict() == {1: 21, 3: 10, 12: 12}
    assert not {"time", "status"} & {*table.columns}, "they hold the outcome"
    assert capsys.readouterr().out.splitlines() == [
        "left out: 42 of 228 patients, last seen alive before day 365",
        "left out: 1 patient whose institution is missing",
        "left out: 118 patients of 15 institutions with fewer than 17 each",
        f"wrote {tmp_path / 'lung-cancer.csv'}: 67 patients",
    ]


def test_small_institutions_can_be_one_hospital_together(tmp_path: Path) -> None:
    table = pd.read_csv(write_table(tmp_path, "lung-cancer", "--others"))
    assert table["inst"].value_counts().to_dict() == {"others": 118, "1": 30, "12": 20, "3": 17}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["breast-cancer", "--others"], "error: --others is True; give it for lung-cancer only"),
        (["liver"], "error: invalid choice"),
    ],
)
def test_a_wrong_flag_is_one_line(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.lower().startswith(error.lower())


def test_a_missing_package_is_one_line_with_the_command_that_installs_it() -> None:
    with pytest.raises(UsageError, match=r"^no_such_package is not installed; pip install --no-deps -r \S+\.txt$"):
        tables.package_folder("no_such_package")


# --- the study on these tables -------------------------------------------------------------------------------------------


@pytest.fixture
def breast() -> tuple[Schema, pd.DataFrame]:
    from sklearn.datasets import load_breast_cancer

    schema = load_schema(schema_path("breast-cancer"))
    return schema, load_breast_cancer(as_frame=True).frame.assign(**{schema.hospital: "unknown"})


def test_patients_without_a_hospital_are_dealt_out_each_to_one(breast: tuple[Schema, pd.DataFrame]) -> None:
    hospitals = deal_to_hospitals(*breast, "iid", 5)
    assert [len(patients) for patients in hospitals.values()] == [114, 114, 114, 114, 113]
    assert sum(int(patients.labels.sum()) for patients in hospitals.values()) == 212


def test_patients_without_a_hospital_have_no_natural_split(breast: tuple[Schema, pd.DataFrame]) -> None:
    with pytest.raises(UsageError, match=r"--split natural needs to know which hospital"):
        deal_to_hospitals(*breast, "natural", 5)


def run_compare(folder: Path, *flags: str) -> int:
    source = ["--source", str(write_table(folder, "lung-cancer")), "--schema", str(schema_path("lung-cancer"))]
    return compare.main([*source, "--out", str(folder / "out"), *flags])


def test_the_study_follows_the_schema_and_names_the_protocol_that_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--protocol", "flamby", "cv", "--strategy", "fedavg", "--seeds", "1", "--rounds", "1"]
    assert run_compare(tmp_path, *flags) == 0
    shown = capsys.readouterr().out
    assert "left out: --protocol flamby, which needs the four UCI files" in shown
    assert "67 patients (death within one year in advanced lung cancer)" in shown
    assert "Cross-validation: 67 patients, five folds, 1 seed\n" in shown
    assert "VA" not in shown
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {result["hospital"] for result in results} == {"1", "3", "12", "union", "mean"}


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--protocol", "flamby"], "--protocol flamby needs the four UCI files; give --protocol cv with --schema"),
        (["--page", "page.md"], "--page writes about the heart disease data; leave it out with --schema"),
        (["--protocol", "cv", "--clients", "0"], "--clients is 0; give a number from 1 to 1000"),
    ],
)
def test_what_only_the_heart_disease_data_have_is_refused_in_one_line(
    flags: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_compare(tmp_path, *flags) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: {error}"]

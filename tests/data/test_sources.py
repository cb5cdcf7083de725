"""`load_source` picks the right source, falls back only when it may, and always gives the canonical table."""

from functools import partial

import openpyxl
import pandas as pd
import pytest

from fedhealth.common.errors import RunError, UsageError
from fedhealth.data.patients import SYNTHETIC_PREFIX
from fedhealth.data.readers.read_any import load_options
from fedhealth.data.schema_file import heart_disease, parse_schema
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.heart import COLUMN_NAMES
from fedhealth.data.sources.load import load_source
from fedhealth.data.sources.readings import Answers
from tests.support.format_files import WRITERS, save, to_csv, twenty_patients
from tests.support.layout_files import invent_patients, label, to_bytes, zero_based
from tests.support.sources_fixtures import (
    UCI_FILES,
    UCI_SUMS,
    make_zip,
    pin_invented_sums,
    serve,
    write_files,
)


@pytest.fixture(autouse=True)
def invented_sums(monkeypatch):
    pin_invented_sums(monkeypatch)


@pytest.fixture
def web():
    with serve(make_zip(UCI_FILES)) as server:
        yield server


def load(source: str, raw_folder, url: str = "http://127.0.0.1:9/heart.zip") -> Source:
    return load_source(source, url=url, patients=80, seed=3, raw_folder=raw_folder)


def check_canonical(table: pd.DataFrame) -> None:
    assert list(table.columns) == list(COLUMN_NAMES)
    assert [str(kind) for kind in table.dtypes] == ["float64"] * 13 + ["int64", "int64", "str"]
    assert (table["target"] == (table["num"] > 0)).all()
    assert table.index.equals(pd.RangeIndex(len(table)))


def check_invented(source: Source) -> None:
    check_canonical(source.table)
    assert source.name == "synthetic"
    assert "SYNTHETIC" in source.description
    assert source.sha256 == {}
    assert source.table["hospital"].str.startswith(SYNTHETIC_PREFIX).all()


def test_the_description_of_synthetic_patients_says_so_and_needs_no_network(tmp_path):
    source = load("synthetic", tmp_path)
    check_invented(source)
    assert len(source.table) == 80
    assert source.warnings == ()


def test_auto_takes_kept_files_without_a_network(tmp_path):
    write_files(tmp_path, UCI_FILES)
    source = load("auto", tmp_path)
    check_canonical(source.table)
    assert (source.name, source.sha256, source.warnings) == ("uci", UCI_SUMS, ())


def test_auto_takes_a_zip_put_into_the_raw_folder(tmp_path):
    (tmp_path / "heart+disease.zip").write_bytes(make_zip(UCI_FILES))
    assert load("auto", tmp_path).name == "uci"


def test_auto_refuses_a_kept_file_with_a_wrong_sum_and_says_what_to_do(tmp_path):
    write_files(tmp_path, {name: content.replace(b"263", b"264") for name, content in UCI_FILES.items()})
    with pytest.raises(UsageError) as error:
        load("auto", tmp_path)
    assert str(error.value).startswith(str(tmp_path / "processed.va.data"))
    assert UCI_SUMS["processed.va.data"] in str(error.value)
    assert f"delete it, or give --source {tmp_path}" in str(error.value)
    assert load(str(tmp_path), tmp_path).table["chol"].iloc[-1] == 264


@pytest.mark.enable_socket
def test_auto_downloads_and_keeps_when_nothing_is_there(web, tmp_path):
    assert load("auto", tmp_path / "raw", web.url("good.zip")).name == "uci"
    assert load("auto", tmp_path / "raw").name == "uci"
    assert len(web.asked) == 1


@pytest.mark.enable_socket
@pytest.mark.parametrize("how", ["nothing.zip", "third-time.zip", "page.zip"])
def test_auto_invents_patients_at_once_when_the_network_refuses_and_warns_with_the_reason(web, tmp_path, how):
    source = load("auto", tmp_path, web.url(how))
    check_invented(source)
    (warning,) = source.warnings
    assert web.url(how) in warning
    assert "SYNTHETIC" in warning
    assert "\n" not in warning
    assert len(web.asked) == 1


def test_auto_invents_patients_when_the_network_is_blocked(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **options: (_ for _ in ()).throw(OSError("no network")))
    source = load("auto", tmp_path, "http://example.invalid/heart.zip")
    check_invented(source)
    assert "no network" in source.warnings[0]


@pytest.mark.enable_socket
def test_auto_does_not_hide_a_wrong_sum_behind_invented_patients(web, tmp_path):
    web.archive = make_zip(UCI_FILES | {"processed.va.data": UCI_FILES["processed.cleveland.data"]})
    with pytest.raises(RunError, match=r"processed\.va\.data: sha256"):
        load("auto", tmp_path, web.url("good.zip"))


@pytest.mark.enable_socket
def test_uci_never_invents_patients(web, tmp_path):
    with pytest.raises(RunError, match="404"):
        load("uci", tmp_path, web.url("nothing.zip"))


def test_a_folder_with_both_kinds_gives_the_uci_files(tmp_path):
    write_files(tmp_path, UCI_FILES)
    (tmp_path / "heart.csv").write_bytes(to_bytes(invent_patients()))
    assert load(str(tmp_path), tmp_path / "raw").name == "uci"


def test_a_csv_by_path_gives_a_canonical_table(tmp_path):
    path = tmp_path / "heart.csv"
    path.write_bytes(to_bytes(invent_patients()))
    source = load(str(path), tmp_path / "raw")
    check_canonical(source.table)
    assert (source.name, set(source.table["hospital"])) == ("own", {"heart"})


def test_answers_about_codes_and_labels_reach_the_csv(tmp_path):
    path = tmp_path / "heart.csv"
    path.write_bytes(to_bytes(label(zero_based(invent_patients()), "target")))
    with pytest.raises(UsageError, match="--codes"):
        load(str(path), tmp_path / "raw")
    source = load_source(
        str(path), url="", patients=80, seed=3, raw_folder=tmp_path, answers=Answers("zero-based", "ill")
    )
    check_canonical(source.table)


def test_a_spreadsheet_that_is_not_read_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "heart.xls"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with pytest.raises(
        UsageError, match=r"is an Excel workbook of the old format \(\.xls\); open it, save the sheet as"
    ):
        load(str(path), tmp_path / "raw")


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_in_another_format_has_the_patients_of_its_csv(tmp_path, name):
    columns = twenty_patients()
    path = tmp_path / name
    path.write_bytes(WRITERS[name](columns))
    text = {each: ["" if cell is None else f"{cell:g}" for cell in cells] for each, cells in columns.items()}
    (tmp_path / "p.csv").write_bytes(to_csv(text))
    for schema in (heart_disease(), parse_schema(heart_disease().text.replace("[18, 120]", "[18, 121]"), "other.toml")):
        ours, csv = (
            load_source(str(file), schema=schema, url="", patients=80, seed=3, raw_folder=tmp_path / "raw")
            for file in (path, tmp_path / "p.csv")
        )
        pd.testing.assert_frame_equal(ours.table.drop(columns="hospital"), csv.table.drop(columns="hospital"))


def test_a_sheet_and_a_mapping_are_read_and_are_for_a_file_only(tmp_path):
    columns = twenty_patients()
    book = openpyxl.Workbook()
    book.active.append(["notes"])
    sheet = book.create_sheet("Patients")
    sheet.append(["Alter" if name == "age" else name for name in columns])
    for row in zip(*columns.values(), strict=True):
        sheet.append(row)
    (tmp_path / "p.xlsx").write_bytes(save(book))
    (tmp_path / "my.toml").write_text('[[column]]\nname = "age"\nin-file = "Alter"\n')
    options = load_options(heart_disease(), "patients", "auto", tmp_path / "my.toml")
    read = partial(load_source, url="", patients=80, seed=3, raw_folder=tmp_path / "raw", options=options)
    assert read(str(tmp_path / "p.xlsx")).table["age"].tolist() == columns["age"]
    with pytest.raises(UsageError, match="--sheet, --decimal and --mapping are for a file of patients"):
        read("synthetic")


@pytest.mark.parametrize("source", ["ucii", "no/such/place", "x" * 5000, "a\0b", ""])
def test_a_source_that_does_not_exist_is_one_line_with_the_choices(tmp_path, source):
    with pytest.raises(UsageError, match="give auto, uci, synthetic or") as error:
        load(source, tmp_path)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_a_long_step_is_reported_before_it_starts(tmp_path):
    said: list[str] = []
    with pytest.raises(RunError):
        load_source("uci", url="ftp://x/y.zip", patients=40, seed=0, raw_folder=tmp_path, say=said.append)
    assert said == ["downloading ftp://x/y.zip"]

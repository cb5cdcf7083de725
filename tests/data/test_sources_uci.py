"""The UCI files of a folder or zip: found anywhere inside, never unpacked, and edited copies are reported."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import UsageError
from fedhealth.data.sources import uci
from fedhealth.data.sources.heart import FEATURE_NAMES
from tests.support.examples import examples
from tests.support.sources_fixtures import (
    UCI_FILES,
    UCI_SUMS,
    check_invented_uci_table,
    make_zip,
    one_line,
    pin_invented_sums,
    write_files,
)

ARCHIVE = make_zip({"heart-disease.names": b"about", **{f"deep/inside/{name}": UCI_FILES[name] for name in UCI_FILES}})


@pytest.fixture(autouse=True)
def invented_sums(request, monkeypatch):
    if "uci_folder" not in request.fixturenames:
        pin_invented_sums(monkeypatch)


def test_a_folder_keeps_all_rows_twins_included(tmp_path):
    source = uci.load_path(write_files(tmp_path / "anywhere" / "inside", UCI_FILES).parent)
    check_invented_uci_table(source.table)
    assert (source.name, source.sha256, source.warnings) == ("uci", UCI_SUMS, ())


def test_a_zip_is_read_without_unpacking(tmp_path):
    (tmp_path / "heart.zip").write_bytes(ARCHIVE)
    check_invented_uci_table(uci.load_path(tmp_path / "heart.zip").table)
    assert [path.name for path in tmp_path.iterdir()] == ["heart.zip"]


def test_a_member_name_that_leads_elsewhere_writes_nothing(tmp_path):
    members = {f"../../../{name}": content for name, content in UCI_FILES.items()}
    path = tmp_path / "deep" / "down" / "heart.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(make_zip(members))
    check_invented_uci_table(uci.load_path(path).table)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["heart.zip"]


def test_shadow_files_of_macos_are_ignored(tmp_path):
    shadows = {f"__MACOSX/{name}": b"\x00\x05" for name in UCI_FILES} | {f"._{name}": b"\x00" for name in UCI_FILES}
    (tmp_path / "heart.zip").write_bytes(make_zip(UCI_FILES | shadows))
    check_invented_uci_table(uci.load_path(tmp_path / "heart.zip").table)


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path):
    (tmp_path / "bomb.zip").write_bytes(make_zip(UCI_FILES | {"processed.va.data": bytes(50_000_000)}))
    with pytest.raises(UsageError, match=r"processed\.va\.data: more than 10 MB"):
        uci.load_path(tmp_path / "bomb.zip")


@pytest.mark.parametrize("name", ["heart.zip", "heart.data"])
def test_a_truncated_zip_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(ARCHIVE[:-30])
    with pytest.raises(UsageError) as error:
        uci.load_path(tmp_path / name)
    assert name in one_line(error)
    assert "cut short" in str(error.value)


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_zip_gives_a_table_or_a_usage_error(tmp_path_factory, damages):
    content = bytearray(ARCHIVE)
    for place, byte in damages:
        content[place] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(content)
    try:
        source = uci.load_path(path)
    except UsageError as error:
        assert "damaged.zip" in str(error)
        return
    if source is not None:
        check_invented_uci_table(source.table)


def test_an_edited_copy_is_used_with_a_warning_that_names_it_and_both_sums(tmp_path):
    edited = UCI_FILES["processed.va.data"].replace(b"263", b"264")
    source = uci.load_path(write_files(tmp_path, UCI_FILES | {"processed.va.data": edited}))
    assert source.table["chol"].iloc[-1] == 264
    (warning,) = source.warnings
    assert "processed.va.data" in warning
    assert UCI_SUMS["processed.va.data"] in warning
    assert source.sha256["processed.va.data"] in warning
    assert source.sha256["processed.va.data"] != UCI_SUMS["processed.va.data"]


def test_an_edited_copy_must_still_parse(tmp_path):
    edited = UCI_FILES["processed.va.data"].replace(b",", b";")
    with pytest.raises(UsageError, match=r"processed\.va\.data: row 1: 1 fields, expected 14"):
        uci.load_path(write_files(tmp_path, UCI_FILES | {"processed.va.data": edited}))


def test_an_incomplete_folder_is_refused_by_what_is_missing(tmp_path):
    write_files(tmp_path, {name: UCI_FILES[name] for name in list(UCI_FILES)[:3]})
    with pytest.raises(UsageError, match=r"processed\.va\.data missing"):
        uci.load_path(tmp_path)


def test_two_copies_that_differ_are_refused_and_two_that_do_not_are_one(tmp_path):
    write_files(tmp_path / "a", UCI_FILES)
    write_files(tmp_path / "b", UCI_FILES)
    check_invented_uci_table(uci.load_path(tmp_path).table)
    (tmp_path / "b" / "processed.va.data").write_bytes(b"other\n")
    with pytest.raises(UsageError, match="differ; keep one of them"):
        uci.load_path(tmp_path)


def test_a_folder_without_uci_files_gives_none(tmp_path):
    assert uci.load_path(tmp_path) is None


@pytest.mark.uci
def test_the_real_files_have_the_pinned_sums_and_the_known_counts(uci_folder):
    source = uci.load_path(uci_folder)
    assert source.warnings == ()
    table = source.table
    assert table.groupby("hospital")["target"].agg(["size", "sum"]).to_dict() == {
        "size": {"cleveland": 303, "hungary": 294, "switzerland": 123, "va": 200},
        "sum": {"cleveland": 139, "hungary": 106, "switzerland": 115, "va": 149},
    }
    assert table["num"].value_counts().sort_index().tolist() == [411, 265, 109, 107, 28]
    missing = {"trestbps": 60, "chol": 202, "fbs": 90, "restecg": 2, "thalach": 55, "exang": 55}
    missing |= {"oldpeak": 62, "slope": 309, "ca": 611, "thal": 486, "age": 0, "sex": 0, "cp": 0}
    assert table[list(FEATURE_NAMES)].isna().sum().to_dict() == missing
    assert table.duplicated().sum() == 2

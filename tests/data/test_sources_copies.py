"""Published copies are recognised by their rows, and by nothing else; invented hospitals stand for the published ones."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedhealth.common.errors import UsageError
from fedhealth.data.sources import copies, csv_source, uci
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.copies import IMPUTED_BLOCKS
from fedhealth.data.sources.csv_source import parse_source
from fedhealth.data.sources.heart import FEATURE_NAMES, HOSPITALS
from fedhealth.data.sources.known_rows import FILE, describe_rows, load_known_rows, parse_rows, short_hash
from fedhealth.data.sources.raw_files import sha256_of
from fedhealth.data.sources.readings import AUTO, Answers
from tests.support.known_copies import PUBLISHED, everybody, hospitals_of_everybody, publish, table_of
from tests.support.layout_files import (
    RENAMED,
    STATLOG_NAMES,
    Row,
    invent_patients,
    kaggle_303,
    kaggle_918,
    kaggle_920,
    label,
    recode,
    rename,
    same_names,
    to_bytes,
    union_1190,
    zero_based,
)

CLEVELAND = PUBLISHED["cleveland"]


@pytest.fixture(autouse=True)
def invented_copies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "uci" not in request.keywords:
        publish(monkeypatch)


def parse(rows: list[Row], answers: Answers = AUTO) -> Source:
    return parse_source(to_bytes(rows), "heart.csv", answers)


def rows_of(table: pd.DataFrame) -> list[tuple[float, ...]]:
    """Comparable rows of features and target, in no order."""
    columns = [*FEATURE_NAMES, "target"]
    return sorted(table[columns].fillna(-1).astype(float).itertuples(index=False, name=None))


def check_cleveland(source: Source) -> None:
    expected = table_of({"cleveland": CLEVELAND})
    assert rows_of(source.table) == rows_of(expected.assign(target=(expected["num"] > 0).astype(int)))
    assert set(source.table["hospital"]) == {"cleveland"}


# --- Cleveland --------------------------------------------------------------------------------------------------------

COPIES = {
    "UCI's codes, num": CLEVELAND,
    "UCI's codes, target": label(CLEVELAND, "target"),
    "UCI's codes, target 0 to 4": rename(CLEVELAND, {**same_names(), "num": "target"}),
    "counted from 0, 1 = ill": label(zero_based(CLEVELAND, 1), "target"),
    "counted from 0, 1 = healthy": label(zero_based(CLEVELAND, 1), "target", "1", "0"),
    "counted from 0, condition": label(zero_based(CLEVELAND), "condition"),
    "Statlog, target": label(CLEVELAND, "target", "1", "2"),
    "Statlog, num": label(CLEVELAND, "num", "1", "2"),
    "Statlog, words": rename(label(CLEVELAND, "Heart Disease", "Absence", "Presence"), STATLOG_NAMES),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_cleveland_is_known_by_its_rows_and_needs_no_flag(name: str) -> None:
    source = parse(COPIES[name][::-1])
    check_cleveland(source)
    assert source.name == "uci-copy"
    assert source.description.startswith("a copy of UCI's Cleveland file, known by its rows: 20 patients")


@pytest.mark.parametrize("rows", [kaggle_303(CLEVELAND), rename(kaggle_303(CLEVELAND, "output"), RENAMED)])
def test_the_303_copy_is_turned_round_under_its_own_and_under_other_names(rows: list[Row]) -> None:
    source = parse(rows)
    check_cleveland(source)
    assert source.name == "kaggle-303"


def test_a_303_copy_whose_label_somebody_repaired_is_read_as_it_is() -> None:
    repaired = recode(kaggle_303(CLEVELAND), {"target": {"0": "1", "1": "0"}})
    check_cleveland(parse(repaired))


def test_a_repeated_row_is_removed_and_many_make_the_1025_copy() -> None:
    rows = kaggle_303(CLEVELAND)
    source = parse([*rows, rows[0]])
    check_cleveland(source)
    assert source.name == "kaggle-303"
    assert source.warnings == ("heart.csv: 1 of 21 rows were exact repeats and are removed, 20 patients are left",)
    source = parse(rows * 3)
    check_cleveland(source)
    assert source.name == "kaggle-1025"
    (warning,) = source.warnings
    assert warning.startswith("heart.csv: 40 of 60 rows were exact repeats")
    assert warning.endswith("puts the same patients in train and test")


def test_the_copy_whose_label_is_num_2_to_4_is_read_with_a_warning() -> None:
    graver = [{**row, "target": str(int(row["num"] >= "2"))} for row in CLEVELAND]
    source = parse([{name: text for name, text in row.items() if name != "num"} for row in graver])
    assert source.table["target"].tolist() == [int(row["num"] >= "2") for row in CLEVELAND]
    (warning,) = source.warnings
    assert "its label is 1 only for num 2 to 4, so the patients with num 1 count as healthy" in warning


def test_a_code_that_a_copy_leaves_undefined_is_missing_with_a_warning() -> None:
    rows = [{**row} for row in CLEVELAND]
    rows[2]["slope"] = "0"
    source = parse(rows)
    assert np.isnan(source.table["slope"]).tolist() == [place == 2 for place in range(20)]
    assert source.warnings[0].startswith(
        "heart.csv: slope: a code that the layout does not define is read as missing (in 1"
    )


def test_up_to_a_fifth_of_the_rows_may_be_edited_with_a_warning() -> None:
    edited = [{**row, "age": str(20 + place)} if place < 4 else row for place, row in enumerate(CLEVELAND)]
    source = parse(edited)
    assert source.name == "uci-copy"
    assert source.warnings == ("heart.csv: 4 of 20 rows are not as UCI published them: edited or filled in",)
    more = [{**row, "age": str(20 + place)} if place < 5 else row for place, row in enumerate(CLEVELAND)]
    assert parse(more).name == "own"


def test_the_header_and_codes_of_a_copy_do_not_make_one() -> None:
    with pytest.raises(UsageError, match="--label-1"):
        parse(kaggle_303(invent_patients()))
    assert parse(invent_patients()).name == "own"


def test_published_rows_with_other_labels_are_no_copy() -> None:
    shuffled = [{**row, "target": str(place // 2 % 2)} for place, row in enumerate(label(CLEVELAND, "target"))]
    assert parse(shuffled).name == "own"


@pytest.mark.parametrize("answers", [Answers(codes="uci"), Answers(label_1="ill")])
def test_a_flag_that_the_rows_contradict_is_refused(answers: Answers) -> None:
    with pytest.raises(UsageError, match="its rows are those of a published copy, in which --"):
        parse(kaggle_303(CLEVELAND), answers)
    assert parse(kaggle_303(CLEVELAND), Answers("kaggle-303", "healthy")).name == "kaggle-303"


# --- all four hospitals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["dataset", "origin"])
def test_the_920_copy_has_its_hospitals_and_a_row_under_the_wrong_one_is_put_back(column: str) -> None:
    names = {"cleveland": "Cleveland", "hungary": "Hungary", "switzerland": "Switzerland", "va": "VA Long Beach"}
    said = [names[hospital] for hospital in hospitals_of_everybody()]
    said[20] = "Cleveland"
    source = parse(kaggle_920(everybody(), said, column))
    assert source.name == "kaggle-920"
    assert source.table["hospital"].tolist() == hospitals_of_everybody()
    assert source.table["num"].tolist() == [int(row["num"]) for row in everybody()]
    assert any(line.startswith("heart.csv: 1 of 80 rows stand under another hospital") for line in source.warnings)


def test_the_918_copy_is_not_for_evaluation_and_has_no_hospitals() -> None:
    source = parse(kaggle_918(everybody()))
    assert source.name == "kaggle-918"
    assert set(source.table["hospital"]) == {"unknown"}
    assert any("filled in from the label" in line and "don't evaluate" in line for line in source.warnings)
    assert any("'unknown'" in line for line in source.warnings)


def test_the_hospitals_of_the_918_copy_are_known_for_the_published_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    content = to_bytes(kaggle_918(everybody()))
    monkeypatch.setattr(copies, "IMPUTED_SHA256", sha256_of(content))
    monkeypatch.setattr(copies, "IMPUTED_BLOCKS", dict.fromkeys(PUBLISHED, 20))
    for same in (content, b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")):
        assert parse_source(same, "heart.csv").table["hospital"].tolist() == hospitals_of_everybody()


def test_the_1190_row_union_loses_its_repeats() -> None:
    rows = union_1190(everybody())
    source = parse([*rows, *rows[:15]])
    assert source.name == "kaggle-1190"
    assert len(source.table) == 80
    assert any("15 of 95 rows were exact repeats" in line for line in source.warnings)


def test_rows_of_several_hospitals_in_ucis_codes_keep_the_hospital_that_the_file_says() -> None:
    rows = [{**row, "hospital": name} for row, name in zip(everybody(), hospitals_of_everybody(), strict=True)]
    source = parse(rows)
    assert source.name == "uci-copy"
    assert source.table["hospital"].tolist() == hospitals_of_everybody()


# --- the hashes -------------------------------------------------------------------------------------------------------


def test_a_hash_has_six_digits_and_does_not_depend_on_how_a_number_is_written() -> None:
    assert len(short_hash(["63", "1"])) == 6
    whole = [{**row, "age": f"{row['age']}.0", "chol": row["chol"] or "0"} for row in PUBLISHED["hungary"]]
    assert set(parse(whole).table["hospital"]) == {"hungary"}


def test_the_file_of_hashes_comes_back_from_its_text() -> None:
    known = parse_rows(describe_rows(table_of(PUBLISHED)))
    assert len(known.readings) == 80
    assert {hospital for names in known.hospitals.values() for hospital in names} == set(HOSPITALS)


def test_the_committed_hashes_are_short_and_of_920_rows() -> None:
    hashes = {hospital: "".join(lines) for hospital, lines in tomllib.loads(FILE.read_text(encoding="ascii")).items()}
    assert list(hashes) == list(HOSPITALS)
    assert {hospital: len(digits) // 12 for hospital, digits in hashes.items()} == {
        **{"cleveland": 303, "hungary": 294, "switzerland": 123, "va": 200}
    }
    assert all(set(digits) <= set("0123456789abcdef") for digits in hashes.values())


# --- the real copies --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def uci_table(uci_folder: Path) -> pd.DataFrame:
    source = uci.load_path(uci_folder)
    assert source
    return source.table


@pytest.fixture(scope="session")
def kaggle_folder(uci_folder: Path) -> Path:
    folder = uci_folder.parent / "kaggle"
    if not folder.is_dir():
        pytest.skip(f"no Kaggle copies in {folder}")
    return folder


@pytest.mark.uci
def test_the_committed_hashes_are_those_of_the_uci_files(uci_table: pd.DataFrame) -> None:
    assert FILE.read_text(encoding="ascii") == describe_rows(uci_table)


@pytest.mark.uci
def test_the_real_920_copy_equals_the_uci_table_row_for_row(kaggle_folder: Path, uci_table: pd.DataFrame) -> None:
    source = csv_source.load_path(kaggle_folder / "kaggle_920.csv")
    assert source.name == "kaggle-920"
    pd.testing.assert_frame_equal(source.table, uci_table)


@pytest.mark.uci
@pytest.mark.parametrize("name", ["303", "1025"])
def test_the_real_303_and_1025_copies_are_302_distinct_cleveland_patients(
    kaggle_folder: Path, uci_table: pd.DataFrame, name: str
) -> None:
    source = csv_source.load_path(kaggle_folder / f"kaggle_{name}.csv")
    assert source.name == f"kaggle-{name}"
    assert len(source.warnings) == 1
    found, cleveland = set(rows_of(source.table)), set(rows_of(uci_table[uci_table["hospital"] == "cleveland"]))
    assert len(found) == len(source.table) == 302
    assert found <= cleveland
    assert [(row[0], row[1], row[-1]) for row in cleveland - found] == [(60, 0, 1)]


@pytest.mark.uci
def test_every_row_of_the_real_918_copy_matches_its_own_uci_row_on_all_observed_fields(
    kaggle_folder: Path, uci_table: pd.DataFrame
) -> None:
    source = csv_source.load_path(kaggle_folder / "kaggle_918.csv")
    assert source.name == "kaggle-918"
    assert source.table["hospital"].value_counts().to_dict() == IMPUTED_BLOCKS
    columns = [name for name in FEATURE_NAMES if name not in ("ca", "thal")] + ["target"]
    assert source.table[["ca", "thal"]].isna().all(axis=None)
    for hospital in HOSPITALS:
        copied = source.table.loc[source.table["hospital"] == hospital, columns].to_numpy(dtype=float)
        originals = uci_table.loc[uci_table["hospital"] == hospital, columns].to_numpy(dtype=float)
        same = np.isnan(originals) | (originals == copied[:, None, :])
        free = set(range(len(originals)))
        for patient in same.all(axis=2):
            place = next(place for place in np.flatnonzero(patient) if int(place) in free)
            free.remove(int(place))
        assert len(free) == {"hungary": 1, "va": 1}.get(hospital, 0)


@pytest.mark.uci
@pytest.mark.parametrize("hospital", HOSPITALS)
def test_a_file_of_one_real_hospital_is_known_in_its_codes_and_from_0(uci_table: pd.DataFrame, hospital: str) -> None:
    patients = uci_table[uci_table["hospital"] == hospital]
    assert len(load_known_rows().readings) == 918
    plain = patients[[*FEATURE_NAMES, "num"]]
    shifted = plain.assign(cp=plain["cp"] - 1, slope=plain["slope"] - 1, thal=plain["thal"].map({3: 1, 6: 2, 7: 3}))
    for table in (plain, shifted):
        source = parse_source(table.sample(frac=1, random_state=0).to_csv(index=False).encode(), "heart.csv")
        assert rows_of(source.table) == rows_of(patients)
        assert set(source.table["hospital"]) == {hospital}


if __name__ == "__main__":  # FEDHEALTH_UCI=FOLDER python -m tests.data.test_sources_copies
    import os

    FILE.write_text(describe_rows(uci.load_path(Path(os.environ["FEDHEALTH_UCI"])).table), encoding="ascii")

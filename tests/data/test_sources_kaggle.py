"""The four Kaggle copies: recognised by content, mapped back to UCI's codes and label."""

import numpy as np
import pandas as pd
import pytest

from fedhealth.data import schema
from fedhealth.data.sources import kaggle, uci
from fedhealth.data.sources.kaggle_layouts import IMPUTED_BLOCKS, LAYOUTS
from tests.support.sources_fixtures import (
    IMPUTED_HEADER,
    IMPUTED_MEANING,
    IMPUTED_ROWS,
    RECODED_HEADER,
    RECODED_MEANING,
    RECODED_ROWS,
    WORDS_HEADER,
    WORDS_MEANING,
    WORDS_ROWS,
    make_csv,
    make_zip,
)

RAW_NAMES = [*schema.FEATURE_NAMES, "num"]
RECODED = make_csv(RECODED_HEADER, RECODED_ROWS)
WORDS = make_csv(WORDS_HEADER, WORDS_ROWS)
IMPUTED = make_csv(IMPUTED_HEADER, IMPUTED_ROWS)


def parse(content: bytes) -> kaggle.Source:
    source = kaggle.parse_copy(content, "heart.csv")
    assert source is not None
    return source


def check_values(table: pd.DataFrame, meaning: list[list[float]]) -> None:
    np.testing.assert_array_equal(table[RAW_NAMES].to_numpy(dtype=float), np.array(meaning, dtype=float))
    assert list(table.columns) == list(schema.COLUMN_NAMES)
    assert table["target"].tolist() == [int(row[-1] > 0) for row in meaning]


# Mapping back


def test_the_303_layout_is_recoded_and_its_target_turned_round():
    source = parse(RECODED)
    check_values(source.table, RECODED_MEANING)
    assert source.name == "kaggle-303"
    assert set(source.table["hospital"]) == {"cleveland"}


def test_a_repeated_patient_of_the_303_layout_is_removed_and_told():
    (warning,) = parse(RECODED).warnings
    assert "1 of 5 rows" in warning
    assert "4 patients are left" in warning


def test_the_1025_layout_is_known_by_its_many_repeats_and_its_worth_is_told():
    source = parse(make_csv(RECODED_HEADER, RECODED_ROWS * 3))
    check_values(source.table, RECODED_MEANING)
    assert source.name == "kaggle-1025"
    (warning,) = source.warnings
    assert "11 of 15 rows" in warning
    assert "same patient in train and test" in warning
    assert "mean nothing" in warning


def test_the_920_layout_is_turned_from_words_to_codes_and_one_patient_moved():
    source = parse(WORDS)
    check_values(source.table, [values for values, _ in WORDS_MEANING])
    assert source.table["hospital"].tolist() == [hospital for _, hospital in WORDS_MEANING]
    assert source.name == "kaggle-920"
    (warning,) = source.warnings
    assert "304" in warning


def test_a_920_copy_without_the_mislabelled_row_moves_nothing():
    rows = [row.replace("304,33,Female,Cleveland", "304,33,Female,Hungary") for row in WORDS_ROWS]
    source = parse(make_csv(WORDS_HEADER, rows))
    assert source.table["hospital"].tolist() == [hospital for _, hospital in WORDS_MEANING]
    assert source.warnings == ()


def test_the_rows_of_the_920_layout_are_ordered_by_hospital_and_then_as_in_the_file():
    rows = [WORDS_ROWS[4], *WORDS_ROWS[1:4], WORDS_ROWS[0]]
    source = parse(make_csv(WORDS_HEADER, rows))
    assert source.table["age"].tolist() == [61, 33, 36, 38, 66]


def test_the_918_layout_has_no_hospitals_and_tells_what_was_filled_in():
    source = parse(IMPUTED)
    check_values(source.table, IMPUTED_MEANING)
    assert source.name == "kaggle-918"
    assert set(source.table["hospital"]) == {"unknown"}
    assert any("filled in from the label" in line and "don't evaluate" in line for line in source.warnings)
    assert any("'unknown'" in line for line in source.warnings)


def test_the_hospitals_of_the_918_layout_are_told_only_for_the_published_bytes(monkeypatch):
    monkeypatch.setattr(kaggle, "IMPUTED_SHA256", kaggle.sha256_of(IMPUTED))
    monkeypatch.setattr(kaggle, "IMPUTED_BLOCKS", {"hungary": 1, "switzerland": 1, "cleveland": 2})
    for content in (IMPUTED, b"\xef\xbb\xbf" + IMPUTED.replace(b"\n", b"\r\n")):
        table = parse(content).table
        assert table["hospital"].tolist() == ["cleveland", "cleveland", "hungary", "switzerland"]
        assert table["age"].tolist() == [61, 52, 33, 38]
    assert set(parse(IMPUTED.replace(b"61,M", b"62,M")).table["hospital"]) == {"unknown"}


# Recognition


@pytest.mark.parametrize(("content", "name"), [(RECODED, "303"), (WORDS, "920"), (IMPUTED, "918")])
def test_a_copy_is_known_by_content_whatever_its_name_and_line_ends(tmp_path, content, name):
    path = tmp_path / "kaggle_1025.txt"
    path.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    source = kaggle.load_path(path)
    assert source.name == f"kaggle-{name}"
    assert source.sha256 == {"kaggle_1025.txt": kaggle.sha256_of(path.read_bytes())}
    pd.testing.assert_frame_equal(source.table, parse(content).table)


def test_columns_in_another_order_are_the_same_copy():
    turned = [",".join(reversed(line.split(","))) for line in (RECODED_HEADER, *RECODED_ROWS)]
    check_values(parse(make_csv(turned[0], turned[1:])).table, RECODED_MEANING)


def test_codes_saved_with_decimals_are_the_same_copy():
    rows = [",".join(f"{float(text)}" for text in row.split(",")) for row in RECODED_ROWS]
    check_values(parse(make_csv(RECODED_HEADER, rows)).table, RECODED_MEANING)


def test_one_copy_in_a_folder_or_zip_is_found_beside_other_files(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "Heart Data.CSV").write_bytes(WORDS)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "notes.txt").write_text("read me")
    source = kaggle.load_path(tmp_path)
    assert (source.name, list(source.sha256)) == ("kaggle-920", ["Heart Data.CSV"])
    (tmp_path / "archive.zip").write_bytes(make_zip({"x/heart.csv": IMPUTED, "__MACOSX/x/._heart.csv": b"\x00"}))
    source = kaggle.load_path(tmp_path / "archive.zip")
    assert (source.name, list(source.sha256)) == ("kaggle-918", ["heart.csv"])


def test_every_layout_has_codes_only_for_columns_that_it_has():
    for layout in LAYOUTS:
        assert set(layout.codes) <= set(layout.columns) <= set(RAW_NAMES)


# The real copies


@pytest.fixture(scope="session")
def uci_table(uci_folder):
    return uci.load_path(uci_folder).table


@pytest.fixture(scope="session")
def kaggle_folder(uci_folder):
    folder = uci_folder.parent / "kaggle"
    if not folder.is_dir():
        pytest.skip(f"no Kaggle copies in {folder}")
    return folder


@pytest.mark.uci
def test_the_real_920_copy_equals_the_uci_table_row_for_row(kaggle_folder, uci_table):
    source = kaggle.load_path(kaggle_folder / "kaggle_920.csv")
    assert source.name == "kaggle-920"
    pd.testing.assert_frame_equal(source.table, uci_table)


@pytest.mark.uci
@pytest.mark.parametrize("name", ["303", "1025"])
def test_the_real_303_and_1025_copies_are_302_distinct_cleveland_patients(kaggle_folder, uci_table, name):
    source = kaggle.load_path(kaggle_folder / f"kaggle_{name}.csv")
    assert source.name == f"kaggle-{name}"
    assert len(source.warnings) == 1
    columns = [*schema.FEATURE_NAMES, "target"]
    cleveland = uci_table.loc[uci_table["hospital"] == "cleveland", columns].fillna(-1)
    found = set(source.table[columns].fillna(-1).itertuples(index=False, name=None))
    lost = set(cleveland.itertuples(index=False, name=None)) - found
    assert len(found) == len(source.table) == 302
    assert found <= set(cleveland.itertuples(index=False, name=None))
    assert [(row[0], row[1], row[-1]) for row in lost] == [(60, 0, 1)]


@pytest.mark.uci
def test_every_row_of_the_real_918_copy_matches_its_own_uci_row_on_all_observed_fields(kaggle_folder, uci_table):
    source = kaggle.load_path(kaggle_folder / "kaggle_918.csv")
    assert source.name == "kaggle-918"
    assert source.table["hospital"].value_counts().to_dict() == IMPUTED_BLOCKS
    columns = [name for name in schema.FEATURE_NAMES if name not in ("ca", "thal")] + ["target"]
    assert source.table[["ca", "thal"]].isna().all(axis=None)
    for hospital in schema.HOSPITALS:
        copies = source.table.loc[source.table["hospital"] == hospital, columns].to_numpy(dtype=float)
        originals = uci_table.loc[uci_table["hospital"] == hospital, columns].to_numpy(dtype=float)
        same = np.isnan(originals) | (originals == copies[:, None, :])
        free = set(range(len(originals)))
        for patient in same.all(axis=2):
            place = next(place for place in np.flatnonzero(patient) if int(place) in free)
            free.remove(int(place))
        assert len(free) == {"hungary": 1, "va": 1}.get(hospital, 0)

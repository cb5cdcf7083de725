"""The schemes of codes: which explains a file, and what it becomes."""

import pytest

from fedhealth.data.sources.code_schemes import (
    CODED,
    KAGGLE_303,
    SCHEMES,
    UCI,
    ZERO_BASED,
    ZERO_BASED_THAL_1,
    CodeScheme,
    decode_codes,
    find_foreign,
    nearest_scheme,
    possible_schemes,
)
from fedhealth.data.sources.heart import FEATURES
from tests.support.layout_files import WORDS, Row, invent_patients, kaggle_303, recode, zero_based

PATIENTS = invent_patients()


def cells_of(rows: list[Row]) -> dict[str, list[str]]:
    return {name: [row[name] for row in rows] for name in CODED}


FILES = {
    "uci": (PATIENTS, UCI),
    "thal from 0": (zero_based(PATIENTS), ZERO_BASED),
    "thal from 1": (zero_based(PATIENTS, thal_from=1), ZERO_BASED_THAL_1),
    "kaggle": (kaggle_303([*PATIENTS, {**PATIENTS[0], "thal": ""}]), KAGGLE_303),
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_decoded_to_ucis_codes_by_its_own_scheme(file: str) -> None:
    rows, scheme = FILES[file]
    assert scheme in possible_schemes(cells_of(rows))
    decoded = decode_codes(scheme, cells_of(rows))
    expected = cells_of(PATIENTS if file != "kaggle" else [*PATIENTS, {**PATIENTS[0], "thal": ""}])
    assert decoded == expected


def test_every_code_of_a_scheme_is_one_of_ucis_or_missing() -> None:
    codes_of = {column.name: {str(code) for code in column.codes} for column in FEATURES}
    for scheme in SCHEMES:
        for name in CODED:
            assert set(scheme.codes[name].values()) - {""} == codes_of[name]


@pytest.mark.parametrize(
    ("cells", "schemes"),
    [
        ({"cp": ["4"]}, [UCI]),
        ({"cp": ["0"]}, [ZERO_BASED, KAGGLE_303]),
        ({"cp": ["1", "2"]}, [UCI, ZERO_BASED]),
        ({"cp": ["0"], "thal": ["0", "3"]}, [KAGGLE_303]),
        ({"cp": ["0"], "ca": ["4"]}, [KAGGLE_303]),
        ({"cp": ["0"], "thal": ["1", "2"]}, [ZERO_BASED, ZERO_BASED_THAL_1, KAGGLE_303]),
        ({"cp": ["5"]}, []),
        ({"cp": ["0.5"]}, []),
        ({"cp": ["typical angina"], "restecg": ["2"]}, [UCI]),
        ({"thal": ["", "?", "-9", "NULL"]}, [UCI]),
    ],
)
def test_the_schemes_that_explain_all_cells_are_found_once_for_each_result(
    cells: dict[str, list[str]], schemes: list[CodeScheme]
) -> None:
    assert possible_schemes(cells) == schemes


def test_words_and_missing_marks_are_left_for_the_cells_own_parser() -> None:
    cells = cells_of(recode(PATIENTS, WORDS))
    assert decode_codes(UCI, cells) == cells
    assert find_foreign(UCI, {"thal": ["normal", "N/A", "7.0"]}) == []


def test_cells_without_meaning_are_named_and_the_nearest_scheme_has_fewest() -> None:
    cells = cells_of(zero_based(PATIENTS))
    cells["slope"][5] = "9"
    assert find_foreign(ZERO_BASED, cells) == [(5, "slope")]
    assert nearest_scheme(cells) is ZERO_BASED

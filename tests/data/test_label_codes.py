"""What a label column means, judged as a whole."""

import pytest

from fedhealth.data.outcome_check import find_label_fault, label_values
from fedhealth.data.sources.heart import COLUMNS, HEART
from fedhealth.data.sources.label_codes import (
    GRADES,
    GRAVE,
    ONE_IS_HEALTHY,
    ONE_IS_ILL,
    STATLOG,
    LabelCodes,
    possible_labels,
)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ({0, 1}, [ONE_IS_ILL, ONE_IS_HEALTHY]),
        ({1}, [ONE_IS_ILL, ONE_IS_HEALTHY]),
        ({1, 2}, [STATLOG, GRADES]),
        ({0, 2}, [GRADES]),
        ({1, 3}, [GRADES]),
        ({0, 1, 2, 3, 4}, [GRADES]),
        ({0, 5}, []),
        ({0, float("inf")}, []),
    ],
)
def test_the_meanings_that_explain_all_labels_are_found(values: set[float], labels: list[LabelCodes]) -> None:
    assert possible_labels(values) == labels


@pytest.mark.parametrize(
    ("labels", "decoded"),
    [
        (ONE_IS_ILL, {0: 0, 1: 1}),
        (ONE_IS_HEALTHY, {0: 1, 1: 0}),
        (STATLOG, {1: 0, 2: 1}),
        (GRADES, {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}),
        (GRAVE, {0: 0, 1: 1}),
    ],
)
def test_a_label_is_decoded(labels: LabelCodes, decoded: dict[int, int]) -> None:
    assert {code: labels.decode(code) for code in labels.codes} == decoded


def test_missing_labels_are_no_values_and_words_are() -> None:
    assert label_values(COLUMNS["target"], ["", "?", "-9", "Presence", "absence", "1"]) == {0, 1}


@pytest.mark.parametrize(
    "cells",
    [
        {"target": ["0", "1"]},
        {"target": ["0", "0"]},
        {"num": ["0", "1", "4"]},
        {"num": ["0", "0"]},
        {"target": ["1", "1"], "num": ["1", "4"]},
        {"target": ["", ""], "num": ["0", "4"]},
        {"target": ["", ""]},
        {"target": ["0", "7"]},
        {"num": ["0", "5"]},
        {"target": ["yes", "no"]},
        {},
    ],
)
def test_a_column_that_can_mean_one_thing_is_left_to_its_cells(cells: dict[str, list[str]]) -> None:
    assert find_label_fault(HEART, cells) == ""


@pytest.mark.parametrize(
    ("cells", "start", "end"),
    [
        ({"target": ["1", "1"]}, "target is 1 in every row, so no patient is healthy", "to confirm it"),
        ({"target": ["1", "2"]}, "target holds only labels 1 and 2, never 0: if these are", "with 1 in every row"),
        ({"target": ["2", "2"]}, "target holds only labels 1 and 2, never 0: if these are", "with 1 in every row"),
        ({"target": ["0", "2"]}, "target goes above 1: it holds the grades of num", "name the column num"),
        ({"target": ["0", "4"], "num": ["0", "4"]}, "target goes above 1", "or leave out target"),
        ({"target": ["1", "3"]}, "target is 0 in no row", "1 for the ill"),
        ({"num": ["1", "2"]}, "num holds only labels 1 and 2, never 0: if these are", "to confirm it"),
        ({"num": ["1", "1"]}, "num is 0 in no row", "to confirm it"),
        ({"num": ["3", "4"]}, "num is 0 in no row", "to confirm it"),
        ({"target": ["", ""], "num": ["1", "2"]}, "num holds only labels 1 and 2", "to confirm it"),
    ],
)
def test_a_column_without_a_healthy_patient_or_with_other_codes_is_refused_with_what_to_do(
    cells: dict[str, list[str]], start: str, end: str
) -> None:
    line = find_label_fault(HEART, cells)
    assert line.startswith(start)
    assert line.endswith(end)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"target": ["1", "2"]}, {"target": ["0", "1"]}),
        ({"target": ["1", "2"]}, {"num": ["1", "2"], "target": ["1", "1"]}),
        ({"target": ["0", "3"]}, {"num": ["0", "3"]}),
        ({"target": ["1", "1"]}, {"target": ["1", "1"], "num": ["1", "1"]}),
        ({"num": ["1", "2"]}, {"num": ["0", "1"]}),
        ({"num": ["1", "2"]}, {"num": ["1", "2"], "target": ["1", "1"]}),
    ],
)
def test_who_follows_the_advice_is_accepted(before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
    assert find_label_fault(HEART, before)
    assert find_label_fault(HEART, after) == ""

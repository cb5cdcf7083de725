"""What the numbers of a label column stand for, judged from the whole column and never from one patient."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedhealth.data.cell_words import is_missing, parse_cell
from fedhealth.data.code_schemes import UNKNOWN, Cells
from fedhealth.data.schema import LABEL, TARGET


@dataclass(frozen=True)
class LabelCodes:
    """One meaning of a label column."""

    one_is_ill: bool
    """What the label 1 means: the value of `--label-1`."""
    title: str
    column: str
    """The column of ours that holds the decoded labels: `target` (0, 1) or `num` (0 to 4)."""
    codes: Mapping[int, tuple[int, ...]]
    """The layout's code -> the grades of `num` that it may stand for."""

    def decode(self, code: int) -> int:
        """Our label of a code: the grade, or 0 and 1."""
        grades = self.codes[code]
        return grades[0] if self.column == LABEL.name else int(code == self.ill_code)

    @property
    def ill_code(self) -> int:
        """The code of the ill, in a layout of two codes."""
        return max(self.codes, key=lambda code: self.codes[code])


HEALTHY, ILL = (0,), (1, 2, 3, 4)
ONE_IS_ILL = LabelCodes(True, "1 = ill", TARGET, {0: HEALTHY, 1: ILL})
ONE_IS_HEALTHY = LabelCodes(False, "1 = healthy", TARGET, {0: ILL, 1: HEALTHY})
GRADES = LabelCodes(True, "0 = healthy, 1 to 4 = ill", LABEL.name, {grade: (grade,) for grade in LABEL.codes})
STATLOG = LabelCodes(False, "1 = healthy, 2 = ill", TARGET, {1: HEALTHY, 2: ILL})
GRAVE = LabelCodes(True, "1 = num 2 to 4", TARGET, {0: (0, 1), 1: (2, 3, 4)})
"""Of one published copy; nothing but its rows shows it."""


def label_values(texts: Iterable[str]) -> set[float]:
    """The distinct labels as numbers, without missing ones; infinity stands for text that is no label."""
    return {
        parse_cell(TARGET, text) for text in set(texts) if not is_missing(text) and parse_cell(TARGET, text) != UNKNOWN
    }


def possible_labels(values: set[float]) -> list[LabelCodes]:
    """The meanings that explain all labels of a column and differ in them; none if no meaning does."""
    if values <= {0, 1}:
        return [ONE_IS_ILL, ONE_IS_HEALTHY]
    if values <= {1, 2}:
        return [STATLOG, GRADES]
    return [GRADES] if values <= set(GRADES.codes) else []


def find_label_fault(cells: Cells) -> str:
    """One line about a label column as a whole; empty if each label is to be judged by itself.

    A column without a healthy patient may as well be written in other codes, so a second label column must confirm it.
    """
    values = {name: label_values(cells[name]) for name in (TARGET, LABEL.name) if name in cells}
    if values.get(TARGET):
        return describe_target(values[TARGET], beside_num=bool(values.get(LABEL.name)))
    return describe_num(values.get(LABEL.name, set()))


def describe_target(values: set[float], beside_num: bool) -> str:
    """What is wrong with all labels of a column `target` together, and what to do."""
    if values == {1} and not beside_num:
        return (
            f"{TARGET} is 1 in every row, so no patient is healthy; the healthy must have 0. If all are ill, "
            f"add the column {LABEL.name} with their grades (1 to 4, or 1 for all) to confirm it"
        )
    if values in ({1, 2}, {2}):
        grades = f"name the column {LABEL.name} and add the column {TARGET} with 1 in every row"
        return f"{describe_statlog(TARGET)}; if they are grades of the ill, {grades}"
    if values > {0} and values <= set(GRADES.codes) and max(values) > 1:
        todo = f"write 1 for 1 to 4, or leave out {TARGET}" if beside_num else f"name the column {LABEL.name}"
        return f"{TARGET} goes above 1: it holds the grades of {LABEL.name} (0 healthy, 1 to 4 ill); {todo}"
    if values <= set(GRADES.codes) and 0 not in values and values != {1}:
        return (
            f"{TARGET} is 0 in no row, so no patient is healthy; {TARGET} must be 0 for the healthy and 1 for the ill"
        )
    return ""


def describe_num(values: set[float]) -> str:
    """What is wrong with all labels of a column `num` that stands alone, and what to do."""
    confirm = f"if all are ill, add the column {TARGET} with 1 in every row to confirm it"
    if not values or 0 in values or not values <= set(GRADES.codes):
        return ""
    if values in ({1, 2}, {2}):
        return f"{describe_statlog(LABEL.name)}; {confirm}"
    return f"{LABEL.name} is 0 in no row, so no patient is healthy; the healthy must have 0; {confirm}"


def describe_statlog(name: str) -> str:
    """What to do about labels that are Statlog's, if they are."""
    statlog = "if these are the labels of Statlog's file (1 healthy, 2 ill), subtract 1 from each"
    return f"{name} holds only labels 1 and 2, never 0: {statlog}"

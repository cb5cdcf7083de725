"""What the numbers of a label column stand for, judged from the whole column and never from one patient."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedhealth.data.sources.heart import LABEL, TARGET


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


def possible_labels(values: set[float]) -> list[LabelCodes]:
    """The meanings that explain all labels of a column and differ in them; none if no meaning does."""
    if values <= {0, 1}:
        return [ONE_IS_ILL, ONE_IS_HEALTHY]
    if values <= {1, 2}:
        return [STATLOG, GRADES]
    return [GRADES] if values <= set(GRADES.codes) else []

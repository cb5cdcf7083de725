"""Is the model as good for women as for men, for the young as for the old? Counts by sex and by age band, no row.

A hospital counts, per subgroup, who of its tested patients is called ill at a risk of 0.5; the server adds up. Small groups
stay untold, and so does what would give them away by subtraction: the server knows the hospital's totals (the histograms).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fedhealth.data.schema import FEATURE_NAMES, FEATURES

THRESHOLD = 0.5
"""Risk from which a patient is called ill."""
SEX = FEATURES[FEATURE_NAMES.index("sex")].codes
BAND_EDGES = (50.0, 60.0)
"""Years; a band begins with its edge."""
DIVISIONS: dict[str, tuple[str, ...]] = {
    "sex": tuple(SEX.values()),
    "age": ("under 50", "50 to 59", "60 and over"),
}
"""Each tested patient is in one group of each division."""
GROUPS = tuple(group for division in DIVISIONS.values() for group in division)
MOST_PATIENTS = 10**9
"""In one group; more is no count of people."""


Count = Annotated[int, Meta(ge=0, le=MOST_PATIENTS)]


class Outcomes(Struct, frozen=True, array_like=True):
    """How many patients of a group are called ill and healthy, rightly and wrongly."""

    true_positives: Count = 0
    false_positives: Count = 0
    true_negatives: Count = 0
    false_negatives: Count = 0

    @property
    def ill(self) -> int:
        """Patients who are ill."""
        return self.true_positives + self.false_negatives

    @property
    def healthy(self) -> int:
        """Patients who are not."""
        return self.true_negatives + self.false_positives

    @property
    def patients(self) -> int:
        """All of them."""
        return self.ill + self.healthy

    def counts(self) -> tuple[int, int, int, int]:
        """In the order in which they travel."""
        return self.true_positives, self.false_positives, self.true_negatives, self.false_negatives

    def __add__(self, other: "Outcomes") -> "Outcomes":
        """Those of both."""
        return Outcomes(*(one + two for one, two in zip(self.counts(), other.counts(), strict=True)))


Disclosed = Mapping[str, Outcomes]
"""Group -> its outcomes; a group that is not told is not in it."""


class Subgroups(Struct, frozen=True):
    """What the hospitals told of their subgroups, and why others told nothing."""

    told: Mapping[str, Disclosed]
    """By hospital."""
    silent: Mapping[str, str]
    """Hospital -> reason."""
    threshold: float = THRESHOLD


def count_subgroups(
    features: NDArray[np.float64], labels: NDArray[np.floating], risks: NDArray[np.floating], least: int
) -> dict[str, Outcomes]:
    """What a hospital tells of its tested patients: `features` (num_patients, 13), `labels` and `risks` (num_patients,)."""
    told: dict[str, Outcomes] = {}
    places = {
        "sex": np.searchsorted(sorted(SEX), features[:, FEATURE_NAMES.index("sex")]),
        "age": np.digitize(features[:, FEATURE_NAMES.index("age")], BAND_EDGES),
    }
    for division, groups in DIVISIONS.items():
        each = [_count(labels[mask] > 0.5, risks[mask]) for mask in (places[division] == p for p in range(len(groups)))]
        may = suppress_small_cells([outcomes.patients for outcomes in each], least)
        told |= {group: outcomes for group, outcomes, yes in zip(groups, each, may, strict=True) if yes}
    return told


def _count(ill: NDArray[np.bool_], risks: NDArray[np.floating]) -> Outcomes:
    called = risks >= THRESHOLD
    pairs = ((ill, called), (~ill, called), (~ill, ~called), (ill, ~called))
    return Outcomes(*(int((one & other).sum()) for one, other in pairs))


def suppress_small_cells(sizes: Sequence[int], least: int) -> list[bool]:
    """Which groups of a division may be told, if whoever hears it knows their total and this rule.

    Not a group of 1 to `least` - 1 patients; and, because the total less what is told would give it away, not the smallest
    others either, until two groups are untold and together hold more than two small ones could (else the rule itself would
    tell that both are small, and sometimes how small). Groups of one size share their fate for the same reason. An empty
    group is told: nobody is in it. (Hundepool et al. 2012, "Statistical Disclosure Control", chapter 4.)
    """
    small = {place for place, size in enumerate(sizes) if 0 < size < least}
    if sum(sizes) < least:
        return [False] * len(sizes)
    suppressed = set(small)
    for wanted in sorted({size for size in sizes if size >= least}):
        if not small or (len(suppressed) > 1 and sum(sizes[place] for place in suppressed) >= 2 * least - 1):
            break
        suppressed |= {place for place, size in enumerate(sizes) if size == wanted}
    return [place not in suppressed for place in range(len(sizes))]


def check_subgroups(told: Disclosed, patients: int, ill: int, least: int) -> None:
    """Raise a `ValueError` unless these can be the subgroups of so many tested patients, told by the rule above."""
    if told.keys() - set(GROUPS):
        raise ValueError("it told of a subgroup that there is not")
    for groups in DIVISIONS.values():
        each = [told[group] for group in groups if group in told]
        if any(0 < outcomes.patients < least for outcomes in each):
            raise ValueError(f"it told a subgroup of fewer than {least} patients")
        left = patients - sum(outcomes.patients for outcomes in each)
        left_ill = ill - sum(outcomes.ill for outcomes in each)
        if not 0 <= left_ill <= left or (len(each) == len(groups) and left):
            raise ValueError(f"its subgroups are not those of the {patients} patients ({ill} ill) that it declared")


def add_subgroups(told: Iterable[Disclosed]) -> dict[str, Outcomes]:
    """All hospitals' together, in the order of `DIVISIONS`; a group that no hospital told has nobody in it."""
    each = list(told)
    return {group: sum((one[group] for one in each if group in one), start=Outcomes()) for group in GROUPS}

"""Outcomes of the tested patients by sex and by age band, as counts.

A hospital counts, per subgroup, its tested patients who are predicted positive at a risk of 0.5; the server adds up. Small
groups are suppressed, and so are groups from which a small one could be computed by subtraction: the server knows the
hospital's totals from the histograms.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fedhealth.data.schema import FEATURE_NAMES, FEATURES

THRESHOLD = 0.5
"""Risk from which a patient is predicted positive."""
SEX = FEATURES[FEATURE_NAMES.index("sex")].codes
BAND_EDGES = (50.0, 60.0)
"""Years; a band includes its lower edge."""
DIVISIONS: dict[str, tuple[str, ...]] = {
    "sex": tuple(SEX.values()),
    "age": ("under 50", "50 to 59", "60 and over"),
}
"""Each tested patient is in one group of each division."""
GROUPS = tuple(group for division in DIVISIONS.values() for group in division)
MOST_PATIENTS = 10**9
"""In one group; a larger count is refused."""


Count = Annotated[int, Meta(ge=0, le=MOST_PATIENTS)]


class Outcomes(Struct, frozen=True, array_like=True):
    """True and false positives and negatives of a group."""

    true_positives: Count = 0
    false_positives: Count = 0
    true_negatives: Count = 0
    false_negatives: Count = 0

    @property
    def ill(self) -> int:
        """Number of ill patients."""
        return self.true_positives + self.false_negatives

    @property
    def healthy(self) -> int:
        """Number of healthy patients."""
        return self.true_negatives + self.false_positives

    @property
    def patients(self) -> int:
        """Number of patients."""
        return self.ill + self.healthy

    def counts(self) -> tuple[int, int, int, int]:
        """The four counts in the order of the message."""
        return self.true_positives, self.false_positives, self.true_negatives, self.false_negatives

    def __add__(self, other: "Outcomes") -> "Outcomes":
        """Counts of both groups together."""
        return Outcomes(*(one + two for one, two in zip(self.counts(), other.counts(), strict=True)))


Disclosed = Mapping[str, Outcomes]
"""Group -> its outcomes; a suppressed group is not in it."""


class Subgroups(Struct, frozen=True, rename={"disclosed": "told", "missing": "silent"}):
    """The subgroups that hospitals disclosed, and why others sent no answer."""

    disclosed: Mapping[str, Disclosed]
    """By hospital."""
    missing: Mapping[str, str]
    """Hospital -> reason."""
    threshold: float = THRESHOLD


def count_subgroups(
    features: NDArray[np.float64], labels: NDArray[np.floating], risks: NDArray[np.floating], least: int
) -> dict[str, Outcomes]:
    """The outcomes that a hospital discloses, by group; of no group of fewer than `least` patients.

    Of its tested patients come `features` (num_patients, 13), `labels` and `risks`, both (num_patients,).
    """
    disclosed: dict[str, Outcomes] = {}
    places = {
        "sex": np.searchsorted(sorted(SEX), features[:, FEATURE_NAMES.index("sex")]),
        "age": np.digitize(features[:, FEATURE_NAMES.index("age")], BAND_EDGES),
    }
    for division, groups in DIVISIONS.items():
        each = [_count(labels[mask] > 0.5, risks[mask]) for mask in (places[division] == p for p in range(len(groups)))]
        kept = suppress_small_cells([outcomes.patients for outcomes in each], least)
        disclosed |= {group: outcomes for group, outcomes, keep in zip(groups, each, kept, strict=True) if keep}
    return disclosed


def _count(ill: NDArray[np.bool_], risks: NDArray[np.floating]) -> Outcomes:
    positive = risks >= THRESHOLD
    pairs = ((ill, positive), (~ill, positive), (~ill, ~positive), (ill, ~positive))
    return Outcomes(*(int((one & other).sum()) for one, other in pairs))


def suppress_small_cells(sizes: Sequence[int], least: int) -> list[bool]:
    """Whether each group of a division may be disclosed to a recipient who knows their total and this rule.

    A group of 1 to `least` - 1 patients is suppressed. Because the total minus the disclosed groups would reveal it, the
    smallest other groups are suppressed too, until two groups are suppressed and together hold more patients than two small
    ones can (otherwise the rule itself would reveal that both are small, and sometimes how small). Groups of the same size
    are treated alike for the same reason. An empty group is disclosed: it has no patient. (Hundepool et al. 2012,
    "Statistical Disclosure Control", chapter 4.)
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


def check_subgroups(disclosed: Disclosed, patients: int, ill: int, least: int) -> None:
    """Raise a `ValueError` unless these can be the subgroups of so many tested patients, disclosed by the rule above."""
    if disclosed.keys() - set(GROUPS):
        raise ValueError("it sent a subgroup that does not exist")
    for groups in DIVISIONS.values():
        each = [disclosed[group] for group in groups if group in disclosed]
        if any(0 < outcomes.patients < least for outcomes in each):
            raise ValueError(f"it sent a subgroup of fewer than {least} patients")
        left = patients - sum(outcomes.patients for outcomes in each)
        left_ill = ill - sum(outcomes.ill for outcomes in each)
        if not 0 <= left_ill <= left or (len(each) == len(groups) and left):
            raise ValueError(f"its subgroups are not those of the {patients} patients ({ill} ill) that it declared")


def add_subgroups(disclosed: Iterable[Disclosed]) -> dict[str, Outcomes]:
    """The outcomes of all hospitals together, in the order of `DIVISIONS`; 0 patients in a group that none disclosed."""
    each = list(disclosed)
    return {group: sum((one[group] for one in each if group in one), start=Outcomes()) for group in GROUPS}

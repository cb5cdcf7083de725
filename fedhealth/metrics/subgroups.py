"""Outcomes of the tested patients by subgroup (such as sex and age band), as counts.

A hospital counts, per subgroup, its tested patients who are predicted positive at a risk of 0.5; the server adds up. Small
groups are suppressed, and so are groups from which a small one could be computed by subtraction: the server knows the
hospital's totals from the histograms.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fedhealth.data.schema import Column, Schema

THRESHOLD = 0.5
"""Risk from which a patient is predicted positive."""
Divisions = Mapping[str, tuple[str, ...]]
"""Column -> the names of its groups; each tested patient is in one group of each division."""
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
    divisions: Divisions = {}
    threshold: float = THRESHOLD


def find_divisions(schema: Schema) -> dict[str, tuple[str, ...]]:
    """The divisions of the schema: the columns with `subgroups`, in their order."""
    columns = [column for column in schema.features if column.subgroups is not None]
    words = Counter(word for column in columns if not column.is_number for word in column.codes.values())
    return {
        column.name: name_bands(column)
        if column.is_number
        else tuple(word if words[word] == 1 else f"{column.name} {word}" for word in column.codes.values())
        for column in columns
    }


def list_groups(schema: Schema) -> tuple[str, ...]:
    """The names of all groups of all divisions, in order."""
    return tuple(group for groups in find_divisions(schema).values() for group in groups)


def name_bands(column: Column) -> tuple[str, ...]:
    """The bands of a number, such as `age under 50`, `age 50 to 59`, `age 60 and over`; a band includes its lower edge."""
    edges = column.subgroups or ()
    are_whole = all(float(edge).is_integer() for edge in edges)
    between = [
        f"{column.name} {low:g} to {high - 1:g}" if are_whole else f"{column.name} {low:g} to under {high:g}"
        for low, high in pairwise(edges)
    ]
    return (f"{column.name} under {edges[0]:g}", *between, f"{column.name} {edges[-1]:g} and over")


def find_groups(schema: Schema, features: NDArray[np.float64]) -> dict[str, NDArray[np.intp]]:
    """Division -> position of each patient's group (...,); `features` are (..., num_features)."""
    places = {}
    for name in find_divisions(schema):
        column, values = schema.columns[name], features[..., schema.places[name]]
        if column.is_number:
            places[name] = np.digitize(values, column.subgroups or ())
        else:
            places[name] = np.argmax(values[..., np.newaxis] == np.array(list(column.codes)), axis=-1)
    return places


def count_subgroups(
    schema: Schema,
    features: NDArray[np.float64],
    labels: NDArray[np.floating],
    risks: NDArray[np.floating],
    least: int,
) -> dict[str, Outcomes]:
    """The outcomes that a hospital discloses, by group; of no group of fewer than `least` patients.

    Of its tested patients come `features` (num_patients, num_features), `labels` and `risks`, both (num_patients,).
    """
    disclosed: dict[str, Outcomes] = {}
    places = find_groups(schema, features)
    for division, groups in find_divisions(schema).items():
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


def check_subgroups(
    divisions: Divisions, disclosed: Disclosed, patients: int, ill: int, least: int, *, are_sums: bool = False
) -> None:
    """Raise a `ValueError` unless these can be the subgroups of so many tested patients, disclosed by the rule above.

    In sums over hospitals (`are_sums`) a hospital may have suppressed a group that others disclosed.
    """
    if disclosed.keys() - {group for groups in divisions.values() for group in groups}:
        raise ValueError("it sent a subgroup that does not exist")
    for groups in divisions.values():
        each = [disclosed[group] for group in groups if group in disclosed]
        if any(0 < outcomes.patients < least for outcomes in each):
            raise ValueError(f"it sent a subgroup of fewer than {least} patients")
        left = patients - sum(outcomes.patients for outcomes in each)
        left_ill = ill - sum(outcomes.ill for outcomes in each)
        if not 0 <= left_ill <= left or (len(each) == len(groups) and left and not are_sums):
            raise ValueError(f"its subgroups are not those of the {patients} patients ({ill} ill) that it declared")


def add_subgroups(divisions: Divisions, disclosed: Iterable[Disclosed]) -> dict[str, Outcomes]:
    """The outcomes of all hospitals together, in the order of the divisions; 0 patients in a group that none disclosed."""
    each, groups = list(disclosed), [group for division in divisions.values() for group in division]
    return {group: sum((one[group] for one in each if group in one), start=Outcomes()) for group in groups}

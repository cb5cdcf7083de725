"""Setup of a simulation whose hospitals compute in blocks: what `setup.Setup` agrees on message by message."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.preprocessing import Moments, Standardisation
from fedhealth.data.schema import Schema
from fedhealth.models.recalibration import class_weights
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import make_member, readable
from fedhealth.server.setup import Agreement, check_names
from fedhealth.server.setup_queries import find_too_few
from fedhealth.transport.messages import node_id_of
from fedhealth.transport.process_calls import Calls
from fedhealth.transport.protocol.fields import encode_arrays


@dataclass(frozen=True, eq=False)
class BatchMembers:
    """The hospitals that take part, and where they are.

    Attributes
    ----------
    members : in the order of their names.
    numbers : (num_members,) their numbers in the simulation.
    left_out : hospital -> why it does not take part.
    """

    calls: Calls
    members: list[Member]
    numbers: NDArray[np.int64]
    left_out: Mapping[str, str]

    def to_places(self, parts: Sequence[NDArray[np.int64]]) -> NDArray[np.intp]:
        """The places in `members` of the hospitals with these numbers."""
        places = np.zeros(self.numbers.max() + 1, dtype=np.intp)
        places[self.numbers] = np.arange(len(self.numbers))
        return places[np.concatenate(parts)]


def describe_members(calls: Calls, settings: FederationSettings) -> BatchMembers:
    """The hospitals that can take part.

    Raises
    ------
    RunError
        They are too few, or two have the same name.
    """
    members: dict[int, Member] = {}
    left_out: dict[str, str] = {}
    for described, refused in calls.call("describe"):
        for numbers, names, like, hashes in described:
            first = make_member(0, like, private=False, validates=settings.validation_share > 0)
            for number, name, each in zip(numbers.tolist(), names, hashes or [None] * len(names), strict=True):
                known = {"node_id": node_id_of(_name(number)), "name": readable(name), "split_hash": each}
                members[number] = replace(first, **known)
        left_out |= {_name(number): f"could not reply to query.describe: {why}" for number, why in refused.items()}
    if problem := find_too_few(settings, settings.hospitals, left_out):
        raise RunError(problem)
    order = sorted(members, key=lambda number: members[number].name)
    return BatchMembers(calls, check_names([members[number] for number in order]), np.array(order), left_out)


def _name(number: int) -> str:
    """The name of a hospital in a grid, before it has given its own: number 0 is hospital 1, such as client_1.csv."""
    return f"hospital {number + 1}"


def agree(batch: BatchMembers, settings: FederationSettings, schema: Schema) -> Agreement:
    """The common start of the rounds."""
    weights = batch.calls.call("initial_weights")[0]
    return Agreement(_standardisation(batch, settings, schema), _class_weights(batch, settings), encode_arrays(weights))


def _standardisation(batch: BatchMembers, settings: FederationSettings, schema: Schema) -> Standardisation | None:
    if settings.scaling == "local":
        return None
    if settings.scaling == "reference":
        return preprocessing.reference_standardisation(schema)
    means = preprocessing.combine_means([_sum_moments(batch, None)])
    return preprocessing.combine_standardisation(means, [_sum_moments(batch, means)])


def _sum_moments(batch: BatchMembers, means: tuple[float, ...] | None) -> Moments:
    """The hospitals' counts and sums added up, exactly, as `combine_means` does it."""
    _, counts, sums = (list(parts) for parts in zip(*batch.calls.call("sum_moments", means), strict=True))
    exact = tuple(math.fsum(column.tolist()) for column in np.concatenate(sums).T)
    return Moments(tuple(np.sum(np.concatenate(counts), axis=0).tolist()), exact)


def _class_weights(batch: BatchMembers, settings: FederationSettings) -> tuple[float, float] | None:
    if not settings.class_weights:
        return None
    healthy, ill = np.sum(batch.calls.call("label_counts"), axis=0).tolist()
    return class_weights(healthy, ill)

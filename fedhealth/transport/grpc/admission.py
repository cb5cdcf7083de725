"""Which hospitals may join: checks of protocol and schema, name, certificate, the list of hospitals, and capacity."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from fedhealth.data.schema import Schema
from fedhealth.transport.messages import COLUMNS, agreement, split_fingerprints

LONGEST_NAME = 100
MOST_NAMES = 10
"""Columns that a refusal names."""


class RefusedError(Exception):
    """Why a client may not join, as one line for its user."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Caller:
    """A calling client: its address, the name it gives, the name in its certificate (None without TLS), its metadata."""

    peer: str
    hospital: str
    certified: str | None
    metadata: Mapping[str, Any]


def read_name(metadata: Mapping[str, Any]) -> str:
    """The name that a client gives, not validated."""
    value = metadata.get("hospital-bin", b"")
    return bytes(value).decode("utf-8", "replace").strip() if isinstance(value, bytes) else ""


class Names:
    """The names of the connected hospitals."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._by_folded: dict[str, set[str]] = {}
        for name in names:
            self.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str) -> None:
        """Add a name."""
        self._names.add(name)
        self._by_folded.setdefault(name.casefold(), set()).add(name)

    def remove(self, name: str) -> None:
        """Remove a name."""
        self._names.discard(name)
        self._by_folded.get(name.casefold(), set()).discard(name)

    def find_twin(self, name: str) -> str | None:
        """A name that differs from this one only in case: most likely the same hospital, typed again.

        With certificates it is not: each name is that of a certificate that the coordinator has made.
        """
        return min(self._by_folded.get(name.casefold(), set()) - {name}, default=None)


class Admission:
    """The rules for joining one run.

    Parameters
    ----------
    capacity : maximum number of hospitals.
    schema : the columns that every hospital must have; None if none may join.
    allow : names of the hospitals that may join; empty: any.
    """

    def __init__(self, capacity: int, schema: Schema | None, allow: Collection[str] = ()) -> None:
        self.schema = schema
        self._capacity = capacity
        self._allow = frozenset(allow)
        self._members: frozenset[str] | None = None
        self._expelled: dict[str, str] = {}

    def admit_only(self, hospitals: frozenset[str]) -> None:
        """From now on only these hospitals may join or rejoin, since the rounds have begun."""
        self._members = hospitals

    def expel(self, hospital: str, reason: str) -> None:
        """Refuse this hospital from now on."""
        self._expelled[hospital] = reason

    def check_identity(self, caller: Caller) -> None:
        """Raise a `RefusedError` if the name is invalid or is not the name in the certificate."""
        name = caller.hospital
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            reason = f"give --name a name of 1 to {LONGEST_NAME} printable characters"
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, reason)
        if caller.certified is not None and caller.certified != name:
            reason = (
                f"the certificate is for {caller.certified!r}, but this client's name is {name}; give a matching --name"
            )
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, reason)

    def check(self, caller: Caller, here: Names) -> None:
        """Raise a `RefusedError` if the caller may not join now; `here` are the names of the connected hospitals."""
        self._check_agreement(caller.metadata)
        self.check_identity(caller)
        self._check_lists(caller.hospital)
        if caller.hospital in here:
            if caller.certified is not None:
                return  # the same certificate again: this stream replaces the old one
            reason = f"a hospital named {caller.hospital} is already connected; give this one another --name"
            raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, reason)
        if caller.certified is None and (twin := here.find_twin(caller.hospital)):
            reason = (
                f"a hospital named {twin} is already connected, and {caller.hospital} differs from it only in case; "
                "give this one another --name"
            )
            raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, reason)
        if len(here) >= self._capacity:
            reason = f"all {self._capacity} places are taken; ask the coordinator for more (server.py --hospitals)"
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)

    def _check_agreement(self, metadata: Mapping[str, Any]) -> None:
        """Raise a `RefusedError` if the client has another protocol or other columns."""
        for key, ours in agreement(self.schema).items() if self.schema else ():
            if (theirs := metadata.get(key)) == ours:
                continue
            reason = f"{key} is {theirs} at the client and {ours} at the server; install the same version on both"
            if key == "schema" and self.schema:
                reason = describe_difference(self.schema, metadata.get(COLUMNS, ""))
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, reason)

    def _check_lists(self, hospital: str) -> None:
        if hospital in self._expelled:
            reason = f"{hospital} takes no part in this run: {self._expelled[hospital]}"
        elif self._allow and hospital not in self._allow:
            reason = f"{hospital} is not on the server's list of hospitals (server.py --allow)"
        elif self._members is not None and hospital not in self._members:
            reason = f"the run has started without {hospital}; wait for the next run"
        else:
            return
        raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, reason)


def describe_difference(schema: Schema, theirs: object) -> str:
    """Which of the server's columns a client has otherwise or not at all, from the fingerprints of its columns."""
    different, more = schema.differing_columns(split_fingerprints(theirs))
    names = ", ".join(different[:MOST_NAMES]) + (
        f" and {len(different) - MOST_NAMES} more" * (len(different) > MOST_NAMES)
    )
    parts = [f"the server has other definitions of {names}"] if different else []
    if more > len(different):
        parts.append(f"this client has {more - len(different)} more columns")
    what = "; ".join(parts) or "the columns stand in another order"
    return f"the schema is not the server's: {what}; use the coordinator's schema file (--schema)"

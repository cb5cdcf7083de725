"""The keys of a hospital under secure aggregation, and its checks of the roster that the server sends.

The masks come from keys that each two hospitals agree on. The server only passes on the public keys, and each hospital checks
that they are signed with certificates of its own certificate authority.
"""

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.app import Message, RecordDict

from fedhealth.client.masking_state import MaskingState
from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.common.errors import RunError, UsageError
from fedhealth.common.pairwise_masks import Words, derive_secret, digest, mask
from fedhealth.transport.protocol import roster as rosters
from fedhealth.transport.protocol.roster import KeyRoster
from fedhealth.transport.tls.identity import Identity
from fedhealth.transport.tls.party_check import check_signature, fingerprint, sign

PIN = re.compile(r"[0-9A-Fa-f]{64}|([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}")
KEPT_RUNS = 4
"""Number of runs whose secrets are kept in memory."""


def read_pins(path: Path) -> dict[str, str]:
    """Hospital -> SHA-256 of its certificate, from a file with a line `SHA256 NAME` for each; # begins a comment.

    Raises
    ------
    UsageError
        The file cannot be read, or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--pin {path}: cannot be read ({error}); give a file with a line SHA256 NAME for each"
        ) from None
    pins = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        sha256, _, name = line.strip().partition(" ")
        if not PIN.fullmatch(sha256) or not name.strip():
            raise UsageError(
                f"--pin {path}: line {number} is not SHA256 NAME; each client prints its own in a run with secure aggregation"
            )
        pins[name.strip()] = sha256.replace(":", "").lower()
    return pins


class Accepted(NamedTuple):
    """The roster that a hospital has accepted for a run."""

    digest: bytes
    names: tuple[str, ...]
    keys: tuple[bytes, ...]


@dataclass
class MaskingParty:
    """One hospital's part in secure aggregation.

    Attributes
    ----------
    state : its keys, rosters and what it has sent.
    identity : its certificate; None without TLS.
    is_local : whether keys without certificates are accepted: the server is on this computer, or it is a simulation.
    pins : hospital -> SHA-256 of its certificate; None: any certificate of the authority is accepted.
    accepted : codes of sets of hospitals that a person has accepted (--accept-roster).
    clear : the last reply before it was masked; None if it was not.
    problem : why the last reply has no numbers; the server only sees that a hospital has sent none.
    """

    state: MaskingState = field(default_factory=MaskingState)
    identity: Identity | None = None
    is_local: bool = True
    pins: Mapping[str, str] | None = None
    accepted: frozenset[str] = frozenset()
    clear: RecordDict | None = None
    problem: str | None = None
    _secrets: BoundedCache[tuple[bytes, bytes], Mapping[str, bytes]] = field(
        default_factory=lambda: BoundedCache(KEPT_RUNS)
    )

    def in_the_clear(self, reply: Message) -> Message:
        """The last reply as it was before it was masked; `reply` itself if it was not."""
        if self.clear is None or reply.has_error():
            return reply
        plain = copy(reply)
        plain.content = self.clear
        return plain

    def make_entry(self, name: str, run_id: bytes) -> rosters.Entry:
        """The hospital's entry of a roster; its key is the same for the same run."""
        self._require_certificate()
        private = self.state.private_key(run_id, make=True)
        public = private.public_key().public_bytes_raw() if private else b""
        entry = rosters.Entry(name, public)
        if self.identity is None:
            return entry
        entry = replace(entry, certificate=self.identity.cert)
        return replace(entry, signature=sign(self.identity, rosters.signed_bytes(run_id, entry)))

    def accept(self, own: str, roster: KeyRoster) -> None:
        """Check a roster and accept it for its run.

        Raises
        ------
        RunError
            It is not one in which this hospital's numbers are hidden, or it is another than before.
        """
        known = self.state.accepted(roster.run_id)
        if known is None or known["digest"] != roster.digest.hex():
            self._check(own, roster)
        code = rosters.code_of(roster.names)
        self.state.accept(roster.run_id, roster.digest, roster.names, roster.keys, code)

    def _require_certificate(self) -> None:
        if self.identity is None and not self.is_local:
            raise RunError(
                "secure aggregation needs this hospital's certificate (--tls); without it keys could be swapped"
            )

    def _check(self, own: str, roster: KeyRoster) -> None:
        self._require_certificate()
        names = roster.names
        if len(names) < rosters.FEWEST:
            raise RunError(
                f"secure aggregation needs {rosters.FEWEST} hospitals or more, and the roster has {len(names)}"
            )
        if list(names) != sorted(set(names)) or len(set(roster.keys)) < len(names):
            raise RunError("the server's roster is invalid: names or keys are doubled or out of order")
        private = self.state.private_key(roster.run_id, make=False)
        entry = next((each for each in roster.entries if each.name == own), None)
        if entry is None or private is None or private.public_key().public_bytes_raw() != entry.key:
            raise RunError("the server's roster is invalid: it does not have this hospital's key")
        for each in roster.entries:
            self._check_entry(roster.run_id, each)
        derive_secrets(own, private, Accepted(roster.digest, names, roster.keys))
        code, known = rosters.code_of(names), self.state.known_codes()
        if known and code not in known | self.accepted:
            raise RunError(
                f"its earlier sums were with other hospitals, and the difference of two sums can be about one; if all agree "
                f"to that, give client.py --accept-roster {code} (for {', '.join(names)})"
            )

    def _check_entry(self, run_id: bytes, entry: rosters.Entry) -> None:
        if self.identity is None:
            return
        try:
            signed = rosters.signed_bytes(run_id, entry)
            check_signature(self.identity.ca, entry.certificate, entry.name, entry.signature, signed)
        except ValueError as problem:
            raise RunError(f"the roster is not accepted: {entry.name} {problem}") from None
        if self.pins is None or entry.certificate == self.identity.cert:
            return
        if self.pins.get(entry.name) != fingerprint(entry.certificate):
            raise RunError(f"the roster is not accepted: the certificate of {entry.name} is not the one in --pin")

    def roster_of(self, run_id: bytes) -> Accepted:
        """The roster that was accepted for a run; raises a `RunError` if none was."""
        known = self.state.accepted(run_id)
        if known is None:
            raise RunError("the server asks for a masked sum, and there is no roster for its run")
        return Accepted(
            bytes.fromhex(known["digest"]), tuple(known["names"]), tuple(bytes.fromhex(key) for key in known["keys"])
        )

    def secrets_of(self, own: str, run_id: bytes, roster: Accepted) -> Mapping[str, bytes]:
        """Other hospital -> the secret shared with it in a run; raises a `RunError` if the run is over."""
        private = self._key_of(run_id)
        return self._secrets.get(
            (roster.digest, private),
            lambda: derive_secrets(own, X25519PrivateKey.from_private_bytes(private), roster),
        )

    def random_words(self, run_id: bytes, context: bytes, size: int) -> Words:
        """Words that only this hospital knows, the same for the same context."""
        secret = digest(b"unshared", self._key_of(run_id))
        return mask(np.zeros(size, np.uint64), "", {"own": secret}, context)

    def _key_of(self, run_id: bytes) -> bytes:
        private = self.state.private_bytes(run_id)
        if private is None:
            raise RunError("the server asks for a new sum in a run that is over; nothing is sent")
        return private


def derive_secrets(own: str, private: X25519PrivateKey, roster: Accepted) -> dict[str, bytes]:
    """The secret that `own` shares with each other hospital of a roster."""
    secrets = dict[str, bytes]()
    for name, key in zip(roster.names, roster.keys, strict=True):
        if name != own:
            first, second = sorted((own, name))
            try:
                secrets[name] = derive_secret(private, key, roster.digest, (first, second))
            except ValueError:
                raise RunError(f"the roster is not accepted: the key of {name} gives no secret") from None
    return secrets

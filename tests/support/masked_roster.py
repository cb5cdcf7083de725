"""Rosters and pairwise secrets for tests of secure aggregation, the same in every run of the tests."""

import hashlib
from collections.abc import Sequence


def names_of(hospitals: int) -> list[str]:
    """So many names, in order."""
    return [f"hospital {number:03}" for number in range(hospitals)]


def deterministic_secrets(own: str, names: Sequence[str]) -> dict[str, bytes]:
    """Other hospital -> a secret that only depends on the two names."""
    return {other: hashlib.sha256("|".join(sorted((own, other))).encode()).digest() for other in names if other != own}

"""Who may join a run."""

from collections.abc import Iterable
from typing import Protocol


class Admission(Protocol):
    """Decides who may join; `GrpcGrid` is one."""

    def admit_only(self, hospitals: Iterable[str]) -> None:
        """From now on only these hospitals may join or rejoin."""

    def expel(self, hospital: str, reason: str) -> None:
        """Close a hospital's connection and refuse it from now on."""


class OpenAdmission:
    """For grids that any node may join; messages are still sent only to members that have not been dropped."""

    def admit_only(self, hospitals: Iterable[str]) -> None:
        """Do nothing."""

    def expel(self, hospital: str, reason: str) -> None:
        """Do nothing."""


OPEN = OpenAdmission()

"""The two ways to end badly, each carrying the one line that its reader needs.

Raised anywhere, caught once around a script's `main` (`terminal.script`).
"""


class FedHealthError(Exception):
    """What went wrong, with which value, and what to do: one line for a person."""

    exit_code = 1


class UsageError(FedHealthError):
    """A flag, a file or its content is wrong: exit code 2."""

    exit_code = 2


class DataError(UsageError):
    """A file with faults, one line for each (at most 20, then a count)."""

    def __init__(self, faults: list[str]) -> None:
        more = [f"... and {len(faults) - 20} more faults"] if len(faults) > 20 else []
        super().__init__("\n".join(faults[:20] + more))
        self.faults = faults


class RunError(FedHealthError):
    """The run was well asked for and failed all the same: exit code 1."""


MISBEHAVED = 100
"""Code of the error reply that stands in for a hospital which broke the link's rules; Flower's own codes are below 10."""

"""The errors of the package, each with a message of one line for the user.

Raised anywhere, caught once around a script's `main` (`terminal.script`).
"""


class FedHealthError(Exception):
    """Base class. The message is one line: what is wrong, which value, what to do."""

    exit_code = 1


class UsageError(FedHealthError):
    """A flag, a file or its content is invalid: exit code 2."""

    exit_code = 2


class DataError(UsageError):
    """A file with faults, one line for each (at most 20, then a count)."""

    def __init__(self, faults: list[str]) -> None:
        more = [f"... and {len(faults) - 20} more faults"] if len(faults) > 20 else []
        super().__init__("\n".join(faults[:20] + more))
        self.faults = faults


class RunError(FedHealthError):
    """The run failed although its flags and files are valid: exit code 1."""


class PatientsError(RunError):
    """The run failed for a reason that depends on a hospital's patients: who sees it knows something about them."""


PROTOCOL_VIOLATION = 100
"""Code of the error reply for a hospital that violated the protocol; Flower's own codes are below 10."""

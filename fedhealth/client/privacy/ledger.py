"""The privacy ledger: every disclosure about a hospital's patients under differential privacy, in a file beside their CSV.

Each disclosure is one line of JSON, written to disk *before* the reply is sent, so that no crash, restart or second run
loses one. Each patient is either a training or a test patient, by a split that does not depend on other patients.
Within a split a patient's privacy loss is the larger of the training sum and the test sum; losses of different splits
add up. Sums of epsilons and deltas are a valid filter even if a later run is chosen adaptively (basic composition:
Rogers et al. 2016, "Privacy odometers and filters", section 3).
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedhealth.client.privacy.accounting import epsilon_of_steps
from fedhealth.client.privacy.plan import PrivatePlan
from fedhealth.common.atomic_files import append_line, locked
from fedhealth.common.errors import RunError, UsageError

ENDING = ".budget.jsonl"
KEYS: dict[str, dict[str, type]] = {
    "count": {"patients": int, "epsilon": float},
    "steps": {"noise": float, "rate": float, "delta": float, "steps": int},
    "test": {"epsilon": float},
}
"""Kind of line -> its keys, besides kind and split."""


@dataclass(frozen=True)
class Spent:
    """An upper bound on each patient's privacy loss."""

    epsilon: float = 0.0
    delta: float = 0.0


@dataclass
class SplitLoss:
    """The privacy loss of the patients of one split into training and test patients."""

    patients: int | None = None
    count_epsilon: float = 0.0
    steps: dict[tuple[float, float, float], int] = field(default_factory=dict)
    """(noise, rate, delta) -> number of steps. Equal steps compose by their privacy loss distributions, others by sums."""
    tested: float = 0.0

    def add(self, entry: dict[str, Any]) -> None:
        """Add one line of the ledger."""
        match entry["kind"]:
            case "count":
                self.patients = entry["patients"]
                self.count_epsilon += entry["epsilon"]
            case "steps":
                kind = (entry["noise"], entry["rate"], entry["delta"])
                self.steps[kind] = self.steps.get(kind, 0) + entry["steps"]
            case _:
                self.tested += entry["epsilon"]

    def spent(self) -> Spent:
        """The larger of the training patients' loss and the test patients' loss."""
        trained = sum(epsilon_of_steps(*kind[:2], steps, kind[2]) for kind, steps in self.steps.items())
        return Spent(max(self.count_epsilon + trained, self.tested), sum(kind[2] for kind in self.steps))


class PrivacyLedger:
    """One hospital's ledger and the hospital's limit.

    Attributes
    ----------
    path : the file, beside the CSV; None keeps the ledger in memory.
    limit : largest epsilon of a patient over all runs together; None for no limit.
    """

    def __init__(self, path: Path | None = None, limit: float | None = None) -> None:
        self.path = path
        self.limit = limit
        self._lines: list[str] = []

    def spent(self) -> Spent:
        """Each patient's privacy loss in all runs so far."""
        each = [loss.spent() for loss in self._read().values()]
        return Spent(sum(spent.epsilon for spent in each), sum(spent.delta for spent in each))

    def read_count(self, split: str) -> tuple[int, float] | None:
        """The noisy count of this split that was disclosed before, and its epsilon; None if there is none.

        Sending the same noisy count again costs nothing.
        """
        loss = self._read().get(split)
        return None if loss is None or loss.patients is None else (loss.patients, loss.count_epsilon)

    def require_enough(self, split: str, plan: PrivatePlan, rounds: int) -> None:
        """Raise a `RunError` if the limit does not allow the whole run."""
        steps = {"kind": "steps", "noise": plan.noise, "rate": plan.rate, "delta": plan.delta, "steps": plan.steps}
        entries = [{**steps, "steps": plan.steps * rounds}, {"kind": "test", "epsilon": plan.test_epsilon}]
        self._require(split, entries, "the whole run")

    def charge_count(self, split: str, patients: int, epsilon: float) -> None:
        """Charge a noisy count, before it is sent."""
        self._charge(split, {"kind": "count", "patients": patients, "epsilon": epsilon}, "a count")

    def charge_steps(self, split: str, plan: PrivatePlan) -> None:
        """Charge one round of noisy steps, before they are taken."""
        entry = {"kind": "steps", "noise": plan.noise, "rate": plan.rate, "delta": plan.delta, "steps": plan.steps}
        self._charge(split, entry, "another round")

    def charge_test(self, split: str, epsilon: float) -> None:
        """Charge noisy counts of test patients, before they are sent."""
        self._charge(split, {"kind": "test", "epsilon": epsilon}, "an evaluation")

    def _charge(self, split: str, entry: dict[str, Any], what: str) -> None:
        with self._held():
            self._require(split, [entry], what)
            line = json.dumps({"split": split, **entry})
            if self.path is None:
                self._lines.append(line)
            else:
                append_line(self.path, line)

    def _require(self, split: str, entries: list[dict[str, Any]], what: str) -> None:
        if self.limit is None:
            return
        before, losses = self.spent().epsilon, self._read()
        for entry in entries:
            losses.setdefault(split, SplitLoss()).add(entry)
        if (after := sum(loss.spent().epsilon for loss in losses.values())) > self.limit + 1e-9:
            raise RunError(
                f"this hospital's privacy budget is too small: it has spent epsilon {before:.3g} of {self.limit:g} "
                f"(--max-epsilon), and {what} would make it {after:.3g}"
            )

    def _read(self) -> dict[str, SplitLoss]:
        """Split -> its loss; raises a `RunError` if the ledger is damaged."""
        losses: dict[str, SplitLoss] = {}
        for number, line in enumerate(self._read_lines(), start=1):
            entry = _parse(line)
            if entry is None:
                raise RunError(
                    f"{self.path}: line {number} is not a valid entry of a privacy budget; restore the file, or start a "
                    "new one with client.py --reset-budget"
                )
            losses.setdefault(entry["split"], SplitLoss()).add(entry)
        return losses

    def _read_lines(self) -> list[str]:
        if self.path is None:
            return self._lines
        try:
            return self.path.read_text().splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{self.path}: cannot be read ({error}); nothing is disclosed without the ledger") from None

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Lock the ledger against other processes of this hospital (Flower starts one per message)."""
        with contextlib.ExitStack() as stack:
            try:
                if self.path is not None:
                    stack.enter_context(locked(self.path))
            except OSError as error:
                raise RunError(
                    f"{self.path}: cannot be written ({error.strerror}), and nothing is disclosed without the ledger"
                ) from None
            yield


def ledger_path(file: Path) -> Path:
    """The ledger's path for a CSV: it depends on the file, not on the hospital's name."""
    return file.with_name(file.stem + ENDING)


def reset_ledger(file: Path) -> Path | None:
    """Rename the ledger of a CSV to an unused name and return that; None if there was no ledger."""
    path = ledger_path(file)
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{file.stem}.budget.before-{number}.jsonl")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        raise UsageError(f"{path}: cannot be renamed ({error.strerror})") from None
    return aside


def _parse(line: str) -> dict[str, Any] | None:
    """A line's entry, or None if it is invalid."""
    try:
        entry: dict[str, Any] = json.loads(line)
        keys = KEYS[entry["kind"]]
        sound = isinstance(entry["split"], str) and set(entry) == {"kind", "split", *keys}
        sound = sound and all(type(entry[key]) in (kind, int) and entry[key] >= 0 for key, kind in keys.items())
    except (ValueError, KeyError, TypeError):
        return None
    return entry if sound else None

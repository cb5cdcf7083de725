"""The privacy ledger: all that was disclosed of a hospital's patients under differential privacy, kept beside their CSV.

One line of JSON for each disclosure, on the disk *before* the answer is sent, so that no crash, restart or second run loses
one. Every patient is trained on or tested, by a split that depends on no other patient. Within a split a patient's loss is
the larger of the two sums, over splits it adds up; sums of epsilons and deltas are a valid filter even if a later run is
chosen by what an earlier one disclosed (basic composition: Rogers et al. 2016, "Privacy odometers and filters", section 3).
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
"""Kind of line -> what it holds, beside kind and split."""


@dataclass(frozen=True)
class Spent:
    """What has been disclosed of each patient, at most."""

    epsilon: float = 0.0
    delta: float = 0.0


@dataclass
class SplitLoss:
    """What was disclosed of the patients of one split into training and test patients."""

    patients: int | None = None
    count_epsilon: float = 0.0
    steps: dict[tuple[float, float, float], int] = field(default_factory=dict)
    """(noise, rate, delta) -> how many steps; alike steps compose by their privacy losses, others by sums."""
    tested: float = 0.0

    def add(self, entry: dict[str, Any]) -> None:
        """Take one line into account."""
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
        """The larger of what was disclosed of the training patients and of the test patients."""
        trained = sum(epsilon_of_steps(*kind[:2], steps, kind[2]) for kind, steps in self.steps.items())
        return Spent(max(self.count_epsilon + trained, self.tested), sum(kind[2] for kind in self.steps))


class PrivacyLedger:
    """One hospital's ledger, and the limit that the hospital has set; without a path it lives as long as this object.

    Attributes
    ----------
    path : the file, beside the CSV.
    limit : the most epsilon that all runs together may cost a patient; None for no limit of its own.
    """

    def __init__(self, path: Path | None = None, limit: float | None = None) -> None:
        self.path = path
        self.limit = limit
        self._lines: list[str] = []

    def spent(self) -> Spent:
        """What all runs have cost each patient so far."""
        each = [loss.spent() for loss in self._read().values()]
        return Spent(sum(spent.epsilon for spent in each), sum(spent.delta for spent in each))

    def read_count(self, split: str) -> tuple[int, float] | None:
        """The noisy count of this split that was disclosed before, and its epsilon: the same count again costs nothing."""
        loss = self._read().get(split)
        return None if loss is None or loss.patients is None else (loss.patients, loss.count_epsilon)

    def require_enough(self, split: str, plan: PrivatePlan, rounds: int) -> None:
        """Check before a run that the limit allows it to its end; a `RunError` if not."""
        steps = {"kind": "steps", "noise": plan.noise, "rate": plan.rate, "delta": plan.delta, "steps": plan.steps}
        entries = [{**steps, "steps": plan.steps * rounds}, {"kind": "test", "epsilon": plan.test_epsilon}]
        self._require(split, entries, "the whole run")

    def charge_count(self, split: str, patients: int, epsilon: float) -> None:
        """A noisy count is about to be sent."""
        self._charge(split, {"kind": "count", "patients": patients, "epsilon": epsilon}, "a count")

    def charge_steps(self, split: str, plan: PrivatePlan) -> None:
        """A round's noisy steps are about to be taken."""
        entry = {"kind": "steps", "noise": plan.noise, "rate": plan.rate, "delta": plan.delta, "steps": plan.steps}
        self._charge(split, entry, "another round")

    def charge_test(self, split: str, epsilon: float) -> None:
        """Noisy counts of test patients are about to be sent."""
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
                f"this hospital's privacy budget does not reach: it has spent epsilon {before:.3g} of {self.limit:g} "
                f"(--max-epsilon), and {what} would make it {after:.3g}"
            )

    def _read(self) -> dict[str, SplitLoss]:
        """Split -> its loss. A ledger that cannot be read is never taken for an empty one."""
        losses: dict[str, SplitLoss] = {}
        for number, line in enumerate(self._read_lines(), start=1):
            entry = _parse(line)
            if entry is None:
                raise RunError(
                    f"{self.path}: line {number} is no entry of a privacy budget; restore the file, or give up what it "
                    "says with client.py --reset-budget"
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
        """Keep other processes of this hospital (Flower starts one per message) from charging the same ledger at once."""
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
    """The ledger of a CSV: it goes with the patients, whatever their hospital is called."""
    return file.with_name(file.stem + ENDING)


def reset_ledger(file: Path) -> Path | None:
    """Put the ledger of a CSV aside under a name that is free; returns that name, None if there was none."""
    path = ledger_path(file)
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{file.stem}.budget.before-{number}.jsonl")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        raise UsageError(f"{path}: cannot be put aside ({error.strerror})") from None
    return aside


def _parse(line: str) -> dict[str, Any] | None:
    """A line's entry, or None if it is none."""
    try:
        entry: dict[str, Any] = json.loads(line)
        keys = KEYS[entry["kind"]]
        sound = isinstance(entry["split"], str) and set(entry) == {"kind", "split", *keys}
        sound = sound and all(type(entry[key]) in (kind, int) and entry[key] >= 0 for key, kind in keys.items())
    except (ValueError, KeyError, TypeError):
        return None
    return entry if sound else None

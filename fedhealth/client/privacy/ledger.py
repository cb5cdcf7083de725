"""What has ever been told of a hospital's patients under differential privacy, written down beside their CSV.

A line of JSON for each thing told, on the disk *before* it is told, so that no crash, restart or second run forgets any
of it. Every patient is trained on or tested, by a split that depends on no other patient. Within a split his loss is the
larger of the two sums, over splits it adds up; sums of epsilons and deltas are a valid filter even if a later run is chosen
by what an earlier one told (basic composition: Rogers et al. 2016, "Privacy odometers and filters", section 3).
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
    """What has been told of each patient, at the worst."""

    epsilon: float = 0.0
    delta: float = 0.0


@dataclass
class Ledger:
    """What was told of the patients of one split into patients to train on and to test on."""

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
        """The larger of what was told of those trained on and of those tested."""
        trained = sum(epsilon_of_steps(*kind[:2], steps, kind[2]) for kind, steps in self.steps.items())
        return Spent(max(self.count_epsilon + trained, self.tested), sum(kind[2] for kind in self.steps))


class Budget:
    """One file's ledger, and the limit that its hospital has set; without a path it lives as long as the process.

    Attributes
    ----------
    path : the ledger, beside the CSV.
    limit : the most epsilon that all runs together may cost a patient; None for no limit of its own.
    """

    def __init__(self, path: Path | None = None, limit: float | None = None) -> None:
        self.path = path
        self.limit = limit
        self._lines: list[str] = []

    def spent(self) -> Spent:
        """What all runs have cost each patient so far."""
        each = [ledger.spent() for ledger in self._read().values()]
        return Spent(sum(spent.epsilon for spent in each), sum(spent.delta for spent in each))

    def find_count(self, split: str) -> tuple[int, float] | None:
        """The noisy count of this split that has been told already, and what it cost: telling it again costs nothing."""
        ledger = self._read().get(split)
        return None if ledger is None or ledger.patients is None else (ledger.patients, ledger.count_epsilon)

    def require_room(self, split: str, plan: PrivatePlan, rounds: int) -> None:
        """Find out before a run whether it can be paid for to its end; a `RunError` if not."""
        steps = {"kind": "steps", "noise": plan.noise, "rate": plan.rate, "delta": plan.delta, "steps": plan.steps}
        told = [{**steps, "steps": plan.steps * rounds}, {"kind": "test", "epsilon": plan.test_epsilon}]
        self._require(split, told, "the whole run")

    def charge_count(self, split: str, patients: int, epsilon: float) -> None:
        """A noisy count is about to be told."""
        self._charge(split, {"kind": "count", "patients": patients, "epsilon": epsilon}, "a count")

    def charge_steps(self, split: str, plan: PrivatePlan) -> None:
        """A round's noisy steps are about to be taken."""
        told = {"kind": "steps", "noise": plan.noise, "rate": plan.rate, "delta": plan.delta, "steps": plan.steps}
        self._charge(split, told, "another round")

    def charge_test(self, split: str, epsilon: float) -> None:
        """Noisy counts of tested patients are about to be told."""
        self._charge(split, {"kind": "test", "epsilon": epsilon}, "an evaluation")

    def _charge(self, split: str, told: dict[str, Any], what: str) -> None:
        with self._held():
            self._require(split, [told], what)
            line = json.dumps({"split": split, **told})
            if self.path is None:
                self._lines.append(line)
            else:
                append_line(self.path, line)

    def _require(self, split: str, told: list[dict[str, Any]], what: str) -> None:
        if self.limit is None:
            return
        before, ledgers = self.spent().epsilon, self._read()
        for entry in told:
            ledgers.setdefault(split, Ledger()).add(entry)
        if (after := sum(ledger.spent().epsilon for ledger in ledgers.values())) > self.limit + 1e-9:
            raise RunError(
                f"this hospital's privacy budget does not reach: it has spent epsilon {before:.3g} of {self.limit:g} "
                f"(--max-epsilon), and {what} would make it {after:.3g}"
            )

    def _read(self) -> dict[str, Ledger]:
        """Split -> its ledger. A ledger that cannot be read is not taken for an empty one."""
        ledgers: dict[str, Ledger] = {}
        for number, line in enumerate(self._read_lines(), start=1):
            entry = _parse(line)
            if entry is None:
                raise RunError(
                    f"{self.path}: line {number} is no entry of a privacy budget; restore the file, or give up what it "
                    "says with client.py --reset-budget"
                )
            ledgers.setdefault(entry["split"], Ledger()).add(entry)
        return ledgers

    def _read_lines(self) -> list[str]:
        if self.path is None:
            return self._lines
        try:
            return self.path.read_text().splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{self.path}: cannot be read ({error}); nothing is told without its budget") from None

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Keep other processes of this hospital (Flower starts one per message) from spending the same budget at once."""
        with contextlib.ExitStack() as stack:
            try:
                if self.path is not None:
                    stack.enter_context(locked(self.path))
            except OSError as error:
                raise RunError(
                    f"{self.path}: cannot be written ({error.strerror}), and nothing is told without its budget"
                ) from None
            yield


def budget_path(file: Path) -> Path:
    """Where the ledger of a CSV stands: it goes with the patients, whatever their hospital is called."""
    return file.with_name(file.stem + ENDING)


def reset_budget(file: Path) -> Path | None:
    """Put the ledger of a CSV aside under a name that is free; returns that name, None if there was none."""
    path = budget_path(file)
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

"""Rows of the table of everything that left the hospitals, of a run with secure aggregation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedhealth.common.array_codec import make_array
from fedhealth.config.selection import asks_for_choice
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.subgroups import list_groups
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.transport.protocol import evaluation, finalization, newton, setup, training
from fedhealth.transport.protocol.fields import ARRAYS, CONFIG
from fedhealth.transport.protocol.masked_vectors import PREFIX
from fedhealth.transport.protocol.sum_messages import SumMessages

Row = tuple[str, ...]
MASKED_BYTES = 8
"""Of a masked number."""


@dataclass(frozen=True)
class RecordedSettings:
    """The settings of a run folder, as far as the sums depend on them."""

    settings: Mapping[str, Any]

    @property
    def strategy(self) -> str:
        """The strategy's name, or that of its class."""
        return str(self.settings["strategy"])

    @property
    def dp_epsilon(self) -> float:
        """Epsilon; 0 without differential privacy."""
        return float(self.settings["dp-epsilon"])

    @property
    def private(self) -> bool:
        """Whether the run was under differential privacy."""
        return self.dp_epsilon > 0

    @property
    def validation_share(self) -> float:
        """The share of validation patients."""
        return float(self.settings["validation"]) if asks_for_choice(self.settings) else 0.0

    def to_run_config(self) -> Mapping[str, Any]:
        """All settings."""
        return self.settings


def masked_rows(run: RunRecord) -> list[Row]:
    """A row per kind of message, as in `disclosures.disclosure_rows`; of masked messages also the number of sums."""
    hospitals, settings = len(run.names), run.settings.settings

    def masked(name: str, what: str, kind: str, sums: int) -> Row:
        words = num_words(run, kind)
        counted = f"{hospitals * sums:,} ({sums:,} sum{'s' * (sums != 1)})"
        return (name, f"masked: {what}", f"{words:,}" if words else "n/a", counted)

    validates = RecordedSettings(settings).validation_share > 0 and not _is_private(run)
    and_validation = "; the same of validation patients" * validates
    rows: list[Row] = [
        ("describe", "name, source of the data, hash of the columns' definitions", "0", f"{hospitals:,}"),
        ("key", "a public key for this run, the certificate, a signature", "0", f"{hospitals:,}"),
        ("roster", "the digest of the roster that the hospital accepts", "0", f"{hospitals:,}"),
        masked("counts", _counted(run) + and_validation, setup.COUNTS_SUM, 1),
    ]
    if settings["scaling"] == "federated" and not _is_private(run):
        what = "numbers of values and sums of the measurements; then sums of squared deviations"
        rows.append(masked("moments", what, setup.FIRST_MOMENTS, 2))
    if settings.get("class-weights"):
        rows.append(masked("label counts", "healthy and ill training patients", setup.LABEL_COUNTS, 1))
    weights = f"{run.num_weights:,}" if run.num_weights else "n/a"
    rows.append(("initial weights", "the untrained model (random seed), from one hospital", weights, "1"))
    trained = sum(not entry.left_out for entry in run.history)
    rows.append(masked("weights", _trained(run), training.TRAIN, trained))
    noisy = "noisy " if _is_private(run) else ""
    what = (
        f"{noisy}counts per bin of risk, by label (2 x {NUM_BINS}); sums of log loss and squared error{and_validation}"
    )
    rows.append(masked("evaluation", what, evaluation.EVALUATE, count_tested(run)))
    fit = run.summary.odds_ratios if run.summary else None
    if fit and any(row.standard_error is not None for row in fit.rows):
        what = "gradient, Hessian and outer products of the patients' scores at the final coefficients; number; loss"
        rows.append(masked("fit sums", what, newton.FIT_SUMS, 1))
    if run.summary and run.summary.subgroups and run.summary.subgroups.disclosed:
        rows.append(
            masked("subgroups", "confusion matrix at 0.5 by group, 0 for small groups", finalization.SUBGROUPS, 1)
        )
    if run.summary and run.summary.importance and run.summary.importance.hospitals:
        rows.append(
            masked("importance", "drop in AUROC per feature; numbers of test patients", finalization.IMPORTANCE, 1)
        )
    return rows


def _counted(run: RunRecord) -> str:
    return (
        "a noisy number of training patients"
        if _is_private(run)
        else ("numbers of training patients, of test patients and of ill test patients")
    )


def _trained(run: RunRecord) -> str:
    if run.settings.settings["strategy"] == "newton":
        return "gradient and Hessian, summed over training patients; their number; loss"
    noisy = ", with noise" if _is_private(run) else "; loss"
    return f"the model after local training times its training patients; their number{noisy}"


def _is_private(run: RunRecord) -> bool:
    return RecordedSettings(run.settings.settings).private


def num_words(run: RunRecord, kind: str) -> int:
    """Number of masked numbers in a message of this kind, without the two for checks; 0 if it is not known."""
    if kind in (training.TRAIN, newton.FIT_SUMS) and not run.num_weights:
        return 0
    model = ArrayRecord({"weights": make_array(np.zeros(run.num_weights, np.float32))})
    request = RecordDict({ARRAYS: model, CONFIG: ConfigRecord({})})
    messages = SumMessages(RecordedSettings(run.settings.settings), run.schema, NUM_BINS, list_groups(run.schema))
    return messages.layout(kind, request).num_words - PREFIX


def num_weight_words(run: RunRecord) -> int:
    """Number of masked numbers in a message with weights."""
    return num_words(run, training.TRAIN)


def count_tested(run: RunRecord) -> int:
    """Number of evaluations that were received; under secure aggregation, of sums over all hospitals."""
    extra, selection = 0, run.summary.choices if run.summary else None
    if selection:
        # Of an earlier round's weights, and after temperature scaling.
        again = (selection.best_round not in (None, len(run.history))) + (selection.temperature is not None)
        extra = again * len(selection.evaluation.hospitals)
    return sum(len(entry.hospitals) for entry in run.history) + extra

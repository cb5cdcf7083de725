"""Run folders for tests: written by the code that writes real ones, from weights and histograms that need no training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation, encoded_names, reference_standardisation
from fedhealth.data.sources.heart import FEATURES, HEART
from fedhealth.metrics.histogram import ScoreHistogram, add_histograms, compute_metrics, score_histogram
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.metrics.subgroups import Subgroups
from fedhealth.server.events import RunFinished, RunStarted
from fedhealth.server.records import Histograms, Member, RoundRecord
from tests.support.run_keeping import keep_in

NAMES = ("cleveland", "hungary", "switzerland", "va")


def make_features(num_patients: int, seed: int = 0) -> NDArray[np.float64]:
    """Patients (num_patients, 13) within the schema; a tenth of what can be missing is."""
    rng = np.random.default_rng(seed)
    columns = []
    for column in FEATURES:
        if column in HEART.categories:
            values = rng.choice(list(column.codes), num_patients).astype(np.float64)
        else:
            spread = rng.normal(column.reference_mean, column.reference_std, num_patients)
            values = np.clip(np.round(spread, 0 if column.codes else 1), column.minimum, column.maximum)
        if column.can_be_missing:
            values[rng.random(num_patients) < 0.1] = np.nan
        columns.append(values)
    return np.stack(columns, axis=1)


def make_weights(settings: FederationSettings, seed: int = 0) -> ArrayRecord:
    """Random weights of the model that the settings name."""
    rng = np.random.default_rng(seed)
    widths = [
        len(encoded_names(HEART, settings.missing_indicators)),
        *([settings.hidden] if settings.model == "mlp" else []),
        1,
    ]
    layers = ["hidden", "log_odds"][-len(widths) + 1 :]
    arrays = {}
    for layer, inputs, outputs in zip(layers, widths, widths[1:], strict=False):
        arrays[f"{settings.model}/{layer}/kernel"] = rng.normal(0, 0.5, (inputs, outputs)).astype(np.float32)
        arrays[f"{settings.model}/{layer}/bias"] = rng.normal(0, 0.5, outputs).astype(np.float32)
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def make_histogram(ill: int, healthy: int, seed: int, skill: float = 1.0) -> ScoreHistogram:
    """A histogram of this many patients; ill patients have higher risks, the larger `skill` the more."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(np.repeat([skill, -skill], [ill, healthy]), 1.0)
    return score_histogram(1 / (1 + np.exp(-log_odds)), np.repeat([1, 0], [ill, healthy]))


def make_histograms(round_num: int, names: tuple[str, ...] = NAMES) -> dict[str, ScoreHistogram]:
    """Histograms of a round with 20 ill and 20 healthy test patients per hospital; the third has only 2 healthy ones."""
    counts = {name: (20, 2 if place == 2 else 20) for place, name in enumerate(names)}
    return {
        name: make_histogram(*counts[name], seed=place, skill=min(round_num, 3) / 2) for place, name in enumerate(names)
    }


def make_record(round_num: int, names: tuple[str, ...] = NAMES, **changes: object) -> RoundRecord:
    """A round in which the hospitals sent what `make_histograms` has."""
    histograms = make_histograms(round_num, names)
    fields: dict[str, object] = {
        "round_num": round_num,
        "seconds": 0.25,
        "train_loss": 1 / round_num,
        "pooled": compute_metrics(add_histograms(histograms.values())),
        "hospitals": {name: compute_metrics(histogram) for name, histogram in histograms.items()},
        "left_out": {},
        "left_out_share": 0.0,
        "clipped": {},
    }
    return RoundRecord(**{**fields, **changes})  # type: ignore[arg-type]


def make_members(names: tuple[str, ...] = NAMES, source: str = "synthetic") -> list[Member]:
    """Hospitals with 60 training patients and as many test patients as in `make_record`."""
    return [Member(100 + place, name, source, 60, 22 if place == 2 else 40, 20) for place, name in enumerate(names)]


def write_run(
    folder: Path,
    names: tuple[str, ...] = NAMES,
    records: list[RoundRecord] | None = None,
    standardisation: Standardisation | None = reference_standardisation(HEART),  # noqa: B008  # frozen
    dataset: str = "synthetic",
    *,
    histograms: Histograms | None = None,
    subgroups: Subgroups | None = None,
    importance: Importance | None = None,
    comparisons: Mapping[str, Mapping[str, PairedComparison]] | None = None,
    **choice: object,
) -> Path:
    """A finished run of three rounds; returns the folder."""
    rounds = [make_record(number, names) for number in (1, 2, 3)] if records is None else records
    choice = {"model": "mlp", "hidden": 16, **choice}
    settings = FederationSettings(hospitals=len(names), rounds=len(rounds), **choice)  # type: ignore[arg-type]
    members = make_members(names, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    weights = make_weights(settings)
    finished = RunFinished(
        settings, HEART, members, dataset, weights, standardisation, rounds, 1.75, subgroups=subgroups
    )
    sent = make_histograms(len(rounds), names) if histograms is None else histograms
    finished = replace(finished, histograms=sent, importance=importance, comparisons=comparisons or {})
    keep_in(folder, RunStarted(settings, HEART, members, dataset), *rounds, finished)
    return folder

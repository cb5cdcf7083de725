"""Hand-made events of a run."""

from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from msgspec import structs

from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.histogram import add_histograms, compute_metrics, score_histogram
from fedhealth.server.events import RunFinished, RunStarted
from fedhealth.server.records import Member, RoundRecord

MEANS, STDS = (54.0, 131.0, 240.0, 149.0, 1.0, 0.7), (9.0, 17.0, 50.0, 22.0, 1.1, 0.9)
KERNEL, BIAS = np.array([[1, 2], [3, 4]], np.float32), np.array([5, 6], np.float32)


def make_round(round_num: int = 1, **changes: Any) -> RoundRecord:
    """A round in which cleveland tested one ill and one healthy patient and va two ill ones."""
    cleveland, va = score_histogram([0.9, 0.2], [1, 0]), score_histogram([0.8, 0.4], [1, 1])
    record = RoundRecord(
        round_num=round_num,
        seconds=0.25,
        train_loss=0.5,
        pooled=compute_metrics(add_histograms([cleveland, va])),
        hospitals={"cleveland": compute_metrics(cleveland), "va": compute_metrics(va)},
        left_out={},
        left_out_share=0.0,
        clipped={},
    )
    return structs.replace(record, **changes)


def make_began(**changes: Any) -> RunStarted:
    members = [Member(101, "cleveland", "uci", 6, 2, 1), Member(102, "va", "uci", 8, 2, 2)]
    return replace(RunStarted(FederationSettings(hospitals=2, rounds=2), HEART, members, "uci"), **changes)


def make_finished(**changes: Any) -> RunFinished:
    began = make_began()
    weights = ArrayRecord({"hidden/kernel": Array(KERNEL), "hidden/bias": Array(BIAS)})
    rounds = [make_round(1), make_round(2, seconds=0.5)]
    standardisation = Standardisation(MEANS, STDS)
    finished = RunFinished(
        began.settings, HEART, began.members, began.dataset, weights, standardisation, rounds, seconds=1.75
    )
    return replace(finished, **changes)

"""The record of a round: of its training, and with the metrics of its evaluation."""

import time
from collections.abc import Mapping
from typing import Any

from msgspec import structs

from fedhealth.metrics.histogram import Metrics
from fedhealth.server.exact_sums import weighted_mean
from fedhealth.server.participation import Replies, Roster
from fedhealth.server.records import Evaluation, RoundRecord, pooled_metrics, split_histograms
from fedhealth.server.reply_messages import ReadEvaluation, Trained, Training


def note_trained(training: Training, roster: Roster, trained: Mapping[int, Trained]) -> None:
    """Note of these replies, by node, which were clipped, and their mean loss."""
    training.clipped = {roster.members[node].name: each.norm for node, each in trained.items() if each.norm is not None}
    losses = {node: (each.loss, each.num_examples) for node, each in trained.items() if each.loss is not None}
    training.loss = weighted_mean(losses)


def no_metrics() -> dict[str, Any]:
    """`pooled_metrics` where no hospital evaluated."""
    return {"pooled": Metrics(0, 0, *[None] * 8), "hospitals": {}, "validation": None}


def record_training(training: Training, roster: Roster, round_num: int) -> RoundRecord:
    """The round's record without metrics."""
    asked = roster.count_patients(training.asked | training.left_out.keys())
    return RoundRecord(
        round_num=round_num,
        seconds=time.perf_counter() - training.started,
        train_loss=training.loss,
        left_out=roster.by_name(training.left_out),
        left_out_share=roster.count_patients(training.left_out) / asked,
        clipped=training.clipped,
        asked=roster.list_drawn(training.asked),
        **no_metrics(),
    )


def complete_record(
    record: RoundRecord, checked: Replies[ReadEvaluation], dropped: Mapping[int, str], roster: Roster
) -> Evaluation:
    """The record with the metrics of these evaluations, and their histograms."""
    by_hospital = {roster.members[node].name: histograms for node, histograms in checked.valid.items()}
    tested, validation = split_histograms(by_hospital)
    if roster.schedule.evaluates_after(record.round_num):
        left_out = {**roster.by_name({**checked.reasons, **dropped}), **record.left_out}
        names = [member.name for member in roster.members.values() if member.name in left_out]
        record = structs.replace(record, left_out={name: left_out[name] for name in names})
    return Evaluation(structs.replace(record, **pooled_metrics(tested, validation)), tested, validation)

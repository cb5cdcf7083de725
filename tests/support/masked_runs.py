"""Hand-made runs with secure aggregation, of which the server knows only sums over all hospitals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import reference_standardisation
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.metrics.histogram import compute_metrics
from fedhealth.metrics.permutation_importance import Importance, combine_importance
from fedhealth.metrics.subgroups import Outcomes, Subgroups, find_divisions
from fedhealth.server.events import Event, RunFinished, RunStarted
from fedhealth.server.records import TOGETHER, Member, RoundRecord
from fedhealth.transport.protocol.roster import Entry, KeyRoster
from tests.support.run_folders import NAMES, make_histogram, make_weights
from tests.support.run_keeping import keep_in

LOST = {TOGETHER: "va: not connected"}
"""Why a round has no sum."""


def make_roster(names: Sequence[str] = NAMES) -> KeyRoster:
    """A roster without certificates."""
    entries = (Entry(name, bytes([place]) * 32) for place, name in enumerate(sorted(names)))
    return KeyRoster(bytes(16), tuple(entries))


def make_masked_record(round_num: int) -> RoundRecord:
    """A round with 80 ill and 62 healthy test patients in all hospitals together."""
    pooled = compute_metrics(make_histogram(80, 62, round_num))
    return RoundRecord(
        round_num=round_num,
        seconds=0.25,
        train_loss=1 / round_num,
        pooled=pooled,
        hospitals={TOGETHER: pooled},
        left_out={},
        left_out_share=0.0,
        clipped={},
    )


def without_sum(record: RoundRecord) -> RoundRecord:
    """The round if a hospital left before it."""
    return structs.replace(record, hospitals={}, left_out=LOST, left_out_share=1.0)


def masked_events(
    names: Sequence[str] = NAMES, records: Sequence[RoundRecord] | None = None, **settings: Any
) -> list[Event]:
    """The beginning, the rounds and the end of a run."""
    rounds = [make_masked_record(number) for number in (1, 2, 3)] if records is None else list(records)
    given = {"secure_aggregation": True, "rounds": len(rounds), "hospitals": len(names), **settings}
    chosen, roster = FederationSettings(**given), make_roster(names)
    member = Member(7, TOGETHER, "synthetic", 240, 142, 80, epsilon=chosen.dp_epsilon or None)
    finished = RunFinished(
        chosen,
        HEART,
        [member],
        "synthetic",
        make_weights(chosen),
        reference_standardisation(HEART),
        rounds,
        1.75,
        histograms={TOGETHER: make_histogram(80, 62, 3)},
        subgroups=Subgroups({TOGETHER: {"female": Outcomes(20, 5, 10, 5)}}, {}, find_divisions(HEART)),
        importance=make_summed_importance(),
        roster=roster,
    )
    return [RunStarted(chosen, HEART, [member], "synthetic", roster=roster), *rounds, finished]


def make_summed_importance() -> Importance:
    """Drops that decrease from feature to feature."""
    drops = [(13 - place) / 100 for place in range(len(FEATURE_NAMES))]
    return combine_importance(FEATURE_NAMES, {TOGETHER: drops}, {TOGETHER: 1}, {})


def write_masked_run(folder: Path, names: Sequence[str] = NAMES, **settings: Any) -> Path:
    """The folder of such a run."""
    folder.mkdir(parents=True, exist_ok=True)
    keep_in(folder, *masked_events(names, **settings))
    return folder

"""A whole run under differential privacy in one process: what is sent, refused and charged."""

import json
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.preflight import train_once
from fedhealth.client.privacy.accounting import epsilon_of_steps
from fedhealth.client.privacy.ledger import PrivacyLedger, ledger_path
from fedhealth.common.array_codec import read_array
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import load_hospital
from fedhealth.data.patients import Patients, split_patients_apart
from fedhealth.metrics.bins import find_edge
from fedhealth.server.app import make_server_app
from fedhealth.server.events import Event, RunFinished, RunStarted
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import node_id_of
from tests.support.hospital_apps import TRAINERS, USUAL, make_apps
from tests.support.hospital_files import write_hospitals

PROMISE = {"dp-epsilon": 4.0, "dp-delta": 1e-3, "rounds": 3}


@pytest.fixture
def hospitals(tmp_path: Path) -> dict[str, Path]:
    return write_hospitals(tmp_path)


class RecordingGrid(InProcessGrid):
    """An in-process grid that keeps all replies."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.heard: list[tuple[str, Message]] = []

    def _deliver(self, message: Message) -> str:
        message_id = super()._deliver(message)
        self.heard.append((message.metadata.message_type, self._replies[message_id]))
        return message_id


def make_grid(
    hospitals: dict[str, Path], run_config: dict[str, object] | None = None, limits: HospitalLimits = USUAL
) -> RecordingGrid:
    config = {**FederationSettings(hospitals=len(hospitals)).to_run_config(), **PROMISE, **(run_config or {})}
    return RecordingGrid(make_apps(hospitals, limits), config)


def run(grid: RecordingGrid) -> list[Event]:
    events: list[Event] = []
    make_server_app(events.append)(grid, grid.context)
    return events


def ask(grid: RecordingGrid, name: str, kind: str, content: RecordDict | None = None) -> Message:
    (reply,) = grid.send_and_receive(
        [Message(content or RecordDict(), dst_node_id=node_id_of(name), message_type=kind)]
    )
    return reply


def test_a_run_ends_with_a_model_a_noisy_evaluation_and_each_hospitals_epsilon(
    hospitals: dict[str, Path],
) -> None:
    events = run(make_grid(hospitals))
    began, finished = events[0], events[-1]
    assert isinstance(began, RunStarted)
    assert isinstance(finished, RunFinished)
    assert {member.epsilon for member in began.members} == {4.0}
    assert all(member.test_patients == member.test_ill == 0 for member in began.members)
    assert [bool(record.hospitals) for record in finished.rounds] == [False, False, True]
    assert finished.rounds[0].train_loss is None
    assert finished.rounds[-1].left_out == {}
    assert all(np.isfinite(array.numpy()).all() for array in finished.weights.values())


def test_only_noisy_covered_values_are_sent(hospitals: dict[str, Path]) -> None:
    grid = make_grid(hospitals)
    run(grid)
    kinds = {kind for kind, _ in grid.heard}
    assert kinds == {"query.describe", "query.initial_weights", "train", "evaluate", "query.finish"}
    for kind, reply in grid.heard:
        records, metrics = set(reply.content), dict(reply.content.metric_records.items())
        match kind:
            case "query.describe":
                assert records == {"hospital", "counts"}
                assert set(metrics["counts"]) == {"train-patients", "epsilon"}
                assert set(reply.content.config_records["hospital"]) == {"name", "source", "schema"}
            case "train":
                assert records == {"arrays", "metrics"}
                assert set(metrics["metrics"]) == {"num-examples"}
            case "evaluate":
                assert records == {"tested", "bins"}
                for counts in read_array(reply.content["bins"]["tested"]):
                    assert set(np.flatnonzero(counts)) <= {find_edge(tenth / 10 + 0.05) for tenth in range(10)}
            case "query.finish":
                assert records == set()


NOT_COVERED = ("first_moments", "second_moments", "label_counts", "subgroups", "importance")


@pytest.mark.parametrize("kind", [f"query.{name}" for name in NOT_COVERED])
def test_every_other_message_is_refused(hospitals: dict[str, Path], kind: str) -> None:
    reply = ask(make_grid(hospitals), min(hospitals), kind, RecordDict({"config": ConfigRecord({"means": [0.0] * 6})}))
    assert reply.has_error()
    assert reply.error.reason == f"under differential privacy this hospital does not reply to {kind}"


def test_a_run_spends_its_epsilon_and_the_ledger_beside_the_csv_records_it(hospitals: dict[str, Path]) -> None:
    run(make_grid(hospitals))
    for path in hospitals.values():
        spent = PrivacyLedger(ledger_path(path)).spent()
        assert 3.9 < spent.epsilon <= 4.0
        lines = [json.loads(line) for line in ledger_path(path).read_text().splitlines()]
        assert [line["kind"] for line in lines] == ["count", "steps", "steps", "steps", "test"]
        plan = lines[1]
        steps = epsilon_of_steps(plan["noise"], plan["rate"], 3 * plan["steps"], 1e-3)
        assert 0.4 + steps == pytest.approx(4.0, abs=0.05)


def test_a_repeated_message_gets_the_same_reply_at_no_cost(hospitals: dict[str, Path]) -> None:
    grid, name = make_grid(hospitals), min(hospitals)
    first = ask(grid, name, "query.describe")
    weights = ask(grid, name, "query.initial_weights").content.array_records["arrays"]
    config = ConfigRecord({"server-round": 1, "means": [50.0] * 6, "stds": [10.0] * 6})
    content = RecordDict({"arrays": weights, "config": config})
    trained, again = (ask(grid, name, "train", content) for _ in range(2))
    assert trained.content == again.content
    tested, retested = (ask(grid, name, "evaluate", content) for _ in range(2))
    assert tested.content == retested.content
    assert ask(grid, name, "query.describe").content == first.content
    kinds = [json.loads(line)["kind"] for line in ledger_path(hospitals[name]).read_text().splitlines()]
    assert kinds == ["count", "steps", "test"]


@pytest.mark.slow
def test_no_noise_depends_on_the_federations_seed(hospitals: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    others = write_hospitals(tmp_path / "again")
    first, second = (
        [array.numpy() for array in run(make_grid(files))[-1].weights.values()]  # type: ignore[union-attr]
        for files in (hospitals, others)
    )
    assert not any(np.allclose(one, other, atol=1e-4) for one, other in zip(first, second, strict=True))


@pytest.mark.slow
def test_a_noisy_count_is_drawn_once_and_sent_again_after_a_restart(hospitals: dict[str, Path]) -> None:
    name = min(hospitals)
    totals = set()
    for rounds in range(2, 8):  # other settings: another participant, as in a new process
        counts = ask(make_grid(hospitals, {"rounds": rounds}), name, "query.describe").content.metric_records["counts"]
        totals.add(counts["train-patients"])
    assert len(totals) == 1


def test_a_hospital_stops_at_its_own_limit(hospitals: dict[str, Path]) -> None:
    run(make_grid(hospitals, {"rounds": 2}, HospitalLimits(max_epsilon=6.0)))
    with pytest.raises(
        RunError, match=r"could not reply to query\.describe: this hospital's privacy budget is too small"
    ):
        run(make_grid(hospitals, {"rounds": 3}, HospitalLimits(max_epsilon=6.0)))


def test_a_hospital_whose_budget_does_not_reach_is_left_out_and_the_others_keep_their_guarantee(
    hospitals: dict[str, Path],
) -> None:
    poor, config = min(hospitals), {**FederationSettings(hospitals=4).to_run_config(), **PROMISE}
    apps = {**make_apps(hospitals), **make_apps({poor: hospitals[poor]}, HospitalLimits(max_epsilon=0.5))}
    events = run(RecordingGrid(apps, config))
    began, finished = (event for event in events if isinstance(event, RunStarted | RunFinished))
    assert {member.name for member in began.members} == {*hospitals} - {poor}
    assert began.left_out[poor].startswith(
        "could not reply to query.describe: this hospital's privacy budget is too small"
    )
    assert {member.epsilon for member in began.members} == {4.0}
    assert isinstance(finished, RunFinished)
    assert finished.rounds[-1].left_out == {}


def test_a_server_gets_no_reply_after_the_last_planned_round(hospitals: dict[str, Path]) -> None:
    grid, name = make_grid(hospitals, {"rounds": 2}), min(hospitals)
    weights = ask(grid, name, "query.initial_weights").content.array_records["arrays"]
    scale = {"means": [50.0] * 6, "stds": [10.0] * 6}
    replies = [
        ask(grid, name, "train", RecordDict({"arrays": weights, "config": ConfigRecord({"server-round": r, **scale})}))
        for r in (1, 2, 3)
    ]
    assert [reply.has_error() for reply in replies] == [False, False, True]
    assert replies[2].error.reason.startswith("all planned replies to train")


def test_a_hospital_with_a_limit_takes_no_part_without_differential_privacy(hospitals: dict[str, Path]) -> None:
    grid = make_grid(hospitals, {"dp-epsilon": 0.0}, HospitalLimits(max_epsilon=6.0))
    reply = ask(grid, min(hospitals), "query.describe")
    assert reply.has_error()
    assert reply.error.reason.startswith("this hospital takes part under differential privacy only (--max-epsilon)")


def test_under_differential_privacy_no_comparison_is_sent(hospitals: dict[str, Path]) -> None:
    grid = make_grid(hospitals, limits=HospitalLimits(share_comparisons=True))
    run(grid)
    finals = [reply for kind, reply in grid.heard if kind == "query.finish"]
    assert len(finals) == len(hospitals)
    assert all(not reply.has_error() and not reply.content for reply in finals)


def test_the_preflight_training_round_charges_nothing(hospitals: dict[str, Path]) -> None:
    name = min(hospitals)
    train_once(load_hospital(hospitals[name], name), FederationSettings(dp_epsilon=3.0), TRAINERS)
    assert not ledger_path(hospitals[name]).exists()


def test_no_patient_is_both_trained_on_and_tested(hospitals: dict[str, Path]) -> None:
    name = min(hospitals)
    config = {**FederationSettings(hospitals=4).to_run_config(), **PROMISE}
    split = HospitalData.from_csv(hospitals[name], TRAINERS).participation(config).split
    patients = load_hospital(hospitals[name]).patients
    sides: list[Patients] = [split.train, split.test]
    for side, expected in zip(sides, split_patients_apart(patients, 0.25, 0), strict=True):
        assert np.array_equal(side.features, expected.features, equal_nan=True)
    assert len(split.train) + len(split.test) == len(patients)


def test_a_private_reply_is_a_valid_message(hospitals: dict[str, Path]) -> None:
    grid = make_grid(hospitals)
    run(grid)
    assert max(len(message_to_proto(reply).SerializeToString()) for _, reply in grid.heard) < 20_000

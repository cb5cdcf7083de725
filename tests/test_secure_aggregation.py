"""Whole runs with secure aggregation in one process: the same model as in the clear, and nothing about one hospital."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.masking_state import masking_path
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.trainers import Trainers
from fedhealth.common.errors import PatientsError, RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.config.scripts import ServerSettings
from fedhealth.metrics.histogram import add_histograms
from fedhealth.models.numpy_training import NumpyTrainer
from fedhealth.server.app import federate, make_server_app
from fedhealth.server.events import Dropped, Event, RunFinished, RunStarted, Waiting
from fedhealth.server.records import TOGETHER, RoundRecord
from fedhealth.server.run_directory import opened_run
from fedhealth.server.run_writer import FolderWriter, RunWriter
from fedhealth.server.strategies.registry import make_strategy
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import error_reply, node_id_of
from fedhealth.transport.protocol import roster as rosters
from fedhealth.transport.protocol.finalization import FINISH, IMPORTANCE, SUBGROUPS
from fedhealth.transport.protocol.masked_vectors import MASKED
from fedhealth.transport.protocol.setup import COUNTS_SUM, DESCRIBE, INITIAL_WEIGHTS, decode_who
from fedhealth.transport.protocol.training import TRAIN
from fedhealth.transport.tls.identity import Identity
from tests.support.hospital_apps import TRAINERS
from tests.support.run_keeping import CheckpointList, Killed
from tests.support.secured_hospitals import NAMES, issue, make_hospital, make_settings, write_files
from tests.support.toy_hospitals import Clock, stop_clocks

pytestmark = pytest.mark.usefixtures("few_draws")


@dataclass
class Watched(ClientApp):
    """A hospital's app that keeps its replies; it can be away, and it can fail at a message type."""

    hospital: HospitalData
    heard: list[tuple[str, str, Message]]
    is_away: bool = False
    faults: dict[str, Exception] = field(default_factory=dict)
    before: Callable[[Message], None] = lambda message: None

    def __call__(self, message: Message, context: Context) -> Message:
        kind, name = message.metadata.message_type, self.hospital.hospital.name
        self.before(message)
        if self.is_away:
            return error_reply(message, "it left")
        if kind in self.faults:
            raise self.faults[kind]
        reply = make_client_app(self.hospital)(message, context)
        self.heard.append((name, kind, reply))
        return reply


class Grid(InProcessGrid):
    """A grid without the hospitals that are away."""

    def __init__(self, apps: Mapping[str, Watched], settings: FederationSettings) -> None:
        super().__init__(apps, settings.to_run_config())
        self.apps = {node_id_of(name): app for name, app in apps.items()}

    def get_node_ids(self) -> list[int]:
        return [node for node in super().get_node_ids() if not self.apps[node].is_away]


@dataclass
class Federation:
    """The hospitals of these files, as after a start of their clients."""

    files: Mapping[str, Path]
    identities: Mapping[str, Identity] = field(default_factory=dict)
    limits: HospitalLimits = field(default_factory=HospitalLimits)
    accepted: frozenset[str] = frozenset()
    """--accept-roster of all clients."""
    heard: list[tuple[str, str, Message]] = field(default_factory=list)
    apps: dict[str, Watched] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def start(self) -> None:
        """Start all clients again."""
        for name, path in self.files.items():
            hospital = make_hospital(path, self.identities.get(name), self.limits, accepted=self.accepted)
            self.apps[name] = Watched(hospital, self.heard)

    def run(self, settings: FederationSettings, writer: RunWriter | None = None, **more: Any) -> RunFinished:
        """A whole run; returns its last event."""
        if not self.apps:
            self.start()
        grid = Grid(self.apps, settings)
        options = {"max_wait": 5.0, **more}
        make_server_app(self.events.append, writer=writer or RunWriter(), **options)(grid, grid.context)
        finished = self.events[-1]
        assert isinstance(finished, RunFinished)
        return finished


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_files(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    return issue(tmp_path_factory.mktemp("certs") / "certs", *NAMES)


@pytest.fixture
def files(tables: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The tables, without any state beside them."""
    for name, path in tables.items():
        (tmp_path / f"{name}.csv").write_bytes(path.read_bytes())
    return {name: tmp_path / f"{name}.csv" for name in tables}


@pytest.fixture
def federation(files: dict[str, Path], identities: dict[str, Identity]) -> Federation:
    return Federation(files, identities)


def weights_of(finished: RunFinished) -> dict[str, bytes]:
    return {name: array.numpy().tobytes() for name, array in finished.weights.items()}


def rounds_of(events: list[Event]) -> list[RoundRecord]:
    return [event for event in events if isinstance(event, RoundRecord)]


def in_the_clear(federation: Federation, settings: FederationSettings) -> tuple[RunFinished, list[Event]]:
    """The same run without secure aggregation."""
    other = Federation(federation.files, limits=federation.limits)
    return other.run(plain(settings)), other.events


def plain(settings: FederationSettings) -> FederationSettings:
    """The settings without secure aggregation."""
    values = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    return FederationSettings(**{**values, "secure_aggregation": False})


# --- the same result --------------------------------------------------------------------------------------------------

SAME: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedavg, evaluated every second round": {"rounds": 3, "evaluate_every": 2},
    "everything selected": {
        "model": "mlp",
        "hidden": 8,
        "rounds": 3,
        "patience": 2,
        "calibrate": "temperature",
        "threshold": "youden",
        "class_weights": True,
    },
    "fedadam with clipped updates": {"strategy": "fedadam", "max_update_norm": 0.05},
    "fedprox": {"strategy": "fedprox", "local_epochs": 2},
    "fedavgm": {"strategy": "fedavgm"},
    "fedyogi": {"strategy": "fedyogi"},
    "fedadagrad": {"strategy": "fedadagrad"},
    "scaled by each hospital": {"scaling": "local", "missing_indicators": False},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_the_weights_are_bit_for_bit_those_of_the_same_run_in_the_clear(
    federation: Federation, changes: dict[str, Any]
) -> None:
    settings = make_settings(**changes)
    masked = federation.run(settings)
    clear, events = in_the_clear(federation, settings)
    assert weights_of(masked) == weights_of(clear)
    assert masked.standardisation == clear.standardisation
    for one, other in zip(rounds_of(federation.events), rounds_of(events), strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-14)
        for pooled, expected in ((one.pooled, other.pooled), (one.validation, other.validation)):
            if expected is None or expected.loss is None or pooled is None:
                assert pooled == expected
            else:
                assert pooled.num_examples == expected.num_examples
                assert (pooled.auroc, pooled.accuracy) == (expected.auroc, expected.accuracy)
                assert pooled.loss == pytest.approx(expected.loss, rel=1e-13)
                assert pooled.brier == pytest.approx(expected.brier, rel=1e-13)
    if masked.choices:
        assert clear.choices
        assert (masked.choices.threshold, masked.choices.best_round) == (
            clear.choices.threshold,
            clear.choices.best_round,
        )


def test_the_final_histogram_subgroups_and_importance_are_the_sums_of_those_in_the_clear(
    federation: Federation,
) -> None:
    masked = federation.run(make_settings())
    clear, _ = in_the_clear(federation, make_settings())
    assert list(masked.histograms) == [TOGETHER]
    total = add_histograms(clear.histograms.values())
    np.testing.assert_array_equal(masked.histograms[TOGETHER].positives, total.positives)
    np.testing.assert_array_equal(masked.histograms[TOGETHER].negatives, total.negatives)
    assert masked.subgroups and clear.subgroups and masked.importance and clear.importance
    sums: dict[str, list[int]] = {}
    for disclosed in clear.subgroups.disclosed.values():
        for group, outcomes in disclosed.items():
            sums[group] = [a + b for a, b in zip(sums.get(group, [0] * 4), outcomes.counts(), strict=True)]
    assert {group: list(each.counts()) for group, each in masked.subgroups.disclosed[TOGETHER].items()} == sums
    assert sums
    assert masked.importance.together == clear.importance.together


def test_newtons_method_finds_the_same_optimum(federation: Federation) -> None:
    settings = make_settings(strategy="newton", rounds=20, min_count=1)
    federation.limits = HospitalLimits(min_count=1)
    masked = federation.run(settings)
    clear, _ = in_the_clear(federation, settings)
    assert masked.fit and clear.fit
    np.testing.assert_allclose(masked.fit.coefficients, clear.fit.coefficients, rtol=0, atol=1e-12)
    np.testing.assert_allclose(masked.fit.covariance, clear.fit.covariance, rtol=1e-10)


def test_under_differential_privacy_the_same_noise_gives_the_same_weights(
    federation: Federation, tables: dict[str, Path], tmp_path: Path
) -> None:
    settings, finished = make_settings(dp_epsilon=5.0), []
    (tmp_path / "clear").mkdir()
    copies = {name: Path(shutil.copy(path, tmp_path / "clear")) for name, path in tables.items()}
    for each, chosen in ((federation, settings), (Federation(copies), plain(settings))):
        each.start()
        for place, app in enumerate(each.apps.values()):
            app.hospital.trainers = TRAINERS
            app.hospital.noise_source = NoiseSource(place)
        finished.append(each.run(chosen))
    assert weights_of(finished[0]) == weights_of(finished[1])
    assert finished[0].rounds[-1].pooled.auroc == finished[1].rounds[-1].pooled.auroc
    assert finished[0].members[0].epsilon == 5.0


def test_the_same_weights_come_out_in_any_order_of_the_hospitals(federation: Federation) -> None:
    first = weights_of(federation.run(make_settings()))
    other = Federation(dict(reversed(federation.files.items())), federation.identities)
    assert weights_of(other.run(make_settings())) == first


# --- nothing about one hospital ---------------------------------------------------------------------------------------


def test_of_a_single_hospital_the_server_receives_its_name_its_key_and_masked_words(federation: Federation) -> None:
    federation.run(make_settings(patience=1, class_weights=True))
    allowed = {DESCRIBE, rosters.KEY, rosters.ROSTER, INITIAL_WEIGHTS, FINISH}
    kinds = {kind for _, kind, _ in federation.heard}
    assert kinds >= {*allowed, COUNTS_SUM, TRAIN, SUBGROUPS, IMPORTANCE}
    for name, kind, reply in federation.heard:
        if kind not in allowed:
            assert list(reply.content) == [MASKED], kind
            (words,) = reply.content.array_records[MASKED].values()
            assert words.dtype == "uint64"
            assert np.mean(words.numpy() > 2**40) > 0.9, kind
        elif kind == DESCRIBE:
            assert decode_who(reply.content).name == name
        elif kind == FINISH:
            assert len(reply.content) == 0
    weights = [reply.content for _, kind, reply in federation.heard if kind == INITIAL_WEIGHTS]
    assert len(weights) == 1


def test_no_two_hospitals_and_no_two_messages_send_the_same_word(federation: Federation) -> None:
    federation.run(make_settings())
    words = [
        word
        for _, _, reply in federation.heard
        for array in reply.content.array_records.get(MASKED, {}).values()
        for word in array.numpy().tolist()
    ]
    assert len(words) > 4000
    assert len(set(words)) == len(words)


class KillingWriter(FolderWriter):
    """Writes a run folder, until the run is killed at a call, before it is written or (`kept`) after."""

    def __init__(self, folder: Path, kill_at: int | None = None, kept: bool = False) -> None:
        super().__init__(folder, 3, 0.0, pytest.fail)
        self.calls = 0
        self._kill_at, self._kept = kill_at, kept

    def count(self, write: Callable[[Any], None], content: Any) -> None:
        """Write, or be killed."""
        self.calls += 1
        if self.calls != self._kill_at or self._kept:
            write(content)
        if self.calls == self._kill_at:
            raise Killed

    def run_started(self, started: RunStarted) -> None:
        self.count(super().run_started, started)

    def round_finished(self, record: RoundRecord) -> None:
        self.count(super().round_finished, record)

    def keep_checkpoint(self, checkpoint: Any) -> None:
        self.count(super().keep_checkpoint, checkpoint)

    def run_finished(self, finished: RunFinished) -> None:
        self.count(super().run_finished, finished)


def run_in_folder(
    federation: Federation, asked: ServerSettings, kill_at: int | None = None, kept: bool = False
) -> KillingWriter:
    """A run of server.py without a network; what it writes is in the folder of `asked`."""
    with opened_run(asked, warn=lambda line: None) as opened:
        writer = KillingWriter(opened.folder, kill_at, kept)
        federation.run(opened.settings, writer, past=opened.past)
    return writer


def places_of(tree: Any, wanted: set[str], path: str = "") -> Iterator[str]:
    """Where in JSON one of these texts is a key or a value."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in wanted:
                yield f"{path}/{key}"
            yield from places_of(value, wanted, f"{path}/{key}")
    elif isinstance(tree, list):
        for value in tree:
            yield from places_of(value, wanted, path)
    elif tree in wanted:
        yield path


def test_no_file_of_the_run_folder_has_anything_about_one_hospital(federation: Federation, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_in_folder(federation, ServerSettings(hospitals=3, rounds=3, secure_aggregation=True, patience=2, out=folder))
    read = 0
    for path in sorted(folder.rglob("*.json*")):
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            found = set(places_of(json.loads(line), set(NAMES)))
            assert found == ({"/roster"} if path.name == "settings.json" else set()), path
            read += 1
    assert read >= 6
    with np.load(folder / "model.npz", allow_pickle=False) as model:
        assert not set(places_of(json.loads(str(model["about"])), set(NAMES))) - {"/roster"}
        assert not [name for name in model.files if any(hospital in name for hospital in NAMES)]
    begun = json.loads((folder / "settings.json").read_text())
    assert begun["roster"] == list(NAMES)
    assert [hospital["name"] for hospital in begun["hospitals"]] == [TOGETHER]


def test_checkpoints_and_events_know_all_hospitals_together_only(federation: Federation) -> None:
    kept: list[Any] = []
    finished = federation.run(make_settings(), CheckpointList(kept))
    assert kept and all([member.name for member in checkpoint.members] == [TOGETHER] for checkpoint in kept)
    assert all(set(checkpoint.histograms) <= {TOGETHER} for checkpoint in kept)
    assert [member.name for member in finished.members] == [TOGETHER]
    assert all(set(record.hospitals) <= {TOGETHER} for record in finished.rounds)
    assert finished.roster and finished.roster.names == NAMES
    assert finished.comparisons == {}


# --- hospitals that leave, fail or are too few ------------------------------------------------------------------------


def test_a_round_waits_for_a_hospital_that_has_left_and_ends_with_the_same_weights(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = stop_clocks(monkeypatch)
    calm = weights_of(Federation(federation.files, federation.identities).run(make_settings()))
    for kind in (TRAIN, COUNTS_SUM, rosters.ROSTER, rosters.KEY):
        federation.start()
        federation.events.clear()
        leave_once(federation.apps["hungary"], kind, clock)
        assert weights_of(federation.run(make_settings())) == calm
        waited = [event for event in federation.events if isinstance(event, Waiting)]
        if kind == TRAIN:
            assert "hungary" not in waited[0].answered
            assert waited[0].here == waited[0].wanted - 1 == len(waited[0].answered)


def leave_once(app: Watched, kind: str, clock: Clock) -> None:
    """The hospital leaves when it first gets this message, and comes back a second later."""

    def come_back() -> None:
        app.is_away = False

    def leave(message: Message) -> None:
        if message.metadata.message_type == kind:
            app.is_away, app.before = True, lambda message: None
            clock.later(1.0, come_back)

    app.before = leave


def test_a_hospital_that_does_not_come_back_is_named_in_one_line(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_clocks(monkeypatch)
    federation.start()

    def leave(message: Message) -> None:
        federation.apps["va"].is_away = federation.apps["va"].is_away or message.metadata.message_type == TRAIN

    federation.apps["va"].before = leave
    with pytest.raises(RunError) as caught:
        federation.run(make_settings())
    assert str(caught.value) == (
        "round 1: there is no sum over all hospitals (va: it left), and not enough came back within 5 s (--max-wait)"
    )


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (TRAIN, "round 1: there is no sum over all hospitals (va: no disk)"),
        (rosters.KEY, "the hospitals have not agreed on a roster: va could not reply to query.key: no disk"),
        (rosters.ROSTER, "the hospitals have not agreed on a roster: va could not reply to query.roster: no disk"),
    ],
)
def test_a_hospital_that_fails_for_good_is_named_in_one_line(federation: Federation, kind: str, line: str) -> None:
    federation.start()
    federation.apps["va"].faults[kind] = RunError("no disk")
    with pytest.raises(RunError) as caught:
        federation.run(make_settings())
    assert str(caught.value) == line


def test_of_a_hospital_whose_patients_make_the_training_diverge_nobody_sees_the_name(federation: Federation) -> None:
    class Diverging(NumpyTrainer):
        def train(self, *_: Any, **__: Any) -> Any:
            raise PatientsError("training diverged")

    federation.start()
    federation.apps["va"].hospital.trainers = Trainers(Diverging)
    with pytest.raises(RunError) as caught:
        federation.run(make_settings())
    assert str(caught.value) == (
        "round 1: there is no sum over all hospitals (1 of the 3 hospitals cannot compute it; only their own clients print "
        "why)"
    )
    assert federation.apps["va"].hospital.masking.problem == (
        "this hospital has no numbers in the sum of train: training diverged"
    )


def test_a_hospital_that_fails_in_the_setup_sums_is_named_too(federation: Federation) -> None:
    federation.start()
    federation.apps["va"].faults[COUNTS_SUM] = RunError("no disk")
    with pytest.raises(RunError) as caught:
        federation.run(make_settings())
    assert "va: no disk" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hospital_that_cannot_take_part_is_left_out_if_three_others_remain(tmp_path: Path) -> None:
    four = write_files(tmp_path / "four", (*NAMES, "basel"))
    federation = Federation(four)
    federation.start()
    federation.apps["basel"].faults[DESCRIBE] = RunError("no disk")
    finished = federation.run(make_settings(hospitals=4))
    assert finished.roster and finished.roster.names == NAMES
    assert finished.left_out == {"basel": "could not reply to query.describe: no disk"}
    assert Dropped("basel", "could not reply to query.describe: no disk") in federation.events


def test_two_hospitals_that_remain_are_too_few(federation: Federation) -> None:
    federation.start()
    federation.apps["va"].faults[DESCRIBE] = RunError("no disk")
    with pytest.raises(RunError) as caught:
        federation.run(make_settings())
    assert str(caught.value) == (
        "--secure-aggregation needs 3 hospitals or more; only 2 take part: va could not reply to query.describe: no disk"
    )
    assert not any(kind == rosters.KEY for _, kind, _ in federation.heard)


def test_a_strategy_object_that_needs_single_hospitals_is_refused_before_anything_is_sent(
    federation: Federation,
) -> None:
    federation.start()
    settings = make_settings()
    robust = make_strategy(FederationSettings(hospitals=3, strategy="fedmedian"))
    with pytest.raises(
        RunError, match=r"^secure aggregation and the strategy FedMedian exclude each other: it may need"
    ):
        federate(Grid(federation.apps, settings), settings, strategy=robust)
    assert federation.heard == []


# --- killed and resumed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True], ids=["before it is kept", "after it is kept"])
def test_a_run_that_is_killed_anywhere_keeps_its_roster_and_ends_with_the_same_weights(
    federation: Federation, tmp_path: Path, kept: bool
) -> None:
    """Server and clients are started again each time: they know nothing but their files."""
    asked = {"hospitals": 3, "rounds": 2, "patience": 2, "secure_aggregation": True}
    calm = run_in_folder(federation, ServerSettings(**asked, out=tmp_path / "calm")).calls
    expected = model_of(tmp_path / "calm")
    for kill_at in range(1, calm + 1):
        folder = tmp_path / f"killed at {kill_at}"
        federation.start()
        with pytest.raises(Killed):
            run_in_folder(federation, ServerSettings(**asked, out=folder), kill_at, kept)
        if (folder / "summary.json").exists() or not (folder / "settings.json").exists():
            continue
        digits = json.loads((folder / "settings.json").read_text())["roster_digest"]
        federation.start()
        run_in_folder(federation, ServerSettings(resume=folder))
        assert model_of(folder) == expected
        started = [event for event in federation.events if isinstance(event, RunStarted)][-1]
        assert started.roster is not None
        if started.done:
            assert started.roster.shown_digest == digits


def model_of(folder: Path) -> dict[str, bytes]:
    with np.load(folder / "model.npz", allow_pickle=False) as model:
        return {name: model[name].tobytes() for name in model.files if name != "about"}


def test_what_was_masked_before_a_kill_is_the_same_after_it(federation: Federation, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run_in_folder(federation, ServerSettings(hospitals=3, rounds=2, secure_aggregation=True, out=folder), 4)
    before = masked_by_kind(federation, IMPORTANCE)
    assert before == {}
    federation.heard.clear()
    federation.start()
    with pytest.raises(Killed):
        run_in_folder(federation, ServerSettings(resume=folder), 3)
    first = masked_by_kind(federation, TRAIN)
    federation.heard.clear()
    federation.start()
    run_in_folder(federation, ServerSettings(resume=folder))
    again = masked_by_kind(federation, TRAIN)
    assert first and {name: again[name][: len(words)] for name, words in first.items()} == first


def masked_by_kind(federation: Federation, kind: str) -> dict[str, list[bytes]]:
    """Hospital -> the bytes of its masked replies to such messages."""
    found: dict[str, list[bytes]] = {}
    for name, each, reply in federation.heard:
        if each == kind and MASKED in reply.content:
            (words,) = reply.content.array_records[MASKED].values()
            found.setdefault(name, []).append(words.numpy().tobytes())
    return found


def test_a_server_that_is_killed_after_the_final_model_was_sent_can_be_resumed(
    federation: Federation, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    asked = {"hospitals": 3, "rounds": 2, "secure_aggregation": True}
    calm = run_in_folder(federation, ServerSettings(**asked, out=tmp_path / "calm")).calls
    federation.start()
    with pytest.raises(Killed):
        run_in_folder(federation, ServerSettings(**asked, out=folder), calm)
    assert all('"kind": "key"' not in masking_path(path).read_text() for path in federation.files.values())
    federation.start()
    run_in_folder(federation, ServerSettings(resume=folder))
    assert model_of(folder) == model_of(tmp_path / "calm")


def test_a_resumed_run_is_not_continued_with_other_hospitals(federation: Federation, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    asked = ServerSettings(hospitals=3, rounds=2, secure_aggregation=True, out=folder)
    with pytest.raises(Killed):
        run_in_folder(federation, asked, 3, kept=True)
    other = write_files(tmp_path / "other", ("basel", *NAMES[:2]))
    with pytest.raises(RunError) as caught:
        run_in_folder(Federation(other), ServerSettings(resume=folder))
    assert str(caught.value) == (
        "the run that is resumed sums over cleveland, hungary, va, and basel, cleveland, hungary are here; start a new run"
    )


def test_a_run_goes_on_without_a_hospital_that_is_gone_once_the_others_accept_to_be_alone(tmp_path: Path) -> None:
    four, folder = write_files(tmp_path / "four", (*NAMES, "basel")), tmp_path / "run"
    asked = ServerSettings(hospitals=4, rounds=3, secure_aggregation=True, out=folder)
    with pytest.raises(Killed):
        run_in_folder(Federation(four), asked, 3, kept=True)
    rest = Federation({name: four[name] for name in NAMES})
    with pytest.raises(RunError) as caught:
        run_in_folder(rest, ServerSettings(resume=folder, without=("basel",)))
    code = rosters.code_of(NAMES)
    assert "the difference of two sums can be about one" in str(caught.value)
    assert f"--accept-roster {code}" in str(caught.value)
    rest.accepted = frozenset({code})
    rest.start()
    run_in_folder(rest, ServerSettings(resume=folder, without=("basel",)))
    finished = rest.events[-1]
    assert isinstance(finished, RunFinished)
    config = finished.settings.to_run_config()
    assert finished.roster and finished.roster.names == NAMES
    assert finished.members[0].train_patients == sum(
        rest.apps[name].hospital.participation(config).split.train.labels.size for name in NAMES
    )
    assert [record.round_num for record in finished.rounds] == [1, 2, 3]


def test_after_a_run_the_next_one_has_other_keys_and_the_same_weights(federation: Federation) -> None:
    first, second = federation.run(make_settings()), federation.run(make_settings())
    assert first.roster and second.roster
    assert first.roster.digest != second.roster.digest
    assert weights_of(first) == weights_of(second)


# --- a server that lies in a whole run --------------------------------------------------------------------------------


def test_a_hospital_that_was_sent_other_weights_ends_the_run_with_one_line(federation: Federation) -> None:
    federation.start()

    def tamper(message: Message) -> None:
        if message.metadata.message_type == TRAIN:
            message.content["config"]["server-round"] = 9  # type: ignore[index]

    federation.apps["hungary"].before = tamper
    with pytest.raises(RunError) as caught:
        federation.run(make_settings())
    assert "the masks do not cancel: a hospital was asked something else, or sent something else" in str(caught.value)

"""A session of client.py without a server: names, limits, refusals, printed lines and saved models."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict

from fedhealth.cli import client_session
from fedhealth.cli.client_session import ClientSession, save_model
from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.local_model import LocalModel
from fedhealth.client.personalization import Model
from fedhealth.client.privacy.ledger import PrivacyLedger, ledger_path
from fedhealth.client.receipts import opened_receipts
from fedhealth.common.errors import DataError, RunError, UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.config.scripts import ClientSettings
from fedhealth.data.preprocessing import reference_standardisation
from fedhealth.data.sources.heart import HEART
from fedhealth.models import keras_models
from fedhealth.transport.grpc.client import Connection
from fedhealth.transport.grpc.retry import Attempt, ServerLostError
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.protocol.feasibility import FEASIBILITY
from fedhealth.transport.tls.authority import issue_certificates
from tests.support.hospital_apps import TRAINERS
from tests.support.hospital_files import write_hospitals

NAME = "synthetic-cleveland"
SCALE = {"means": [50.0, 130.0, 200.0, 140.0, 1.0, 1.0], "stds": [10.0] * 6}


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"))[NAME]


@pytest.fixture
def file(csv: Path, tmp_path: Path) -> Path:
    """The hospital's file in a folder of its own."""
    return Path(shutil.copy(csv, tmp_path / "client_1.csv"))


# --- the hospital's name and limits -----------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    issue_certificates(tmp_path / "certs", ("cleveland",), ("localhost",), days=90, ca_days=900, force=False)
    return tmp_path / "certs" / "cleveland"


def test_the_name_in_the_certificate_overrides_that_of_the_file(
    file: Path, tls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (None, "cleveland"):
        session = ClientSession.prepare(ClientSettings(file=file, tls=tls, name=name))
        hospital = session.hospital.hospital
        assert hospital.name == "cleveland"
        assert session.identity is not None
        assert capsys.readouterr().out.startswith(
            f"cleveland (the name in its certificate; the file says {NAME}): {len(hospital.patients)} patients in {file};"
        )


def test_another_name_than_the_certificates_is_one_line(file: Path, tls: Path) -> None:
    with pytest.raises(UsageError) as caught:
        ClientSession.prepare(ClientSettings(file=file, tls=tls, name="hungary"))
    assert str(caught.value) == f"--name is hungary, but {tls} has the certificate of cleveland; leave --name out"


@pytest.mark.parametrize(("name", "found"), [(None, NAME), ("lakeside", "lakeside"), (" lakeside ", "lakeside")])
def test_a_hospital_is_named_by_its_flag_or_its_file(
    file: Path, name: str | None, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ClientSession.prepare(ClientSettings(file=file, name=name)).hospital.hospital.name == found
    assert capsys.readouterr().out.startswith(f"{found}: ")


def test_the_hospitals_own_limits_are_those_of_its_flags(file: Path) -> None:
    usual = ClientSession.prepare(ClientSettings(file=file)).hospital
    assert usual.limits == HospitalLimits(min_count=5, max_epsilon=None, share_comparisons=False)
    strict = ClientSession.prepare(ClientSettings(file=file, min_count=9, max_epsilon=4.0, share_verdict=True)).hospital
    assert strict.limits == HospitalLimits(min_count=9, max_epsilon=4.0, share_comparisons=True)
    assert (strict.ledger.path, strict.ledger.limit) == (ledger_path(file), 4.0)


def test_a_ledger_that_is_reset_is_renamed_with_a_warning_and_not_deleted(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = ledger_path(file)
    PrivacyLedger(ledger).charge_test("seed 0, test share 0.25", 2.0)
    ClientSession.prepare(ClientSettings(file=file, reset_budget=True))
    assert not ledger.exists()
    assert PrivacyLedger(file.parent / "client_1.budget.before-1.jsonl").spent().epsilon == 2.0
    assert "no longer counts (--reset-budget); their ledger is now " in capsys.readouterr().err


# --- what the server's settings change --------------------------------------------------------------------------------


def test_a_second_split_of_the_patients_is_refused_until_the_client_is_started_again(file: Path) -> None:
    session = ClientSession.prepare(ClientSettings(file=file))
    session.require_same_split({"seed": 0, "test-share": 0.25, "rounds": 3})
    session.require_same_split({"seed": 0, "test-share": 0.25, "rounds": 9})
    session.require_same_split({"seed": 0, "test-share": 0.25, "validation": 0.3})
    for other in (
        {"seed": 0, "test-share": 0.25, "validation": 0.3, "patience": 1},
        {"seed": 1, "test-share": 0.25},
        {"seed": 0, "test-share": 0.26},
        {"seed": [], "test-share": None},
    ):
        with pytest.raises(RunError, match=r"the server asks for another split .* start this client again"):
            session.require_same_split(other)
    ClientSession.prepare(ClientSettings(file=file)).require_same_split({"seed": 1, "test-share": 0.25})


def test_what_an_app_keeps_is_there_again_after_a_lost_connection(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    @contextmanager
    def lose(*_: object, previous: Context | None, **__: object) -> Iterator[Connection]:
        given.append(previous)
        yield Connection(Context(1, len(given), {}, RecordDict(), {}), iter(()), SimpleQueue())

    monkeypatch.setattr(client_session, "join", lose)
    session = ClientSession.prepare(ClientSettings(file=file))
    with opened_receipts(tmp_path / "receipts", NAME) as receipts:
        for _ in range(3):
            session.take_part(receipts, Attempt(1.0))
    assert [context and context.node_id for context in given] == [None, 1, 2]


def test_flags_without_effect_in_this_run_are_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ClientSettings(file=file, share_verdict=True, save_personal=file.with_name("own.keras"))
    session = ClientSession.prepare(settings)
    capsys.readouterr()
    session.warn_of_unused_flags({"dp-epsilon": 3.0, "personalise": "none"})
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: --save-personal has no effect: ")
    assert second.startswith("warning: --share-verdict has no effect: ")
    session.warn_of_unused_flags({"dp-epsilon": 0.0, "personalise": "intercept"})
    assert capsys.readouterr().err == ""


def test_the_reason_of_a_missing_reply_is_printed_at_the_hospital_in_full(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ClientSession.prepare(ClientSettings(file=file))
    capsys.readouterr()
    session.warn_of_failure(RunError("training diverged"))
    session.warn_of_failure(ValueError("patient 17"))
    session.warn_of_failure(DataError(["row 3"]))
    assert capsys.readouterr().err == "warning: training diverged\nwarning: ValueError: patient 17\nwarning: row 3\n"


# --- the end of the run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "unsaved"), [({}, ""), ({"save_model": "whole.keras"}, ", so nothing was saved (--save-model)")]
)
def test_a_run_that_ends_before_the_final_model_has_come_is_a_failure(
    file: Path,
    flags: dict[str, str],
    unsaved: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextmanager
    def join(*_: object, **__: object) -> Iterator[Any]:
        """The server ends the run as soon as it is joined."""
        context = SimpleNamespace(run_config=FederationSettings().to_run_config())
        yield SimpleNamespace(context=context, serve=lambda *_, **__: None)

    monkeypatch.setattr(client_session, "join", join)
    session = make_session(file, **{flag: file.with_name(name) for flag, name in flags.items()})
    with pytest.raises(RunError) as caught:
        session.run()
    assert str(caught.value) == (
        f"the run ended while this hospital was absent: it has no final model{unsaved}; ask the coordinator for it"
    )
    assert capsys.readouterr().out.splitlines()[-1].startswith("receipts of everything that was sent: ")
    assert not list(file.parent.glob("*.keras"))


# --- what is printed and saved ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threshold", "more"), [(None, ""), (0.435, "; it predicts positive from a risk of 0.435")])
def test_the_hospital_sees_the_decision_threshold_if_one_was_selected(
    file: Path,
    threshold: float | None,
    more: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_session, "outcome_lines", lambda _: ["the comparison"])
    session = ClientSession.prepare(ClientSettings(file=file))
    capsys.readouterr()
    final: Any = SimpleNamespace(threshold=threshold, outcome=SimpleNamespace(models={}))
    session.finish(final)
    assert capsys.readouterr().out == f"the run is over; this hospital has the final model{more}\nthe comparison\n"


@pytest.mark.parametrize(("flag", "which"), [("save-model", "final"), ("save-personal", "personal")])
def test_a_model_that_cannot_be_saved_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, which: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras_models, "save_model", fail)
    path, local = tmp_path / "model.keras", LocalModel(HEART, FederationSettings(), TRAINERS)
    with pytest.raises(RunError) as caught:
        save_model(flag, path, Model([], reference_standardisation(HEART), local))
    assert str(caught.value) == f"--{flag} {path}: the {which} model cannot be saved (No space left on device)"


def replied(hospital: HospitalData, kind: str, config: dict[str, Any]) -> tuple[Message, Message]:
    """A message to the hospital with zeros for weights, and its reply."""
    grid = InProcessGrid({NAME: make_client_app(hospital)}, config)
    arrays = {name: Array(np.zeros(shape, np.float32)) for name, shape in weight_shapes().items()}
    content = RecordDict({"arrays": ArrayRecord(arrays), "config": ConfigRecord({**SCALE, "server-round": 2})})
    message = Message(content, dst_node_id=grid.get_node_ids()[0], message_type=kind)
    (reply,) = grid.send_and_receive([message])
    return message, reply


def weight_shapes() -> dict[str, tuple[int, ...]]:
    return LocalModel(HEART, FederationSettings(), TRAINERS).shapes


def make_session(file: Path, **flags: Any) -> ClientSession:
    settings = ClientSettings(file=file, **flags)
    return ClientSession(settings, HospitalData.from_csv(file, TRAINERS, limits=HospitalLimits(max_epsilon=None)))


@pytest.mark.slow
def test_the_epsilon_of_a_round_is_printed_without_a_charge(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = make_session(file)
    config = FederationSettings(dp_epsilon=4.0, dp_delta=1e-3, rounds=2).to_run_config()
    message, reply = replied(session.hospital, "train", config)
    charged = ledger_path(file).read_bytes()
    session.show_reply(config, message, reply)
    assert capsys.readouterr().out.startswith("round 2   privacy: this run guarantees epsilon 4; all runs of this file")
    assert ledger_path(file).read_bytes() == charged


def test_printing_opens_no_session_and_makes_no_ledger(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = make_session(file)
    config = FederationSettings(dp_epsilon=4.0, dp_delta=1e-3).to_run_config()
    _, reply = replied(make_session(file).hospital, "train", FederationSettings().to_run_config())
    message = Message(RecordDict({"config": ConfigRecord({"server-round": 1})}), dst_node_id=5, message_type="train")
    session.show_reply(config, message, reply)
    assert capsys.readouterr().out == ""
    assert session.hospital.participation(config).dp_session is None
    assert not ledger_path(file).exists()


def test_a_message_without_reply_is_named_and_nothing_else_is_printed(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = make_session(file)
    message, _ = replied(session.hospital, "query.initial_weights", FederationSettings().to_run_config())
    message.metadata.message_type = "train"
    failed = Message(Error(code=1, reason="no"), reply_to=message)
    session.show_reply({"test-share": "nonsense"}, message, failed)
    assert capsys.readouterr().out == "could not reply to train; the run continues without this reply\n"


def test_after_the_last_message_the_requested_models_are_saved(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, own = file.with_name("whole.keras"), file.with_name("own.keras")
    session = make_session(file, save_model=whole, save_personal=own)
    config = FederationSettings(rounds=1, personalise="none").to_run_config()
    message, reply = replied(session.hospital, "query.finish", config)
    assert not reply.content
    session.show_reply(config, message, reply)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "the run is over; this hospital has the final model"
    assert lines[-1] == f"saved it to {whole}; Keras 3.3 and later load it"
    assert shown.err == f"warning: --save-personal {own}: there is no personal model, so nothing is saved\n"
    assert whole.is_file() and not own.exists()


def test_the_proxy_of_the_flag_is_the_links(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[object] = []

    def fail(*_: object, proxy: str | None, **__: object) -> None:
        used.append(proxy)
        raise ServerLostError("nobody there")

    monkeypatch.setattr(client_session, "join", fail)
    for proxy in (None, "none", "http://proxy.example.org:3128"):
        session = make_session(file, proxy=proxy)
        with opened_receipts(file.parent, NAME) as receipts, pytest.raises(ServerLostError):
            session.take_part(receipts, Attempt(1))
    assert used == [None, "none", "http://proxy.example.org:3128"]


def test_the_pauses_before_new_attempts_are_printed_rarely_and_anew_after_each_loss(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ClientSession.prepare(ClientSettings(file=file))
    capsys.readouterr()
    for attempts in (1, 2, 3, 1):
        session.say_pause(attempts, 0.25, 60.0, "connection refused")
    assert (
        capsys.readouterr().out.splitlines()
        == ["no connection to 127.0.0.1:8080 (attempt 1); trying again in 0.2 s, timeout in 60 s (connection refused)"]
        * 2
    )


def test_a_run_with_feasibility_needs_no_tensorflow_and_no_final_model(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def join(*_: object, **__: object) -> Iterator[Any]:
        """The server asks once and ends the run."""
        context = Context(1, 1, {}, RecordDict(), FederationSettings(feasibility=True).to_run_config())

        def serve(app: Any, on_reply: Any, **_: object) -> None:
            message = Message(RecordDict(), dst_node_id=1, message_type=FEASIBILITY)
            on_reply(message, app(message, context))

        yield SimpleNamespace(context=context, serve=serve)

    monkeypatch.setattr(client_session, "join", join)
    session = ClientSession.prepare(ClientSettings(file=file))
    monkeypatch.setattr(session.hospital.trainers, "load", lambda: pytest.fail("TensorFlow is not needed"))
    session.run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(f" as {NAME}")
    assert lines[2] == "sent how many patients lack each value and have the outcome; this run trains no model"

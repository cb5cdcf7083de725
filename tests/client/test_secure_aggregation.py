"""A lying server and a real hospital: each lie is refused with one line, or the server gets noise."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import ConfigRecord, RecordDict

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.masking_state import masking_path
from fedhealth.client.trainers import Trainers
from fedhealth.common.errors import PatientsError, RunError
from fedhealth.models.numpy_training import NumpyTrainer
from fedhealth.transport.protocol import evaluation, feasibility, finalization, roster, setup, training
from fedhealth.transport.protocol.evaluation import EvaluateRequest, encode_evaluate_request
from fedhealth.transport.protocol.fields import CONFIG
from fedhealth.transport.protocol.finalization import FinalRequest, encode_final_request
from fedhealth.transport.protocol.masked_vectors import MASKED, PREFIX, decode_masked
from fedhealth.transport.protocol.training import TRAIN, decode_train_request
from tests.support.secured_hospitals import (
    NAMES,
    RUN,
    AskingServer,
    make_hospital,
    make_settings,
    train_request,
    write_files,
)

NOISE = "^the masks do not cancel: a hospital was asked something else, or sent something else$"
EMPTY = setup.encode_empty_request()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return write_files(tmp_path)


@pytest.fixture
def hospitals(files: dict[str, Path]) -> dict[str, HospitalData]:
    return {name: make_hospital(path) for name, path in files.items()}


@pytest.fixture
def server(hospitals: dict[str, HospitalData]) -> AskingServer:
    return AskingServer(hospitals, make_settings())


def final_request() -> RecordDict:
    sent = decode_train_request(train_request())
    return encode_final_request(FinalRequest(sent.weights, sent.scale))


def evaluate_request() -> RecordDict:
    sent = decode_train_request(train_request())
    return encode_evaluate_request(EvaluateRequest(sent.weights, 1, sent.scale))


REQUESTS: dict[str, Callable[[], RecordDict]] = {
    setup.COUNTS_SUM: lambda: EMPTY,
    setup.FIRST_MOMENTS: lambda: EMPTY,
    setup.SECOND_MOMENTS: lambda: setup.encode_second_moments_request(
        decode_train_request(train_request()).scale.means
    ),  # type: ignore[union-attr]
    setup.LABEL_COUNTS: lambda: EMPTY,
    training.TRAIN: train_request,
    evaluation.EVALUATE: evaluate_request,
    finalization.SUBGROUPS: final_request,
    finalization.IMPORTANCE: final_request,
}
SUMMED = sorted(REQUESTS)


# --- an honest server -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SUMMED)
def test_the_server_reads_the_sum_and_each_hospital_sends_masked_words_only(server: AskingServer, kind: str) -> None:
    agreed, request = server.agree(), REQUESTS[kind]()
    replies = {name: server.ask(name, kind, request) for name in NAMES}
    assert all(list(reply) == [MASKED] for reply in replies.values())
    clear = {name: hospital.masking.clear for name, hospital in server.hospitals.items()}
    sums = server.add_up(kind, request, replies, agreed)
    for part in server.messages.layout(kind, request).parts:
        each = [
            server.messages.take_numbers(kind, content, pairs_of(server.hospitals[name]))[part.name]
            for name, content in clear.items()
            if content is not None
        ]
        assert len(each) == len(NAMES)
        if part.kind == "real":
            np.testing.assert_allclose(sums[part.name], np.sum(each, axis=0), rtol=1e-14)
        else:
            np.testing.assert_array_equal(sums[part.name], np.ravel(np.sum(each, axis=0)))


def pairs_of(hospital: HospitalData) -> tuple[int, int]:
    """Number of test patients, and of pairs of an ill and a healthy one."""
    test = hospital.participation(make_settings().to_run_config()).split.test
    ill = int(test.labels.sum())
    return len(test), ill * (len(test) - ill)


def test_without_one_hospital_the_sum_of_the_others_is_noise(server: AskingServer) -> None:
    agreed, request = server.agree(), train_request()
    replies = {name: server.ask(name, TRAIN, request) for name in NAMES[:2]}
    with pytest.raises(ValueError, match=NOISE):
        server.add_up(TRAIN, request, replies, agreed)


# --- a server that asks one hospital something else -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "changes"),
    [
        (train_request(bias=1.0), {}),
        (train_request(round_num=2), {}),
        (train_request(), {"local_epochs": 2}),
        (train_request(), {"seed": 1}),
        (train_request(), {"rounds": 3}),
    ],
    ids=["other weights", "another round", "more epochs", "another seed", "more rounds"],
)
def test_a_hospital_that_is_asked_something_else_turns_the_sum_into_noise(
    server: AskingServer, other: RecordDict, changes: dict[str, Any]
) -> None:
    agreed, request = server.agree(), train_request()
    replies = {name: server.ask(name, TRAIN, request) for name in NAMES[1:]}
    replies["cleveland"] = server.ask("cleveland", TRAIN, other, **changes)
    with pytest.raises(ValueError, match=NOISE):
        server.add_up(TRAIN, request, replies, agreed)


def test_a_config_of_bytes_and_one_of_their_digits_are_not_the_same_request(server: AskingServer) -> None:
    agreed = server.agree()
    requests = [RecordDict({CONFIG: ConfigRecord({"x": value})}) for value in (b"\x0a", ["0a"])]
    replies = {name: server.ask(name, setup.COUNTS_SUM, requests[name == "va"]) for name in NAMES}
    with pytest.raises(ValueError, match=NOISE):
        server.add_up(setup.COUNTS_SUM, requests[0], replies, agreed)


def test_a_hospital_that_has_been_sent_another_roster_turns_the_sum_into_noise(server: AskingServer) -> None:
    """All have accepted the rosters of two runs, and the server mixes their replies."""
    first, second = server.collect(RUN), server.collect(b"another run here")
    for name in NAMES:
        server.send_roster(name, first)
        server.send_roster(name, second)
    request = train_request()
    replies = {name: server.ask(name, TRAIN, request) for name in NAMES[1:]}
    replies["cleveland"] = server.ask("cleveland", TRAIN, request, run=b"another run here")
    with pytest.raises(ValueError, match=NOISE):
        server.add_up(TRAIN, request, replies, first)


# --- a server that asks again -----------------------------------------------------------------------------------------


def test_the_same_request_gets_the_same_bytes_again_without_another_computation(server: AskingServer) -> None:
    server.agree()
    first = server.ask("va", TRAIN, train_request())
    assert server.hospitals["va"].masking.clear is not None
    again = server.ask("va", TRAIN, train_request())
    assert again[MASKED] == first[MASKED]
    assert server.hospitals["va"].masking.clear is None


def test_a_hospital_that_was_started_again_sends_the_same_bytes(server: AskingServer, files: dict[str, Path]) -> None:
    server.agree()
    first = server.ask("va", TRAIN, train_request())
    later = AskingServer({"va": make_hospital(files["va"])}, server.settings)
    assert later.ask("va", TRAIN, train_request())[MASKED] == first[MASKED]
    assert later.hospitals["va"].masking.clear is None


def test_a_hospital_whose_data_has_changed_sends_what_it_had_sent(server: AskingServer, files: dict[str, Path]) -> None:
    server.agree()
    first = server.ask("va", TRAIN, train_request())
    change_one_patient(files["va"])
    later = AskingServer({"va": make_hospital(files["va"])}, server.settings)
    assert later.ask("va", TRAIN, train_request())[MASKED] == first[MASKED]


def test_other_numbers_under_the_same_masks_are_never_sent(
    server: AskingServer, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large model only the hash of what was sent is kept."""
    monkeypatch.setattr("fedhealth.client.masking_state.LARGEST_KEPT", 100)
    server.agree()
    first = server.ask("va", TRAIN, train_request())
    same = AskingServer({"va": make_hospital(files["va"])}, server.settings)
    assert same.ask("va", TRAIN, train_request())[MASKED] == first[MASKED]
    change_one_patient(files["va"])
    later = AskingServer({"va": make_hospital(files["va"])}, server.settings)
    with pytest.raises(
        RunError,
        match=r"^the server asks again for a sum, and this hospital's numbers are others than before; nothing is sent, "
        r"since the difference would disclose patients\. Start a new run$",
    ):
        later.ask("va", TRAIN, train_request())


def change_one_patient(path: Path) -> None:
    table = pd.read_csv(path)
    table["age"] = table["age"] + 1
    table.to_csv(path, index=False)


# --- a server without a roster, or after the end ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", SUMMED)
def test_nothing_about_patients_is_sent_before_there_is_a_roster(server: AskingServer, kind: str) -> None:
    with pytest.raises(RunError, match=r"^the server asks for a masked sum, and there is no roster for its run$"):
        server.ask("va", kind, REQUESTS[kind]())
    server.agree()
    with pytest.raises(RunError, match=r"^the server asks for a masked sum, and there is no roster for its run$"):
        server.ask("va", kind, REQUESTS[kind](), run=b"some other run..")


@pytest.mark.parametrize("group", ["no hex", "zz", "é"])
def test_a_message_that_names_no_run_gets_no_sum(server: AskingServer, group: str) -> None:
    class Group(bytes):
        def hex(self, *_: object) -> str:  # type: ignore[override]
            return group

    server.agree()
    with pytest.raises(RunError, match=r"^the server's message is invalid: it names no run$"):
        server.ask("va", TRAIN, train_request(), run=Group())


def test_a_question_whose_replies_are_not_summed_gets_none(server: AskingServer) -> None:
    server.agree()
    with pytest.raises(
        RunError, match=r"^under secure aggregation this hospital does not reply to query\.feasibility$"
    ):
        server.ask("va", feasibility.FEASIBILITY, EMPTY)


def test_settings_with_both_feasibility_and_secure_aggregation_are_refused(server: AskingServer) -> None:
    with pytest.raises(
        RunError, match=r"^the server's settings are invalid: --feasibility and --secure-aggregation exclu"
    ):
        server.ask("va", feasibility.FEASIBILITY, EMPTY, feasibility=True)


def test_the_description_of_one_hospital_has_no_count_and_no_hash(server: AskingServer) -> None:
    assert server.ask("va", setup.DESCRIBE, EMPTY) == setup.encode_who(
        setup.Who("va", "own", server.hospitals["va"].hospital.schema.fingerprint)
    )


def test_comparisons_of_the_final_model_stay_in_a_hospital_that_shares_them(files: dict[str, Path]) -> None:
    sharing = make_hospital(files["va"], limits=HospitalLimits(share_comparisons=True))
    server = AskingServer({"va": sharing}, make_settings())
    assert len(server.ask("va", finalization.FINISH, final_request())) == 0
    part = sharing.participation(server.settings.to_run_config())
    assert part.final is not None and part.final.outcome.comparisons


def test_after_the_end_the_key_is_gone_and_only_what_was_sent_is_sent_again(
    server: AskingServer, files: dict[str, Path]
) -> None:
    agreed = server.agree()
    before = server.ask("va", TRAIN, train_request())
    server.ask("va", finalization.FINISH, final_request())
    assert '"kind": "key"' not in masking_path(files["va"]).read_text()
    for each in (server, AskingServer({"va": make_hospital(files["va"])}, server.settings)):
        assert each.send_roster("va", agreed) == agreed.digest
        assert each.ask("va", TRAIN, train_request())[MASKED] == before[MASKED]
        with pytest.raises(RunError, match=r"^the server asks for a new sum in a run that is over; nothing is sent$"):
            each.ask("va", TRAIN, train_request(round_num=2))
        with pytest.raises(RunError, match=r"^the server asks for a new key in a run that is over; nothing is sent$"):
            each.collect(RUN, "va")


def test_a_new_run_removes_what_is_left_of_one_that_is_over(server: AskingServer, files: dict[str, Path]) -> None:
    server.agree()
    server.ask("va", TRAIN, train_request())
    server.ask("va", finalization.FINISH, final_request())
    server.agree(b"the next run....")
    assert RUN.hex() not in masking_path(files["va"]).read_text()


# --- what the hospital wishes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [setup.DESCRIBE, setup.INITIAL_WEIGHTS, *SUMMED])
def test_a_hospital_that_requires_secure_aggregation_replies_to_nothing_without_it(
    files: dict[str, Path], kind: str
) -> None:
    limits = HospitalLimits(secure_aggregation="required")
    server = AskingServer({"va": make_hospital(files["va"], limits=limits)}, make_settings(secure_aggregation=False))
    with pytest.raises(
        RunError,
        match=r"^this hospital takes part with secure aggregation only \(--secure-aggregation required\); "
        r"the server needs --secure-aggregation$",
    ):
        server.ask("va", kind, REQUESTS.get(kind, lambda: EMPTY)())


def test_a_hospital_that_never_takes_part_in_it_sends_no_key(files: dict[str, Path]) -> None:
    limits = HospitalLimits(secure_aggregation="never")
    server = AskingServer({"va": make_hospital(files["va"], limits=limits)}, make_settings())
    for ask in (lambda: server.ask("va", setup.DESCRIBE, EMPTY), lambda: server.collect(RUN)):
        with pytest.raises(
            RunError,
            match=r"^this hospital takes no part in secure aggregation \(--secure-aggregation never\)$",
        ):
            ask()
    assert not masking_path(files["va"]).exists()


def test_keys_are_not_sent_in_a_run_without_secure_aggregation(files: dict[str, Path]) -> None:
    server = AskingServer({"va": make_hospital(files["va"])}, make_settings(secure_aggregation=False))
    for kind, content in (
        (roster.KEY, roster.encode_key_request(RUN)),
        (roster.ROSTER, EMPTY),
    ):
        with pytest.raises(
            RunError,
            match=r"^the server asks for keys, which its own settings exclude \(no --secure-aggregation\)$",
        ):
            server.ask("va", kind, content)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_hospital_with_too_many_patients_for_64_bits_says_so_without_its_number(
    server: AskingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.agree()
    monkeypatch.setattr("fedhealth.client.secure_aggregation.MOST_EXAMPLES", 60)
    with pytest.raises(
        RunError,
        match=r"^secure aggregation of 3 hospitals allows fewer than 20 training patients in each, and this hospital has "
        r"more$",
    ):
        server.ask("va", TRAIN, train_request())


def test_a_weight_beyond_the_bound_is_not_clipped_and_the_server_does_not_see_whose_it_is(server: AskingServer) -> None:
    """With an error that has a name, a server could ask on until it knows by how much one hospital moves a weight."""
    agreed = server.agree()
    for bias in (129.0, -129.0):
        request = train_request(bias)
        replies = {name: server.ask(name, TRAIN, request) for name in NAMES}
        assert all(list(reply) == [MASKED] for reply in replies.values())
        for hospital in server.hospitals.values():
            assert hospital.masking.problem == (
                "this hospital has no numbers in the sum of train: a weight is not between -128 and 128"
            )
            assert hospital.masking.clear is None
        with pytest.raises(
            ValueError, match=r"^3 of the 3 hospitals cannot compute it; only their own clients print why$"
        ):
            server.add_up(TRAIN, request, replies, agreed)
    request = train_request(127.0)
    replies = {name: server.ask(name, TRAIN, request) for name in NAMES}
    sums = server.add_up(TRAIN, request, replies, agreed)
    mean = sums["array logistic/log_odds/bias"][0] / sums["patients"][0] / 2**32
    assert 120 < mean < 128
    assert server.hospitals["va"].masking.problem is None


def failing(hospital: HospitalData, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this hospital's training diverges."""

    class Diverging(NumpyTrainer):
        def train(self, *_: Any, **__: Any) -> Any:
            raise PatientsError("training diverged")

    monkeypatch.setattr(hospital, "trainers", Trainers(Diverging))


def test_of_a_hospital_that_cannot_compute_its_numbers_the_others_are_not_disclosed_either(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum over the others would be what another sum over all is without this hospital."""
    server = AskingServer({name: make_hospital(path) for name, path in files.items()}, make_settings())
    failing(server.hospitals["va"], monkeypatch)
    agreed, request = server.agree(), train_request()
    replies = {name: server.ask(name, TRAIN, request) for name in NAMES}
    assert list(replies["va"]) == [MASKED]
    with pytest.raises(ValueError, match=r"^1 of the 3 hospitals cannot compute it; only their own clients print why$"):
        server.add_up(TRAIN, request, replies, agreed)
    layout = server.messages.layout(TRAIN, request)
    total = sum((decode_masked(reply, layout) for reply in replies.values()), np.zeros(layout.num_words, np.uint64))
    assert total[0] == 2
    assert np.mean(total[PREFIX:] > 2**56) > 0.9
    assert len(set(total.tolist())) == len(total)
    again = AskingServer({"va": make_hospital(files["va"])}, server.settings)
    assert again.ask("va", TRAIN, request)[MASKED] == replies["va"][MASKED]


def test_on_flowers_engines_the_reason_is_in_the_hospitals_log(
    server: AskingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fedhealth.client.secure_aggregation.RUN_ID", 99)
    monkeypatch.setattr(logging.getLogger("flwr"), "handlers", [caplog.handler])
    monkeypatch.setattr(logging.getLogger("flwr"), "disabled", False)
    failing(server.hospitals["va"], monkeypatch)
    server.agree()
    server.ask("va", TRAIN, train_request())
    assert "this hospital has no numbers in the sum of train: training diverged" in caplog.text


def test_comparisons_that_fail_do_not_fail_the_end(files: dict[str, Path]) -> None:
    server = AskingServer(
        {"va": make_hospital(files["va"], limits=HospitalLimits(share_comparisons=True))}, make_settings()
    )
    sent = decode_train_request(train_request())
    huge = {name: np.full_like(values, 3e38) for name, values in sent.weights.items()}
    request = encode_final_request(FinalRequest(huge, sent.scale))
    assert len(server.ask("va", finalization.FINISH, request)) == 0


def test_an_error_of_the_app_is_passed_on_and_nothing_is_kept(server: AskingServer, files: dict[str, Path]) -> None:
    server.agree()
    with pytest.raises(RunError):
        server.ask("va", TRAIN, encode_without_scale())
    assert '"kind": "sum"' not in masking_path(files["va"]).read_text()


def encode_without_scale() -> RecordDict:
    return training.encode_train_request(replace(decode_train_request(train_request()), scale=None))

"""FedAvg by hand, and what the recorder makes of answers, errors and silence."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.errors import RunError
from fedhealth.metrics import histogram_to_record, score_histogram
from fedhealth.rounds import RoundRecord, RoundRecorder
from fedhealth.settings import FederationSettings, StrategyName
from fedhealth.simulation import InProcessGrid
from fedhealth.strategies import STRATEGIES, make_strategy
from fedhealth.wire.messages import SERVER_NODE_ID, error_reply, node_id_of, set_identity, set_message_id

CLEVELAND, HUNGARY, VA = (node_id_of(name) for name in ("cleveland", "hungary", "va"))
NAMES = {CLEVELAND: "cleveland", HUNGARY: "hungary", VA: "va"}
TRAIN_PATIENTS = {CLEVELAND: 10, HUNGARY: 30, VA: 60}


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    set_identity(SERVER_NODE_ID)


def ask(node_id: int, message_type: str = "train") -> Message:
    """A message to one hospital, numbered as the link numbers it."""
    message = Message(RecordDict(), dst_node_id=node_id, message_type=message_type)
    set_message_id(message, str(node_id))
    return message


def trained(
    node_id: int, num_examples: int, weights: Mapping[str, Sequence[float]], train_loss: float = 0.5
) -> Message:
    """What a hospital sends after training."""
    arrays = ArrayRecord({name: Array(np.array(values, np.float32)) for name, values in weights.items()})
    metrics = MetricRecord({"num-examples": num_examples, "train-loss": train_loss})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=ask(node_id))


def mislabelled(node_id: int, values: np.ndarray | None, shape: tuple[int, ...]) -> Message:
    """Weights whose bytes are not what their description says."""
    data = b"" if values is None else Array(values).data
    array = Array(dtype="float32", shape=shape, stype="numpy.ndarray", data=data)
    metrics = MetricRecord({"num-examples": 60, "train-loss": 0.5})
    return Message(RecordDict({"arrays": ArrayRecord({"w": array}), "metrics": metrics}), reply_to=ask(node_id))


def evaluated(node_id: int, risks: Sequence[float], labels: Sequence[int]) -> Message:
    """What a hospital sends after evaluating."""
    metrics = MetricRecord(histogram_to_record(score_histogram(risks, labels)))
    return Message(RecordDict({"metrics": metrics}), reply_to=ask(node_id, "evaluate"))


def failed(node_id: int, reason: str) -> Message:
    return error_reply(ask(node_id), reason)


def make_recorder(records: list[RoundRecord] | None = None) -> RoundRecorder:
    on_round = (records if records is not None else []).append
    return RoundRecorder(make_strategy(FederationSettings(strategy="fedavg")), NAMES, TRAIN_PATIENTS, on_round)


def make_grid(*hospitals: str) -> InProcessGrid:
    return InProcessGrid(ClientApp(), {name: {} for name in hospitals}, {})


def run_train(recorder: RoundRecorder, replies: list[Message], model: Mapping[str, Sequence[float]]) -> ArrayRecord:
    """The first half of round 1, as Flower's loop does it; `model` is what went out."""
    sent = ArrayRecord({name: Array(np.array(values, np.float32)) for name, values in model.items()})
    recorder.configure_train(1, sent, ConfigRecord(), make_grid("va"))
    arrays, _ = recorder.aggregate_train(1, replies)
    assert arrays is not None
    return arrays


def run_round(recorder: RoundRecorder, train: list[Message], evaluate: list[Message]) -> None:
    """Both halves of round 1."""
    run_train(recorder, train, {"w": [9]})
    recorder.aggregate_evaluate(1, evaluate)


# --- FedAvg -----------------------------------------------------------------------------------------------------------


def test_fedavg_weighs_by_the_number_of_training_patients() -> None:
    replies = [
        trained(CLEVELAND, 10, {"w": [1, 10], "b": [0]}),
        trained(HUNGARY, 30, {"w": [2, 20], "b": [4]}),
        trained(VA, 60, {"w": [3, 30], "b": [-2]}),
    ]
    arrays = run_train(make_recorder(), replies, {"w": [9, 9], "b": [9]})
    # (10 * 1 + 30 * 2 + 60 * 3) / 100 = 2.5; (30 * 4 - 60 * 2) / 100 = 0
    np.testing.assert_allclose(arrays["w"].numpy(), [2.5, 25], rtol=1e-6)
    np.testing.assert_allclose(arrays["b"].numpy(), [0], atol=1e-6)
    assert arrays["w"].numpy().dtype == np.float32


def test_the_train_loss_is_weighed_the_same_way() -> None:
    records: list[RoundRecord] = []
    train = [trained(CLEVELAND, 10, {"w": [0]}, train_loss=1.0), trained(HUNGARY, 30, {"w": [0]}, train_loss=0.2)]
    run_round(make_recorder(records), train, [])
    assert records[0].train_loss == pytest.approx((10 * 1.0 + 30 * 0.2) / 40)


def test_weights_do_not_count_in_the_average_when_their_hospital_failed() -> None:
    replies = [trained(CLEVELAND, 10, {"w": [1]}), failed(HUNGARY, "left the federation"), trained(VA, 60, {"w": [8]})]
    arrays = run_train(make_recorder(), replies, {"w": [9]})
    np.testing.assert_allclose(arrays["w"].numpy(), [7])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: trained(VA, 60, {"w": [1, 2]}), "other names, shapes or types"),
        (lambda: trained(VA, 60, {"v": [1]}), "other names, shapes or types"),
        (lambda: trained(VA, 60, {"w": [np.nan]}), "not finite"),
        (lambda: trained(VA, 60, {"w": [np.inf]}), "not finite"),
        (lambda: trained(VA, 6000, {"w": [1]}), "trained on 6000 patients but declared 60"),
        (lambda: trained(VA, 0, {"w": [1]}), "trained on 0 patients but declared 60"),
        (lambda: trained(VA, 60, {"w": [1]}, train_loss=np.nan), "patients"),
        (lambda: evaluated(VA, [0.5], [1]), "arrays"),
        (lambda: mislabelled(VA, np.ones(3, np.float32), shape=(1,)), "not what they say they are"),
        (lambda: mislabelled(VA, np.ones(1, np.float64), shape=(1,)), "not what they say they are"),
        (lambda: mislabelled(VA, None, shape=(1,)), ""),
        (lambda: failed(VA, "\x1b[31mred\nfake line"), "?[31mred?fake line"),
    ],
)
def test_unsound_weights_are_left_out_with_the_reason_and_the_others_go_on(
    bad: Callable[[], Message], reason: str
) -> None:
    records: list[RoundRecord] = []
    recorder = make_recorder(records)
    arrays = run_train(
        recorder, [trained(CLEVELAND, 10, {"w": [1]}), bad(), trained(HUNGARY, 30, {"w": [5]})], {"w": [9]}
    )
    np.testing.assert_allclose(arrays["w"].numpy(), [4])
    recorder.aggregate_evaluate(1, [evaluated(node, [0.9], [1]) for node in NAMES])
    assert list(records[0].left_out) == ["va"]
    assert reason in records[0].left_out["va"]


def test_a_broken_histogram_is_left_out_with_the_reason_and_the_others_count() -> None:
    records: list[RoundRecord] = []
    recorder = make_recorder(records)
    broken = evaluated(VA, [0.9], [1])
    broken.content.metric_records["metrics"]["num-examples"] = 999
    train = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    run_round(recorder, train, [evaluated(CLEVELAND, [0.9], [1]), broken, trained(HUNGARY, 30, {"w": [1]})])
    assert set(records[0].hospitals) == {"cleveland"}
    assert records[0].left_out["va"] == "the bins do not add up to num-examples"
    assert "lacks" in records[0].left_out["hungary"]


def test_a_stranger_is_neither_asked_nor_listened_to() -> None:
    recorder = make_recorder()
    grid = make_grid("va", "stranger")
    sent = ArrayRecord({"w": Array(np.array([9], np.float32))})
    (message,) = recorder.configure_train(1, sent, ConfigRecord(), grid)
    assert message.metadata.dst_node_id == VA
    forged = trained(node_id_of("stranger"), 90, {"w": [100]})
    arrays, _ = recorder.aggregate_train(1, [forged, trained(VA, 60, {"w": [1]})])
    assert arrays is not None
    np.testing.assert_allclose(arrays["w"].numpy(), [1])


def test_every_hospital_that_is_here_is_asked_with_the_weights_and_the_round() -> None:
    grid = make_grid("cleveland", "hungary", "va")
    arrays = ArrayRecord({"w": Array(np.array([1, 2], np.float32))})
    recorder = make_recorder()
    for configure, kind in ((recorder.configure_train, "train"), (recorder.configure_evaluate, "evaluate")):
        messages = list(configure(7, arrays, ConfigRecord({"means": [1.0]}), grid))
        assert sorted(message.metadata.dst_node_id for message in messages) == grid.get_node_ids()
        for message in messages:
            assert message.metadata.message_type == kind
            assert dict(message.content.config_records["config"]) == {"means": [1.0], "server-round": 7}
            np.testing.assert_array_equal(message.content.array_records["arrays"]["w"].numpy(), [1, 2])


def test_one_hospital_alone_can_train() -> None:
    assert len(list(make_recorder().configure_train(1, ArrayRecord(), ConfigRecord(), make_grid("va")))) == 1


def test_every_strategy_that_can_be_asked_for_is_there_and_fresh_each_time() -> None:
    assert set(STRATEGIES) == set(StrategyName.__args__)  # type: ignore[attr-defined]  # typing.Literal has it
    for name in STRATEGIES:
        settings = FederationSettings(hospitals=7, malicious=1, strategy=name)
        assert make_strategy(settings) is not make_strategy(settings)


# --- what a round was -------------------------------------------------------------------------------------------------


def test_a_round_in_which_all_answer_is_recorded_for_the_union_and_each_hospital() -> None:
    records: list[RoundRecord] = []
    train = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    evaluate = [
        evaluated(VA, [0.9, 0.8], [1, 1]),
        evaluated(CLEVELAND, [0.9, 0.1], [1, 0]),
        evaluated(HUNGARY, [0.7, 0.2, 0.6], [0, 0, 1]),
    ]
    run_round(make_recorder(records), train, evaluate)
    (record,) = records
    assert record.round_num == 1
    assert list(record.hospitals) == ["cleveland", "hungary", "va"]
    assert [metrics.num_examples for metrics in record.hospitals.values()] == [2, 3, 2]
    assert [metrics.auroc for metrics in record.hospitals.values()] == [1.0, 0.5, None]
    assert record.union.num_examples == 7
    # Ill 0.9 0.8 0.9 0.6 against healthy 0.1 0.7 0.2: only 0.6 < 0.7 is wrong, 11 of 12; one of 7 is called wrongly.
    assert record.union.auroc == pytest.approx(11 / 12)
    assert record.union.accuracy == pytest.approx(6 / 7)
    assert (record.left_out, record.left_out_share) == ({}, 0.0)
    assert record.seconds > 0


def test_who_could_not_train_is_recorded_with_the_reason_and_the_share_of_patients() -> None:
    records: list[RoundRecord] = []
    train = [trained(CLEVELAND, 10, {"w": [0]}), failed(HUNGARY, "no answer within 5 s")]
    evaluate = [evaluated(CLEVELAND, [0.9], [1]), evaluated(HUNGARY, [0.2], [1])]
    run_round(make_recorder(records), train, evaluate)
    assert records[0].left_out == {"hungary": "no answer within 5 s", "va": "not here"}
    assert records[0].left_out_share == pytest.approx((30 + 60) / 100)
    assert set(records[0].hospitals) == {"cleveland", "hungary"}
    assert records[0].union.accuracy == 0.5


def test_who_trained_and_could_not_evaluate_is_left_out_of_the_metrics_but_not_of_the_weights() -> None:
    records: list[RoundRecord] = []
    train = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    evaluate = [evaluated(CLEVELAND, [0.9], [1]), evaluated(HUNGARY, [0.9], [1]), failed(VA, "left the federation")]
    run_round(make_recorder(records), train, evaluate)
    assert records[0].left_out == {"va": "left the federation"}
    assert records[0].left_out_share == 0.0
    assert records[0].union.num_examples == 2


def test_a_hospital_that_is_back_in_the_next_round_is_no_longer_left_out() -> None:
    records: list[RoundRecord] = []
    recorder = make_recorder(records)
    everyone = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    evaluate = [evaluated(node, [0.9], [1]) for node in NAMES]
    run_round(recorder, [*everyone[:2], failed(VA, "left the federation")], evaluate)
    run_round(recorder, everyone, evaluate)
    assert [record.left_out for record in records] == [{"va": "left the federation"}, {}]
    assert [record.left_out_share for record in records] == [pytest.approx(0.6), 0.0]


def test_the_metrics_that_go_back_to_flower_are_the_union_s_without_undefined_ones() -> None:
    recorder = make_recorder()
    metrics = recorder.aggregate_evaluate(1, [evaluated(CLEVELAND, [0.9, 0.2], [1, 1])])
    assert metrics is not None
    assert (metrics["num_examples"], metrics["accuracy"], metrics["sensitivity"]) == (2, 0.5, 0.5)
    assert not {"auroc", "auroc_bound", "specificity"} & set(metrics)


def test_a_round_that_nobody_evaluated_has_undefined_metrics_and_says_who_was_missing() -> None:
    records: list[RoundRecord] = []
    train = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    run_round(make_recorder(records), train, [failed(node, "no answer within 5 s") for node in NAMES])
    assert records[0].union.num_examples == 0
    assert (records[0].union.loss, records[0].union.auroc) == (None, None)
    assert set(records[0].left_out) == set(NAMES.values())


# --- when nobody is left ----------------------------------------------------------------------------------------------


def test_a_round_in_which_nobody_could_train_ends_the_run_and_names_every_reason() -> None:
    replies = [failed(CLEVELAND, "MemoryError"), failed(HUNGARY, "no answer within 5 s")]
    with pytest.raises(RunError) as caught:
        make_recorder().aggregate_train(3, replies)
    assert str(caught.value) == (
        "round 3: no hospital could train (cleveland: MemoryError; hungary: no answer within 5 s; va: not here)"
    )


def test_a_federation_that_everybody_left_ends_the_run_instead_of_waiting_for_ever() -> None:
    recorder, empty = make_recorder(), make_grid()
    for configure in (recorder.configure_train, recorder.configure_evaluate):
        with pytest.raises(RunError, match="round 4: every hospital has left the federation"):
            configure(4, ArrayRecord(), ConfigRecord(), empty)

"""What a hospital does not send or accept, whatever the server requests."""

import ast
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import recorddict_to_proto

from fedhealth.client import app, personalization
from fedhealth.client.hospital_data import KEPT_PARTICIPATIONS, HospitalData
from fedhealth.client.limits import LEAST_COUNT, HospitalLimits
from fedhealth.client.split_hash import KEY_FILE
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.hospital import load_hospital
from fedhealth.data.patients import hold_validation, split_patients
from fedhealth.data.preprocessing import Moments
from fedhealth.data.sources.heart import HEART, TARGET
from fedhealth.server.model_selection import correct_weights
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.protocol.evaluation import decode_evaluate_reply
from fedhealth.transport.protocol.training import split_train_reply
from tests.support.asking import ask_through, make_ask, write_hospital
from tests.support.hospital_apps import TRAINERS, make_app

PACKAGE = Path(app.__file__).parents[1]
NAMES = [column.name for column in HEART.numbers]
CHOL = NAMES.index("chol")
MEANS, STDS = [50.0, 130.0, 200.0, 140.0, 1.0, 1.0], [10.0] * 6


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    return write_hospital(tmp_path / "client_1.csv")


def moments_of(reply: Message) -> tuple[list[int], list[float]]:
    record: Any = reply.content.metric_records["moments"]
    return list(record["counts"]), list(record["sums"])


def moments_as_sent(moments: Moments) -> tuple[list[int], list[float]]:
    return list(moments.counts), list(moments.sums)


def reason(reply: Message) -> str:
    assert reply.has_error()
    assert "\n" not in reply.error.reason
    return str(reply.error.reason)


# --- small counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "expected"), [(0, 0), (1, 0), (4, 0), (5, 5), (6, 6)])
def test_sums_of_a_number_that_fewer_than_five_patients_have_are_sent_as_zero(
    tmp_path: Path, known: int, expected: int
) -> None:
    path = write_hospital(tmp_path / "client_1.csv", chol_known=known)
    train, _ = split_patients(load_hospital(path).patients, 0.25, 0)
    ask = make_ask(path)
    for reply, exact in (
        (ask("query.first_moments"), preprocessing.first_moments(HEART, train.features)),
        (ask("query.second_moments", means=MEANS), preprocessing.second_moments(HEART, train.features, MEANS)),
    ):
        counts, sums = moments_of(reply)
        assert exact.counts[CHOL] == known
        assert (counts[CHOL], sums[CHOL]) == (expected, exact.sums[CHOL] if expected else 0.0)
        for place in set(range(len(NAMES))) - {CHOL}:
            assert (counts[place], sums[place]) == (exact.counts[place], exact.sums[place])
            assert counts[place] > 5


@pytest.mark.parametrize(
    ("server", "own", "expected"), [(5, 5, 7), (8, 5, 0), (5, 8, 0), (1, 5, 7), (1, 8, 0), (7, 7, 7), (1, None, 7)]
)
def test_the_larger_of_the_servers_and_the_hospitals_own_limit_holds(
    tmp_path: Path, server: int, own: int | None, expected: int
) -> None:
    path = write_hospital(tmp_path / "client_1.csv", chol_known=7)
    ask = make_ask(path, HospitalLimits(LEAST_COUNT if own is None else own), min_count=server)
    assert moments_of(ask("query.first_moments"))[0][CHOL] == expected
    assert moments_of(ask("query.second_moments", means=MEANS))[0][CHOL] == expected


def test_without_a_limit_of_its_own_a_hospital_uses_five_whatever_the_server_requests(tmp_path: Path) -> None:
    path = write_hospital(tmp_path / "client_1.csv", chol_known=4)
    counts, sums = moments_of(make_ask(path, min_count=1)("query.first_moments"))
    assert (counts[CHOL], sums[CHOL]) == (0, 0.0)


def test_a_hospital_that_does_not_send_a_numbers_sums_still_uses_the_federations_mean(tmp_path: Path) -> None:
    path = write_hospital(tmp_path / "client_1.csv", chol_known=4)
    weights = make_ask(path)("query.initial_weights").content.array_records["arrays"]
    moved = []
    for mean in (200.0, 300.0):
        means = [*MEANS[:CHOL], mean, *MEANS[CHOL + 1 :]]
        reply = make_ask(path)("train", weights, means=means, stds=STDS, server_round=1)
        moved.append(reply.content.array_records["arrays"]["logistic/log_odds/kernel"].numpy())
    assert not np.array_equal(moved[0], moved[1])


def test_permutation_importance_is_sent_only_for_enough_ill_and_healthy_patients(
    tmp_path: Path,
) -> None:
    path = write_hospital(tmp_path / "client_1.csv")  # 8 ill and 8 healthy patients to test on
    for own, server, is_told in ((5, 5, True), (8, 5, True), (9, 5, False), (5, 9, False), (1, 1, True)):
        ask = make_ask(path, HospitalLimits(own), min_count=server)
        weights = ask("query.initial_weights").content.array_records["arrays"]
        reply = ask("query.importance", weights, means=MEANS, stds=STDS)
        assert not reply.has_error()
        assert bool(reply.content) == is_told


def test_comparisons_are_not_sent_if_there_are_fewer_test_patients_than_min_count(tmp_path: Path) -> None:
    path = write_hospital(tmp_path / "client_1.csv")  # 16 patients to test on
    for min_count, words in (
        (16, ["global-brier", "personal-brier"]),
        (8, ["global-auroc", "personal-brier"]),
        (17, []),
    ):
        ask = make_ask(path, HospitalLimits(min_count, share_comparisons=True), rounds=1)
        weights = ask("query.initial_weights").content.array_records["arrays"]
        assert list(ask("query.finish", weights, means=MEANS, stds=STDS).content) == words


# --- the hash of the test patients ------------------------------------------------------------------------------------


def hash_sent(path: Path, **run_config: Any) -> str | None:
    reply = make_ask(path, **run_config)("query.describe")
    return reply.content.config_records["hospital"].get("split-hash")  # type: ignore[return-value]


def test_the_hash_is_the_same_in_every_run_with_the_same_test_patients_and_in_no_other(hospital: Path) -> None:
    first = hash_sent(hospital)
    assert first is not None
    assert hash_sent(hospital, strategy="fedadam", rounds=3) == first
    others = hash_sent(hospital, seed=1), hash_sent(hospital, test_share=0.3)
    assert len({first, *others}) == 3
    assert {other.partition("-")[0] for other in others if other} == {first.partition("-")[0]}


def test_a_hospital_in_another_folder_has_another_key_so_nobody_can_compute_its_hash(
    hospital: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / hospital.name
    copy.write_bytes(hospital.read_bytes())
    one, other = hash_sent(hospital), hash_sent(copy)
    assert one and other and not {*one.split("-")} & {*other.split("-")}


def test_without_a_key_no_hash_is_sent(hospital: Path) -> None:
    (hospital.parent / KEY_FILE).write_bytes(b"short")
    assert hash_sent(hospital) is None


def test_under_differential_privacy_no_hash_is_sent(hospital: Path) -> None:
    assert hash_sent(hospital, dp_epsilon=3.0) is None
    assert not (hospital.parent / KEY_FILE).exists()


EVERYTHING = (
    "query.describe",
    "query.first_moments",
    "query.second_moments",
    "query.initial_weights",
    "train",
    "evaluate",
    "query.importance",
)


@pytest.mark.parametrize(("num_patients", "test_share"), [(20, 0.25), (17, 0.5), (60, 0.05), (18, 0.25)])
def test_a_hospital_whose_split_is_too_small_sends_only_that_reason(
    tmp_path: Path, num_patients: int, test_share: float
) -> None:
    ask = make_ask(write_hospital(tmp_path / "client_1.csv", num_patients), test_share=test_share)
    for kind in EVERYTHING:
        assert reason(ask(kind, ArrayRecord(), means=MEANS, stds=STDS, server_round=1)) == (
            f"too few patients for --test-share {test_share:g}: fewer than 10 would be left to train on or fewer than 5 to "
            "test on, and sums and counts could disclose single patients"
        )


def test_the_smallest_hospital_that_may_take_part_does(tmp_path: Path) -> None:
    ask = make_ask(write_hospital(tmp_path / "client_1.csv", 22))
    counts: Any = ask("query.describe").content.metric_records["counts"]
    assert (counts["train-patients"], counts["test-patients"]) == (16, 6)


# --- validation patients ----------------------------------------------------------------------------------------------


def test_validation_patients_are_neither_trained_on_nor_in_the_sums(hospital: Path) -> None:
    train, test = split_patients(load_hospital(hospital).patients, 0.25, 0)
    kept, held = hold_validation(train, 0.2, 0)
    ask = make_ask(hospital, patience=3)
    counts: Any = ask("query.describe").content.metric_records["counts"]
    assert dict(counts) == {
        "train-patients": len(kept),
        "test-patients": len(test),
        "test-ill": int(test.labels.sum()),
        "validation-patients": len(held),
        "validation-ill": int(held.labels.sum()),
    }
    assert len(kept) + len(held) == len(train)
    assert moments_of(ask("query.first_moments")) == moments_as_sent(preprocessing.first_moments(HEART, kept.features))
    assert moments_of(ask("query.second_moments", means=MEANS)) == moments_as_sent(
        preprocessing.second_moments(HEART, kept.features, MEANS)
    )
    weights = ask("query.initial_weights").content.array_records["arrays"]
    scale = {"means": MEANS, "stds": STDS, "server_round": 1}
    assert ask("train", weights, **scale).content.metric_records["metrics"]["num-examples"] == len(kept)
    evaluated = decode_evaluate_reply(ask("evaluate", weights, **scale).content)
    histograms = {"tested": evaluated.tested, "validation": evaluated.validation}
    assert {key: each and (each.num_examples, each.positives.sum()) for key, each in histograms.items()} == {
        "tested": (len(test), int(test.labels.sum())),
        "validation": (len(held), int(held.labels.sum())),
    }


@pytest.mark.parametrize("class_weights", [None, [0.8, 1.5]])
def test_the_evaluation_with_a_training_is_that_of_the_weights_it_starts_from(
    hospital: Path, class_weights: list[float] | None
) -> None:
    ask = make_ask(hospital, patience=3, validation=0.4)
    weights = ask("query.initial_weights").content.array_records["arrays"]
    scale = {"means": MEANS, "stds": STDS, "server_round": 2}
    weighed = {"class-weights": class_weights} if class_weights else {}
    alone = ask("train", weights, **scale, **weighed).content
    both = ask("train", weights, **scale, **weighed, evaluates=True).content
    trained, evaluated = split_train_reply(both)
    assert recorddict_to_proto(trained) == recorddict_to_proto(alone)
    corrected = correct_weights(weights, (0.8, 1.5)) if class_weights else weights
    expected = ask("evaluate", corrected, **scale).content
    assert evaluated is not None
    assert recorddict_to_proto(evaluated) == recorddict_to_proto(expected)


def test_the_risks_of_the_test_patients_come_from_the_call_that_trains(
    hospital: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = make_ask(hospital)
    weights = ask("query.initial_weights").content.array_records["arrays"]
    settings = FederationSettings()
    trainer = TRAINERS.trainer(HEART, settings)
    monkeypatch.setattr(trainer, "predict", lambda *_: pytest.fail("there was another call"))
    reply = ask("train", weights, means=MEANS, stds=STDS, server_round=2, evaluates=True)
    assert "tested" in reply.content


def test_validation_patients_are_held_out_only_for_model_selection(hospital: Path) -> None:
    counts: Any = make_ask(hospital, validation=0.4)("query.describe").content.metric_records["counts"]
    assert set(counts) == {"train-patients", "test-patients", "test-ill"}
    assert counts["train-patients"] == len(split_patients(load_hospital(hospital).patients, 0.25, 0)[0])


def test_a_hospital_with_too_few_validation_patients_sends_only_that_reason(tmp_path: Path) -> None:
    ask = make_ask(write_hospital(tmp_path / "client_1.csv", 22), patience=3)
    assert reason(ask("query.describe")) == (
        "too few patients for --validation 0.2: fewer than 10 would be left to train on or fewer than 5 to validate on, and "
        "sums and counts could disclose single patients"
    )


# --- what the server sends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "the server's means are invalid: "),
        ({"means": MEANS[:5], "stds": STDS[:5]}, "means are invalid: 6 numbers are needed"),
        ({"means": [*MEANS, 1.0], "stds": [*STDS, 1.0]}, "means are invalid: 6 numbers are needed"),
        ({"means": 3.0}, "means are invalid: they are no list of numbers"),
        ({"means": ["a"] * 6}, "means are invalid: not all are numbers from -1e+06 to 1e+06"),
        ({"means": [float("nan"), *MEANS[1:]]}, "means are invalid: not all"),
        ({"means": [float("inf"), *MEANS[1:]]}, "means are invalid: not all"),
        ({"means": [1e155, *MEANS[1:]]}, "means are invalid: not all"),
        ({"means": MEANS}, "the server's stds are invalid: they are no list of numbers"),
        ({"means": MEANS, "stds": STDS[:5]}, "the server's stds are invalid: 6 numbers are needed"),
        ({"means": MEANS, "stds": [0.0, *STDS[1:]]}, "stds are invalid: not all are numbers from 1e-06 to 1e+06"),
        ({"means": MEANS, "stds": [-1.0, *STDS[1:]]}, "stds are invalid: not all"),
        ({"means": MEANS, "stds": [float("nan"), *STDS[1:]]}, "stds are invalid: not all"),
    ],
)
def test_an_invalid_standardisation_is_refused_in_one_line(hospital: Path, config: dict[str, Any], words: str) -> None:
    ask = make_ask(hospital)
    weights = ask("query.initial_weights").content.array_records["arrays"]
    for kind in ("train", "evaluate", "query.importance"):
        assert words in reason(ask(kind, weights, server_round=1, **config))
    if "stds" not in words:
        assert words in reason(ask("query.second_moments", **config))


def broken(weights: ArrayRecord, change: str) -> ArrayRecord:
    arrays = {name: array.numpy() for name, array in weights.items()}
    first = next(iter(arrays))
    changed = {
        "missing": {name: value for name, value in arrays.items() if name != first},
        "one more": {**arrays, "more": arrays[first]},
        "shape": {**arrays, first: arrays[first].T.copy()},
        "flat": {**arrays, first: arrays[first].ravel()},
        "dtype": {**arrays, first: arrays[first].astype(np.float64)},
        "nan": {**arrays, first: np.full_like(arrays[first], np.nan)},
        "inf": {**arrays, first: np.full_like(arrays[first], np.inf)},
        "garbage": arrays,
        "pickle": arrays,
    }[change]
    record = ArrayRecord({name: Array(value) for name, value in changed.items()})
    if change in ("garbage", "pickle"):
        data = b"\x93NUMPY garbage" if change == "garbage" else b"\x80\x04K\x01."
        record[first] = Array(dtype="float32", shape=(32, 16), stype="numpy.ndarray", data=data)
    return record


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "they are not those of this model"),
        ("one more", "they are not those of this model"),
        ("shape", "their types or shapes are not those of this model"),
        ("flat", "their types or shapes are not those of this model"),
        ("dtype", "their types or shapes are not those of this model"),
        ("nan", "not all are finite"),
        ("inf", "not all are finite"),
        ("garbage", "they cannot be read"),
        ("pickle", "they cannot be read"),
    ],
)
def test_weights_that_are_not_this_models_are_refused_in_one_line(hospital: Path, change: str, words: str) -> None:
    ask = make_ask(hospital)
    weights = broken(ask("query.initial_weights").content.array_records["arrays"], change)
    for kind in ("train", "evaluate", "query.importance"):
        reply = ask(kind, weights, means=MEANS, stds=STDS, server_round=1)
        assert reason(reply) == f"the server's weights are invalid: {words}"


def test_huge_weights_end_in_one_line_too(hospital: Path) -> None:
    ask = make_ask(hospital)
    arrays = ask("query.initial_weights").content.array_records["arrays"]
    huge = ArrayRecord({name: Array(np.full_like(array.numpy(), 3e38)) for name, array in arrays.items()})
    for kind in ("train", "evaluate", "query.importance"):
        reply = ask(kind, huge, means=MEANS, stds=STDS, server_round=1)
        assert not reply.has_error() or reason(reply).startswith(
            ("training diverged", "the server's weights are invalid")
        )


@pytest.mark.parametrize("change", ["missing", "shape", "nan", "pickle"])
def test_a_correction_is_validated_like_the_weights(hospital: Path, change: str) -> None:
    grid = InProcessGrid({"lakeside": make_app(hospital)}, FederationSettings().to_run_config())
    (node_id,) = grid.get_node_ids()
    weights = make_ask(hospital)("query.initial_weights").content.array_records["arrays"]
    config = ConfigRecord({"means": MEANS, "stds": STDS, "server-round": 1})
    content = RecordDict({"arrays": weights, "correction": broken(weights, change), "config": config})
    (reply,) = grid.send_and_receive([Message(content, dst_node_id=node_id, message_type="train")])
    assert reason(reply).startswith("the server's weights are invalid: ")


@pytest.mark.parametrize("proximal_mu", [-0.1, 101.0, float("nan"), "1", True])
def test_an_invalid_proximal_mu_is_refused_in_one_line(hospital: Path, proximal_mu: Any) -> None:
    ask = make_ask(hospital)
    weights = ask("query.initial_weights").content.array_records["arrays"]
    reply = ask("train", weights, means=MEANS, stds=STDS, server_round=1, proximal_mu=proximal_mu)
    assert reason(reply) == "the server's proximal-mu is invalid: a number from 0 to 100 is needed"


@pytest.mark.parametrize(
    "class_weights",
    [[1.0], [1.0, 1.0, 1.0], 1.0, [0.4, 1.0], [1.0, 2e4], [1.0, float("nan")], ["1", "1"], []],
    ids=str,
)
def test_invalid_class_weights_are_refused_in_one_line(hospital: Path, class_weights: Any) -> None:
    ask = make_ask(hospital)
    weights = ask("query.initial_weights").content.array_records["arrays"]
    reply = ask("train", weights, means=MEANS, stds=STDS, server_round=1, class_weights=class_weights)
    assert reason(reply) == "the server's class-weights are invalid: two numbers from 0.5 to 10000 are needed"


def test_class_weights_are_those_of_the_loss_in_training(hospital: Path) -> None:
    """One step over all patients: the gradient of the weighted loss is the weighted sum of the two classes' gradients."""
    ask = make_ask(hospital, batch_size=1000, weight_decay=0.0, learning_rate=0.05)
    start = ask("query.initial_weights").content.array_records["arrays"]

    def step(**config: Any) -> np.ndarray:
        reply = ask("train", start, means=MEANS, stds=STDS, server_round=1, **config)
        arrays = reply.content.array_records["arrays"]
        return np.concatenate([(arrays[name].numpy() - start[name].numpy()).ravel() for name in start])

    plain, ill, healthy = step(), step(class_weights=[1.0, 3.0]), step(class_weights=[3.0, 1.0])
    np.testing.assert_allclose(step(class_weights=[1.0, 1.0]), plain, atol=1e-7)
    np.testing.assert_allclose((ill - plain) + (healthy - plain), 2 * plain, atol=1e-6)
    assert np.abs(ill - healthy).max() > 1e-3
    # From log odds of 0 the bias moves by learning rate * mean of weight * (label - 1/2).
    labels = split_patients(load_hospital(hospital).patients, 0.25, 0)[0].labels
    assert ill[-1] == pytest.approx(0.05 * np.mean(np.where(labels > 0, 3.0, 1.0) * (labels - 0.5)), abs=1e-6)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "0.5", True])
def test_an_invalid_threshold_is_refused_in_one_line(hospital: Path, threshold: Any) -> None:
    ask = make_ask(hospital)
    weights = ask("query.initial_weights").content.array_records["arrays"]
    reply = ask("query.finish", weights, means=MEANS, stds=STDS, threshold=threshold)
    assert reason(reply) == "the server's threshold is invalid: a number from 0 to 1 is needed"


@pytest.mark.parametrize(("ill", "expected"), [(0, (0, 0)), (5, (0, 0)), (7, (40, 5)), (30, (22, 22)), (55, (0, 0))])
def test_label_counts_are_not_sent_if_one_is_small(tmp_path: Path, ill: int, expected: tuple[int, int]) -> None:
    """Of 60 patients a quarter of each class is tested; of 5 ill ones 4 are trained on, and of 5 healthy ones as well."""
    path = write_hospital(tmp_path / "client_1.csv")
    table = pd.read_csv(path)
    table[TARGET] = (np.arange(60) < ill).astype(int)
    table.to_csv(path, index=False)
    counts: Any = make_ask(path)("query.label_counts").content.metric_records["labels"]
    assert (counts["healthy"], counts["ill"]) == expected


def test_the_servers_larger_limit_holds_for_label_counts_too(hospital: Path) -> None:
    counts: Any = make_ask(hospital, min_count=30)("query.label_counts").content.metric_records["labels"]
    assert (counts["healthy"], counts["ill"]) == (0, 0)


@pytest.mark.parametrize("server_round", [0, -1, 2**31, 1.0, "1", [1], None])
def test_training_needs_the_number_of_its_round(hospital: Path, server_round: Any) -> None:
    ask = make_ask(hospital)
    weights = ask("query.initial_weights").content.array_records["arrays"]
    config = {} if server_round is None else {"server_round": server_round}
    reply = ask("train", weights, means=MEANS, stds=STDS, **config)
    assert reason(reply) == "the server's message is invalid: it has no round number"


def test_a_message_without_its_config_is_refused_in_one_line(hospital: Path) -> None:
    grid = InProcessGrid({"lakeside": make_app(hospital)}, FederationSettings().to_run_config())
    (node_id,) = grid.get_node_ids()
    for kind in ("query.second_moments", "train", "evaluate"):
        (reply,) = grid.send_and_receive([Message(RecordDict(), dst_node_id=node_id, message_type=kind)])
        assert reason(reply) == "the server's message is invalid: it has no config"


@pytest.mark.parametrize(
    ("run_config", "words"),
    [
        ({"test_share": 0.001}, "--test-share is 0.001; give a share from 0.05 to 0.5"),
        ({"min_count": 0}, "--min-count is 0; give 1 or more"),
        ({"model": "spy"}, "--model is spy"),
        ({"rows": True}, "unknown key rows"),
        ({"seed": "x"}, "--seed is 'x'"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(hospital: Path, run_config: dict[str, Any], words: str) -> None:
    for kind in EVERYTHING:
        text = reason(make_ask(hospital, **run_config)(kind, ArrayRecord()))
        assert text.startswith("the server's settings are invalid: ")
        assert words in text


# --- the text of errors -----------------------------------------------------------------------------------------------

QUOTED: dict[str, set[str]] = {
    "client/app.py": {"len(schema.numbers)", "kind", "setting"},
    "client/hospital_data.py": {"error"},
    "client/patient_split.py": {"settings.test_share", "settings.validation", "FEWEST_TO_TRAIN", "FEWEST_TO_TEST"},
    "client/participation.py": set(),
    "client/personalization.py": set(),
    "client/local_model.py": {"str(error)", "NO_MEANS", "len(self.schema.numbers)"},
    "client/limits.py": set(),
    "client/node_app.py": {"error"},
    "client/dp_mod.py": {"kind"},
    "client/dp_session.py": {"kind"},
    "client/feasibility.py": {"fewest_patients(least)", "least"},
}
"""What the text of a `RunError` may hold: the server's own settings and constants; `error` is of their parser or decoder."""


def raised_run_errors(part: str) -> list[ast.Call]:
    files = [PACKAGE / part] if part.endswith(".py") else list((PACKAGE / part).glob("*.py"))
    assert files
    return [
        node
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "RunError"
    ]


@pytest.mark.parametrize("module", QUOTED)
def test_the_text_of_an_error_that_is_sent_contains_no_patient_data(module: str) -> None:
    calls = raised_run_errors(module)
    quoted = {
        ast.unparse(part.value) for call in calls for part in ast.walk(call) if isinstance(part, ast.FormattedValue)
    }
    texts = {call.args[0] for call in calls}
    quoted |= {ast.unparse(text) for text in texts if not isinstance(text, (ast.Constant, ast.JoinedStr))}
    assert quoted <= QUOTED[module]


@pytest.mark.parametrize("part", ["data", "metrics", "config", "models/training.py", "common/array_codec.py"])
def test_no_module_with_patient_data_raises_an_error_that_is_sent(part: str) -> None:
    assert raised_run_errors(part) == []


def test_any_other_error_is_named_by_its_type_only(hospital: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("patient 17 is 63 years old")

    monkeypatch.setattr(preprocessing, "first_moments", fail)
    assert reason(make_ask(hospital)("query.first_moments")) == "ValueError"


# --- one hospital, one object -----------------------------------------------------------------------------------------


def test_the_patients_that_were_checked_are_trained_on_even_if_the_file_changes_meanwhile(hospital: Path) -> None:
    ask = make_ask(hospital)
    before = moments_of(ask("query.first_moments"))
    hospital.write_text("not a CSV any more")
    assert moments_of(ask("query.first_moments")) == before


def test_a_hospital_is_described_under_the_name_it_was_given_or_that_of_its_file(hospital: Path) -> None:
    who = make_ask(hospital)("query.describe").content.config_records["hospital"]
    assert (who["name"], who["source"], who["schema"]) == ("lakeside", "own", HEART.fingerprint)
    ask = ask_through(InProcessGrid({"x": make_app(hospital)}, FederationSettings().to_run_config()))
    assert ask("query.describe").content.config_records["hospital"]["name"] == "client_1"


@pytest.mark.parametrize("value", [True, 1.0, "1", [1]], ids=str)
def test_settings_that_are_parsed_once_for_many_messages_keep_their_types_apart(hospital: Path, value: object) -> None:
    data = HospitalData.from_csv(hospital, TRAINERS)
    config = FederationSettings(hospitals=1, min_hospitals=1).to_run_config()
    assert data.participation(config) is data.participation(dict(config))
    with pytest.raises(RunError, match=r"settings are invalid: --min-hospitals is .*; give a value of type int"):
        data.participation({**config, "min-hospitals": value})


def test_only_the_last_federations_of_a_hospital_stay_prepared(hospital: Path) -> None:
    data = HospitalData.from_csv(hospital, TRAINERS)
    configs = [FederationSettings(rounds=rounds).to_run_config() for rounds in range(1, KEPT_PARTICIPATIONS + 2)]
    first, *_, last = (data.participation(config) for config in configs)
    assert data.participation(configs[-1]) is last
    assert data.participation(configs[0]) is not first


def test_an_unreferenced_hospital_is_freed_with_all_its_caches(hospital: Path) -> None:
    data = HospitalData.from_csv(hospital, TRAINERS)
    config = FederationSettings(dp_epsilon=4.0, dp_delta=1e-3).to_run_config()
    part = data.participation(config)
    session = data.open_dp_session(part)
    kept = [weakref.ref(each) for each in (data, part, session, part.split.train)]
    del data, part, session
    gc.collect()
    assert [each() for each in kept] == [None] * 4


def test_the_final_model_is_compared_only_once(hospital: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    original = personalization.compare_models

    def compare(*args: Any) -> personalization.Outcome:
        compared.append("once")
        return original(*args)

    monkeypatch.setattr(personalization, "compare_models", compare)
    data = HospitalData.from_csv(hospital, TRAINERS, "lakeside", HospitalLimits(share_comparisons=True))
    config = FederationSettings(rounds=1).to_run_config()
    ask = ask_through(InProcessGrid({"lakeside": app.make_client_app(data)}, config))
    weights = ask("query.initial_weights").content.array_records["arrays"]
    reply = ask("query.finish", weights, means=MEANS, stds=STDS)
    final = data.participation(config).final
    assert final is not None
    assert set(reply.content) == {f"{name}-{each.metric}" for name, each in final.outcome.comparisons.items()}
    assert compared == ["once"]


def test_nothing_is_compared_if_no_comparison_is_used(hospital: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personalization, "compare_models", lambda *_: pytest.fail("compared"))
    ask = make_ask(hospital)
    weights = ask("query.initial_weights").content.array_records["arrays"]
    assert not ask("query.finish", weights, means=MEANS, stds=STDS).has_error()

"""Vectors of messages: the sum decodes to exactly what all hospitals together would send, and nothing else decodes."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedhealth.common.fixed_point import LIMIT, MOST_EXAMPLES, REAL_LIMIT, weigh
from fedhealth.common.pairwise_masks import mask
from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.histogram import score_histogram
from fedhealth.metrics.subgroups import list_groups
from fedhealth.transport.protocol import evaluation, finalization, newton, setup, training
from fedhealth.transport.protocol.evaluation import EvaluateReply, Histogram
from fedhealth.transport.protocol.fields import ARRAYS
from fedhealth.transport.protocol.finalization import ImportanceDrops
from fedhealth.transport.protocol.masked_vectors import (
    Layout,
    Part,
    Values,
    context_of,
    decode_masked,
    digest_content,
    encode_masked,
)
from fedhealth.transport.protocol.setup import Description, LabelCounts, MomentSums, Who
from fedhealth.transport.protocol.sum_messages import SumMessages
from fedhealth.transport.protocol.training import TrainReply, TrainRequest, encode_train_request
from tests.support.masked_roster import deterministic_secrets, names_of

GROUPS = list_groups(HEART)
TOGETHER = Who("all", "own", HEART.fingerprint)
BELOW_LIMIT = float(np.nextafter(np.float32(LIMIT), np.float32(0)))
CONTEXT = b"context"
Numbers = NDArray[Any]


def transported(content: RecordDict) -> RecordDict:
    return recorddict_from_proto(recorddict_to_proto(content))


def messages_of(**settings: Any) -> SumMessages:
    chosen = FederationSettings(**{"hospitals": 3, "secure_aggregation": True, **settings})
    return SumMessages(chosen, HEART, NUM_BINS, GROUPS)


def add_masked(layout: Layout, each: Sequence[Mapping[str, Values]], order: Sequence[int] = ()) -> dict[str, Values]:
    """The decoded sum of these hospitals' masked vectors, added in this order."""
    names = names_of(len(each))
    total = np.zeros(layout.num_words, np.uint64)
    for place in order or range(len(each)):
        words = layout.join(each[place], CONTEXT)
        masked = mask(words, names[place], deterministic_secrets(names[place], names), CONTEXT)
        total += decode_masked(transported(encode_masked(masked)), layout)
    return layout.split(total, CONTEXT, len(names))


def together(
    messages: SumMessages, kind: str, request: RecordDict, replies: Sequence[RecordDict], **more: Any
) -> RecordDict:
    """The reply of all hospitals together to a request."""
    layout = messages.layout(kind, request)
    numbers = [
        messages.take_numbers(kind, transported(reply), *more.get("pairs", [])[place : place + 1])
        for place, reply in enumerate(replies)
    ]
    return messages.make_reply(kind, request, add_masked(layout, numbers), TOGETHER)


# --- exactly the sum in the clear -------------------------------------------------------------------------------------


@given(
    data=st.data(), hospitals=st.one_of(st.integers(3, 10), st.sampled_from([40, 100])), seed=st.integers(0, 2**32 - 1)
)
def test_the_masked_sum_is_the_integer_sum_in_the_clear_for_any_roster_order_and_value(
    data: st.DataObject, hospitals: int, seed: int
) -> None:
    """Counts and weighted weights up to their bounds, reals of any size and sign."""
    generator = np.random.default_rng(seed)
    size = data.draw(st.integers(1, 6))
    layout = Layout((Part("counts", "count", size), Part("weights", "weight", size), Part("reals", "real", size)))
    patients = generator.integers(1, (MOST_EXAMPLES - 1) // hospitals, hospitals, endpoint=True)
    edges = [BELOW_LIMIT, -BELOW_LIMIT, 0.0, 2.0**-40, -(2.0**-33)]
    each: list[dict[str, Values]] = []
    for count in patients:
        weights = np.where(
            generator.random(size) < 0.5,
            generator.choice(edges, size),
            generator.uniform(-BELOW_LIMIT, BELOW_LIMIT, size),
        )
        reals = generator.choice([1.0, -1.0], size) * 2.0 ** generator.uniform(-80, 54.99, size)
        counts = generator.integers(-(2**40), 2**40, size)
        each.append({"counts": counts, "weights": weigh(weights, int(count)), "reals": reals})
    sums = add_masked(layout, each, generator.permutation(hospitals).tolist())
    for name in ("counts", "weights"):
        exact = [sum(int(one[name][place]) for one in each) for place in range(size)]
        assert sums[name].tolist() == exact
    steps = [
        [Fraction(round(Fraction(float(one["reals"][place])) * 2**64), 2**64) for one in each] for place in range(size)
    ]
    assert sums["reals"].tolist() == [float(sum(column)) for column in steps]


@pytest.mark.parametrize("hospitals", [3, 100, 256])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_weights_of_the_most_patients_and_the_largest_reals_have_room(hospitals: int, sign: int) -> None:
    layout = Layout((Part("weights", "weight", 1), Part("reals", "real", 1)))
    patients, largest = (MOST_EXAMPLES - 1) // hospitals, float(np.nextafter(REAL_LIMIT, 0))
    one = {"weights": weigh(np.array([sign * BELOW_LIMIT]), patients), "reals": np.array([sign * largest])}
    sums = add_masked(layout, [one] * hospitals)
    assert sums["weights"].tolist() == [sign * int(BELOW_LIMIT * 2**32) * patients * hospitals]
    assert sums["reals"].tolist() == [float(sign * Fraction(largest) * hospitals)]


# --- what is no sum ---------------------------------------------------------------------------------------------------

SMALL = Layout((Part("counts", "count", 2), Part("reals", "real", 1)))
ONE: dict[str, Values] = {"counts": np.array([1, 2]), "reals": np.array([0.5])}
NOISE = r"^the masks do not cancel: a hospital was asked something else, or sent something else$"


def test_a_sum_of_too_few_too_many_or_other_vectors_is_recognised() -> None:
    vector = SMALL.join(ONE, CONTEXT)
    three = vector * np.uint64(3)
    assert SMALL.split(three, CONTEXT, 3)["counts"].tolist() == [3, 6]
    wrong = [
        vector * np.uint64(4),
        vector * np.uint64(2) + SMALL.join(ONE, b"another"),
        three[:-1],
    ]
    for total in wrong:
        with pytest.raises(ValueError, match=NOISE):
            SMALL.split(total, CONTEXT, 3)


@pytest.mark.parametrize("failed", [1, 2, 3])
def test_a_sum_says_how_many_hospitals_have_no_numbers_and_nothing_else(failed: int) -> None:
    """The vector of such a hospital counts as none, and its other words are random."""
    pad = np.random.default_rng(0).integers(0, 2**64, SMALL.num_words, np.uint64, endpoint=False)
    total = SMALL.join(ONE, CONTEXT) * np.uint64(3 - failed) + SMALL.join_nothing(pad) * np.uint64(failed)
    with pytest.raises(ValueError) as caught:
        SMALL.split(total, CONTEXT, 3)
    assert str(caught.value) == f"{failed} of the 3 hospitals cannot compute it; only their own clients print why"
    assert SMALL.join_nothing(pad).tolist() == [0, 0, *pad[2:].tolist()]


@pytest.mark.parametrize("place", [0, 1])
def test_each_of_the_first_two_words_is_checked(place: int) -> None:
    total = SMALL.join(ONE, CONTEXT) * np.uint64(3)
    total[place] += np.uint64(1)
    with pytest.raises(ValueError, match=NOISE):
        SMALL.split(total, CONTEXT, 3)


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ({"counts": np.array([1, 2])}, "its reals are not 1 numbers"),
        ({**ONE, "counts": np.array([1])}, "its counts are not 2 numbers"),
        ({**ONE, "reals": np.array([np.nan])}, "a sum is not between -3.60288e+16 and 3.60288e+16"),
        ({**ONE, "reals": np.array([REAL_LIMIT])}, "a sum is not between -3.60288e+16 and 3.60288e+16"),
    ],
)
def test_numbers_that_are_missing_or_beyond_the_bounds_are_refused(numbers: dict[str, Values], line: str) -> None:
    with pytest.raises(ValueError) as caught:
        SMALL.join(numbers, CONTEXT)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"masked": ConfigRecord()}),
        RecordDict({"masked": ArrayRecord({"words": Array(np.zeros(4, np.uint64))})}),
        RecordDict({"masked": ArrayRecord({"words": Array(np.zeros(7, np.int64))})}),
        RecordDict({"masked": ArrayRecord({"words": Array(np.zeros((7, 1), np.uint64))})}),
        RecordDict({"masked": ArrayRecord({"numbers": Array(np.zeros(7, np.uint64))})}),
        RecordDict({"masked": ArrayRecord({name: Array(np.zeros(7, np.uint64)) for name in ("words", "more")})}),
        RecordDict({"masked": ArrayRecord({"words": Array("uint64", (7,), "numpy.ndarray", b"no npy")})}),
    ],
)
def test_a_masked_reply_of_another_form_is_refused(content: RecordDict) -> None:
    with pytest.raises(ValueError, match=r"^it(s masked numbers cannot be read| must send exactly 7 masked| sent )"):
        decode_masked(content, SMALL)


# --- contexts ---------------------------------------------------------------------------------------------------------


def content_of(**changes: Any) -> RecordDict:
    config = {"a": 1, "b": 1.5, "c": "text", "d": [1, 2], "e": b"bytes", **changes.get("config", {})}
    weights = changes.get("weights", {"w": np.array([1, 2], np.float32), "v": np.array([0], np.float32)})
    arrays = ArrayRecord({name: Array(values) for name, values in weights.items()})
    return RecordDict(
        {"arrays": arrays, changes.get("name", "config"): ConfigRecord(config), "m": MetricRecord({"x": 1})}
    )


def test_the_digest_of_a_request_is_the_same_after_its_transport() -> None:
    assert digest_content(transported(content_of())) == digest_content(content_of())


def test_the_digest_of_a_request_depends_on_everything_in_it() -> None:
    usual = {"w": np.array([1, 2], np.float32), "v": np.array([0], np.float32)}
    changes: list[dict[str, Any]] = [
        {"config": {"a": 2}},
        {"config": {"a": True}},
        {"config": {"a": 1.0}},
        {"config": {"b": 1.5000000000000002}},
        {"config": {"c": "texT"}},
        {"config": {"d": [2, 1]}},
        {"config": {"e": b"byteS"}},
        {"config": {"e": ["6279746573"]}},
        {"config": {"f": 0}},
        {"name": "config2"},
        {"weights": {"w": usual["w"]}},
        {"weights": {**usual, "w": usual["w"][::-1].copy()}},
        {"weights": {**usual, "w": usual["w"][None]}},
        {"weights": {**usual, "w": usual["w"].astype(np.float64)}},
        {"weights": {"u": usual["w"], "v": usual["v"]}},
        {"weights": {"v": usual["v"], "w": usual["w"]}},
    ]
    digests = [digest_content(content_of(**change)) for change in [{}, *changes]]
    array = Array(np.zeros(2, np.float32))
    for described in (
        array,
        Array("float64", array.shape, array.stype, array.data),
        Array(array.dtype, (2, 1), array.stype, array.data),
        Array(array.dtype, array.shape, "other", array.data),
    ):
        digests.append(digest_content(RecordDict({"arrays": ArrayRecord({"w": described})})))
    assert len(set(digests)) == len(digests)


def test_the_context_depends_on_roster_settings_kind_request_and_layout() -> None:
    usual: dict[str, Any] = {
        "roster": b"R",
        "run_config": {"rounds": 3, "seed": 0},
        "kind": "train",
        "request": content_of(),
        "layout": SMALL,
    }
    changes: list[dict[str, Any]] = [
        {"roster": b"S"},
        {"run_config": {"rounds": 3, "seed": 1}},
        {"run_config": {"rounds": 3, "seed": 0.0}},
        {"kind": "evaluate"},
        {"request": content_of(config={"a": 2})},
        {"layout": Layout(SMALL.parts[::-1])},
        {"layout": Layout((Part("counts", "weight", 2), *SMALL.parts[1:]))},
    ]
    contexts = [context_of(**{**usual, **change}) for change in [{}, *changes]]
    assert len(set(contexts)) == len(contexts)
    assert context_of(**{**usual, "run_config": {"seed": 0, "rounds": 3}}) == contexts[0]


# --- each message -----------------------------------------------------------------------------------------------------

EMPTY = setup.encode_empty_request()


def test_counts_are_those_of_all_patients() -> None:
    each = [Description("a", "own", "x", *counts) for counts in ((10, 4, 2), (20, 5, 0), (30, 6, 6))]
    replies = [setup.encode_description(one) for one in each]
    found = setup.decode_description(together(messages_of(), setup.COUNTS_SUM, EMPTY, replies))
    assert found == Description("all", "own", HEART.fingerprint, 60, 15, 8)


def test_with_validation_patients_their_counts_are_summed_too() -> None:
    replies = [setup.encode_description(Description("a", "own", "x", 10, 4, 2, 3, held)) for held in (1, 2, 3)]
    found = setup.decode_description(together(messages_of(patience=2), setup.COUNTS_SUM, EMPTY, replies))
    assert (found.validation_patients, found.validation_ill) == (9, 6)


def test_under_differential_privacy_the_noisy_counts_are_summed_with_the_epsilon_of_the_run() -> None:
    replies = [setup.encode_description(Description("a", "own", "x", count, epsilon=3.0)) for count in (10, 20, 31)]
    found = setup.decode_description(together(messages_of(dp_epsilon=3.0), setup.COUNTS_SUM, EMPTY, replies))
    assert (found.train_patients, found.epsilon, found.test_patients) == (61, 3.0, None)


@pytest.mark.parametrize("kind", [setup.FIRST_MOMENTS, setup.SECOND_MOMENTS])
def test_moments_are_exact(kind: str) -> None:
    numbers = len(HEART.numbers)
    each = [
        MomentSums(tuple(range(place, place + numbers)), tuple(0.1 * place + 1e6 * number for number in range(numbers)))
        for place in range(3)
    ]
    found = setup.decode_moments(together(messages_of(), kind, EMPTY, [setup.encode_moments(one) for one in each]))
    assert found.counts == tuple(3 + 3 * number for number in range(numbers))
    exact = [sum(Fraction(one.sums[number]) for one in each) for number in range(numbers)]
    assert found.sums == tuple(map(float, exact))


def test_labels_are_summed_although_a_hospital_discloses_none() -> None:
    replies = [setup.encode_label_counts(LabelCounts(*counts)) for counts in ((3, 4), (0, 0), (10, 20))]
    found = setup.decode_label_counts(together(messages_of(), setup.LABEL_COUNTS, EMPTY, replies))
    assert found == LabelCounts(13, 24)


def histogram_of(ill: int, healthy: int, seed: int) -> Histogram:
    risks, labels = np.random.default_rng(seed).random(ill + healthy), np.repeat([1, 0], [ill, healthy])
    made = score_histogram(risks, labels)
    return Histogram(made.num_examples, **vars(made))


def request_to_train(evaluates: bool = False) -> RecordDict:
    weights = {"w": np.zeros((2, 1), np.float32), "b": np.zeros(1, np.float32)}
    return encode_train_request(TrainRequest(weights, 1, evaluates=evaluates))


def trained(seed: int, patients: int) -> TrainReply:
    generator = np.random.default_rng(seed)
    weights = {"w": generator.normal(size=(2, 1)).astype(np.float32), "b": generator.normal(size=1).astype(np.float32)}
    return TrainReply(weights, patients, 0.25 * seed)


def test_trained_weights_are_the_exact_mean_over_all_patients_rounded_once() -> None:
    each = [trained(seed, patients) for seed, patients in ((1, 10), (2, 300), (3, 7))]
    replies = [training.encode_train_reply(one) for one in each]
    reply = training.decode_train_reply(together(messages_of(), training.TRAIN, request_to_train(), replies))
    assert reply.num_examples == 317
    assert reply.train_loss == pytest.approx((0.25 * 10 + 0.5 * 300 + 0.75 * 7) / 317, rel=1e-15)
    for name in ("w", "b"):
        steps = [
            sum(int(v) for v in column)
            for column in zip(*(weigh(e.weights[name], e.num_examples).ravel() for e in each), strict=True)
        ]
        exact = [np.float32(float(Fraction(step, 317 * 2**32))) for step in steps]
        assert reply.weights[name].dtype == np.float32
        assert reply.weights[name].ravel().tolist() == exact


def test_an_evaluation_in_a_train_reply_is_summed_with_it() -> None:
    replies = [
        training.add_evaluation(
            training.encode_train_reply(trained(seed, 10)),
            EvaluateReply(histogram_of(seed, 5, seed), histogram_of(1, 2, seed)),
        )
        for seed in (1, 2, 3)
    ]
    reply = together(messages_of(patience=2), training.TRAIN, request_to_train(evaluates=True), replies)
    content, evaluated = training.split_train_reply(reply)
    assert training.decode_train_reply(content).num_examples == 30
    assert evaluated is not None
    decoded = evaluation.decode_evaluate_reply(evaluated)
    assert decoded.tested.num_examples == 21
    assert decoded.validation is not None and decoded.validation.num_examples == 9
    bins = sum(histogram_of(seed, 5, seed).positives for seed in (1, 2, 3))
    np.testing.assert_array_equal(decoded.tested.positives, bins)
    losses = [Fraction(histogram_of(seed, 5, seed).log_loss) for seed in (1, 2, 3)]
    assert decoded.tested.log_loss == pytest.approx(float(sum(losses)), rel=1e-15)


@pytest.mark.parametrize("weight", [LIMIT, -LIMIT, np.float32(3e38)])
def test_a_weight_at_the_bound_is_refused(weight: float) -> None:
    reply = training.encode_train_reply(TrainReply({"w": np.array([weight], np.float32)}, 3, 0.0))
    with pytest.raises(ValueError, match=r"^a weight is not between -128 and 128$"):
        messages_of().take_numbers(training.TRAIN, reply)


def test_more_patients_than_64_bits_have_room_for_are_refused_by_the_server() -> None:
    messages, request = messages_of(), request_to_train()
    layout = messages.layout(training.TRAIN, request)
    for patients, is_possible in ((MOST_EXAMPLES - 1, True), (MOST_EXAMPLES, False), (0, False), (-1, False)):
        sums = {part.name: np.zeros(part.size, np.int64) for part in layout.parts} | {"patients": np.array([patients])}
        if is_possible:
            assert messages.make_reply(training.TRAIN, request, sums, TOGETHER)
        else:
            with pytest.raises(ValueError, match=rf"^{patients} training patients; there must be fewer than 16777216$"):
                messages.make_reply(training.TRAIN, request, sums, TOGETHER)


def test_sums_of_newtons_method_are_exact_reals() -> None:
    messages = messages_of(strategy="newton", model="logistic")
    request = RecordDict({ARRAYS: newton.encode_coefficients(np.zeros(2))})
    request["config"] = ConfigRecord({"server-round": 1})
    each = []
    for seed in (1, 2, 3):
        generator = np.random.default_rng(seed)
        arrays = {name: generator.normal(size=tuple(array.shape)) for name, array in newton.reply_arrays(2).items()}
        each.append(TrainReply(arrays, 10 * seed, 0.5))
    replies = [training.encode_train_reply(one) for one in each]
    reply = training.decode_train_reply(together(messages, training.TRAIN, request, replies))
    assert reply.num_examples == 60
    for name, summed in reply.weights.items():
        columns = zip(*(one.weights[name].ravel() for one in each), strict=True)
        exact = [float(sum(Fraction(round(Fraction(float(v)) * 2**64), 2**64) for v in column)) for column in columns]
        assert np.ravel(summed).tolist() == exact


def test_a_negative_bin_is_refused() -> None:
    messages = messages_of()
    layout = messages.layout(evaluation.EVALUATE, EMPTY)
    sums: dict[str, Values] = {part.name: np.zeros(part.size) for part in layout.parts}
    sums["tested bins"] = np.zeros(2 * NUM_BINS, np.int64)
    sums["tested bins"][7] = -1
    with pytest.raises(ValueError, match=r"^a bin is not a count of patients$"):
        messages.make_reply(evaluation.EVALUATE, EMPTY, sums, TOGETHER)


def test_subgroups_are_summed_and_those_without_patients_are_left_out() -> None:
    first, second = GROUPS[:2]
    sent = [{first: (1, 2, 3, 4)}, {}, {first: (10, 0, 0, 0), second: (0, 0, 0, 5)}]
    replies = [finalization.encode_subgroups(each) for each in sent]
    found = finalization.decode_subgroups(together(messages_of(), finalization.SUBGROUPS, EMPTY, replies))
    assert found == {first: (11, 2, 3, 4), second: (0, 0, 0, 5)}


def test_importance_is_the_mean_over_the_pairs_of_the_hospitals_that_disclose_it() -> None:
    features = len(HEART.features)
    drops = [
        ImportanceDrops((0.125, *[0.0] * (features - 1)), 8),
        None,
        ImportanceDrops((-0.25, *[0.5] * (features - 1)), 20),
    ]
    replies = [finalization.encode_importance(each) for each in drops]
    pairs = [(8, 15), (3, 2), (20, 45)]
    layout = messages_of().layout(finalization.IMPORTANCE, EMPTY)
    numbers = [
        messages_of().take_numbers(finalization.IMPORTANCE, reply, each)
        for reply, each in zip(replies, pairs, strict=True)
    ]
    found = finalization.decode_importance(
        messages_of().make_reply(finalization.IMPORTANCE, EMPTY, add_masked(layout, numbers), TOGETHER)
    )
    assert found is not None
    assert found.num_examples == 31
    assert found.drops[0] == pytest.approx((0.125 * 15 - 0.25 * 45) / 60, abs=1e-15)
    assert found.drops[1] == pytest.approx(0.5 * 45 / 60, abs=1e-15)


def test_if_no_hospital_discloses_its_importance_there_is_none() -> None:
    replies = [finalization.encode_importance(None)] * 3
    reply = together(messages_of(), finalization.IMPORTANCE, EMPTY, replies)
    assert finalization.decode_importance(reply) is None


@pytest.mark.parametrize("kind", [setup.DESCRIBE, setup.INITIAL_WEIGHTS, finalization.FINISH, "query.feasibility", "x"])
def test_other_messages_have_no_vector(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"^replies to {kind} are not summed$"):
        messages_of().layout(kind, EMPTY)


def test_a_train_request_without_weights_has_no_layout() -> None:
    with pytest.raises(ValueError, match=r"^the server's weights are invalid: they are not those of this model$"):
        messages_of().layout(training.TRAIN, EMPTY)

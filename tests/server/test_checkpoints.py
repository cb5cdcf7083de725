"""Checkpoints: bit for bit what was written, or noticed."""

import errno
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi, Strategy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import UsageError
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.histogram import ScoreHistogram
from fedhealth.server.checkpoints import Checkpoint, read_last_checkpoint, take_state, write_checkpoint
from fedhealth.server.records import Member
from fedhealth.transport.messages import SERVER_NODE_ID, set_identity, set_message_id
from tests.support.examples import examples

MEMBERS = [Member(101, "cleveland", "uci", 6, 2, 1), Member(102, "Zürich / 病院", "own", 8, 2, 2)]
SCALE = Standardisation((54.1, 1 / 3, 0.0, -1e-300, 1e300, 0.7), (9.0, 17.0, 50.0, 22.0, 1.1, 0.9))
MAKERS: list[Callable[[], Strategy]] = [
    FedAvg,
    lambda: FedAvgM(server_learning_rate=0.7, server_momentum=0.9),
    FedAdagrad,
    FedAdam,
    FedYogi,
]


def make_checkpoint(strategy: Strategy, round_num: int = 3, value: float = 0.1) -> Checkpoint:
    weights = ArrayRecord({"b": Array(np.array([value, -0.0], np.float32)), "a/k": Array(np.eye(2, dtype=np.float32))})
    return Checkpoint(round_num, weights, SCALE, strategy, MEMBERS, {"cleveland": 2}, {"va": "dropped after 3"})


def aggregate(strategy: Strategy, round_num: int, weights: ArrayRecord) -> ArrayRecord:
    """One round in which two hospitals move the weights by different steps."""
    set_identity(SERVER_NODE_ID)
    if hasattr(strategy, "current_arrays"):
        # What Flower's loop does through configure_train, which needs a grid.
        kept = weights if isinstance(strategy, FedAvgM) else {key: array.numpy() for key, array in weights.items()}
        strategy.current_arrays = kept
    replies = []
    for number, node in enumerate((101, 102), 1):
        question = Message(RecordDict(), dst_node_id=node, message_type="train")
        set_message_id(question, str(node))
        moved = {
            key: Array(np.asarray(array.numpy() + np.float32(0.1 * number * round_num)))
            for key, array in weights.items()
        }
        metrics = MetricRecord({"num-examples": 10 * number, "train-loss": 0.5})
        replies.append(Message(RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics}), reply_to=question))
    arrays, _ = strategy.aggregate_train(round_num, replies)
    assert arrays is not None
    return arrays


def assert_equal(one: ArrayRecord, other: ArrayRecord) -> None:
    assert list(one) == list(other)
    for name, array in one.items():
        assert array.numpy().tobytes() == other[name].numpy().tobytes()
        assert array.numpy().dtype == other[name].numpy().dtype


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = make_checkpoint(FedAvg())
    write_checkpoint(tmp_path, written, keep=3)
    read = read_last_checkpoint(tmp_path, FedAvg(), pytest.fail)
    assert read is not None
    assert_equal(read.weights, written.weights)
    same = ("round_num", "standardisation", "members", "strikes", "dropped")
    assert [getattr(read, name) for name in same] == [getattr(written, name) for name in same]


@pytest.mark.parametrize("make", MAKERS, ids=["FedAvg", "FedAvgM", "FedAdagrad", "FedAdam", "FedYogi"])
def test_a_strategy_goes_on_bit_for_bit_as_if_it_had_never_stopped(
    make: Callable[[], Strategy], tmp_path: Path
) -> None:
    undisturbed, weights = make(), make_checkpoint(FedAvg()).weights
    for round_num in (1, 2):
        weights = aggregate(undisturbed, round_num, weights)
    kept = Checkpoint(2, weights, None, undisturbed, MEMBERS, {}, {})
    write_checkpoint(tmp_path, kept, keep=1)
    restored = read_last_checkpoint(tmp_path, make(), pytest.fail)
    assert restored is not None
    assert_equal(aggregate(restored.strategy, 3, restored.weights), aggregate(undisturbed, 3, weights))


def test_a_strategy_with_state_is_recognised() -> None:
    strategy = FedAdam()
    aggregate(strategy, 1, make_checkpoint(strategy).weights)
    assert set(take_state(strategy)[0]) == {"current_arrays", "m_t", "v_t"}
    assert take_state(FedAvg()) == ({}, {})


def test_only_the_last_ones_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for round_num in range(1, 13):
        write_checkpoint(tmp_path, make_checkpoint(FedAvg(), round_num), keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"round-{n:08}.ckpt" for n in (10, 11, 12)]
    read = read_last_checkpoint(tmp_path, FedAvg(), pytest.fail)
    assert read is not None
    assert read.round_num == 12


@given(place=st.integers(0, 10_000), flip=st.integers(1, 255), cut=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(60), deadline=None)
def test_damage_anywhere_is_noticed_and_the_round_before_is_used(
    tmp_path: Path, place: int, flip: int, cut: bool
) -> None:
    for round_num in (1, 2):
        write_checkpoint(tmp_path, make_checkpoint(FedAvg(), round_num), keep=3)
    newest = tmp_path / "round-00000002.ckpt"
    content = bytearray(newest.read_bytes())
    content[place % len(content)] ^= flip
    newest.write_bytes(bytes(content[: place % len(content)]) if cut else bytes(content))
    warnings: list[str] = []
    read = read_last_checkpoint(tmp_path, FedAvg(), warnings.append)
    assert read is not None
    assert read.round_num == 1
    assert warnings == [f"{newest}: is damaged (its checksum is wrong); trying the checkpoint before it"]


def test_no_checkpoint_at_all_is_none(tmp_path: Path) -> None:
    assert read_last_checkpoint(tmp_path / "nowhere", FedAvg(), pytest.fail) is None


def test_the_state_of_another_strategy_is_refused(tmp_path: Path) -> None:
    strategy = FedAdam()
    aggregate(strategy, 1, make_checkpoint(strategy).weights)
    write_checkpoint(tmp_path, make_checkpoint(strategy), keep=1)
    warnings: list[str] = []
    with pytest.raises(UsageError, match="none of its checkpoints can be read"):
        read_last_checkpoint(tmp_path, FedAvg(), warnings.append)
    assert "FedAvg has no attribute" in warnings[0]


@pytest.mark.parametrize("make", MAKERS[1:], ids=["FedAvgM", "FedAdagrad", "FedAdam", "FedYogi"])
def test_a_weight_without_dimensions_is_part_of_the_state(make: Callable[[], Strategy], tmp_path: Path) -> None:
    undisturbed, weights = make(), ArrayRecord({"scale": Array(np.array(0.5, np.float32))})
    for round_num in (1, 2):
        weights = aggregate(undisturbed, round_num, weights)
    write_checkpoint(tmp_path, Checkpoint(2, weights, None, undisturbed, MEMBERS, {}, {}), keep=1)
    restored = read_last_checkpoint(tmp_path, make(), pytest.fail)
    assert restored is not None
    assert_equal(aggregate(restored.strategy, 3, restored.weights), aggregate(undisturbed, 3, weights))


def test_the_state_is_all_that_two_trained_strategies_differ_in(tmp_path: Path) -> None:
    """A strategy with a kind of state that `take_state` does not know would be resumed wrongly without an error."""
    for make in MAKERS:
        used, fresh = make(), make()
        aggregate(used, 1, make_checkpoint(used).weights)
        changed = {
            name for name, value in vars(used).items() if not callable(value) and repr(value) != repr(vars(fresh)[name])
        }
        assert changed == set(take_state(used)[0])


def test_if_all_are_damaged_each_is_named_and_none_is_taken_for_no_checkpoint(tmp_path: Path) -> None:
    for round_num in (1, 2):
        write_checkpoint(tmp_path, make_checkpoint(FedAvg(), round_num), keep=3)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    warnings: list[str] = []
    with pytest.raises(UsageError, match="none of its checkpoints can be read; restore one from a copy"):
        read_last_checkpoint(tmp_path, FedAvg(), warnings.append)
    assert [line.split(":")[0].rpartition("/")[2] for line in warnings] == [
        "round-00000002.ckpt",
        "round-00000001.ckpt",
    ]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_damaged_checkpoints_of_later_rounds_are_removed(tmp_path: Path, keep: int) -> None:
    for round_num in (4, 5, 6):
        write_checkpoint(tmp_path, make_checkpoint(FedAvg(), round_num), keep=3)
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    write_checkpoint(tmp_path, make_checkpoint(FedAvg(), 1), keep)
    read = read_last_checkpoint(tmp_path, FedAvg(), pytest.fail)
    assert read is not None
    assert read.round_num == 1
    assert [path.name for path in tmp_path.iterdir()] == ["round-00000001.ckpt"]


def seal(content: bytes) -> bytes:
    return b"fedhealth checkpoint 1 " + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # the stubs take the names for options
    return file.getvalue()


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("the pickle was opened",)


ABOUT = np.asarray('{"round": 3, "standardisation": null, "strategy": {}, "members": [], "strikes": {}, "dropped": {}}')


@pytest.mark.parametrize(
    "content",
    [
        packed(about=ABOUT, **{"weights/w": np.array([Bomb()], dtype=object)}),
        packed(about=np.array([Bomb()], dtype=object)),
        packed(about=np.asarray("{}")),
        packed(about=np.asarray("no JSON")),
        packed(weights=np.ones(3)),
        b"PK\x03\x04 no archive",
        b"",
    ],
    ids=["pickled weights", "pickled about", "empty about", "no JSON", "no about", "no archive", "nothing"],
)
def test_a_file_with_the_right_checksum_and_the_wrong_content_is_refused_and_no_pickle_is_opened(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "round-00000003.ckpt").write_bytes(seal(content))
    warnings: list[str] = []
    with pytest.raises(UsageError, match="none of its checkpoints can be read"):
        read_last_checkpoint(tmp_path, FedAvg(), warnings.append)
    assert len(warnings) == 1
    assert "\n" not in warnings[0]


def test_good_content_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    content = packed(about=ABOUT, **{"weights/w": np.ones(1, np.float32)})
    (tmp_path / "round-00000003.ckpt").write_bytes(seal(content))
    assert read_last_checkpoint(tmp_path, FedAvg(), pytest.fail) is not None
    (tmp_path / "round-00000003.ckpt").write_bytes(seal(content).replace(b"checkpoint 1", b"checkpoint 2"))
    with pytest.raises(UsageError, match="none of its checkpoints can be read"):
        read_last_checkpoint(tmp_path, FedAvg(), lambda line: None)


@pytest.mark.parametrize("place", ["histograms", "validation_histograms"])
def test_a_checkpoint_with_the_bins_of_another_version_is_refused_in_one_line(place: str, tmp_path: Path) -> None:
    """An older version had 200 bins; going back a round would not help."""
    old = ScoreHistogram(np.ones(200, np.int64), np.ones(200, np.int64), 1.0, 1.0)
    write_checkpoint(tmp_path, replace(make_checkpoint(FedAvg()), **{place: {"va": old}}), keep=1)
    with pytest.raises(UsageError) as refused:
        read_last_checkpoint(tmp_path, FedAvg(), pytest.fail)
    assert str(refused.value) == (
        f"{tmp_path / 'round-00000003.ckpt'}: has histograms of 200 bins of risk, and this version has 366; go on with the "
        "version that the run was started with"
    )


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_checkpoint_is_there_whole_or_not_at_all(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, make_checkpoint(FedAvg(), 1), keep=1)

    def cut_the_power(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(call, cut_the_power)
        write_checkpoint(tmp_path, make_checkpoint(FedAvg(), 2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["round-00000001.ckpt"]


def test_a_full_disk_removes_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, make_checkpoint(FedAvg(), 1), keep=1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_checkpoint(tmp_path, make_checkpoint(FedAvg(), 2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["round-00000001.ckpt"]

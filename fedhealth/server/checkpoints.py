"""Checkpoints: the state after a round on disk, so that an interrupted run can be resumed with the same result.

A file is one line with the SHA-256 of the rest, then an npz without pickles (weights, the strategy's state, and
`about`, JSON). It is written atomically; if its checksum is wrong, the checkpoint before it is used.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import msgspec
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_array
from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import UsageError
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.histogram import ScoreHistogram
from fedhealth.server.records import Histograms, Member, RoundRecord
from fedhealth.server.strategy_state import Arrays, give_state, take_state
from fedhealth.transport.protocol.roster import KeyRoster

CHECKPOINTS = "checkpoints"
"""The folder within a run folder."""
FORMAT = b"fedhealth checkpoint 1 "


@dataclass(frozen=True)
class Best:
    """The best round so far: the one with the smallest loss on the validation patients."""

    round_num: int
    weights: ArrayRecord
    losses: Mapping[str, float]
    """Hospital -> log loss (nats) summed over its validation patients."""
    rounds_since: int = 0
    """Number of evaluated rounds after it."""


@dataclass(frozen=True)
class Checkpoint:
    """All that the server needs to continue after a completed round."""

    round_num: int
    weights: ArrayRecord
    standardisation: Standardisation | None
    strategy: Strategy
    """With its state."""
    members: Sequence[Member]
    strikes: Mapping[str, int]
    dropped: Mapping[str, str]
    """Hospital -> why it is out of the run, including hospitals that never were members."""
    best: Best | None = None
    """None without --patience."""
    class_weights: tuple[float, float] | None = None
    """Of a healthy and an ill patient in training, with --class-weights; `weights` are not corrected for them."""
    histograms: Histograms = field(default_factory=dict, repr=False)
    """Test patients' histograms of this round; after the last round, the metrics of the final model come from them."""
    validation_histograms: Histograms = field(default_factory=dict, repr=False)
    """Validation patients' histograms of this round, if there are any."""
    unevaluated: RoundRecord | None = None
    """The record of this round without metrics, while its evaluation comes with the replies of the next round."""
    roster: KeyRoster | None = None
    """The hospitals' keys under secure aggregation; `members` is then all hospitals together."""

    @property
    def evaluated_rounds(self) -> int:
        """The number of rounds with complete records."""
        return self.round_num - (self.unevaluated is not None)

    @property
    def left_out(self) -> dict[str, str]:
        """Hospital -> why it could not take part from the beginning."""
        members = {member.name for member in self.members}
        return {name: reason for name, reason in self.dropped.items() if name not in members}


@dataclass(frozen=True)
class ResumeState:
    """The state of an interrupted run: its last checkpoint and the complete records of all rounds up to it."""

    checkpoint: Checkpoint
    rounds: Sequence[RoundRecord] = ()

    @property
    def seconds(self) -> float:
        """The time of all rounds so far."""
        last = self.checkpoint.unevaluated
        return sum(record.seconds for record in self.rounds) + (last.seconds if last else 0.0)

    @property
    def remaining(self) -> list[str]:
        """The hospitals that have not been dropped."""
        roster = self.checkpoint.roster
        names = roster.names if roster else [member.name for member in self.checkpoint.members]
        return [name for name in names if name not in self.checkpoint.dropped]

    def without(self, dropped: Mapping[str, str]) -> "ResumeState":
        """A copy with these hospitals dropped."""
        return replace(self, checkpoint=replace(self.checkpoint, dropped={**self.checkpoint.dropped, **dropped}))


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write `folder/round-<number>.ckpt`, and remove all but the last `keep` up to it.

    Checkpoints of later rounds are removed, too: they are damaged, since a resumed run would have started from them.

    Raises
    ------
    UsageError
        The folder cannot be written to.
    """
    kinds, state = take_state(checkpoint.strategy)
    best = checkpoint.best
    weights = {f"weights/{name}": read_array(array) for name, array in checkpoint.weights.items()}
    weights |= {f"best/{name}": read_array(array) for name, array in best.weights.items()} if best else {}
    about = {
        "round": checkpoint.round_num,
        "standardisation": checkpoint.standardisation and asdict(checkpoint.standardisation),
        "strategy": kinds,
        "members": [asdict(member) for member in checkpoint.members],
        "strikes": dict(checkpoint.strikes),
        "dropped": dict(checkpoint.dropped),
        "class_weights": checkpoint.class_weights,
        "unevaluated": msgspec.to_builtins(checkpoint.unevaluated),
        "roster": checkpoint.roster and msgspec.to_builtins(checkpoint.roster),
        "best": best and {"round": best.round_num, "losses": dict(best.losses), "rounds_since": best.rounds_since},
    }
    content = io.BytesIO()
    bins = {
        f"{kind}/{name}": pack_histogram(each)
        for kind, histograms in (("histograms", checkpoint.histograms), ("held", checkpoint.validation_histograms))
        for name, each in histograms.items()
    }
    np.savez(content, about=np.asarray(json.dumps(about)), **weights, **state, **bins)  # type: ignore[arg-type]  # the stubs take the names for options
    seal = FORMAT + hashlib.sha256(content.getbuffer()).hexdigest().encode() + b"\n"
    path = folder / f"round-{checkpoint.round_num:08}.ckpt"
    write_file(path, seal + content.getvalue())
    found = sorted(folder.glob("round-*.ckpt"))
    last = found.index(path) + 1
    for old in (*found[: max(last - keep, 0)], *found[last:]):
        old.unlink(missing_ok=True)


def read_last_checkpoint(folder: Path, strategy: Strategy, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest undamaged checkpoint (None if there is no file); its state is restored in the new `strategy`.

    `warn` is called with one line for each damaged file.

    Raises
    ------
    UsageError
        There are checkpoints, and none can be read. To start again from round 1 would overwrite the history.
    """
    paths = sorted(folder.glob("round-*.ckpt"), reverse=True)
    for path in paths:
        try:
            return read_checkpoint(path, strategy)
        except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError) as problem:
            warn(f"{path}: is damaged ({problem}); trying the checkpoint before it")
    if paths:
        raise UsageError(
            f"{folder}: none of its checkpoints can be read; restore one from a copy, start a new run, or delete this "
            "folder to start this run again from round 1"
        )
    return None


def read_checkpoint(path: Path, strategy: Strategy) -> Checkpoint:
    """The checkpoint in a file.

    Raises
    ------
    ValueError
        Its checksum is wrong, or its content is invalid.
    UsageError
        It was written by a version with other bins of risk.
    """
    seal, _, content = path.read_bytes().partition(b"\n")
    if seal != FORMAT + hashlib.sha256(content).hexdigest().encode():
        raise ValueError("its checksum is wrong")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        held = {key: arrays[key] for key in arrays.files}
        _check_bins(path, held)
        give_state(strategy, about["strategy"], held)
    scale, best, record = about["standardisation"], about.get("best"), about.get("unevaluated")
    return Checkpoint(
        round_num=about["round"],
        weights=_arrays_below("weights/", held),
        standardisation=scale and Standardisation(tuple(scale["means"]), tuple(scale["stds"])),
        strategy=strategy,
        members=[Member(**member) for member in about["members"]],
        strikes=about["strikes"],
        dropped=about["dropped"],
        histograms=_histograms_below("histograms/", held),
        validation_histograms=_histograms_below("held/", held),
        unevaluated=record and msgspec.convert(record, RoundRecord),
        roster=(roster := about.get("roster")) and msgspec.convert(roster, KeyRoster),
        class_weights=(weighed := about.get("class_weights")) and (weighed[0], weighed[1]),
        best=best and Best(best["round"], _arrays_below("best/", held), best["losses"], best["rounds_since"]),
    )


def _check_bins(path: Path, arrays: Arrays) -> None:
    sizes = {values.size for key, values in arrays.items() if key.startswith(("histograms/", "held/"))}
    if other := sizes - {2 * NUM_BINS + 2}:
        raise UsageError(
            f"{path}: has histograms of {(other.pop() - 2) // 2} bins of risk, and this version has {NUM_BINS}; "
            "go on with the version that the run was started with"
        )


def _histograms_below(prefix: str, arrays: Arrays) -> dict[str, ScoreHistogram]:
    return {
        key.removeprefix(prefix): unpack_histogram(values) for key, values in arrays.items() if key.startswith(prefix)
    }


def _arrays_below(prefix: str, arrays: Arrays) -> ArrayRecord:
    """The arrays whose names start with `prefix`, under their names without it."""
    return ArrayRecord(
        {key.removeprefix(prefix): Array(values) for key, values in arrays.items() if key.startswith(prefix)}
    )


def pack_histogram(histogram: ScoreHistogram) -> NDArray[np.float64]:
    """Counts and sums as one float64 array, in which counts are exact."""
    return np.concatenate(
        [histogram.positives, histogram.negatives, [histogram.log_loss, histogram.squared_error]], dtype=np.float64
    )


def unpack_histogram(values: NDArray[np.float64]) -> ScoreHistogram:
    """The histogram that `pack_histogram` packed."""
    positives, negatives = values[: 2 * NUM_BINS].astype(np.int64).reshape(2, NUM_BINS)
    return ScoreHistogram(positives, negatives, float(values[-2]), float(values[-1]))

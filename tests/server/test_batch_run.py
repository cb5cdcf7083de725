"""The NumPy engine of simulations: the Keras engine's results to 1e-6, and its own bit for bit however they are computed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.clientapp import ClientApp

from fedhealth.cli.commands.simulate import choose_engine, main
from fedhealth.client.batch.hospitals import BatchHospitals
from fedhealth.client.batch.source import BlockSource
from fedhealth.common.errors import DataError
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.config.simulate import SimulateSettings
from fedhealth.data.hospital import load_hospital
from fedhealth.data.sources.heart import HEART
from fedhealth.server.batch_run import federate_batch
from fedhealth.server.events import Event, RunFinished
from fedhealth.server.run_writer import RunWriter
from fedhealth.transport.in_process import InProcessGrid
from tests.support.hospital_files import write_hospitals

CLOSE = 1e-6
"""Largest difference of a weight; measured after 20 rounds: 3e-7."""


def simulate(folder: Path, *flags: str) -> Path:
    assert main([*flags, "--out", str(folder)]) == 0
    return folder


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def read_history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def require_alike(ours: Path, keras: Path) -> None:
    """Equal settings, participants and counts; weights to `CLOSE`, and at most one patient in 10,000 in another bin."""
    with np.load(ours / "model.npz") as one, np.load(keras / "model.npz") as other:
        assert one.files == other.files
        for name in one.files:
            if one[name].dtype.kind == "f":
                np.testing.assert_allclose(one[name], other[name], rtol=0, atol=0 if "weights" not in name else CLOSE)
    assert count_moved(read(ours, "evaluation.json"), read(keras, "evaluation.json")) <= 1e-4
    for one_round, other_round in zip(read_history(ours), read_history(keras), strict=True):
        assert one_round.get("asked") == other_round.get("asked")
        assert one_round["train_loss"] == pytest.approx(other_round["train_loss"], abs=CLOSE)
        assert one_round["hospitals"].keys() == other_round["hospitals"].keys()
    for key in ("hospitals", "settings", "dataset"):
        assert read(ours, "settings.json")[key] == read(keras, "settings.json")[key]
    assert read(ours, "summary.json")["importance"]["not_told"] == read(keras, "summary.json")["importance"]["not_told"]


def count_moved(ours: Any, keras: Any) -> float:
    """The share of test patients who are in another bin."""
    assert list(ours["hospitals"]) == list(keras["hospitals"])
    moved = total = 0
    for name, each in ours["hospitals"].items():
        for label in ("positives", "negatives"):
            moved += np.abs(np.subtract(each[label], keras["hospitals"][name][label])).sum() / 2
        total += each["num-examples"]
    return moved / total


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--model", "mlp", "--strategy", "fedprox", "--local-epochs", "2"],
        ["--strategy", "fedadam", "--class-weights", "--fraction", "0.5"],
        ["--strategy", "fedavgm", "--scaling", "local", "--threshold", "youden", "--patience", "3"],
    ],
    ids=" ".join,
)
def test_twenty_rounds_of_four_hospitals_end_where_the_keras_engine_ends(tmp_path: Path, flags: list[str]) -> None:
    write_hospitals(tmp_path / "data")
    always = ["--data", str(tmp_path / "data"), "--rounds", "20", *flags]
    require_alike(simulate(tmp_path / "numpy", *always), simulate(tmp_path / "keras", *always, "--engine", "keras"))


def test_the_smallest_group_is_the_one_that_the_run_asks_for(tmp_path: Path) -> None:
    always = ["--hospitals", "4", "--patients", "24", "--rounds", "1", "--min-count", "1", "--class-weights"]
    ours, keras = simulate(tmp_path / "numpy", *always), simulate(tmp_path / "keras", *always, "--engine", "keras")
    require_alike(ours, keras)
    assert read(ours, "summary.json")["subgroups"] == read(keras, "summary.json")["subgroups"]


@pytest.mark.slow
def test_twenty_rounds_of_two_hundred_hospitals_end_where_the_keras_engine_ends(tmp_path: Path) -> None:
    always = ["--hospitals", "200", "--rounds", "20"]
    require_alike(simulate(tmp_path / "numpy", *always), simulate(tmp_path / "keras", *always, "--engine", "keras"))


class Shares:
    """Several processes' hospitals in this process."""

    def __init__(self, shares: list[BatchHospitals]) -> None:
        self._shares = shares

    def call(self, method: str, *arguments: object) -> list[Any]:
        return [getattr(share, method)(*arguments) for share in self._shares]


HOSPITALS, PATIENTS = 23, 70


def run_shares(shares: int, **options: Any) -> RunFinished:
    """A run of `HOSPITALS` hospitals that are dealt out to so many shares."""
    settings = FederationSettings(
        hospitals=HOSPITALS, rounds=3, fraction=0.5, strategy="fedyogi", threshold="youden", test_share=0.4
    )
    engine = EngineSettings(patients=PATIENTS)
    each = [
        BatchHospitals(BlockSource(range(first, HOSPITALS, shares), engine, settings, **options), settings, hashes=True)
        for first in range(shares)
    ]
    events: list[Event] = []
    grid = InProcessGrid({"all": ClientApp()}, settings.to_run_config())
    federate_batch(Shares(each), grid, settings, HEART, RunWriter(), events.append)
    assert isinstance(events[-1], RunFinished)
    return events[-1]


@cache
def usual() -> RunFinished:
    return run_shares(1)


@pytest.mark.parametrize(
    ("shares", "options"),
    [
        (1, {"block_patients": 1}),
        (1, {"block_patients": 4 * PATIENTS}),
        (1, {"room": 0}),
        (3, {}),
        (HOSPITALS, {"room": 0, "block_patients": 2 * PATIENTS}),
    ],
    ids=str,
)
def test_the_size_of_blocks_the_number_of_processes_and_what_is_kept_change_no_bit(
    shares: int, options: dict[str, Any]
) -> None:
    expected, found = usual(), run_shares(shares, **options)
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name].numpy(), array.numpy())
    assert found.standardisation == expected.standardisation
    assert found.members == expected.members
    assert [member.split_hash for member in found.members] == [member.split_hash for member in expected.members]
    for one, other in zip(found.rounds, expected.rounds, strict=True):
        assert (one.train_loss, one.asked) == (other.train_loss, other.asked)
        assert (one.pooled, one.hospitals, one.validation) == (other.pooled, other.hospitals, other.validation)
    assert (found.importance, found.subgroups) == (expected.importance, expected.subgroups)
    assert list(found.histograms) == [member.name for member in expected.members]


def test_two_processes_give_the_same_bits(tmp_path: Path) -> None:
    always = ["--hospitals", "6", "--patients", "40", "--rounds", "2"]
    one, two = simulate(tmp_path / "one", *always), simulate(tmp_path / "two", *always, "--processes", "2")
    assert (one / "evaluation.json").read_bytes() == (two / "evaluation.json").read_bytes()
    with np.load(one / "model.npz") as ours, np.load(two / "model.npz") as theirs:
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_engine_that_ran_is_printed_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    always = ["--hospitals", "4", "--patients", "40", "--rounds", "1"]
    for engine in ("numpy", "keras"):
        run = simulate(tmp_path / engine, *always, "--engine", engine)
        assert f"engine: {engine} " in capsys.readouterr().out
        assert read(run, "settings.json")["starts"][0]["link"] == f"none: simulated, {engine} engine, 1 processes"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"strategy": "scaffold"}, "has no --strategy scaffold, which needs each one's weights"),
        ({"dp_epsilon": 3.0}, "has no differential privacy (--dp-epsilon, --dp-noise)"),
        ({"max_update_norm": 1.0}, "does not clip updates (--max-update-norm)"),
    ],
    ids=str,
)
def test_what_the_numpy_engine_cannot_do_runs_on_keras_and_is_refused_if_asked_for(
    flags: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert choose_engine(SimulateSettings(**flags)) == "keras"
    assert choose_engine(SimulateSettings()) == "numpy"
    ((name, value),) = flags.items()
    assert main(["--engine", "numpy", f"--{name.replace('_', '-')}", str(value)]) == 2
    assert capsys.readouterr().err == f"error: --engine numpy: {reason}; give --engine keras\n"


@pytest.mark.parametrize("engine", ["numpy", "keras"])
def test_the_faults_of_all_files_are_the_lines_of_client_py_and_nothing_is_written(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(write_hospitals(tmp_path / "data").values())
    for file in files[1:3]:
        lines = file.read_text(encoding="utf-8").splitlines()
        age, rest = lines[4].split(",", 1)
        file.write_text("\n".join([*lines[:4], f"4{age}4,{rest}", *lines[5:]]), encoding="utf-8")
    flags = ["--data", str(tmp_path / "data"), "--engine", engine, "--out", str(tmp_path / "run")]
    assert main(flags) == 2
    found = capsys.readouterr().err.splitlines()
    for file in files[1:3]:
        with pytest.raises(DataError) as caught:
            load_hospital(file)
        assert found.pop(0) == f"error: {caught.value}"
    assert found == []
    assert not (tmp_path / "run").exists()


def test_a_hospital_with_too_few_patients_is_left_out_by_the_number_of_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_hospitals(tmp_path / "data")
    small = files["synthetic-hungary"]
    header, *rows = small.read_text(encoding="utf-8").splitlines()
    target = header.split(",").index("target")
    healthy, ill = ([row for row in rows if row.split(",")[target] == label] for label in "01")
    small.write_text("\n".join([header, *healthy[:16], ill[0]]), encoding="utf-8")
    runs = [
        simulate(tmp_path / engine, "--data", str(tmp_path / "data"), "--rounds", "1", "--engine", engine)
        for engine in ("numpy", "keras")
    ]
    ours, keras = (read(run, "settings.json") for run in runs)
    assert len(ours["hospitals"]) == 3
    assert ours["hospitals"] == keras["hospitals"]
    assert ours["left_out"] == keras["left_out"]
    number = sorted(files.values()).index(small) + 1
    assert f"out of the run: hospital {number} (could not reply to query.describe: " in capsys.readouterr().out


def test_diverged_training_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--hospitals", "8", "--rounds", "9", "--learning-rate", "100", "--weight-decay", "1"]
    assert main([*flags, "--out", str(tmp_path / "run")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "of the 2 hospitals that it needs (--min-hospitals) trained (synthetic-cleveland-000001: training" in line
    assert line.endswith("and 3 more)")

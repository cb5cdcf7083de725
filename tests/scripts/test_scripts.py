"""The scripts as processes on loopback, started and stopped as a user would."""

import json
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedhealth.transport.grpc.client import join
from tests.support.processes import ANY_PORT, NUMPY_CLIENT, PATIENCE, Process, recorded_calls, refusing_address, started
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.processes, pytest.mark.enable_socket]


@contextmanager
def federation(
    data: Path,
    out: Path,
    order: Sequence[str] = ("server", "1", "2", "3", "4"),
    server_flags: Sequence[str] = ("--rounds", "3"),
    *,
    client_flags: dict[str, Sequence[str]] | None = None,
    environment: dict[str, str] | None = None,
    client: Sequence[str] = NUMPY_CLIENT,
) -> Iterator[dict[str, Process]]:
    """A server and its clients, started in `order`; a client that starts before the server finds no server at its port."""
    with Proxy() as proxy:
        processes: dict[str, Process] = {}
        try:
            for who in order:
                if who == "server":
                    command = ["server.py", "--address", ANY_PORT, "--out", str(out), *server_flags]
                else:
                    flags = (client_flags or {}).get(who, ())
                    command = [*client, str(data / f"client_{who}.csv"), "--server", proxy.address, *flags]
                processes[who] = Process(*command, environment=environment)
                if who == "server":
                    proxy.target = int(processes[who].address().rpartition(":")[2])
            yield processes
        finally:
            for process in processes.values():
                if process.process.poll() is None:
                    process.process.kill()
                process.process.wait()
                process.reader.join()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    with started("create_dataset.py", "--source", "synthetic", "--patients", "200", "--out", str(folder)) as process:
        assert process.end() == 0, process.output
    return folder


def load_weights(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "model.npz", allow_pickle=False) as model:
        return {name: model[name] for name in model.files if name.startswith("weights/")}


def test_four_clients_in_two_orders_give_the_same_model_and_open_no_other_connection(
    data: Path, tmp_path: Path
) -> None:
    environment, calls = recorded_calls(tmp_path)
    runs = []
    orders = (("server", "1", "2", "3", "4"), ("2", "4", "server", "3", "1"))
    for number, order in enumerate(orders):
        out = tmp_path / f"run{number}"
        with federation(data, out, order, environment=environment) as processes:
            for who in ("server", "1", "2", "3", "4"):
                assert processes[who].end() == 0, processes[who].output
            server = processes["server"].output
            assert server.splitlines()[-1] == f"run folder: {out}"
            assert "round 3/3   loss 0." in server
            assert "hospitals 4/4" in server
            assert "SYNTHETIC patients" in server
            assert "\x1b" not in server
            assert "ERROR" not in server
            assert "Traceback" not in "".join(process.output for process in processes.values())
            assert "no row leaves this computer" in processes["1"].output
            assert "round   3   own test patients: loss 0." in processes["1"].output
        runs.append(load_weights(out))
    for other in runs[1:]:
        assert other.keys() == runs[0].keys()
        for name, weights in runs[0].items():
            np.testing.assert_array_equal(weights, other[name])
    assert not calls.exists(), calls.read_text()
    summary = json.loads((tmp_path / "run0" / "summary.json").read_text())
    assert summary["dataset"] == "synthetic"
    assert summary["rounds"] == 3 == len(summary["round_seconds"])
    assert {"auroc", "accuracy", "brier", "loss", "sensitivity", "specificity"} <= set(summary["metrics"])
    assert sum(hospital["patients"] for hospital in summary["hospitals"].values()) == 200
    assert len((tmp_path / "run0" / "history.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_killed_hospital_is_named_and_the_others_continue_until_ctrl_c(data: Path, tmp_path: Path) -> None:
    with federation(data, tmp_path / "run", server_flags=("--rounds", "100000")) as processes:
        server = processes["server"]
        server.wait_for("round      2/100000")
        processes["2"].process.kill()
        server.wait_for("left: synthetic-hungary")
        assert "left out: synthetic-hungary" in server.wait_for("left out: synthetic-hungary")
        server.wait_for("of the training patients")
        server.wait_for("hospitals 3/4")
        server.process.send_signal(signal.SIGINT)
        assert server.end() == 130
        assert "stopped by Ctrl-C" in server.output
        assert "Traceback" not in server.output
        for who in ("1", "3", "4"):
            assert processes[who].end() == 1
            assert "error: the server ended the run: stopped by its coordinator" in processes[who].output
            assert "Traceback" not in processes[who].output


@pytest.mark.slow
@pytest.mark.parametrize("in_time", [True, False], ids=["wakes in time", "wakes too late"])
def test_a_hospital_that_was_suspended_until_the_rounds_were_over_gets_the_final_model_or_says_that_it_has_none(
    data: Path, tmp_path: Path, in_time: bool
) -> None:
    flags = ("--rounds", "40", "--round-timeout", "0.5")
    with federation(data, tmp_path / "run", server_flags=flags) as processes:
        server, asleep = processes["server"], processes["4"]
        server.wait_for("round  3/40")
        asleep.process.send_signal(signal.SIGSTOP)
        if in_time:
            server.wait_for("round 40/40")
        else:
            assert server.end() == 0, server.output
        asleep.process.send_signal(signal.SIGCONT)
        assert asleep.end() == (0 if in_time else 1), asleep.output
        assert server.end() == 0, server.output
    missed = "synthetic-va was away at the end and has no final model"
    assert ("this hospital has the final model" in asleep.output, missed in server.output) == (in_time, not in_time)
    if not in_time:
        assert asleep.lines[-1].startswith("error: the run ended while this hospital was absent: it has no final model")


@pytest.mark.slow
def test_a_hospital_that_cannot_take_part_is_left_out_by_name_and_the_others_get_their_model(
    data: Path, tmp_path: Path
) -> None:
    flags = ("--rounds", "2", "--test-share", "0.15")  # of 27 Swiss patients, 4
    with federation(data, tmp_path / "run", server_flags=flags) as processes:
        server, left_out = processes["server"], processes["3"]
        assert server.end() == 0, server.output
        assert left_out.end() == 1, left_out.output
        assert [processes[who].end() for who in "124"] == [0, 0, 0]
    why = "could not reply to query.describe: too few patients for --test-share 0.15: fewer than 10 would be left to train on"
    assert any(line.startswith(f"out of the run: synthetic-switzerland ({why}") for line in server.lines)
    assert any(line.startswith(f"synthetic-switzerland is not in the table: {why}") for line in server.lines)
    assert left_out.lines[-1].startswith(f"error: synthetic-switzerland takes no part in this run: {why}")
    assert "Traceback" not in server.output + left_out.output
    told = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert [hospital["name"] for hospital in told["hospitals"]] == [
        f"synthetic-{name}" for name in ("cleveland", "hungary", "va")
    ]
    assert list(told["left_out"]) == ["synthetic-switzerland"]
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"synthetic-switzerland: took no part: {why}" in report


@pytest.mark.slow
def test_a_duplicate_name_and_a_surplus_hospital_are_refused_while_the_others_wait(data: Path, tmp_path: Path) -> None:
    order, flags = ("server", "1", "2"), ("--hospitals", "3")
    with federation(data, tmp_path / "run", order, flags) as processes:
        server = processes["server"]
        address = server.address()
        server.wait_for("joined: synthetic-cleveland")
        elsewhere = (
            "--receipts",
            str(tmp_path / "receipts"),
        )  # otherwise the lock on the receipts would refuse the second client first
        with started("client.py", str(data / "client_1.csv"), "--server", address, *elsewhere) as twin:
            assert twin.end() == 2
            assert "named synthetic-cleveland is already connected; give this one another --name" in twin.output
            assert len(twin.output.splitlines()) == 2
        server.wait_for("refused")
        server.wait_for("joined: synthetic-hungary")
        # The third joins without replying, so that the run cannot end before the fourth joins; then it joins again.
        with join(address, "synthetic-switzerland", {}):
            server.wait_for("joined: synthetic-switzerland")
            with started("client.py", str(data / "client_4.csv"), "--server", address) as fourth:
                assert fourth.end() == 2
                assert "all 3 places are taken" in fourth.output
        with started(*NUMPY_CLIENT, str(data / "client_3.csv"), "--server", address) as third:
            assert third.end() == 0, third.output


@pytest.mark.slow
def test_a_client_that_finds_no_server_says_why_and_counts_its_attempts(data: Path) -> None:
    flags = (str(data / "client_1.csv"), "--max-wait", "1.5", "--server")
    with refusing_address() as address, started("client.py", *flags, address) as client:
        assert client.end() == 1
        assert f"no connection to {address} (attempt 1); trying again in" in client.output
        assert re.match(rf"error: no connection to {address} within 1.5 s \([2-9] attempts; ", client.lines[-1])


def test_a_server_whose_hospitals_do_not_join_prints_so_and_ends(tmp_path: Path) -> None:
    flags = ("--address", "127.0.0.1:0", "--max-wait", "0.5", "--out", str(tmp_path / "run"))
    with started("server.py", *flags) as server:
        assert server.end() == 1
        assert "waiting: 0 of 4 hospitals have joined (timeout in" in server.output
        assert server.lines[-1].startswith("error: only 0 of 4 hospitals (--hospitals) joined within 0.5 s")


@pytest.mark.slow
def test_a_port_in_use_and_a_wrong_server_are_one_line_each(data: Path, tmp_path: Path) -> None:
    with started("server.py", "--address", "127.0.0.1:0", "--out", str(tmp_path / "first")) as server:
        address = server.address()
        with started("server.py", "--address", address, "--out", str(tmp_path / "second")) as second:
            assert second.end() == 2
            assert second.lines == [
                f"error: cannot listen on {address}: the port is in use or the host is not this machine; "
                "give another one with --address"
            ]
        curl = f"import http.client; http.client.HTTPConnection('{address}', timeout={PATIENCE}).request('GET', '/')"
        with started("-c", curl) as other:
            other.end()
        assert server.process.poll() is None
        with started("-m", "http.server", "0", "--bind", "127.0.0.1", environment={"PYTHONUNBUFFERED": "1"}) as web:
            port = web.wait_for("Serving HTTP").split("port ")[1].split()[0]
            client_flags = ("--server", f"127.0.0.1:{port}", "--max-wait", "1")
            with started("client.py", str(data / "client_1.csv"), *client_flags) as client:
                assert client.end() in (1, 2)
                assert client.lines[-1].startswith("error: ")
                assert "Traceback" not in client.output


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("client.py", ["nowhere.csv"], ["nowhere.csv"]),
        ("client.py", [], ["PATH"]),
        ("client.py", ["data.csv", "--server", "nonsense"], ["--server is nonsense", "HOST:PORT"]),
        ("client.py", ["data.csv", "--save-model", "model.h5"], ["--save-model is model.h5", ".keras"]),
        ("server.py", ["--ronds", "3"], ["--ronds", "--rounds"]),
        ("server.py", ["--rounds", "0"], ["--rounds is 0", "1 or more"]),
        ("server.py", ["--strategy", "magic"], ["magic", "fedavg"]),
        ("server.py", ["--address", "127.0.0.1:99999"], ["--address is 127.0.0.1:99999", "HOST:PORT"]),
        ("server.py", ["--out", "README.md/run"], ["--out README.md/run"]),
        ("create_dataset.py", ["--source", "nowhere"], ["nowhere"]),
        ("create_dataset.py", ["--split", "random"], ["random", "natural"]),
    ],
)
def test_a_wrong_flag_or_file_is_one_line_and_exit_code_2(script: str, arguments: list[str], words: list[str]) -> None:
    with started(script, *arguments) as process:
        assert process.end() == 2, process.output
        (line,) = process.lines
        assert line.startswith("error: ")
        for word in words:
            assert word in line


@pytest.mark.slow
def test_a_privacy_limit_is_kept_and_a_run_that_would_exceed_it_does_not_begin(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "data"
    shutil.copytree(data, own)
    flags, limit = ("--rounds", "2", "--hospitals", "1", "--dp-epsilon", "3"), {"1": ("--max-epsilon", "4")}
    keras = ("client.py",)  # DP-SGD is Keras' alone
    with federation(own, tmp_path / "first", ("server", "1"), flags, client_flags=limit, client=keras) as processes:
        assert {name: process.end() for name, process in processes.items()} == {"server": 0, "1": 0}
        assert "privacy: epsilon 3, delta 0.0001 for each patient" in processes["server"].output
        line = processes["1"].wait_for("round 2   privacy: this run guarantees epsilon 3")
        assert line.endswith("so far, 4 at most (--max-epsilon)")
    assert "Differential privacy for each patient: epsilon 3" in (tmp_path / "first" / "MODEL_CARD.md").read_text()
    assert (own / "client_1.budget.jsonl").is_file()
    with federation(own, tmp_path / "second", ("server", "1"), flags, client_flags=limit) as processes:
        assert {name: process.end() for name, process in processes.items()} == {"server": 1, "1": 1}
        (line,) = (line for line in processes["server"].lines if line.startswith("error: "))
        assert "this hospital's privacy budget is too small: it has spent epsilon 3 of 4 (--max-epsilon)" in line
        assert not any("Traceback" in process.output for process in processes.values())

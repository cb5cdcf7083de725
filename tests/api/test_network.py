"""A server and its hospitals over the network, started from Python."""

from pathlib import Path

import pytest

from tests.support.hospital_files import write_hospitals
from tests.support.processes import started

SERVER = """
import sys
import fedhealth as fh
run = fh.Server(address="127.0.0.1:0", hospitals=2, rounds=2, out=sys.argv[1]).run(on_round=print)
print(run, run.folder, sep="\\n")
"""
CLIENT = """
import sys
from types import SimpleNamespace
import fedhealth as fh
from fedhealth.models.numpy_training import NumpyTrainer
sys.modules["fedhealth.models.training"] = SimpleNamespace(Trainer=NumpyTrainer)  # instead of TensorFlow
fh.Client(sys.argv[1], server=sys.argv[2]).run()
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_server_and_clients_run_a_federation_from_python(tmp_path: Path) -> None:
    files = list(write_hospitals(tmp_path).values())[:2]
    with started("-c", SERVER, str(tmp_path / "run")) as server:
        address = server.address()
        with started("-c", CLIENT, str(files[0]), address) as one, started("-c", CLIENT, str(files[1]), address) as two:
            assert (one.end(), two.end(), server.end()) == (0, 0, 0), f"{one.output}\n{two.output}\n{server.output}"
    assert server.lines[-2].startswith("<Run: 2 rounds, 2 hospitals, AUROC 0.")
    assert server.lines[-1] == str(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists()

"""What `import fedhealth` costs and offers; server and client from Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fedhealth as fh
from fedhealth.common.errors import UsageError

ROOT = Path(fh.__file__).parents[1]
HEAVY = ("tensorflow", "keras", "pandas", "flwr", "grpc", "numpy", "tyro")


def run_python(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    program = f"import sys, fedhealth as fh; dir(fh); print([name for name in {HEAVY} if name in sys.modules])"
    done = run_python(program, tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_name_of_the_face_is_there_and_no_other() -> None:
    assert {name: getattr(fh, name).__name__ for name in fh.__all__ if name != "__version__"} == {
        name: name for name in ("Client", "Run", "Server", "load_hospitals", "simulate")
    }
    assert set(fh.__all__) <= set(dir(fh))
    with pytest.raises(AttributeError, match="has no attribute 'simulation'"):
        _ = fh.simulation


def test_a_wrong_setting_of_server_or_client_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="--rounds is 0"):
        fh.Server(rounds=0)
    with pytest.raises(UsageError, match=r"--server is nowhere; give HOST:PORT"):
        fh.Client("data/client_1.csv", server="nowhere")


def test_a_server_for_other_machines_needs_tls_from_python_too() -> None:
    with pytest.raises(UsageError, match=r"^--address 0\.0\.0\.0:0 can be reached from other machines; give --tls"):
        fh.Server(address="0.0.0.0:0")


def test_a_client_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        fh.Client(tmp_path / "none.csv").run()

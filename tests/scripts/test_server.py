"""server.py within this process: what it prints before a hospital joins."""

from pathlib import Path

import pytest

import fedhealth as fh
import server
from fedhealth.common.errors import RunError
from fedhealth.transport.tls.authority import issue_certificates

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    issue_certificates(tmp_path / "certs", ("va",), ("localhost",), days=20, ca_days=900, force=False)
    return tmp_path / "certs" / "server"


def test_a_server_warns_of_a_certificate_that_ends_soon(
    tmp_path: Path, tls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--address", "127.0.0.1:0", "--tls", str(tls), "--max-wait", "0.01", "--out", str(tmp_path / "run")]
    assert server.main(flags) == 1  # nobody joins
    assert f"warning: {tls / 'cert.pem'}: expires on " in capsys.readouterr().err


def test_a_server_from_python_warns_too(tmp_path: Path, tls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="hospitals"):
        fh.Server(address="127.0.0.1:0", tls=tls, max_wait=0.01, out=tmp_path / "run").run()
    assert f"warning: {tls / 'cert.pem'}: expires on " in capsys.readouterr().err

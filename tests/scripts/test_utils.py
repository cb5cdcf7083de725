"""Checks of the scripts before a long run: files that cannot be written, addresses without TLS."""

import os
from pathlib import Path

import pytest

from fedhealth.common.errors import UsageError
from fedhealth.config.scripts import ServerSettings
from utils import require_writable, warn_if_readable

# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_can_be_written_is_not_changed(tmp_path: Path) -> None:
    require_writable(tmp_path / "model.keras", "save-model")
    (tmp_path / "old.keras").write_text("old")
    require_writable(tmp_path / "old.keras", "save-model")
    assert [path.name for path in tmp_path.iterdir()] == ["old.keras"]
    assert (tmp_path / "old.keras").read_text() == "old"


def test_a_file_without_a_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "model.keras"
    with pytest.raises(UsageError) as caught:
        require_writable(path, "save-model")
    assert str(caught.value) == f"--save-model {path}: there is no folder {path.parent}; create it first"


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        require_writable(tmp_path, "save-model")
    assert str(caught.value) == f"--save-model {tmp_path}: is a folder; give a file name"


def test_a_folder_that_must_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    with pytest.raises(UsageError, match=r"no permission to write in .*; give another place"):
        require_writable(tmp_path / "model.keras", "save-model")


# --- addresses without TLS ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "127.1.2.3:0", "localhost:8080", "[::1]:8080"])
def test_this_machine_s_own_addresses_need_no_tls_and_no_warning(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ServerSettings(address=address)
    warn_if_readable(address, encrypted=False)
    assert capsys.readouterr() == ("", "")


OPEN = [
    "0.0.0.0:8080",
    "[::]:8080",
    "10.0.0.7:8080",
    "server.example.org:8080",
    "localhost.example.org:8080",
    "127.example.org:1",
]


@pytest.mark.parametrize("address", OPEN)
def test_any_other_address_is_refused_without_tls(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerSettings(address=address)
    line = str(caught.value)
    assert line.startswith(f"--address {address} can be reached from other machines; give --tls FOLDER")
    assert "--insecure" in line and "\n" not in line


@pytest.mark.parametrize("address", OPEN)
def test_insecure_is_allowed_with_a_warning_of_one_line(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    ServerSettings(address=address, insecure=True)
    warn_if_readable(address, encrypted=False)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"warning: {address} can be reached from other machines; without TLS anybody there")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("address", OPEN)
def test_with_tls_every_address_is_accepted(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    ServerSettings(address=address, tls=Path("certs/server"))
    warn_if_readable(address, encrypted=True)
    assert capsys.readouterr() == ("", "")

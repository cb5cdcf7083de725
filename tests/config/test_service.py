"""The files of a service: every fault is one line that names the file, the value and what to do."""

from datetime import time
from pathlib import Path

import pytest

from fedhealth.common.errors import UsageError
from fedhealth.config.service import (
    ServicePolicy,
    ServiceSettings,
    read_policy,
    read_queued_run,
    read_service,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_relative_folders_of_a_service_start_at_its_file(tmp_path: Path) -> None:
    file = write(tmp_path / "service.toml", 'queue = "to-do"\ntls = "/etc/certs"\nmax-wait = 60')
    service = read_service(file)
    assert (service.queue, service.runs, service.tls) == (tmp_path / "to-do", tmp_path / "runs", Path("/etc/certs"))
    assert service.max_wait == 60.0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("keep = ", "is not TOML (Invalid value (at end of document)); correct the file"),
        ("rounds = 3", "unknown key rounds; known are address, allow, "),
        ('keep = "many"', "keep is 'many'; expected int, got str; correct the file"),
        ("keep = 0", "--keep is 0; give 1 or more"),
        ('address = "0.0.0.0:8443"', "--address 0.0.0.0:8443 can be reached from other machines; give --tls"),
        ("queue = 3", "queue is 3; expected str"),
    ],
)
def test_a_fault_in_the_servers_file_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    file = write(tmp_path / "service.toml", text)
    with pytest.raises(UsageError) as caught:
        read_service(file)
    assert str(caught.value).startswith(f"{file}: {fault}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        read_service(tmp_path / "none.toml")


def test_a_run_file_holds_settings_and_who_may_join(tmp_path: Path) -> None:
    file = write(tmp_path / "spring.toml", 'rounds = 3\nallow = ["a", "b"]')
    run = read_queued_run(file, ServiceSettings(allow=("c",)))
    assert (run.name, run.federation.rounds, run.allow) == ("spring", 3, ("a", "b"))
    assert run.run_config()["run"] == "spring"
    assert read_queued_run(write(file, ""), ServiceSettings(allow=("c",))).allow == ("c",)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("spring", "roundz = 3", "unknown key roundz; known are allow, batch-size, "),
        ("spring", "out = '/tmp'", "unknown key out; known are "),
        ("spring", "rounds = 0", "--rounds is 0; give 1 or more"),
        ("spring", "rounds = 'x'", "--rounds is 'x'; give a value of type int"),
        ("spring", "allow = 'a'", "allow is a; give a list of hospitals' names"),
        ("spring", "hospitals = 1001", "--hospitals is 1001; give 1000 at most in a run of a service"),
        ("a b", "", "a run's name has 1 to 60 letters, digits, dots, dashes and underscores; rename the file"),
    ],
)
def test_a_fault_in_a_run_file_is_one_line(tmp_path: Path, name: str, text: str, fault: str) -> None:
    file = write(tmp_path / f"{name}.toml", text)
    with pytest.raises(UsageError) as caught:
        read_queued_run(file, ServiceSettings())
    assert str(caught.value).startswith(f"{file}: {fault}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("max-round = 3", "unknown key max-round; known are hours, max-rounds, "),
        ('schema = "old"', "schema is old, but this client's columns are new; give the approved ones "),
        ("max-run-epsilon = 0", "max-run-epsilon is 0.0; give a number above 0, at most 100"),
        ("max-rounds = 0", "max-rounds is 0; give 1 or more"),
        ("splits = 0", "splits is 0; give 1 or more"),
        ('hours = "20-6"', "hours is 20-6; give HH:MM-HH:MM, such as 20:00-06:00"),
        ('strategies = ["best"]', "strategies is ['best']; invalid enum value 'best'; correct the file"),
        ("require-privacy = 1", "require-privacy is 1; expected bool, got int; correct the file"),
    ],
)
def test_a_fault_in_a_policy_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    file = write(tmp_path / "policy.toml", text)
    with pytest.raises(UsageError) as caught:
        read_policy(file, "new")
    assert str(caught.value).startswith(f"{file}: {fault}")


def test_an_empty_policy_limits_the_splits_only(tmp_path: Path) -> None:
    assert read_policy(write(tmp_path / "policy.toml", ""), "new") == ServicePolicy(splits=1)


@pytest.mark.parametrize(
    ("hours", "opens"),
    [
        (None, ("00:00", "12:00", "23:59")),
        ("09:00-17:00", ("09:00", "12:00")),
        ("20:00-06:00", ("00:00", "05:59", "20:00", "23:59")),
    ],
)
def test_hours_may_go_over_midnight_and_their_end_is_outside(hours: str | None, opens: tuple[str, ...]) -> None:
    policy = ServicePolicy(hours=hours)
    times = ("00:00", "05:59", "06:00", "09:00", "12:00", "17:00", "20:00", "23:59")
    assert {each for each in times if policy.is_open(time.fromisoformat(each))} >= set(opens)
    if hours:
        assert {each for each in times if policy.is_open(time.fromisoformat(each))} == set(opens)

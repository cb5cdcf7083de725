"""The files of a standing service: the server's (--service of server.py), a queued run, and a hospital's policy, in TOML."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import require
from fedhealth.config.engine import RUN_NAME
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.config.scripts import ServerSettings

T = TypeVar("T")
MOST_HOSPITALS = 1000
"""How many hospitals one run of a service may have: the port is opened once, for all runs."""
GOOD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class ServiceSettings:
    """What all runs of a service share: where it listens, and its folders. Keys as the flags of server.py, without dashes."""

    queue: Path = Path("queue")
    """The folder of run files; the service takes them in the order of their names."""
    runs: Path = Path("runs")
    """The folder in which each run gets a folder of its own."""
    address: str = "127.0.0.1:8080"
    """HOST:PORT, for all runs."""
    tls: Path | None = None
    """The server's folder of certificates."""
    allow: tuple[str, ...] = ()
    """The hospitals that may join; a run file may name others."""
    dashboard: int | None = None
    """The port of the live page."""
    max_wait: float = 86400.0
    """Seconds that a run waits for missing hospitals before it counts as failed."""
    keep: int = 3
    """How many rounds' checkpoints a run folder keeps."""
    insecure: bool = False
    """Listen for other machines without TLS."""

    def __post_init__(self) -> None:
        """Check every value as that of the flag."""
        require(0 <= (self.dashboard or 0) <= 65535, "dashboard", self.dashboard, "a port from 0 to 65535")
        self.for_run(FederationSettings(), self.allow)

    def for_run(self, federation: FederationSettings, allow: tuple[str, ...], **flags: Any) -> ServerSettings:
        """The settings of one run, `flags` with them, such as `out` or `resume`; the live page is the service's."""
        names = ("address", "tls", "max_wait", "keep", "insecure")
        return ServerSettings(
            **{field.name: getattr(federation, field.name) for field in dataclasses.fields(FederationSettings)},
            **{name: getattr(self, name) for name in names},
            allow=allow,
            **flags,
        )


@dataclass(frozen=True)
class QueuedRun:
    """One run of the queue: its settings, and the hospitals that may join it."""

    name: str
    """The name of its file, without .toml."""
    federation: FederationSettings
    """What is sent to the hospitals."""
    allow: tuple[str, ...]
    """The hospitals that may join; empty: any."""
    schema: Path | None = None
    """The file that defines the columns; None: heart disease."""

    def run_config(self) -> dict[str, Any]:
        """What the hospitals are sent: with the name, by which two runs with the same settings are two."""
        return {**self.federation.to_run_config(), RUN_NAME: self.name}


@dataclass(frozen=True)
class ServicePolicy:
    """In which runs a hospital takes part. What is not set is not limited, except the number of splits."""

    schema: str | None = None
    """The fingerprint of the columns that this hospital has approved."""
    require_privacy: bool = False
    """Only runs under differential privacy."""
    require_secure_aggregation: bool = False
    """Only runs in which the server reads sums over all hospitals."""
    max_run_epsilon: float | None = None
    """Only runs that guarantee this epsilon or less (all runs together: --max-epsilon)."""
    max_rounds: int | None = None
    """Only runs of so many rounds or fewer."""
    strategies: tuple[StrategyName, ...] = ()
    """Only runs with one of these; empty: with any."""
    hours: str | None = None
    """When a run may begin here, in local time, such as 20:00-06:00."""
    splits: int = 1
    """Into how many different splits (training and test patients) the server may have the patients divided."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        epsilon = self.max_run_epsilon
        require_key(epsilon is None or 0 < epsilon <= 100, "max-run-epsilon", epsilon, "a number above 0, at most 100")
        require_key(self.max_rounds is None or self.max_rounds >= 1, "max-rounds", self.max_rounds, "1 or more")
        require_key(self.splits >= 1, "splits", self.splits, "1 or more")
        good_hours = self.hours is None or HOURS.fullmatch(self.hours)
        require_key(bool(good_hours), "hours", self.hours, "HH:MM-HH:MM, such as 20:00-06:00")

    def is_open(self, now: time) -> bool:
        """Whether a run may begin at this time of the day; hours that end before they begin go over midnight."""
        if self.hours is None:
            return True
        begin, end = (time.fromisoformat(part) for part in self.hours.split("-"))
        return begin <= now < end if begin < end else now >= begin or now < end


def require_key(condition: bool, key: str, value: object, expected: str) -> None:
    """Raise a one-line `UsageError` that names the key, its value and what it should be."""
    if not condition:
        raise UsageError(f"{key} is {value}; give {expected}")


def read_service(path: Path) -> ServiceSettings:
    """The service's settings; a relative path in the file starts at the file's folder."""
    settings = _convert(path, read_toml(path), ServiceSettings)
    folders: dict[str, Any] = {
        name: path.parent / folder
        for name in ("queue", "runs", "tls")
        if (folder := getattr(settings, name)) is not None
    }
    return dataclasses.replace(settings, **folders)


def read_policy(path: Path, schema: str) -> ServicePolicy:
    """A hospital's policy; `schema` is the fingerprint of this hospital's columns.

    Raises
    ------
    UsageError
        The file cannot be read, holds something else, or has approved other columns: this client could join no run.
    """
    policy = _convert(path, read_toml(path), ServicePolicy)
    if policy.schema not in (None, schema):
        raise UsageError(
            f"{path}: schema is {policy.schema}, but this client's columns are {schema}; give the approved ones "
            "(--schema), or approve these columns"
        )
    return policy


def read_queued_run(path: Path, service: ServiceSettings) -> QueuedRun:
    """A run file: federation settings, `allow` if not everybody may join, and `schema`; its name is the run's."""
    content = read_toml(path)
    if not GOOD_NAME.fullmatch(path.stem):
        raise UsageError(
            f"{path}: a run's name has 1 to 60 letters, digits, dots, dashes and underscores; rename the file"
        )
    known = {field.name.replace("_", "-") for field in dataclasses.fields(FederationSettings)}
    _refuse_unknown(path, content, {*known, "allow", "schema"})
    allow = content.pop("allow", list(service.allow))
    if not (isinstance(allow, list) and all(isinstance(name, str) for name in allow)):
        raise UsageError(f"{path}: allow is {allow}; give a list of hospitals' names")
    schema = content.pop("schema", None)
    if not (schema is None or isinstance(schema, str)):
        raise UsageError(f"{path}: schema is {schema}; give the path of a schema file, from the queue folder on")
    try:
        federation = FederationSettings.from_run_config(content)
        most = federation.hospitals <= MOST_HOSPITALS
        require(most, "hospitals", federation.hospitals, f"{MOST_HOSPITALS} at most in a run of a service")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return QueuedRun(path.stem, federation, tuple(allow), service.queue / schema if schema else None)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; a `UsageError` if it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a file in TOML") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not TOML ({error}); correct the file") from None


def _convert(path: Path, content: Mapping[str, Any], kind: type[T]) -> T:
    fields = {field.name.replace("_", "-") for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    _refuse_unknown(path, content, fields)
    values = {key.replace("-", "_"): value for key, value in content.items()}
    try:
        return msgspec.convert(values, kind, dec_hook=lambda wanted, value: wanted(value))
    except msgspec.ValidationError as error:
        key = re.search(r"\$\.(\w+)", str(error))
        shown = f"{key[1].replace('_', '-')} is {values.get(key[1])!r}; " if key else ""
        expected = str(error).partition(" - at")[0].replace("`", "")
        raise UsageError(f"{path}: {shown}{expected[:1].lower()}{expected[1:]}; correct the file") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _refuse_unknown(path: Path, content: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(content.keys() - known):
        raise UsageError(f"{path}: unknown key {unknown[0]}; known are {', '.join(sorted(known))}")

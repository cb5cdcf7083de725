"""Frozen settings = the scripts' flags = the run-config keys; each checked where it is made.

The names and docstrings here are what `--help` prints. Nothing else in the project parses or checks a setting.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from fedhealth.errors import UsageError

UCI_URL = "https://archive.ics.uci.edu/static/public/45/heart+disease.zip"

LONGEST_WAIT = 30 * 24 * 3600.0
"""Seconds; longer than any run, shorter than what the system's clocks can wait."""

Scaling = Literal["federated", "reference", "local"]
ModelName = Literal["mlp", "logistic"]
StrategyName = Literal["fedavg"]
Split = Literal["natural", "iid", "label-skew", "quantity-skew", "feature-skew"]


def require(condition: bool, flag: str, value: object, expected: str) -> None:
    """Raise a one-line `UsageError` that names the flag, its value and what it should be."""
    if not condition:
        raise UsageError(f"--{flag} is {value}; give {expected}")


def parse_address(address: str, flag: str) -> tuple[str, int]:
    """`HOST:PORT` -> (host, port); an IPv6 host stands in brackets. Port 0 lets the system choose."""
    parts = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", address)
    require(parts is not None and int(parts[2]) <= 65535, flag, address, "HOST:PORT, such as 127.0.0.1:8080")
    return (parts[1], int(parts[2])) if parts else ("", 0)


@dataclass(frozen=True)
class FederationSettings:
    """What all hospitals must agree on: set at the server, sent to every client (the run config)."""

    hospitals: int = 4
    """How many hospitals take part; the server waits for them."""
    rounds: int = 20
    """Federated rounds: train in every hospital, average, evaluate."""
    local_epochs: int = 1
    """Passes over a hospital's training patients in one round."""
    batch_size: int = 16
    """Patients per gradient step."""
    learning_rate: float = 0.1
    """Step size of a hospital's stochastic gradient descent."""
    model: ModelName = "mlp"
    """mlp: one small hidden layer; logistic: logistic regression."""
    strategy: StrategyName = "fedavg"
    """How the server combines the hospitals' weights."""
    scaling: Scaling = "federated"
    """Whose means standardise: the federation's, fixed clinical constants, or each hospital's own (shows what it costs)."""
    missing_indicators: bool = True
    """Tell the model which values are missing: it predicts better, partly by what a doctor saw no need to measure."""
    test_share: float = 0.25
    """Share of each hospital's patients that is held out for evaluation and never trained on."""
    round_timeout: float = 3600.0
    """Seconds that the server waits for a hospital's answer before going on without it."""
    seed: int = 0
    """Same seed, same weights, bit for bit."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        require(self.hospitals >= 1, "hospitals", self.hospitals, "1 or more")
        require(self.rounds >= 1, "rounds", self.rounds, "1 or more")
        require(self.local_epochs >= 1, "local-epochs", self.local_epochs, "1 or more")
        require(self.batch_size >= 1, "batch-size", self.batch_size, "1 or more")
        require(0 < self.learning_rate <= 100, "learning-rate", self.learning_rate, "a number above 0, at most 100")
        require(0 < self.test_share < 1, "test-share", self.test_share, "a share between 0 and 1")
        require(
            0 < self.round_timeout <= LONGEST_WAIT,
            "round-timeout",
            self.round_timeout,
            "seconds above 0, 30 days at most",
        )
        require(0 <= self.seed < 2**31, "seed", self.seed, "a whole number from 0 to 2147483647")

    def to_run_config(self) -> dict[str, bool | int | float | str]:
        """As Flower's run config: kebab-case keys, plain values."""
        return {f.name.replace("_", "-"): getattr(self, f.name) for f in dataclasses.fields(FederationSettings)}

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> Self:
        """From Flower's run config; a missing key takes its default.

        Raises
        ------
        UsageError
            A key that is no setting, or a value out of its range or of another type.
        """
        known = {f.name.replace("_", "-"): f for f in dataclasses.fields(FederationSettings)}
        if unknown := sorted(set(run_config) - set(known)):
            raise UsageError(f"run config: unknown key {unknown[0]}; known are {', '.join(known)}")
        values: dict[str, Any] = {}
        for key, given in run_config.items():
            expected = type(known[key].default)
            # TOML and protobuf may turn 1.0 into 1; a bool is never meant as a number.
            value = float(given) if expected is float and type(given) is int else given
            require(type(value) is expected, key, repr(value), f"a value of type {expected.__name__}")
            values[known[key].name] = value
        for name, allowed in (("model", ModelName), ("strategy", StrategyName), ("scaling", Scaling)):
            choices = allowed.__args__  # type: ignore[attr-defined]  # typing.Literal has it
            if name in values:
                require(values[name] in choices, name, values[name], f"one of {', '.join(choices)}")
        return cls(**values)


@dataclass(frozen=True)
class ServerSettings(FederationSettings):
    """Coordinate a run: wait for the hospitals, train one model with them, report.

    Example: python server.py --hospitals 4 --rounds 20
    """

    address: str = "127.0.0.1:8080"
    """HOST:PORT to listen on; port 0 takes a free one."""
    out: Path | None = None
    """The run folder to write (default: runs/<time>)."""
    max_wait: float = 3600.0
    """Seconds to wait for missing hospitals before giving up."""
    verbose: bool = False
    """Also show Flower's own log."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        super().__post_init__()
        parse_address(self.address, "address")
        require(0 < self.max_wait <= LONGEST_WAIT, "max-wait", self.max_wait, "seconds above 0, 30 days at most")

    def federation(self) -> FederationSettings:
        """Only what travels to the hospitals."""
        return FederationSettings(**{f.name: getattr(self, f.name) for f in dataclasses.fields(FederationSettings)})


@dataclass(frozen=True)
class ClientSettings:
    """One hospital joins a federation with one CSV. Its rows never leave this process.

    Example: python client.py data/client_1.csv --save-model model.keras
    """

    file: Path
    """The hospital's CSV (columns: see data/README.md)."""
    server: str = "127.0.0.1:8080"
    """HOST:PORT of the server."""
    name: str | None = None
    """The hospital's name (default: the file's hospital column if it names one hospital, else the file's name)."""
    max_wait: float = 300.0
    """Seconds to keep trying to reach the server before giving up."""
    save_model: Path | None = None
    """Write the final model here as a self-contained .keras file."""
    verbose: bool = False
    """Also show Flower's own log."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        parse_address(self.server, "server")
        require(0 <= self.max_wait <= LONGEST_WAIT, "max-wait", self.max_wait, "seconds, 0 or more, 30 days at most")
        if self.save_model is not None:
            require(self.save_model.suffix == ".keras", "save-model", self.save_model, "a path that ends in .keras")


@dataclass(frozen=True)
class DatasetSettings:
    """Make the hospitals' CSV files: data/full_dataset.csv, data/client_1.csv ... and data/dataset.json.

    Example: python create_dataset.py --source auto --split natural
    """

    source: str = "auto"
    """auto (data/raw, else download, else synthetic), uci, synthetic, or the PATH of the UCI files or a Kaggle copy."""
    split: Split = "natural"
    """natural: one file per real hospital; iid, label-skew, quantity-skew, feature-skew: patients dealt out anew."""
    clients: int = 4
    """How many hospitals to deal the patients out to (the natural split always has its own)."""
    alpha: float = 0.5
    """Unevenness of label-skew and quantity-skew (Dirichlet concentration): small is uneven."""
    patients: int = 920
    """How many synthetic patients to invent, over all hospitals."""
    seed: int = 0
    """Same seed, same files, byte for byte."""
    url: str = UCI_URL
    """Where to download the UCI archive from."""
    out: Path = Path("data")
    """The folder to write to."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        require(1 <= self.clients <= 1000, "clients", self.clients, "a number from 1 to 1000")
        require(0 < self.alpha <= 1e6, "alpha", self.alpha, "a number above 0")
        require(40 <= self.patients <= 10_000_000, "patients", self.patients, "a number from 40 to 10000000")
        require(0 <= self.seed < 2**31, "seed", self.seed, "a whole number from 0 to 2147483647")
        good_url = self.url.startswith(("http://", "https://"))
        require(good_url, "url", self.url, "an address that starts with http:// or https://")

"""The flags of the three scripts."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedhealth.config.checks import LONGEST_WAIT, parse_address, require
from fedhealth.config.federation import FederationSettings

UCI_URL = "https://archive.ics.uci.edu/static/public/45/heart+disease.zip"

Track = Literal["none", "tensorboard", "mlflow"]
Split = Literal["natural", "iid", "label-skew", "quantity-skew", "feature-skew"]


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
    tls: Path | None = None
    """The server's folder of certificates (python -m fedhealth certificates); without it only this machine may join."""
    allow: tuple[str, ...] = ()
    """The hospitals that may join, by name (default: with --tls, whoever has a certificate of the federation)."""
    insecure: bool = False
    """Listen on other addresses than this machine's own without TLS: anybody can join and read along."""
    resume: Path | None = None
    """Go on with the run of this folder from its last whole round, with its settings."""
    keep: int = 3
    """How many rounds' checkpoints the run folder keeps."""
    dashboard: int | None = None
    """A port for a live page of the run, for this machine only (http://127.0.0.1:PORT/); 0 takes a free one."""
    track: Track = "none"
    """Also write each round's numbers for one of these, into the run folder (needs pip install -r requirements-track.txt)."""
    verbose: bool = False
    """Also show Flower's own log."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        super().__post_init__()
        require(0 <= (self.dashboard or 0) <= 65535, "dashboard", self.dashboard, "a port from 0 to 65535")
        require(self.keep >= 1, "keep", self.keep, "1 or more")
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
    tls: Path | None = None
    """This hospital's folder of certificates; the name in the certificate is the hospital's name."""
    max_wait: float = 300.0
    """Seconds to keep trying to reach the server before giving up."""
    receipts: Path | None = None
    """The folder for the record of everything that leaves this process (default: receipts/ beside the CSV)."""
    min_count: int = 5
    """Sums over fewer patients than this stay in this hospital; the server can ask for more, never for less."""
    max_epsilon: float | None = None
    """Take part under differential privacy only, and only until all runs together have told this much of a patient."""
    reset_budget: bool = False
    """Put aside what is written down of earlier runs beside the CSV and count from 0: only for patients who are new."""
    save_model: Path | None = None
    """Write the final model here as a self-contained .keras file."""
    save_personal: Path | None = None
    """Write here what this hospital has made of it for itself (the server's --personalise), also as a .keras file."""
    share_verdict: bool = False
    """Tell the server in the end what the run was worth here (metric, difference, interval; from the test patients)."""
    verbose: bool = False
    """Also tell every message that leaves this process, as it is in the receipts, and Flower's own log."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        parse_address(self.server, "server")
        require(self.min_count >= 1, "min-count", self.min_count, "1 or more")
        limit = self.max_epsilon
        require(limit is None or 0 < limit <= 1000, "max-epsilon", limit, "a number above 0, at most 1000")
        require(0 <= self.max_wait <= LONGEST_WAIT, "max-wait", self.max_wait, "seconds, 0 or more, 30 days at most")
        for flag, path in (("save-model", self.save_model), ("save-personal", self.save_personal)):
            require(path is None or path.suffix == ".keras", flag, path, "a path that ends in .keras")
        same = self.save_model is not None and self.save_model == self.save_personal
        require(not same, "save-personal", self.save_personal, "another file than --save-model")


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

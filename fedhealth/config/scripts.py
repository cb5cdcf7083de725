"""The flags of the three scripts."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedhealth.common.addresses import is_loopback
from fedhealth.common.errors import UsageError
from fedhealth.config.checks import LONGEST_WAIT, check_proxy, parse_address, parse_server, require
from fedhealth.config.federation import FederationSettings

UCI_URL = "https://archive.ics.uci.edu/static/public/45/heart+disease.zip"

LogFormat = Literal["text", "json"]
Track = Literal["none", "tensorboard", "mlflow"]
Codes = Literal["auto", "uci", "zero-based", "kaggle-303"]
SecureAggregationWish = Literal["required", "accept", "never"]
Label1 = Literal["auto", "ill", "healthy"]
Decimal = Literal["auto", "comma", "point"]
Split = Literal["natural", "iid", "label-skew", "quantity-skew", "feature-skew"]


@dataclass(frozen=True)
class ServerFlags:
    """Where this server listens, who may join, and what it writes."""

    address: str = "127.0.0.1:8080"
    """HOST:PORT to listen on; port 0 takes a free one."""
    tls: Path | None = None
    """The server's folder of certificates (python -m fedhealth certificates); without it only this machine may join."""
    schema: Path | None = None
    """The file (TOML) that defines the columns and the outcome (default: heart disease; docs/schemas.md)."""
    out: Path | None = None
    """The run folder to write (default: runs/<time>)."""
    resume: Path | None = None
    """Continue the run of this folder after its last complete round, with its settings."""
    without: tuple[str, ...] = ()
    """With --resume: hospitals that are gone for good; the run goes on without them."""
    service: Path | None = None
    """Stay, and run one federation after the other as this file (TOML) says (docs/deployment.md)."""
    dashboard: int | None = None
    """The port of a live page of the run, for this machine only (http://127.0.0.1:PORT/); 0 takes a free one."""
    allow: tuple[str, ...] = ()
    """The hospitals that may join, by name (default: with --tls, every hospital with a certificate of the federation)."""
    track: Track = "none"
    """Also write each round's metrics for TensorBoard or MLflow (needs pip install -r requirements-track.txt)."""
    max_wait: float = 3600.0
    """Seconds to wait for missing hospitals before giving up."""
    keep: int = 3
    """Rarely needed. How many rounds' checkpoints the run folder keeps."""
    log_format: LogFormat = "text"
    """json: print each line as a JSON object (time, level, message)."""
    timestamps: bool = False
    """Print the time before each line."""
    insecure: bool = False
    """Rarely needed. Listen for other machines without TLS: anybody in that network can join and read everything."""
    verbose: bool = False
    """Rarely needed. Also print Flower's own log."""


@dataclass(frozen=True)
class ServerSettings(ServerFlags, FederationSettings):
    """Coordinate a run: wait for the hospitals, train one model with them, report.

    Example: python server.py --hospitals 4 --rounds 30
    """

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        super().__post_init__()
        require(0 <= (self.dashboard or 0) <= 65535, "dashboard", self.dashboard, "a port from 0 to 65535")
        require(self.keep >= 1, "keep", self.keep, "1 or more")
        parse_address(self.address, "address")
        if self.resume and self.out:
            raise UsageError(f"--out is {self.out} beside --resume, which continues in its own folder; leave --out out")
        if self.without and not self.resume:
            raise UsageError(
                f"--without is {' '.join(self.without)}; give --resume FOLDER with it, for a new run --hospitals"
            )
        if not (self.tls or self.insecure or is_loopback(self.address)):
            raise UsageError(
                f"--address {self.address} can be reached from other machines; give --tls FOLDER (python -m fedhealth "
                "certificates makes one), or --insecure if the network itself is safe"
            )
        require(0 < self.max_wait <= LONGEST_WAIT, "max-wait", self.max_wait, "seconds above 0, 30 days at most")
        if self.secure_aggregation and not (self.tls or is_loopback(self.address)):
            raise UsageError(
                f"--secure-aggregation on --address {self.address} needs --tls FOLDER: without certificates a hospital's key "
                "could be swapped for another"
            )

    def federation(self) -> FederationSettings:
        """Only what is sent to the hospitals."""
        return FederationSettings(**{f.name: getattr(self, f.name) for f in dataclasses.fields(FederationSettings)})


@dataclass(frozen=True)
class ClientSettings:
    """One hospital joins a federation with one CSV. Its rows never leave this process.

    Example: python client.py data/client_1.csv --save-model model.keras
    """

    file: Path
    """The hospital's table: CSV, Excel, Parquet, SPSS, Stata or SAS, with the columns of --schema (docs/own-files.md)."""
    schema: Path | None = None
    """The file (TOML) that defines the columns and the outcome (default: heart disease; docs/schemas.md)."""
    sheet: str | None = None
    """The sheet of an Excel workbook (default: the only one that has cells)."""
    decimal: Decimal = "auto"
    """Whether the numbers of a file have decimal commas or points, if the file leaves it open (docs/own-files.md)."""
    mapping: Path | None = None
    """A file (TOML) of what this hospital names, measures or codes differently; it stays here (docs/own-files.md)."""
    server: str = "127.0.0.1:8080"
    """HOST:PORT of the server."""
    name: str | None = None
    """The hospital's name (default: the file's hospital column if it names one hospital, else the file's name)."""
    tls: Path | None = None
    """This hospital's folder of certificates; the name in the certificate is the hospital's name."""
    proxy: str | None = None
    """none, or http://HOST:PORT of an HTTP proxy to the server (default: as gRPC reads http_proxy, docs/deployment.md)."""
    max_wait: float = 300.0
    """Seconds to keep trying to reach the server before giving up."""
    receipts: Path | None = None
    """The folder for the record of everything that leaves this process (default: receipts/ beside the CSV)."""
    min_count: int = 5
    """Do not send sums over fewer patients than this; the server can demand a higher limit, never a lower one."""
    max_epsilon: float | None = None
    """Take part only under differential privacy, and only until the epsilon of all runs together reaches this."""
    secure_aggregation: SecureAggregationWish = "accept"
    """required: join only runs in which the server reads sums over all hospitals (docs/secure-aggregation.md); never: only
    others."""
    pin: Path | None = None
    """A file of the other hospitals' certificates that secure aggregation accepts: a line SHA256 NAME for each."""
    accept_roster: tuple[str, ...] = ()
    """Rarely needed. Secure aggregation with other hospitals than before: the digits that this client printed for them."""
    reset_budget: bool = False
    """Reset the recorded epsilon of earlier runs to 0: only if no patient of the CSV took part in one of them."""
    save_model: Path | None = None
    """Write the final model here as a self-contained .keras file (for Keras 3.3 or later)."""
    save_personal: Path | None = None
    """Write this hospital's personal model here (the server's --personalise), also as a .keras file."""
    share_verdict: bool = False
    """After the run, send the server how the global model compares with a local one here (metric, difference, interval)."""
    service: Path | None = None
    """Stay, and take part in every run that this policy file (TOML) allows (docs/deployment.md)."""
    log_format: LogFormat = "text"
    """json: print each line as a JSON object (time, level, message)."""
    timestamps: bool = False
    """Print the time before each line."""
    verbose: bool = False
    """Also print every message that leaves this process, as in the receipts, and Flower's own log."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        parse_server(self.server)
        check_proxy(self.proxy)
        require(self.min_count >= 1, "min-count", self.min_count, "1 or more")
        limit = self.max_epsilon
        require(limit is None or 0 < limit <= 1000, "max-epsilon", limit, "a number above 0, at most 1000")
        require(0 <= self.max_wait <= LONGEST_WAIT, "max-wait", self.max_wait, "seconds, 0 or more, 30 days at most")
        for flag, path in (("save-model", self.save_model), ("save-personal", self.save_personal)):
            require(path is None or path.suffix == ".keras", flag, path, "a path that ends in .keras")
        if self.pin and not self.tls:
            raise UsageError("--pin needs --tls FOLDER: without certificates there is nothing to compare")
        same = self.save_model is not None and self.save_model == self.save_personal
        require(not same, "save-personal", self.save_personal, "another file than --save-model")


@dataclass(frozen=True)
class DatasetSettings:
    """Make the hospitals' CSV files: data/full_dataset.csv, data/client_1.csv ... and data/dataset.json.

    Example: python create_dataset.py --source auto --split natural
    """

    source: str = "auto"
    """auto (data/raw, else download, else synthetic), uci, synthetic, or the PATH of the UCI files or a file of patients."""
    codes: Codes = "auto"
    """What a file's codes mean, if that is not certain: uci, zero-based (UCI's from 0), kaggle-303 (docs/own-files.md)."""
    label_1: Label1 = "auto"
    """What the label 1 of a file means, if that is not certain."""
    schema: Path | None = None
    """The file (TOML) that defines the columns of --source (default: heart disease; docs/schemas.md)."""
    sheet: str | None = None
    """The sheet of an Excel workbook (default: the only one that has cells)."""
    decimal: Decimal = "auto"
    """Whether the numbers of a file have decimal commas or points, if the file leaves it open (docs/own-files.md)."""
    mapping: Path | None = None
    """A file (TOML) of what the source names, measures or codes differently (docs/own-files.md)."""
    split: Split = "natural"
    """natural: one file per real hospital; iid, label-skew, quantity-skew, feature-skew: patients are redistributed."""
    clients: int = 4
    """How many hospitals the patients are divided among (the natural split always has its own)."""
    alpha: float = 0.5
    """Unevenness of label-skew and quantity-skew (Dirichlet concentration): small is uneven."""
    patients: int = 920
    """How many synthetic patients to generate, over all hospitals."""
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

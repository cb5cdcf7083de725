"""The flags of the commands that look at a finished run: predict, export, coefficients, report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import require
from fedhealth.config.scripts import Decimal

TableFormat = Literal["csv", "json"]
CoefficientFormat = Literal["table", "csv", "json"]
EXPORTS = (".keras", ".onnx", ".tflite")


@dataclass(frozen=True)
class PredictSettings:
    """Risks of new patients, from the model of a run. Research software, not a medical device.

    Example: python -m fedhealth predict runs/2026-11-24_04-56-50 patients.csv --out risks.csv

    One patient: python -m fedhealth predict runs/2026-11-24_04-56-50 --age 63 --sex male --cp asymptomatic
    """

    run: Path
    """The run folder (its model.npz), or a model.npz itself."""
    patients: tuple[Path, ...]
    """A file with the columns of the run's schema, or - for standard input; left out for one patient by flags."""
    out: Path | None = None
    """Write here instead of to the screen."""
    format: TableFormat = "csv"
    """csv: one line per patient; json: the same with notes about the model."""
    adapt_prevalence: bool = False
    """Move the risks to these patients' own share of ill ones, estimated without any label: for a hospital that is new."""
    id_column: str | None = None
    """A column of the file, such as a patient number, that becomes the first column of the output."""
    sheet: str | None = None
    """The sheet of an Excel workbook (default: the only one that has cells)."""
    decimal: Decimal = "auto"
    """Whether the numbers of a file have decimal commas or points, if the file leaves it open (docs/own-files.md)."""
    mapping: Path | None = None
    """A file (TOML) of what this hospital names, measures or codes differently; it stays here (docs/own-files.md)."""

    def __post_init__(self) -> None:
        """Check that there is one source of patients; a wrong one is a `UsageError`."""
        if not self.patients and not self.patient():
            raise UsageError(
                "no patients are given; give a file after the run, - for standard input, or one patient by flags"
            )
        names = ", ".join(map(str, self.patients))
        if len(self.patients) > 1:
            raise UsageError(f"{len(self.patients)} files are given ({names}); give one file, or - for standard input")
        if self.patients and self.patient():
            raise UsageError(f"{names} is given beside the flags of one patient; give a file, or one patient by flags")
        only_csv = self.id_column is None or not self.patient()
        require(only_csv, "id-column", f"{self.id_column} beside one patient by flags", "a file that has this column")

    def patient(self) -> dict[str, str]:
        """The one patient's features that were given: feature -> text; `cli.patient_flags` adds a flag for each."""
        return {}


@dataclass(frozen=True)
class ExportSettings:
    """Write a run's model for other programs: the columns of its schema in, risk out, and a README.txt beside it.

    Example: python -m fedhealth export runs/2026-11-24_04-56-50 --to model.onnx
    """

    run: Path
    """The run folder (its model.npz), or a model.npz itself."""
    to: Path = Path("model.keras")
    """The file to write; its ending decides: .keras (for Keras 3.3 or later), .onnx (needs pip install onnx) or .tflite."""

    def __post_init__(self) -> None:
        """Check the ending; a wrong one is a `UsageError`."""
        require(self.to.suffix in EXPORTS, "to", self.to, f"a file name that ends in {', '.join(EXPORTS)}")


@dataclass(frozen=True)
class CoefficientsSettings:
    """Print the odds ratios of a run with --strategy newton, with 95 % intervals and p-values.

    Example: python -m fedhealth coefficients runs/2026-11-24_04-56-50 --format csv
    """

    run: Path
    """The run folder."""
    format: CoefficientFormat = "table"
    """table: rounded, for people; csv, json: all numbers in full."""


@dataclass(frozen=True)
class ReportSettings:
    """Write report.html and MODEL_CARD.md of a run; of several runs, one page that compares them.

    Example: python -m fedhealth report runs/2026-11-24_04-56-50

    Compare: python -m fedhealth report runs/2026-11-24_04-56-50 runs/2026-11-24_05-10-02 --out both.html
    """

    runs: tuple[Path, ...]
    """One run folder, or several to compare."""
    out: Path | None = None
    """The page to write (default: report.html in the run folder, comparison.html here for several)."""

    def __post_init__(self) -> None:
        """Check that there is a run; none is a `UsageError`."""
        require(bool(self.runs), "runs", "not given", "one run folder or more")
        if self.out is not None:
            require(self.out.suffix == ".html", "out", self.out, "a file name that ends in .html")

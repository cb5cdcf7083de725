"""The files of a run folder: settings.json, history.jsonl (a line per round), model.npz, evaluation.json, summary.json.

Strict JSON: an undefined metric is null, and every number is read back exactly.
"""

import io
import itertools
import json
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import structs

from fedhealth.common.atomic_files import write_file
from fedhealth.common.version import __version__
from fedhealth.data.preprocessing import encoded_names
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import ScoreHistogram, check_histogram
from fedhealth.metrics.intervals import confidence_intervals
from fedhealth.metrics.many_histograms import ManyHistograms
from fedhealth.metrics.many_rows import VERY_MANY
from fedhealth.server.events import RunFinished, RunStarted
from fedhealth.server.hospital_table import summary_metrics, tabulate_hospitals
from fedhealth.server.listed_bins import list_bins, read_listed
from fedhealth.server.records import Histograms, ModelComparison, RunDescription, RunSummary, Start, pool

T = TypeVar("T")
SETTINGS, SCHEMA, HISTORY, MODEL = "settings.json", "schema.toml", "history.jsonl", "model.npz"
EVALUATION, SUMMARY, FEASIBILITY = "evaluation.json", "summary.json", "feasibility.json"
INDENTED_BYTES = 2**24
"""A longer file is written on one line: nobody reads it, and the blanks would double it."""
ROWS_AT_ONCE = 1000
"""Hospitals whose rows are objects at the same time while they are written."""


def to_json(content: Any) -> bytes:
    """Records or plain values as strict JSON on one line."""
    return msgspec.json.encode(content, enc_hook=_to_plain)


def _to_plain(value: Any) -> Any:
    """A NumPy number as a Python number; a mapping that makes its values on demand as JSON, some at a time."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        items = iter(value.items())
        parts = iter(lambda: to_json(dict(itertools.islice(items, ROWS_AT_ONCE)))[1:-1], b"")
        return msgspec.Raw(b"{%b}" % b",".join(parts))
    raise NotImplementedError


def read_json(path: Path, kind: type[T]) -> T:
    """The record in a file.

    Raises
    ------
    ValueError
        The file is not JSON, or does not contain such a record (`msgspec.ValidationError`).
    OSError
        The file cannot be read.
    """
    return msgspec.json.decode(path.read_bytes(), type=kind)


def write_json(path: Path, content: Any) -> None:
    """Write a record as JSON: indented, for people to read, unless it is too long for that."""
    encoded = to_json(content)
    write_file(path, (msgspec.json.format(encoded, indent=2) if len(encoded) <= INDENTED_BYTES else encoded) + b"\n")


def describe_run(started: RunStarted, link: str) -> RunDescription:
    """settings.json: the run's settings, its data, the version, the server's environment, and its first start.

    `link` is the kind of connection to the hospitals.
    """
    versions = {name: metadata.version(name) for name in ("flwr", "grpcio", "numpy")}
    python = f"{platform.python_implementation()} {platform.python_version()}"
    began = time.strftime("%Y-%m-%d %H:%M:%S %z")
    environment = {"began": began, "python": python, "system": platform.system(), **versions}
    return structs.replace(describe_settings(started), environment=environment, starts=(Start(0, link),))


def add_start(path: Path, start: Start) -> None:
    """Add a start that resumes the run to its settings.json."""
    begun = read_json(path, RunDescription)
    write_json(path, structs.replace(begun, starts=(*begun.known_starts, start)))


def describe_settings(started: RunStarted | RunFinished) -> RunDescription:
    """settings.json without the environment, so that equal runs have equal descriptions."""
    return RunDescription(
        version=__version__,
        schema=started.schema.fingerprint,
        dataset=started.dataset,
        hospitals=tuple(started.members),
        settings={**started.settings.to_run_config(), **started.objects},
        left_out=dict(started.left_out),
        roster=started.roster.names if started.roster else (),
        roster_digest=started.roster.shown_digest if started.roster else "",
    )


class SavedHistogram(msgspec.Struct, frozen=True, rename="kebab"):
    """A hospital's histogram in evaluation.json."""

    num_examples: int
    positives: list[int]
    negatives: list[int]
    log_loss: float
    squared_error: float

    @classmethod
    def of(cls, histogram: ScoreHistogram) -> "SavedHistogram":
        """From a histogram."""
        bins = histogram.positives.tolist(), histogram.negatives.tolist()
        return cls(histogram.num_examples, *bins, histogram.log_loss, histogram.squared_error)


class EvaluationFile(msgspec.Struct, frozen=True):
    """evaluation.json: the final model's histogram of risks by hospital; the report's curves are computed from it.

    `form` is `bins` if it has the bin of each patient, as of very many hospitals, instead of the number in each bin.
    """

    bins: int
    hospitals: dict[str, msgspec.Raw]
    form: str = "counts"

    def histograms(self) -> Mapping[str, ScoreHistogram]:
        """The histograms by hospital; empty if the file was written by a version with other bins.

        Raises
        ------
        ValueError
            One of them is none.
        """
        saved = self.hospitals if self.bins == NUM_BINS else {}
        return read_listed(saved) if saved and self.form == "bins" else SavedHistograms(saved)


class SavedHistograms(Mapping[str, ScoreHistogram]):
    """Hospital -> its histogram, made when it is asked for: those of 100,000 hospitals take 0.6 GB."""

    def __init__(self, saved: Mapping[str, msgspec.Raw]) -> None:
        self._saved = saved
        for name in saved:
            self[name]

    def __getitem__(self, name: str) -> ScoreHistogram:
        """The histogram of this hospital."""
        return check_histogram(**structs.asdict(msgspec.json.decode(self._saved[name], type=SavedHistogram)))

    def __iter__(self) -> Iterator[str]:
        """The hospitals, in their order in the file."""
        return iter(self._saved)

    def __len__(self) -> int:
        """Number of hospitals."""
        return len(self._saved)


def write_evaluation(path: Path, histograms: Histograms) -> None:
    """Write evaluation.json, hospital by hospital: the lists of 100,000 hospitals' counts would take 1 GB of memory.

    Of very many hospitals with fewer patients than bins it has the bin of each patient.
    """
    if isinstance(histograms, ManyHistograms) and len(histograms) > VERY_MANY and histograms.are_sparse:
        write_file(path, _encode_evaluation(list_bins(histograms), b',"form":"bins"'))
    else:
        each = ((name, SavedHistogram.of(histogram)) for name, histogram in histograms.items())
        write_file(path, _encode_evaluation(each))


def _encode_evaluation(hospitals: Iterable[tuple[str, msgspec.Struct]], form: bytes = b"") -> Iterator[bytes]:
    yield b'{"bins":%d%b,"hospitals":{' % (NUM_BINS, form)
    for place, (name, each) in enumerate(hospitals):
        yield b"".join((b"," * (place > 0), to_json(name), b":", to_json(each)))
    yield b"}}\n"


def summarize(finished: RunFinished) -> RunSummary:
    """summary.json: the metrics of the final model, pooled and by hospital, and the replies of the finalization."""
    last, pooled = finished.final, pool(finished.histograms)
    clinical = compute_clinical_metrics(pooled)
    return RunSummary(
        dataset=finished.dataset,
        rounds=len(finished.rounds),
        seconds=finished.seconds,
        metrics={**summary_metrics(last.pooled), **flat_metrics(clinical)},
        intervals=confidence_intervals(pooled),
        decision_curve=clinical.decision_curve,
        hospitals=tabulate_hospitals(finished),
        left_out={**finished.left_out, **last.left_out},
        importance=finished.importance,
        comparisons={
            name: {model: ModelComparison.of(comparison) for model, comparison in each.items()}
            for name, each in finished.comparisons.items()
        },
        round_seconds=tuple(record.seconds for record in finished.rounds),
        subgroups=finished.subgroups,
        choices=finished.choices,
        odds_ratios=finished.odds_ratios,
    )


def write_model(path: Path, finished: RunFinished) -> None:
    """Write the final weights with all that is needed to use them, as an npz without pickles (`numpy.load(path)`).

    Arrays: one per weight (`weights/<name>`), `means` and `stds` of the numeric features (absent with --scaling local),
    `inputs` (names of the encoded features), `schema` (the schema file's text), and `about` (JSON: settings, dataset,
    prevalence, and the threshold if one was chosen); of newton also `coefficients` (of the inputs, then the intercept) and
    their `covariance` and `robust_covariance`, in float64. The file may be passed on, so it has the hospitals' names but
    none of their counts.
    """
    arrays = {f"weights/{name}": array.numpy() for name, array in finished.weights.items()}
    if finished.standardisation:
        arrays["means"] = np.asarray(finished.standardisation.means)
        arrays["stds"] = np.asarray(finished.standardisation.stds)
    if finished.fit:
        arrays |= {"coefficients": finished.fit.coefficients, "covariance": finished.fit.covariance}
        if finished.fit.robust_covariance is not None:
            arrays["robust_covariance"] = finished.fit.robust_covariance
    arrays["inputs"] = np.asarray(encoded_names(finished.schema, finished.settings.missing_indicators))
    about = msgspec.to_builtins(structs.replace(describe_settings(finished), hospitals=()))
    about["hospitals"] = [member.name for member in finished.members]
    tested = finished.final.pooled
    about["prevalence"] = tested.num_ill / tested.num_examples if tested.num_examples else None
    if finished.choices and finished.choices.threshold is not None:
        about["threshold"] = finished.choices.threshold
    arrays["schema"] = np.asarray(finished.schema.text)
    arrays["about"] = np.asarray(json.dumps(about))
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # the stubs take the names for options
    write_file(path, content.getvalue())

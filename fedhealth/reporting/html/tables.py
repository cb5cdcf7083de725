"""Rows of the tables of report and model card."""

from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from statistics import median

from fedhealth.data.schema import Schema
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import Metrics
from fedhealth.metrics.intervals import confidence_intervals
from fedhealth.reporting.format import NOT_DISCLOSED, POOLED, number
from fedhealth.reporting.html.curves import FEWEST_FOR_ROC, count_outcomes, is_small, round_count, shown
from fedhealth.reporting.html.folding import UNFOLDED
from fedhealth.reporting.html.links import describe_link
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.reporting.selection_text import selection_lines
from fedhealth.server.records import TOGETHER, Member, RoundRecord, name_each

Row = tuple[str, ...]
METRICS: dict[str, tuple[str, str]] = {
    "auroc": ("AUROC", "probability that an ill patient gets a higher risk than a healthy one; 0.5 is chance"),
    "pr_auc": ("PR-AUC", "average precision over all thresholds; chance gives the prevalence"),
    "brier": ("Brier score", "mean squared error of the risks; lower is better, a constant risk of 0.5 gives 0.25"),
    "loss": ("log loss", "mean negative log-likelihood in nats; lower is better, a constant risk of 0.5 gives 0.693"),
    "accuracy": ("accuracy", "share of patients classified correctly at a threshold of 0.5"),
    "sensitivity": ("sensitivity", "share of the ill who are predicted positive at 0.5"),
    "specificity": ("specificity", "share of the healthy who are predicted negative at 0.5"),
    "sensitivity_at_90": (
        "sensitivity at 90 % specificity",
        "sensitivity at the lowest threshold with a specificity of at least 90 %",
    ),
    "ece": (
        "calibration error",
        "mean absolute difference between predicted risk and share ill, over ten bins (ECE)",
    ),
    "calibration_slope": ("calibration slope", "1 is ideal; below 1, high risks are too high and low ones too low"),
    "calibration_intercept": (
        "calibration intercept",
        "intercept of the recalibration, fitted together with the slope; 0 is ideal",
    ),
}
"""Key in summary.json -> its name and meaning."""
SOURCES = {"synthetic": "synthetic patients", "own": "the hospitals' own files", "uci": "UCI Heart Disease data"}


def model_selection_lines(run: RunRecord) -> list[str]:
    """What the run selected on validation patients; empty if nothing."""
    return selection_lines(run.summary.choices if run.summary else None, len(run.history))


@dataclass(frozen=True)
class MetricRow:
    """One metric of all test patients, as text; `interval` is empty if there is none."""

    key: str
    name: str
    meaning: str
    value: str
    interval: str


def describe_ill(schema: Schema) -> str:
    """What makes a patient count as ill, such as `target (diagnosis) is disease`."""
    outcome = schema.outcome
    words = " or ".join(outcome.codes[code] for code in outcome.positive)
    return f"{outcome.name} ({outcome.meaning}) is {words}"


def describe_source(dataset: str) -> str:
    """Text for a data source such as `own+synthetic`."""
    return " and ".join(SOURCES.get(name, name) for name in dataset.split("+"))


def metric_rows(run: RunRecord) -> list[MetricRow]:
    """The final model's metrics on the pooled test patients, with 95 % intervals if there are histograms."""
    pooled, last = run.pooled, asdict(run.final.pooled)
    if pooled:
        last |= flat_metrics(compute_clinical_metrics(pooled))
    intervals = confidence_intervals(pooled) if pooled else {}
    rows = []
    for key, (name, meaning) in METRICS.items():
        low_high = intervals.get(key)
        interval = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else ""
        rows.append(MetricRow(key, name, meaning, number(last.get(key)), interval))
    return rows


def tested_counts(run: RunRecord) -> tuple[int, int]:
    """Number of test patients of the final model, and how many of them are ill."""
    return run.final.pooled.num_examples, run.final.pooled.num_ill


HOSPITAL_HEADINGS = (
    "hospital",
    "training patients",
    "test patients",
    "ill test patients",
    "AUROC",
    "Brier",
    "accuracy",
    "sensitivity",
    "specificity",
)


def hospital_rows(run: RunRecord) -> list[Row]:
    """A row per hospital, pooled last.

    If 1 to 4 test patients are ill or healthy, the count and the rates that would reveal it are suppressed. If that
    holds for one hospital only, the count of the next smallest one is suppressed too, because of the total.
    """
    last = run.final
    hidden = find_suppressed(last.hospitals)
    rows: list[Row] = [(name, *[NOT_DISCLOSED] * (len(HOSPITAL_HEADINGS) - 1)) for name in _undisclosed(run)]
    members = run.settings.hospitals if not run.are_sums else ()
    return [*rows, *(hospital_row(each, last.hospitals.get(each.name), hidden) for each in members), total_row(run)]


def hospital_row(member: Member, metrics: Metrics | None, hidden: Set[str]) -> Row:
    """The row of one hospital; `hidden` are those whose number of ill patients is suppressed."""
    name, trained = member.name, f"{member.train_patients:,}"
    if metrics is None:
        return (name, trained, "no reply", *["n/a"] * (len(HOSPITAL_HEADINGS) - 3))
    ill = "suppressed" if name in hidden else f"{metrics.num_ill:,}"
    return (name, trained, f"{metrics.num_examples:,}", ill, *_shares(metrics, 2))


def total_row(run: RunRecord) -> Row:
    """The row of all test patients together."""
    trained, pooled = f"{sum(member.train_patients for member in run.settings.hospitals):,}", run.final.pooled
    return (POOLED, trained, f"{pooled.num_examples:,}", shown(pooled.num_ill), *_shares(pooled, 3))


def _undisclosed(run: RunRecord) -> list[str]:
    """The hospitals of a run with secure aggregation; very many as one entry."""
    names = run.names if run.are_sums else []
    return names if len(names) <= UNFOLDED else [f"each of {len(names):,} hospitals"]


def has_few(metrics: Metrics) -> bool:
    """Whether 1 to 4 of the test patients are ill, or healthy."""
    return is_small(metrics.num_ill) or is_small(metrics.num_examples - metrics.num_ill)


def find_suppressed(hospitals: Mapping[str, Metrics]) -> set[str]:
    """Hospitals whose number of ill patients is suppressed: those with few of a class, and one more if only one has few."""
    few = {name for name, metrics in hospitals.items() if has_few(metrics)}
    others = sorted((metrics.num_examples, name) for name, metrics in hospitals.items() if name not in few)
    return few | {name for _, name in others[:1]} if len(few) == 1 else few


def _shares(metrics: Metrics, digits: int) -> list[str]:
    """AUROC, Brier score, accuracy, sensitivity and specificity; "few" for those that rest on few patients."""
    few = ("auroc", "sensitivity", "specificity") if has_few(metrics) else ()
    keys = ("auroc", "brier", "accuracy", "sensitivity", "specificity")
    return ["few" if key in few else number(getattr(metrics, key), digits) for key in keys]


THRESHOLDS = tuple(place / 20 for place in range(1, 20))
CONFUSION_HEADINGS = (
    *("threshold", "true positives", "false negatives", "false positives", "true negatives"),
    *("sensitivity", "specificity"),
)


def confusion_rows(run: RunRecord) -> list[Row]:
    """Per threshold, counts rounded to multiples of 5 and two rates; empty if a class has fewer than 20 patients."""
    pooled = run.pooled
    if pooled is None or min(pooled.positives.sum(), pooled.negatives.sum()) < FEWEST_FOR_ROC:
        return []
    rows = []
    for each in count_outcomes(pooled, THRESHOLDS):
        counts = (each.true_positives, each.false_negatives, each.false_positives, each.true_negatives)
        sensitivity = each.true_positives / (each.true_positives + each.false_negatives)
        specificity = each.true_negatives / (each.true_negatives + each.false_positives)
        rounded = (f"{round_count(count):,}" for count in counts)
        rows.append((f"{each.threshold:.2f}", *rounded, f"{sensitivity:.0%}", f"{specificity:.0%}"))
    return rows


def participation(run: RunRecord, names: Sequence[str] | None = None) -> list[tuple[str, list[str]]]:
    """(hospital, style per round), of all or of `names`: `trained`, `tested` (weights not in the model) or `absent`."""

    def cell(entry: RoundRecord, missing: Mapping[str, str], asked: Container[str], name: str) -> str:
        if name not in missing and (not asked or name in asked):
            return "trained"
        return "tested" if name in name_each(entry.hospitals, run.settings.roster) else "absent"

    rounds = [(entry, run.left_out(entry), frozenset(entry.asked)) for entry in run.history]
    return [(name, [cell(*each, name) for each in rounds]) for name in names or run.names]


def absences(run: RunRecord, most: int = 20) -> list[str]:
    """Hospitals that were left out and why, of the run or a line per range of rounds; at most `most` lines."""
    stretches: list[tuple[str, str, int, int]] = []
    for name, reason, number_ in sorted(
        (name, reason, entry.round_num) for entry in run.history for name, reason in _reasons(entry)
    ):
        if stretches and stretches[-1][:2] == (name, reason) and stretches[-1][3] == number_ - 1:
            stretches[-1] = (name, reason, stretches[-1][2], number_)
        else:
            stretches.append((name, reason, number_, number_))
    lines = [f"{name}: took no part: {reason}" for name, reason in run.settings.left_out.items()]
    lines += [
        f"{name}: round {first}{f' to {last}' if last > first else ''}: {reason}"
        for name, reason, first, last in stretches
    ]
    return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} more"]


def _reasons(entry: RoundRecord) -> list[tuple[str, str]]:
    return [("no sum" if name == TOGETHER else name, reason) for name, reason in entry.left_out.items()]


def phase_rows(run: RunRecord) -> list[Row]:
    """Durations in seconds: all rounds, the median and the slowest one, and the time outside of rounds."""
    seconds = [entry.seconds for entry in run.history]
    rows: list[Row] = [
        ("all rounds", f"{sum(seconds):.2f} s"),
        ("median round", f"{median(seconds):.3f} s"),
        ("slowest round", f"{max(seconds):.3f} s"),
    ]
    if run.summary and (total := run.summary.seconds):
        rows.append(("setup and finalization", f"{total - sum(seconds):.2f} s"))
        rows.append(("total, after all hospitals had joined", f"{total:.2f} s"))
    return rows


def setting_rows(run: RunRecord) -> list[tuple[str, str]]:
    """(flag, value) of every setting."""
    return [(f"--{key}", _plain(value)) for key, value in run.settings_in_use.items()]


def environment_rows(run: RunRecord) -> list[Row]:
    """Version, time of start, software of the server, and connection."""
    environment = {key: value for key, value in run.settings.environment.items() if key not in ("began", "link")}
    started = run.settings.environment.get("began", "not recorded")
    rows = [("fedhealth", run.settings.version), ("started", started), *environment.items()]
    return [*rows, ("connection", describe_link(run))]


def _plain(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"

"""What the page says in words and numbers: rows of its tables, made from a run's files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median

from fedhealth.metrics.bootstrap import bootstrap_intervals
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import Metrics
from fedhealth.reporting.format import number
from fedhealth.reporting.html.curves import FEWEST_FOR_ROC, count_outcomes, is_small, round_count, shown
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.reporting.selection_text import chosen_lines
from fedhealth.server.records import RoundRecord

Row = tuple[str, ...]
METRICS: dict[str, tuple[str, str]] = {
    "auroc": ("AUROC", "chance that an ill patient has a higher risk than a healthy one; 0.5 is a coin"),
    "pr_auc": (
        "PR-AUC",
        "mean share of ill among those called ill, over all thresholds; a coin has the share of the ill",
    ),
    "brier": ("Brier score", "mean squared error of the risks; lower is better, 0.25 is a coin"),
    "loss": ("log loss", "mean surprise at the diagnosis in nats; lower is better, 0.693 is a coin"),
    "accuracy": ("accuracy", "share called rightly at a risk of 0.5"),
    "sensitivity": ("sensitivity", "share of the ill who are called ill at 0.5"),
    "specificity": ("specificity", "share of the healthy who are called healthy at 0.5"),
    "sensitivity_at_90": (
        "sensitivity at 90 % specificity",
        "share of the ill found where 90 % of the healthy are spared",
    ),
    "ece": ("calibration error", "mean distance between risk told and share ill, over ten bins"),
    "calibration_slope": ("calibration slope", "1 is right; below 1, high risks are too high and low ones too low"),
    "calibration_intercept": ("calibration intercept", "log odds to add once the slope is put right; 0 is right"),
}
"""Key in summary.json -> its name and what it means."""
SOURCES = {"synthetic": "invented patients", "own": "the hospitals' own files", "uci": "UCI Heart Disease data"}


def choice_lines(run: RunRecord) -> list[str]:
    """What was chosen during the run, if anything."""
    return chosen_lines(run.summary.choices if run.summary else None, len(run.history))


@dataclass(frozen=True)
class MetricRow:
    """One metric of all tested patients, as text; `interval` is empty where there is none."""

    key: str
    name: str
    meaning: str
    value: str
    interval: str


def describe_source(dataset: str) -> str:
    """The data source in words."""
    return " and ".join(SOURCES.get(name, name) for name in dataset.split("+"))


def metric_rows(run: RunRecord) -> list[MetricRow]:
    """The final model's metrics of all tested patients together, with 95 % intervals where histograms are there."""
    pooled, last = run.pooled, asdict(run.final.pooled)
    if pooled:
        last |= flat_metrics(compute_clinical_metrics(pooled))
    intervals = bootstrap_intervals(pooled) if pooled else {}
    rows = []
    for key, (name, meaning) in METRICS.items():
        low_high = intervals.get(key)
        interval = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else ""
        rows.append(MetricRow(key, name, meaning, number(last.get(key)), interval))
    return rows


def tested_counts(run: RunRecord) -> tuple[int, int]:
    """How many patients the final model was tested on, and how many of them are ill."""
    return run.final.pooled.num_examples, run.final.pooled.num_ill


HOSPITAL_HEADINGS = (
    "hospital",
    "trained on",
    "tested",
    "ill",
    "AUROC",
    "Brier",
    "accuracy",
    "sensitivity",
    "specificity",
)


def hospital_rows(run: RunRecord) -> list[Row]:
    """One line per hospital, all together last.

    Where fewer than five tested patients are ill or healthy, neither count nor the shares that would give it away are told.
    Because the others and the total would give it away too, the next smallest hospital's count is not told either.
    """
    last = run.final
    suppressed = find_suppressed(last.hospitals)
    rows = []
    for member in run.settings.hospitals:
        name, trained = member.name, f"{member.train_patients:,}"
        metrics = last.hospitals.get(name)
        if metrics is None:
            rows.append((name, trained, "no answer", *["n/a"] * (len(HOSPITAL_HEADINGS) - 3)))
        else:
            ill = "not told" if name in suppressed else f"{metrics.num_ill:,}"
            rows.append((name, trained, f"{metrics.num_examples:,}", ill, *_shares(metrics, 2)))
    trained, pooled = f"{sum(member.train_patients for member in run.settings.hospitals):,}", last.pooled
    total = ("all together", trained, f"{pooled.num_examples:,}", shown(pooled.num_ill), *_shares(pooled, 3))
    return [*rows, total]


def has_few(metrics: Metrics) -> bool:
    """Whether 1 to 4 of the tested patients are ill, or healthy."""
    return is_small(metrics.num_ill) or is_small(metrics.num_examples - metrics.num_ill)


def find_suppressed(hospitals: Mapping[str, Metrics]) -> set[str]:
    """Hospitals whose number of ill patients is not told: those with few of a class, and one more if there is only one."""
    few = {name for name, metrics in hospitals.items() if has_few(metrics)}
    others = sorted((metrics.num_examples, name) for name, metrics in hospitals.items() if name not in few)
    return few | {name for _, name in others[:1]} if len(few) == 1 else few


def _shares(metrics: Metrics, digits: int) -> list[str]:
    """AUROC and the rest; one hospital's to two digits, which is more than its few patients bear."""
    few = ("auroc", "sensitivity", "specificity") if has_few(metrics) else ()
    keys = ("auroc", "brier", "accuracy", "sensitivity", "specificity")
    return ["few" if key in few else number(getattr(metrics, key), digits) for key in keys]


THRESHOLDS = tuple(place / 20 for place in range(1, 20))
CONFUSION_HEADINGS = (
    *("threshold", "ill, called ill", "ill, missed", "healthy, alarmed", "healthy, called healthy"),
    *("sensitivity", "specificity"),
)


def confusion_rows(run: RunRecord) -> list[Row]:
    """Counts, rounded to multiples of 5, and two shares per threshold; none where a class has fewer than 20 patients."""
    pooled = run.pooled
    if pooled is None or min(pooled.positives.sum(), pooled.negatives.sum()) < FEWEST_FOR_ROC:
        return []
    rows = []
    for each in count_outcomes(pooled, THRESHOLDS):
        counts = (each.true_positives, each.false_negatives, each.false_positives, each.true_negatives)
        sensitivity = each.true_positives / (each.true_positives + each.false_negatives)
        specificity = each.true_negatives / (each.true_negatives + each.false_positives)
        told = (f"{round_count(count):,}" for count in counts)
        rows.append((f"{each.threshold:.2f}", *told, f"{sensitivity:.0%}", f"{specificity:.0%}"))
    return rows


def participation(run: RunRecord) -> list[tuple[str, list[str]]]:
    """Per hospital, a style per round: `here`, `part` (tested, but its weights are not in the model) or `absent`."""

    def cell(entry: RoundRecord, name: str) -> str:
        if name not in entry.left_out:
            return "here"
        return "part" if name in entry.hospitals else "absent"

    return [(name, [cell(entry, name) for entry in run.history]) for name in run.names]


def absences(run: RunRecord, most: int = 20) -> list[str]:
    """Who was left out and why, a line for each stretch of rounds."""
    stretches: list[tuple[str, str, int, int]] = []
    for name, reason, number_ in sorted(
        (name, reason, entry.round_num) for entry in run.history for name, reason in entry.left_out.items()
    ):
        if stretches and stretches[-1][:2] == (name, reason) and stretches[-1][3] == number_ - 1:
            stretches[-1] = (name, reason, stretches[-1][2], number_)
        else:
            stretches.append((name, reason, number_, number_))
    lines = [
        f"{name}: round {first}{f' to {last}' if last > first else ''}: {reason}"
        for name, reason, first, last in stretches
    ]
    return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} more"]


def phase_rows(run: RunRecord) -> list[Row]:
    """Seconds: the rounds, the slowest and the middle one, and all that was not a round."""
    seconds = [entry.seconds for entry in run.history]
    rows: list[Row] = [
        ("all rounds", f"{sum(seconds):.2f} s"),
        ("a round (median)", f"{median(seconds):.3f} s"),
        ("slowest round", f"{max(seconds):.3f} s"),
    ]
    if run.summary and (total := run.summary.seconds):
        rows.append(("sums before and hand-out after the rounds", f"{total - sum(seconds):.2f} s"))
        rows.append(("in all, from the moment that all hospitals were ready", f"{total:.2f} s"))
    return rows


def setting_rows(run: RunRecord) -> list[tuple[str, str]]:
    """Every setting as its flag."""
    return [(f"--{key}", _plain(value)) for key, value in run.settings_in_use.items()]


def environment_rows(run: RunRecord) -> list[Row]:
    """When, and what the server was."""
    return [("fedhealth", run.settings.version), *run.settings.environment.items()]


def _plain(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"

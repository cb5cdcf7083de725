"""Parts of `MODEL_CARD.md`: limits of the data, the privacy measures that were on, tables as Markdown."""

import math
import re
from collections.abc import Iterable, Sequence

from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import heart_disease
from fedhealth.metrics.intervals import wilson_interval
from fedhealth.reporting.html.curves import merge_bins, reliability_groups
from fedhealth.reporting.html.links import describe_link
from fedhealth.reporting.html.run_reader import RunRecord

SCALINGS = {
    "federated": "the means and standard deviations of all hospitals' training patients",
    "reference": "fixed clinical constants",
    "local": "each hospital's own means and standard deviations",
}
ANY_USE = {"use": "", "not_for": "people unlike the patients of the hospitals that trained it"}
HEART_USE = {
    "use": (
        ": that an angiography would show a vessel narrowed by more than 50 %, for adults whom a hospital examines for "
        "suspected coronary disease"
    ),
    "not_for": "people without suspected coronary disease, for children",
}
"""What the schema of the heart disease data does not say of its patients."""
UCI_LIMITS = (
    "The patients were examined in four hospitals in the 1980s; treatment and diagnosis have changed since.",
    "The prevalence differs between hospitals, from 36 % to 93 %. A model that is calibrated on average may not be in each.",
    "Most patients are men (79 %): results for women rest on few patients.",
    "Cholesterol is missing for every Swiss patient; ca, thal and slope are mostly missing outside Cleveland.",
)
"""From the data sheet (data/README.md)."""
INDICATOR_LIMIT = (
    "Indicators of missing values are inputs of the model, and they may correlate with the outcome: where tests are ordered "
    "for other reasons, predictions may be wrong (server.py --no-missing-indicators leaves them out)."
)


def escape_markdown(text: object) -> str:
    """Untrusted text with all Markdown and HTML escaped, on one line."""
    words = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", words)


def markdown_table(headings: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; its cells are escaped."""
    lines = [[escape_markdown(cell) for cell in line] for line in (headings, *rows)]
    ruler = ["---"] * len(headings)
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ruler, *lines[1:]))


def reliability_rows(run: RunRecord) -> list[tuple[str, ...]]:
    """Predicted risk and observed share ill, per group of test patients."""
    groups = reliability_groups(merge_bins(run.pooled)) if run.pooled else []
    rows: list[tuple[str, ...]] = []
    for group in groups:
        low, high = wilson_interval(group.ill, group.patients)
        share = f"{group.ill / group.patients:.2f}"
        between = f"{group.low:.3f} to {group.high:.3f}"
        rows.append((between, f"{group.mean:.2f}", share, f"{low:.2f} to {high:.2f}", f"{group.patients:,}"))
    return rows


def intended_use(schema: Schema) -> dict[str, str]:
    """What the risk is of, after its name, and for whom the model is not; the keys are those of the template."""
    return HEART_USE if schema.fingerprint == heart_disease().fingerprint else ANY_USE


def limit_lines(run: RunRecord) -> list[str]:
    """Known limits of the data and of the evaluation."""
    sources = set(run.settings.dataset.split("+"))
    lines = ["The model was tested on patients of the hospitals that trained it; its performance elsewhere is unknown."]
    if "uci" in sources:
        lines += UCI_LIMITS
    if "synthetic" in sources:
        lines.append("Synthetic patients reproduce published statistics only: no result applies to real people.")
    if "own" in sources:
        lines.append("Hospitals used their own files: only they have the data sheets.")
    if run.settings.settings["missing-indicators"] and run.schema.missable_places:
        lines.append(INDICATOR_LIMIT)
    return lines


def privacy_lines(run: RunRecord) -> list[str]:
    """The privacy measures that were on according to the settings, and those that were not."""
    settings = run.settings.settings
    masked = ", under masks" if run.are_sums else ""
    lines = [
        f"No patient row, predicted risk or label was sent; weights, sums and counts per bin of risk were{masked}."
    ]
    if settings.get("max-update-norm"):
        lines.append(f"A hospital's update was clipped to a norm of {settings['max-update-norm']:g} in each round.")
    if int(settings.get("min-count", 1)) > 1:
        lines.append(f"Hospitals sent no sums over fewer than {settings['min-count']} patients.")
    lines.append(f"Connection to the server: {escape_markdown(describe_link(run))}.")
    return [*lines, *guarantee_lines(run)]


def guarantee_lines(run: RunRecord) -> list[str]:
    """What secure aggregation and differential privacy guarantee, or that they were off."""
    return [*(sum_lines(run) if run.are_sums else []), *privacy_loss_lines(run)]


def sum_lines(run: RunRecord) -> list[str]:
    """What the server could read of a run with secure aggregation."""
    number, digest = len(run.names), run.settings.roster_digest
    lines = [
        f"Secure aggregation: the server received masked numbers and could read only their sums over all {number} hospitals. "
        "It could learn more about one hospital only together with others.",
        f"This holds if every hospital's own output shows the roster {digest}.",
    ]
    if any(start.link == "plain text" for start in run.settings.known_starts):
        lines.append(
            "The hospitals' keys had no certificates (no TLS): whoever controlled the server could have exchanged the keys."
        )
    return lines


def privacy_loss_lines(run: RunRecord) -> list[str]:
    """The differential privacy guarantee in words, or that there was none."""
    epsilons = [member.epsilon for member in run.settings.hospitals if member.epsilon]
    if not epsilons and run.are_sums:
        return ["No differential privacy: what the sums themselves show of a patient is not limited."]
    if not epsilons:
        return [
            "No differential privacy and no secure aggregation: the server could infer information about patients "
            "from weights and histograms."
        ]
    epsilon, delta = max(epsilons), run.settings.settings["dp-delta"]
    return [
        f"Differential privacy for each patient: epsilon {epsilon:.3g}, delta {delta:g}. Whoever sees everything that left "
        "the hospitals, and knows every other patient, can change the odds that a patient is in the data by a factor of at "
        f"most {math.exp(epsilon):.3g}, except with probability {delta:g} (DP-SGD; privacy loss distributions).",
        "Counts of patients are noisy and risks are grouped into 10 bins, so the figures here are approximate.",
        *([] if run.are_sums else ["No secure aggregation: the server saw each hospital's noisy weights."]),
    ]

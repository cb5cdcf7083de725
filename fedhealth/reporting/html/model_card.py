"""What `MODEL_CARD.md` says beyond the page: limits of the data, privacy that was really on, tables as Markdown."""

import math
import re
from collections.abc import Iterable, Sequence

from fedhealth.reporting.html.curves import merge_bins, reliability_groups, wilson_interval
from fedhealth.reporting.html.run_reader import RunRecord

SCALINGS = {
    "federated": "the means and deviations of all hospitals' training patients",
    "reference": "fixed clinical constants",
    "local": "each hospital's own means and deviations",
}
UCI_LIMITS = (
    "The patients were examined in four hospitals in the 1980s; treatment and diagnosis have changed since.",
    "The hospitals differ a lot: 36 % to 93 % of their patients are ill. What is right on average may be wrong in each.",
    "Most patients are men (79 %): what is told of women rests on few of them.",
    "Cholesterol is missing for every Swiss patient; ca, thal and slope are mostly missing outside Cleveland.",
)
"""From the data sheet (data/README.md)."""
INDICATOR_LIMIT = (
    "The model sees which values are missing, and in these data that tells part of the diagnosis: where other tests are "
    "ordered for other reasons, it will be wrong (server.py --no-missing-indicators switches it off)."
)


def escape_markdown(text: object) -> str:
    """Text of strangers as plain words: no markup, no table cell, no HTML."""
    words = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", words)


def markdown_table(headings: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table, its cells escaped."""
    lines = [[escape_markdown(cell) for cell in line] for line in (headings, *rows)]
    ruler = ["---"] * len(headings)
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ruler, *lines[1:]))


def reliability_rows(run: RunRecord) -> list[tuple[str, ...]]:
    """Risk told and share ill, per group of tested patients."""
    groups = reliability_groups(merge_bins(run.pooled)) if run.pooled else []
    rows: list[tuple[str, ...]] = []
    for group in groups:
        low, high = wilson_interval(group.ill, group.patients)
        share = f"{group.ill / group.patients:.2f}"
        between = f"{group.low:.3f} to {group.high:.3f}"
        rows.append((between, f"{group.mean:.2f}", share, f"{low:.2f} to {high:.2f}", f"{group.patients:,}"))
    return rows


def limit_lines(run: RunRecord) -> list[str]:
    """What the data are known not to tell."""
    sources = set(run.settings.dataset.split("+"))
    lines = ["It was tested on patients of the hospitals that trained it; how it does elsewhere is not known."]
    if "uci" in sources:
        lines += UCI_LIMITS
    if "synthetic" in sources:
        lines.append("Invented patients follow published statistics, not disease: nothing here is true of real people.")
    if "own" in sources:
        lines.append("Hospitals brought files of their own: their data sheets are with them.")
    if run.settings.settings["missing-indicators"]:
        lines.append(INDICATOR_LIMIT)
    return lines


def privacy_lines(run: RunRecord) -> list[str]:
    """What the settings say was on, and what was not."""
    settings = run.settings.settings
    lines = ["No patient's row, score or label left a hospital; weights, sums and counts per bin of risk did."]
    if settings.get("max-update-norm"):
        lines.append(f"A hospital's step was cut to a norm of {settings['max-update-norm']:g} per round.")
    if int(settings.get("min-count", 1)) > 1:
        lines.append(f"Hospitals kept sums over fewer than {settings['min-count']} patients to themselves.")
    link = run.settings.environment.get("link")
    lines.append(f"The link: {escape_markdown(link)}." if link else "Whether the link was encrypted is not recorded.")
    return [*lines, *promise_lines(run)]


def promise_lines(run: RunRecord) -> list[str]:
    """What differential privacy promised, in words for a clinician; that there was none, if so."""
    promised = [member.epsilon for member in run.settings.hospitals if member.epsilon]
    if not promised:
        return [
            "No differential privacy and no secure aggregation: a curious server may learn something from weights and "
            "histograms."
        ]
    epsilon, delta = max(promised), run.settings.settings["dp-delta"]
    return [
        f"Differential privacy for each patient: epsilon {epsilon:.3g}, delta {delta:g}. Whoever sees all "
        "that left the hospitals, and knows every other patient, can move the odds that a patient took part by a factor of "
        f"{math.exp(epsilon):.3g} at most, but for a chance of {delta:g} (DP-SGD; accounted by privacy loss distributions).",
        "Counts of patients carry noise and risks were told in 10 groups, so the figures here are rough.",
        "No secure aggregation: the server saw each hospital's noisy weights.",
    ]

"""What the model was worth to the hospitals that said so, as rows of a table."""

from collections.abc import Mapping

from fedhealth.metrics.paired_comparison import DIGITS, PairedComparison
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.reporting.html.tables import METRICS, Row
from fedhealth.server.records import Verdict

COMPARISON_HEADINGS = ("hospital", "model", "measured by", "its value", "alone", "difference", "95 % interval", "so")
MODEL_WORDS = {"global": "global", "personal": "global, made personal"}


def comparison_rows(run: RunRecord) -> list[Row]:
    """What the model was worth to each hospital that said so, and by model; none of the others."""
    rows: list[Row] = []
    verdicts: Mapping[str, Mapping[str, Verdict | PairedComparison]] = run.summary.verdicts if run.summary else {}
    for name, each in sorted(verdicts.items()):
        for model, told in each.items():
            metric, digits = METRICS[told.metric][0], DIGITS[told.metric]
            values = (f"{value:.{digits}f}" for value in (told.value, told.alone))
            interval = f"{told.low:.{digits}f} to {told.high:.{digits}f}"
            words = told.words.replace("yours ", "")
            rows.append(
                (
                    name,
                    MODEL_WORDS.get(model, model),
                    metric,
                    *values,
                    f"{told.difference:+.{digits}f}",
                    interval,
                    words,
                )
            )
    return rows

"""What the model was worth to the hospitals that said so, as rows of a table."""

from fedhealth.reporting.html.run_reader import RunFiles
from fedhealth.reporting.html.tables import METRICS, Row

COMPARISON_HEADINGS = ("hospital", "model", "measured by", "its value", "alone", "difference", "95 % interval", "so")
MODEL_WORDS = {"global": "global", "personal": "global, made personal"}


def comparison_rows(run: RunFiles) -> list[Row]:
    """What the model was worth to each hospital that said so, and by model; none of the others."""
    rows = []
    for name, each in sorted(run.summary.get("verdicts", {}).items()):
        for model, told in each.items():
            metric, digits = METRICS[told["metric"]][0], 2 if told["metric"] == "auroc" else 3
            values = (f"{told[key]:.{digits}f}" for key in ("value", "alone"))
            interval = f"{told['low']:.{digits}f} to {told['high']:.{digits}f}"
            words = told["words"].replace("yours ", "")
            rows.append(
                (name, MODEL_WORDS[model], metric, *values, f"{told['difference']:+.{digits}f}", interval, words)
            )
    return rows

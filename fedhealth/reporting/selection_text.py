"""What was chosen during a run, in sentences for screen and report alike, from the record that `summary.json` keeps of it."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
"""As `run_files.choices_json` makes it."""


def chosen_lines(chosen: Record, rounds: int) -> list[str]:
    """What was chosen and what came of it, after so many rounds."""
    lines = []
    if chosen["best_round"] is not None:
        lines.append(_best_line(chosen, rounds))
    if chosen["class_weights"] is not None:
        lines.append(_class_line(*chosen["class_weights"]))
    if chosen["temperature"] is not None:
        lines.append(_temperature_line(chosen))
    if chosen["threshold"] is not None:
        lines.append(_threshold_line(chosen))
    return lines


def _best_line(chosen: Record, rounds: int) -> str:
    best, held = chosen["best_round"], (chosen["uncalibrated"] or chosen["evaluation"]).get("validation")
    loss = f" ({held['loss']:.3f})" if held else ""
    since = "1 round" if rounds - best == 1 else f"{rounds - best} rounds"
    end = f"; nothing was lower in the {since} after it, so the run stopped" if chosen["stopped"] else ""
    return f"the final model is that of round {best}, with the least validation loss{loss}{end}"


def _class_line(healthy: float, ill: float) -> str:
    return (
        f"in training, a healthy patient counted {healthy:.2f} times and an ill one {ill:.2f} times, so that both kinds "
        "counted alike; the risks are corrected for it"
    )


def _temperature_line(chosen: Record) -> str:
    """The temperature, and what it did to the tested patients, on whom it was not fitted."""
    temperature, before, after = chosen["temperature"], chosen["uncalibrated"]["union"], chosen["evaluation"]["union"]
    told = [
        f"{word} {_number(before[key])} before, {_number(after[key])} after"
        for key, word in (("ece", "calibration error"), ("loss", "loss"))
    ]
    way = "milder" if temperature > 1 else "sharper" if temperature < 1 else "no other"
    return f"a temperature of {temperature:.2f} made the risks {way} (tested patients: {'; '.join(told)})"


def _threshold_line(chosen: Record) -> str:
    """The threshold, and what it does to the tested patients, on whom it was not chosen."""
    both = chosen["at_threshold"]["union"], chosen["evaluation"]["union"]
    told = [
        f"{key} {_number(there[key])} ({_number(usual[key])})"
        for key in ("accuracy", "sensitivity", "specificity")
        for there, usual in [both]
    ]
    return (
        f"a threshold of {chosen['threshold']:g} has the best sum of validation sensitivity and specificity; of tested "
        f"patients, beside those at 0.5: {', '.join(told)}"
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"

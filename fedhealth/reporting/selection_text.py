"""Sentences on model selection, the same in console, report and model card."""

from fedhealth.reporting.format import number
from fedhealth.server.records import ModelSelection


def selection_lines(selection: ModelSelection | None, rounds: int) -> list[str]:
    """What a run of `rounds` rounds selected, and the effect on its test patients; empty if it selected nothing."""
    if selection is None:
        return []
    lines = [_best_line(selection, selection.best_round, rounds)] if selection.best_round is not None else []
    lines += [_class_line(*selection.class_weights)] if selection.class_weights is not None else []
    return [*lines, *_temperature_lines(selection), *_threshold_lines(selection)]


def _best_line(selection: ModelSelection, best: int, rounds: int) -> str:
    held = (selection.uncalibrated or selection.evaluation).validation
    loss = f" ({number(held.loss)})" if held else ""
    since = "1 round" if rounds - best == 1 else f"{rounds - best} rounds"
    end = f"; the run stopped after {since} without a lower one" if selection.stopped else ""
    return f"the final model is that of round {best}, which had the lowest validation loss{loss}{end}"


def _class_line(healthy: float, ill: float) -> str:
    return (
        f"class weights in training: {healthy:.2f} for a healthy patient and {ill:.2f} for an ill one, the same total for "
        "both classes; risks are corrected for it"
    )


def _temperature_lines(selection: ModelSelection) -> list[str]:
    """The temperature, and its effect on the test patients, on whom it was not fitted."""
    if selection.temperature is None or selection.uncalibrated is None:
        return []
    temperature, before, after = selection.temperature, selection.uncalibrated.pooled, selection.evaluation.pooled
    both = (("calibration error", before.ece, after.ece), ("loss", before.loss, after.loss))
    effect = "; ".join(f"{word} {number(was)} before, {number(now)} after" for word, was, now in both)
    way = "less extreme" if temperature > 1 else "more extreme" if temperature < 1 else "unchanged"
    return [f"log odds were divided by the temperature {temperature:.2f}: risks are {way} (test patients: {effect})"]


def _threshold_lines(selection: ModelSelection) -> list[str]:
    """The threshold, and its effect on the test patients, on whom it was not selected."""
    if selection.threshold is None or selection.at_threshold is None:
        return []
    there, usual = selection.at_threshold.pooled, selection.evaluation.pooled
    rates = ", ".join(
        f"{key} {number(getattr(there, key))} ({number(getattr(usual, key))})"
        for key in ("accuracy", "sensitivity", "specificity")
    )
    return [
        f"the threshold {selection.threshold:g} has the highest sum of sensitivity and specificity on validation patients; "
        f"on test patients (at 0.5 in brackets): {rates}"
    ]

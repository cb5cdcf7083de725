"""What was chosen during a run, in sentences for screen and report alike."""

from fedhealth.reporting.format import number
from fedhealth.server.records import ModelSelection


def chosen_lines(chosen: ModelSelection | None, rounds: int) -> list[str]:
    """What was chosen and what came of it, after so many rounds; nothing if nothing was."""
    if chosen is None:
        return []
    lines = [_best_line(chosen, chosen.best_round, rounds)] if chosen.best_round is not None else []
    lines += [_class_line(*chosen.class_weights)] if chosen.class_weights is not None else []
    return [*lines, *_temperature_lines(chosen), *_threshold_lines(chosen)]


def _best_line(chosen: ModelSelection, best: int, rounds: int) -> str:
    held = (chosen.uncalibrated or chosen.evaluation).validation
    loss = f" ({number(held.loss)})" if held else ""
    since = "1 round" if rounds - best == 1 else f"{rounds - best} rounds"
    end = f"; nothing was lower in the {since} after it, so the run stopped" if chosen.stopped else ""
    return f"the final model is that of round {best}, with the least validation loss{loss}{end}"


def _class_line(healthy: float, ill: float) -> str:
    return (
        f"in training, a healthy patient counted {healthy:.2f} times and an ill one {ill:.2f} times, so that both kinds "
        "counted alike; the risks are corrected for it"
    )


def _temperature_lines(chosen: ModelSelection) -> list[str]:
    """The temperature, and what it did to the tested patients, on whom it was not fitted."""
    if chosen.temperature is None or chosen.uncalibrated is None:
        return []
    temperature, before, after = chosen.temperature, chosen.uncalibrated.pooled, chosen.evaluation.pooled
    both = (("calibration error", before.ece, after.ece), ("loss", before.loss, after.loss))
    told = [f"{word} {number(was)} before, {number(now)} after" for word, was, now in both]
    way = "milder" if temperature > 1 else "sharper" if temperature < 1 else "no other"
    return [f"a temperature of {temperature:.2f} made the risks {way} (tested patients: {'; '.join(told)})"]


def _threshold_lines(chosen: ModelSelection) -> list[str]:
    """The threshold, and what it does to the tested patients, on whom it was not chosen."""
    if chosen.threshold is None or chosen.at_threshold is None:
        return []
    there, usual = chosen.at_threshold.pooled, chosen.evaluation.pooled
    told = [
        f"{key} {number(getattr(there, key))} ({number(getattr(usual, key))})"
        for key in ("accuracy", "sensitivity", "specificity")
    ]
    return [
        f"a threshold of {chosen.threshold:g} has the best sum of validation sensitivity and specificity; of tested "
        f"patients, beside those at 0.5: {', '.join(told)}"
    ]

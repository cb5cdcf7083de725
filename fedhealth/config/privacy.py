"""What a promise to every patient (differential privacy) allows of the other settings."""

from collections.abc import Mapping
from typing import Any

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import require

NOT_ASKED: Mapping[str, Any] = {"scaling": "reference", "evaluate_every": 0, "subgroups": False, "importance": False}
"""What no noise covers is not asked for, and there is one evaluation: what the settings say is what is done."""


def check_privacy(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse what differential privacy does not cover, with the reason.

    Returns
    -------
    What it switches off that is merely usual (`NOT_ASKED`); nothing without differential privacy.
    """
    epsilon, noise, delta, clip = (settings[f"dp_{name}"] for name in ("epsilon", "noise", "delta", "clip"))
    require(0 <= epsilon <= 100, "dp-epsilon", epsilon, "a number from 0 (no guarantee) to 100")
    require(0 <= noise <= 1e4, "dp-noise", noise, "a number from 0 to 10000")
    require(0 < delta < 1, "dp-delta", delta, "a share above 0, below 1")
    require(0 < clip <= 1e4, "dp-clip", clip, "a number above 0, at most 10000")
    if not (epsilon or noise):
        return {}
    if epsilon and noise:
        raise UsageError("--dp-epsilon and --dp-noise each decide the noise; give one of them")
    for flag, wrong, reason in _exclusions(settings):
        if wrong:
            raise UsageError(f"--{flag} and --dp-epsilon exclude each other: {reason}; leave one out")
    return NOT_ASKED


def _exclusions(settings: Mapping[str, Any]) -> tuple[tuple[str, bool, str], ...]:
    """(flag, whether it is set so, why it cannot be)."""
    held = "it needs histograms of validation patients, which no noise covers"
    return (
        (
            "scaling local",
            settings["scaling"] == "local",
            "each hospital's own means and deviations disclose its patients' values",
        ),
        (
            "strategy qfedavg",
            settings["strategy"] == "qfedavg",
            "it weights hospitals by their losses, which no noise covers",
        ),
        (
            f"evaluate-every {settings['evaluate_every']}",
            settings["evaluate_every"] > 1,
            "every evaluation discloses something about the test patients, so there is one, after the last round",
        ),
        (f"patience {settings['patience']}", settings["patience"] > 0, held),
        (f"calibrate {settings['calibrate']}", settings["calibrate"] != "none", held),
        (f"threshold {settings['threshold']}", settings["threshold"] != "half", held),
        ("feasibility", settings["feasibility"], "it asks for counts of patients, which no noise covers"),
        ("class-weights", settings["class_weights"], "they come from exact counts of ill and healthy patients"),
    )

"""What Newton's method allows of the other settings."""

from collections.abc import Mapping
from typing import Any

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import require

LARGEST_PRIOR = 1000.0
"""In patients."""


def check_newton(settings: Mapping[str, Any]) -> None:
    """Refuse what Newton's method cannot do, with the reason."""
    prior = settings["intercept_prior"]
    require(0 <= prior <= LARGEST_PRIOR, "intercept-prior", prior, f"a number from 0 to {LARGEST_PRIOR:g}")
    if settings["strategy"] != "newton":
        return
    for flag, wrong, reason in _exclusions(settings):
        if wrong:
            raise UsageError(f"--{flag} and --strategy newton exclude each other: {reason}; leave one out")


def _exclusions(settings: Mapping[str, Any]) -> tuple[tuple[str, bool, str], ...]:
    """(flag, whether it is set so, why it cannot be)."""
    fraction, norm = settings["fraction"], settings["max_update_norm"]
    patience, every = settings["patience"], settings["evaluate_every"]
    return (
        ("model mlp", settings["model"] != "logistic", "its loss is not convex"),
        (
            "dp-epsilon" if settings["dp_epsilon"] else "dp-noise",
            settings["dp_epsilon"] > 0 or settings["dp_noise"] > 0,
            "the Hessian is sent without noise",
        ),
        ("scaling local", settings["scaling"] == "local", "the hospitals' coefficients would be in different units"),
        (f"fraction {fraction:g}", fraction < 1, "the sums are those of all hospitals"),
        (f"max-update-norm {norm:g}", norm > 0, "a hospital sends sums, not an update"),
        (f"patience {patience}", patience > 0, "it ends by itself at the optimum"),
        (f"evaluate-every {every}", every != 1, "it ends by itself, and its last round must be evaluated"),
    )

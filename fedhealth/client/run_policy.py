"""Whether a hospital takes part in a run of a service: its policy, its splits, its privacy budget, its number of patients."""

from collections.abc import Mapping
from datetime import time
from typing import Any

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.split_memory import SplitMemory
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.engine import RUN_NAME
from fedhealth.config.federation import FederationSettings
from fedhealth.config.service import GOOD_NAME, ServicePolicy


class NotNowError(RunError):
    """The policy allows the run at another hour."""


def require_wish(limits: HospitalLimits, settings: FederationSettings) -> None:
    """Raise a `RunError` if the hospital's --secure-aggregation excludes the run."""
    if limits.secure_aggregation == "required" and not settings.secure_aggregation:
        raise RunError(
            "this hospital takes part with secure aggregation only (--secure-aggregation required); "
            "the server needs --secure-aggregation"
        )
    if limits.secure_aggregation == "never" and settings.secure_aggregation:
        raise RunError("this hospital takes no part in secure aggregation (--secure-aggregation never)")


def run_name(run_config: Mapping[str, Any]) -> str:
    """The name of the run; raises a `RunError` if it is missing or could be a path."""
    name = run_config.get(RUN_NAME)
    if not isinstance(name, str) or not GOOD_NAME.fullmatch(name):
        raise RunError("the server's run has no valid name; is the server started with --service?")
    return name


def require_allowed(policy: ServicePolicy, run_config: Mapping[str, Any], now: time | None) -> None:
    """Check a run against the policy; raises a `RunError` that says what is not allowed.

    `now` is None for a run that has begun here: it may go on at any hour. A wrong hour is a `NotNowError`.
    """
    try:
        settings = FederationSettings.from_run_config(run_config)
    except UsageError as error:
        raise RunError(f"the server's settings are invalid: {error}") from None
    if policy.max_rounds is not None and settings.rounds > policy.max_rounds:
        raise RunError(f"it has {settings.rounds} rounds, the policy allows {policy.max_rounds} (max-rounds)")
    if policy.strategies and settings.strategy not in policy.strategies:
        allowed = ", ".join(policy.strategies)
        raise RunError(f"its strategy is {settings.strategy}, the policy allows {allowed} (strategies)")
    _require_private(policy, settings)
    if policy.require_secure_aggregation and not settings.secure_aggregation:
        raise RunError("it has no secure aggregation, the policy requires it (require-secure-aggregation)")
    if now is not None and not policy.is_open(now):
        raise NotNowError(f"it is {now:%H:%M}, runs may begin within {policy.hours} (hours)")


def _require_private(policy: ServicePolicy, settings: FederationSettings) -> None:
    if policy.require_privacy and not settings.private:
        raise RunError("it has no differential privacy, the policy requires it (require-privacy)")
    if (limit := policy.max_run_epsilon) is None:
        return
    if not settings.dp_epsilon:
        raise RunError(f"it states no epsilon (dp-epsilon), the policy allows {limit:g} at most (max-run-epsilon)")
    if settings.dp_epsilon > limit:
        raise RunError(f"its epsilon is {settings.dp_epsilon:g}, the policy allows {limit:g} (max-run-epsilon)")


def require_split(splits: SplitMemory, run_config: Mapping[str, Any]) -> None:
    """Check the run's split of the patients; raises a `RunError` if it is new and no further split is allowed."""
    if not splits.allows(run_config):
        raise RunError(
            "it asks for another split of the patients (seed, test-share, validation), or the file has changed since "
            f"earlier runs; the policy allows {splits.most} (splits)"
        )


def require_able(hospital: HospitalData, run_config: Mapping[str, Any]) -> None:
    """Check that there are enough patients and privacy budget for the whole run; raises a `RunError` if not.

    Under differential privacy this charges the ledger for the noisy count, once for each split, as the first answer would.
    """
    part = hospital.participation(run_config)
    require_wish(hospital.limits, part.settings)
    if part.settings.private:
        hospital.open_dp_session(part)
    elif hospital.limits.max_epsilon is not None:
        raise RunError("it has no differential privacy, and this hospital takes part only with it (--max-epsilon)")

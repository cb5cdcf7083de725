"""What one hospital does for the (epsilon, delta) guarantee of a run: patients per step, number of steps, noise."""

from dataclasses import dataclass

from fedhealth.client.privacy.accounting import epsilon_of_steps, noise_for_epsilon
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings

COUNT_SHARE = 0.1
"""Share of the guaranteed epsilon that the one count (of training patients) may cost."""
DEFAULT_EPSILON = 1.0
"""Where --dp-noise sets no epsilon, the noise of count and evaluation is that of this epsilon."""
FEWEST = 10
"""A noisy count below this is sent as this."""


@dataclass(frozen=True)
class PrivatePlan:
    """All of it is known to the server, or follows from what is."""

    patients: int
    """To train on; a noisy count."""
    rate: float
    """The probability with which each patient is in a step's batch."""
    steps: int
    """In one round."""
    noise: float
    """Standard deviation in units of the longest gradient."""
    count_epsilon: float
    """The epsilon of the count `patients`."""
    test_epsilon: float
    """The epsilon of an evaluation, for a test patient."""
    epsilon: float
    """The guarantee to each patient for the whole run: that of the count and that of the steps, added up (basic composition:
    Dwork & Roth 2014, "The algorithmic foundations of differential privacy", theorem 3.16)."""
    delta: float


def count_epsilon(settings: FederationSettings) -> float:
    """The epsilon that the count of training patients may cost."""
    return COUNT_SHARE * (settings.dp_epsilon or DEFAULT_EPSILON)


def make_plan(settings: FederationSettings, patients: int, counted: float) -> PrivatePlan:
    """The plan of a hospital with `patients` to train on, a noisy count that has cost epsilon `counted`.

    Raises
    ------
    RunError
        The guarantee means nothing for so many patients, or cannot be given.
    """
    if settings.dp_delta * patients >= 1:
        raise RunError(
            f"--dp-delta {settings.dp_delta:g} guarantees nothing to one of about {patients} patients: it must be below "
            f"{1 / patients:.2g} (one in so many patients)"
        )
    rate = min(1.0, settings.batch_size / patients)
    steps = settings.local_epochs * -(-patients // settings.batch_size)
    planned, delta = steps * settings.rounds, settings.dp_delta
    noise = settings.dp_noise or noise_for_epsilon(settings.dp_epsilon - count_epsilon(settings), rate, planned, delta)
    epsilon = settings.dp_epsilon or counted + epsilon_of_steps(noise, rate, planned, delta)
    return PrivatePlan(
        patients=patients,
        rate=rate,
        steps=steps,
        noise=noise,
        count_epsilon=counted,
        test_epsilon=settings.dp_epsilon or DEFAULT_EPSILON,
        epsilon=epsilon,
        delta=delta,
    )

"""One hospital's plan for the (epsilon, delta) guarantee of a run: sampling rate, number of steps and noise."""

from dataclasses import dataclass

from fedhealth.client.privacy.accounting import epsilon_of_steps, noise_for_epsilon
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings

COUNT_SHARE = 0.1
"""Share of the guaranteed epsilon that is spent on the count of training patients."""
DEFAULT_EPSILON = 1.0
"""With --dp-noise there is no target epsilon; count and evaluation then use this one."""
FEWEST = 10
"""Smaller noisy counts are raised to this."""


@dataclass(frozen=True)
class PrivatePlan:
    """The parameters of a run's guarantee. The server knows them or can compute them, so none is secret."""

    patients: int
    """Noisy count of training patients."""
    rate: float
    """Sampling rate: the probability that a patient is in a step's batch."""
    steps: int
    """Steps in one round."""
    noise: float
    """Noise multiplier: standard deviation in units of the clipping norm."""
    count_epsilon: float
    """Epsilon of the count `patients`."""
    test_epsilon: float
    """Epsilon of one evaluation, for a test patient."""
    epsilon: float
    """Guaranteed to each patient for the whole run: the epsilons of the count and of the steps, added (basic composition:
    Dwork & Roth 2014, "The algorithmic foundations of differential privacy", theorem 3.16)."""
    delta: float


def count_epsilon(settings: FederationSettings) -> float:
    """The epsilon spent on the count of training patients."""
    return COUNT_SHARE * (settings.dp_epsilon or DEFAULT_EPSILON)


def make_plan(settings: FederationSettings, patients: int, counted: float) -> PrivatePlan:
    """The plan of a hospital with about `patients` training patients, a noisy count with epsilon `counted`.

    Raises
    ------
    RunError
        Delta is too large for so many patients, or the guarantee cannot be given.
    """
    if settings.dp_delta * patients >= 1:
        raise RunError(
            f"--dp-delta {settings.dp_delta:g} is too large for about {patients} training patients: give less than "
            f"{1 / patients:.2g} (1 / number of patients)"
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

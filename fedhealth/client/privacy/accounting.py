"""Privacy accounting with Google's dp-accounting: the epsilon of noisy gradient steps, and the noise for a target epsilon.

For Poisson-sampled Gaussian steps (Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1) under
add-or-remove-one neighbours. Privacy loss distributions are exact up to discretization, which is pessimistic: epsilon
is never underestimated (Koskela, Jälkö & Honkela 2020; Doroshenko et al. 2022).
"""

from functools import lru_cache

from fedhealth.common.errors import RunError

INTERVAL = 1e-3
"""Discretization interval of the privacy loss, which is always rounded up."""
PRECISION = 1e-3
"""Tolerance in the search for the smallest sufficient noise."""
MOST_NOISE = 1e4


@lru_cache(maxsize=4096)
def epsilon_of_steps(noise: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon at `delta` of `steps` steps; infinite without noise.

    Parameters
    ----------
    noise : noise multiplier: standard deviation of the noise in units of the clipping norm.
    rate : sampling rate: the probability that a patient is in a step's batch.
    """
    if not steps:
        return 0.0
    if noise <= 0:
        return float("inf")
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=INTERVAL)
    accountant.compose(_one_step(noise, rate), steps)
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=1024)
def noise_for_epsilon(epsilon: float, rate: float, steps: int, delta: float) -> float:
    """The smallest noise multiplier with which `steps` steps stay within `epsilon` at `delta`.

    Raises
    ------
    RunError
        Epsilon is too small for any noise.
    """
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    try:
        return float(
            dp_accounting.calibrate_dp_mechanism(
                lambda: PLDAccountant(value_discretization_interval=INTERVAL),
                lambda noise: dp_accounting.SelfComposedDpEvent(_one_step(noise, rate), steps),
                epsilon,
                delta,
                bracket_interval=dp_accounting.LowerEndpointAndGuess(0.0, 4.0),
                tol=PRECISION,
            )
        )
    except (dp_accounting.NoBracketIntervalFoundError, ValueError):
        raise RunError(
            f"--dp-epsilon {epsilon:g} cannot be guaranteed over {steps} steps at --dp-delta {delta:g}; raise it"
        ) from None


def _one_step(noise: float, rate: float) -> "object":
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent

    return GaussianDpEvent(noise) if rate >= 1 else PoissonSampledDpEvent(rate, GaussianDpEvent(noise))

"""What noisy gradient steps disclose of a patient, by Google's dp-accounting; and how much noise a guarantee needs.

All of it for Poisson-sampled Gaussian steps (Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1), two
sets of patients being neighbours if one has a patient more. Accounted by privacy loss distributions, which are exact up to a
rounding that errs on the safe side (Koskela, Jälkö & Honkela 2020; Doroshenko et al. 2022).
"""

from functools import lru_cache

from fedhealth.common.errors import RunError

INTERVAL = 1e-3
"""Width of the steps in which a privacy loss is counted; it is always rounded up."""
PRECISION = 1e-3
"""How closely the smallest sufficient noise is found."""
MOST_NOISE = 1e4


@lru_cache(maxsize=4096)
def epsilon_of_steps(noise: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon at `delta` of so many steps; infinite without noise.

    Parameters
    ----------
    noise : standard deviation of the noise in units of the longest gradient.
    rate : the probability with which each patient is in a step's batch.
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
    """The least noise with which so many steps stay within `epsilon` at `delta`.

    Raises
    ------
    RunError
        No noise is enough: epsilon is too small.
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
            f"--dp-epsilon {epsilon:g} cannot be kept over {steps} steps at --dp-delta {delta:g}; raise it"
        ) from None


def _one_step(noise: float, rate: float) -> "object":
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent

    return GaussianDpEvent(noise) if rate >= 1 else PoissonSampledDpEvent(rate, GaussianDpEvent(noise))

"""Mechanisms for counts of patients under differential privacy: coarse bins, each with integer noise."""

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.privacy.plan import FEWEST
from fedhealth.metrics.bins import BIN_RISKS, NUM_BINS, TENTHS, find_edge
from fedhealth.metrics.histogram import ScoreHistogram

MIDDLES = np.array([find_edge((tenth + 0.5) / 10) for tenth in range(len(TENTHS))])
"""The middle bin of each tenth of risk. Tenths are few, so that counts are large against the noise."""


def noisy_count(patients: int, epsilon: float, noise_source: NoiseSource) -> int:
    """A noisy number of patients with privacy loss `epsilon` (sensitivity 1); never below `FEWEST`."""
    return max(FEWEST, patients + noise_source.discrete_laplace(epsilon))


def noisy_histogram(histogram: ScoreHistogram, epsilon: float, noise_source: NoiseSource) -> ScoreHistogram:
    """The histogram in tenths of risk by label, with noise and privacy loss `epsilon`.

    Each patient is in one tenth, so the privacy loss of all tenths together is that of one (parallel composition:
    McSherry 2009, "Privacy integrated queries", theorem 4). Each tenth's count is placed in its middle bin, and the two
    sums are computed from these noisy counts (post-processing), not from the patients.
    """
    positives, negatives = (
        _regroup(counts, epsilon, noise_source) for counts in (histogram.positives, histogram.negatives)
    )
    return ScoreHistogram(
        positives=positives,
        negatives=negatives,
        log_loss=-float((positives * np.log(BIN_RISKS) + negatives * np.log(1 - BIN_RISKS)).sum()),
        squared_error=float((positives * (1 - BIN_RISKS) ** 2 + negatives * BIN_RISKS**2).sum()),
    )


def _regroup(counts: NDArray[np.int64], epsilon: float, noise_source: NoiseSource) -> NDArray[np.int64]:
    exact = np.add.reduceat(counts, TENTHS)
    noisy = np.zeros(NUM_BINS, dtype=np.int64)
    noisy[MIDDLES] = [max(0, int(count) + noise_source.discrete_laplace(epsilon)) for count in exact]
    return noisy

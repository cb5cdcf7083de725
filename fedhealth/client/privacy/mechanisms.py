"""Counts of patients that may leave under differential privacy: coarse, and with whole-numbered noise on each."""

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.privacy.plan import FEWEST
from fedhealth.metrics.histogram import NUM_BINS, ScoreHistogram

NUM_GROUPS = 10
"""Of predicted risk: few, so that each holds more patients than noise; 0.5 is an edge of two."""
WIDTH = NUM_BINS // NUM_GROUPS


def noisy_count(patients: int, epsilon: float, noise_source: NoiseSource) -> int:
    """A noisy number of patients, with privacy loss `epsilon` (a patient changes it by 1); never below `FEWEST`."""
    return max(FEWEST, patients + noise_source.discrete_laplace(epsilon))


def noisy_histogram(histogram: ScoreHistogram, epsilon: float, noise_source: NoiseSource) -> ScoreHistogram:
    """The histogram in `NUM_GROUPS` groups of risk by label, with noise and privacy loss `epsilon`.

    Each patient is in one group, so all groups together cost what one costs (parallel composition: McSherry 2009,
    "Privacy integrated queries", theorem 4). A group's patients all stand in its middle bin, and the two sums follow from
    that: they are no patient's any more.
    """
    positives, negatives = (
        _regroup(counts, epsilon, noise_source) for counts in (histogram.positives, histogram.negatives)
    )
    middles = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    return ScoreHistogram(
        positives=positives,
        negatives=negatives,
        log_loss=-float((positives * np.log(middles) + negatives * np.log(1 - middles)).sum()),
        squared_error=float((positives * (1 - middles) ** 2 + negatives * middles**2).sum()),
    )


def _regroup(counts: NDArray[np.int64], epsilon: float, noise_source: NoiseSource) -> NDArray[np.int64]:
    exact = counts.reshape(NUM_GROUPS, WIDTH).sum(axis=1)
    noisy = [max(0, int(count) + noise_source.discrete_laplace(epsilon)) for count in exact]
    spread = np.zeros((NUM_GROUPS, WIDTH), dtype=np.int64)
    spread[:, WIDTH // 2] = noisy
    return spread.ravel()

"""Patients by their predicted log odds, and labels drawn from true ones."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray


def make_cohort(
    num_patients: int = 3000, slope: float = 1.0, intercept: float = 0.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Risks, and labels drawn with log odds `intercept + slope * predicted log odds`."""
    generator = np.random.default_rng(seed)
    log_odds = generator.normal(scale=1.5, size=num_patients)
    true_risks = 1 / (1 + np.exp(-(intercept + slope * log_odds)))
    return 1 / (1 + np.exp(-log_odds)), (generator.random(num_patients) < true_risks).astype(float)


@dataclass(frozen=True)
class Cohort:
    """20,000 patients with normal log odds; those of disease are `intercept + slope * predicted`."""

    mean: float
    spread: float
    slope: float = 1.0
    intercept: float = 0.0

    def draw(self, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Risks and labels, each (20000,)."""
        generator = np.random.default_rng(seed)
        log_odds = generator.normal(self.mean, self.spread, 20_000)
        true_risks = 1 / (1 + np.exp(-(self.intercept + self.slope * log_odds)))
        return 1 / (1 + np.exp(-log_odds)), (generator.random(20_000) < true_risks).astype(float)


RARE_AND_OVERCONFIDENT = [
    pytest.param(Cohort(0.0, 6.0, slope=0.25), id="overconfident: a slope of 0.25"),
    pytest.param(Cohort(0.0, 10.0, slope=1 / 6), id="very overconfident: a slope of 1/6"),
    pytest.param(Cohort(-6.8, 1.3), id="rare: 0.3 % are ill"),
    pytest.param(Cohort(-8.0, 3.0, slope=0.4, intercept=-2.3), id="rare and overconfident"),
    pytest.param(Cohort(0.0, 1.5), id="neither"),
]

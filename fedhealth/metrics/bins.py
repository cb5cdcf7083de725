"""The bins of predicted risk.

Every multiple of 0.005 is an edge, so that counts at the usual thresholds are exact. Near 0 and 1 bins of 0.005 are too
wide: the log odds of 0.005 and 0.01 differ by 0.7, and a rare disease or an overconfident model has most of its risks there.
Further edges are at every tenth of log odds from -3 to -10 (risks of 1 in 21 to 1 in 22,000), at every half from there to -16
(1 in 9 million), and at the same distances above 0.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.risk import log_odds

_TAIL = 1 / (1 + np.exp(np.concatenate([np.arange(30, 101) / 10, np.arange(21, 33) / 2])))
BIN_EDGES: NDArray[np.float64] = np.unique(np.concatenate([np.arange(201) / 200, _TAIL, 1 - _TAIL]))
"""Risks from 0 to 1 (NUM_BINS + 1,); a bin holds its lower edge and not its upper one, which only the last bin does."""
NUM_BINS = len(BIN_EDGES) - 1
BIN_RISKS: NDArray[np.float64] = (BIN_EDGES[1:] + BIN_EDGES[:-1]) / 2
"""Middles of the bins (NUM_BINS,)."""
BIN_LOG_ODDS: NDArray[np.float64] = (log_odds(BIN_EDGES[1:]) + log_odds(BIN_EDGES[:-1])) / 2
"""Middles of the bins in log odds (NUM_BINS,)."""
HALF_WIDTHS: NDArray[np.float64] = (log_odds(BIN_EDGES[1:]) - log_odds(BIN_EDGES[:-1])) / 2
"""Largest distance of a patient's log odds from the middle of the bin (NUM_BINS,): 0.05, and 0.25 beyond log odds of 10."""


def find_bins(risks: NDArray[np.floating]) -> NDArray[np.int64]:
    """Bin of each risk.

    The edges are rounded to the precision of the risks, so that 0.29 starts its own bin in float32, too.
    """
    return np.searchsorted(BIN_EDGES[1:-1].astype(risks.dtype), risks, side="right")


@cache
def find_edge(risk: float) -> int:
    """Place in `BIN_EDGES` of the edge nearest to `risk`: the bins from there on hold the risks from that edge up."""
    return int(np.argmin(np.abs(BIN_EDGES - risk)))


TENTHS: NDArray[np.int64] = np.array([find_edge(tenth / 10) for tenth in range(10)])
"""First bin of each tenth of risk: from 0, from 0.1, ..., from 0.9."""

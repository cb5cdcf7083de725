"""The bins of predicted risk: which bin a risk is in, and how far the bins reach."""

import numpy as np
import pytest

from fedhealth.common.risk import log_odds
from fedhealth.metrics.bins import (
    BIN_EDGES,
    BIN_LOG_ODDS,
    BIN_RISKS,
    HALF_WIDTHS,
    NUM_BINS,
    TENTHS,
    find_bins,
    find_edge,
)

PRECISIONS = pytest.mark.parametrize("kind", [np.float32, np.float64])


@PRECISIONS
def test_every_multiple_of_a_two_hundredth_starts_its_own_bin(kind: type) -> None:
    """0.145, 0.285 and five others times 200 are just below a whole number, in float32 half of the hundredths are."""
    edges = np.arange(200) / 200
    np.testing.assert_array_equal(find_bins(edges.astype(kind)), [find_edge(edge) for edge in edges])


@PRECISIONS
def test_every_edge_starts_a_bin_and_the_next_smaller_risk_is_in_the_bin_before(kind: type) -> None:
    edges = BIN_EDGES[:-1].astype(kind)
    np.testing.assert_array_equal(find_bins(edges), np.arange(NUM_BINS))
    np.testing.assert_array_equal(find_bins(np.nextafter(edges[1:], kind(0))), np.arange(NUM_BINS - 1))


def test_a_risk_of_one_is_in_the_last_bin() -> None:
    assert find_bins(np.array([1.0])) == NUM_BINS - 1


@pytest.mark.parametrize(("risk", "edge"), [(0.0, 0.0), (0.05, 0.05), (0.57, 0.57), (1.0, 1.0), (0.5001, 0.5)])
def test_the_edge_of_a_risk_is_the_nearest(risk: float, edge: float) -> None:
    assert BIN_EDGES[find_edge(risk)] == edge


def test_there_are_366_bins_from_0_to_1_and_the_middles_are_within() -> None:
    assert (NUM_BINS, BIN_EDGES[0], BIN_EDGES[-1]) == (366, 0.0, 1.0)
    assert np.all(np.diff(BIN_EDGES) > 0)
    assert np.all((BIN_EDGES[:-1] < BIN_RISKS) & (BIN_EDGES[1:] > BIN_RISKS))
    np.testing.assert_allclose(BIN_LOG_ODDS, -BIN_LOG_ODDS[::-1], atol=1e-6)


def test_no_bin_is_wider_than_a_two_hundredth_nor_a_tenth_of_log_odds_for_risks_above_1_in_22_000() -> None:
    assert np.diff(BIN_EDGES).max() <= 0.005 + 1e-12
    assert HALF_WIDTHS[np.abs(BIN_LOG_ODDS) < 10].max() <= 0.0503
    assert HALF_WIDTHS.max() <= 0.2501


def test_the_log_odds_of_a_risk_are_within_half_a_width_of_the_middle() -> None:
    risks = np.geomspace(1e-9, 0.5, 1000)
    risks = np.concatenate([risks, 1 - risks])
    bins = find_bins(risks)
    assert np.all(np.abs(log_odds(risks) - BIN_LOG_ODDS[bins]) <= HALF_WIDTHS[bins] + 1e-9)


def test_tenths_begin_at_0_and_end_before_09() -> None:
    np.testing.assert_array_equal(BIN_EDGES[TENTHS], np.arange(10) / 10)

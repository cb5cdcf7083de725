"""The histograms of very many small hospitals in evaluation.json: the bin of each patient instead of a count for each bin."""

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.histogram import LARGEST_LOG_LOSS
from fedhealth.metrics.many_histograms import ManyHistograms, Scores


class ListedBins(msgspec.Struct, frozen=True, rename="kebab"):
    """A hospital's patients: the bin of each ill and of each healthy one, and the sums of a histogram."""

    num_examples: int
    ill: list[int]
    healthy: list[int]
    log_loss: float
    squared_error: float


def list_bins(histograms: ManyHistograms) -> Iterator[tuple[str, ListedBins]]:
    """Name and bins of each hospital."""
    for name, codes, loss, error in histograms.patients():
        ill = [code - NUM_BINS for code in codes if code >= NUM_BINS]
        healthy = [code for code in codes if code < NUM_BINS]
        yield name, ListedBins(len(codes), ill, healthy, loss, error)


def read_listed(saved: Mapping[str, msgspec.Raw]) -> ManyHistograms:
    """The histograms that `list_bins` listed; a `ValueError` if they are none."""
    decoder = msgspec.json.Decoder(ListedBins)
    codes, sizes, sums = list[np.ndarray[tuple[int], np.dtype[np.uint16]]](), list[int](), list[tuple[float, float]]()
    for raw in saved.values():
        each = decoder.decode(raw)
        bins = [*each.healthy, *(place + NUM_BINS for place in each.ill)]
        within = all(0 <= place < NUM_BINS for place in (*each.ill, *each.healthy))
        if len(bins) != each.num_examples or not within:
            raise ValueError("a patient is in no bin, or the bins do not add up to num-examples")
        codes.append(np.array(bins, dtype=np.uint16))
        sizes.append(len(bins))
        sums.append((each.log_loss, each.squared_error))
    patients, (losses, errors) = np.array(sizes), np.array(sums).T
    most = LARGEST_LOG_LOSS * patients + 1e-6
    if not (np.all((losses >= 0) & (losses <= most)) and np.all((errors >= 0) & (errors <= patients))):
        raise ValueError("the sum of log loss or of squared error is out of range")
    return ManyHistograms(list(saved), Scores(np.concatenate(codes), patients, losses, errors))

"""The messages of the finalization, all of which contain the final model: subgroups, importance and finish."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from fedhealth.transport.protocol.fields import (
    ARRAYS,
    CONFIG,
    NUM_EXAMPLES,
    Scale,
    Weights,
    decode_scale,
    decode_weights,
    encode_arrays,
    encode_scale,
    is_list,
    is_number,
    list_names,
    take_config,
    take_records,
)

# --- the request of all three -----------------------------------------------------------------------------------------

THRESHOLD = "threshold"


@dataclass(frozen=True, eq=False)
class FinalRequest:
    """The final model: the content of `SUBGROUPS`, `IMPORTANCE` and `FINISH`."""

    weights: Weights
    scale: Scale | None = None
    threshold: float | None = None
    """A patient is predicted positive from this risk on; None means 0.5."""


def encode_final_request(request: FinalRequest) -> RecordDict:
    """The request for `SUBGROUPS`, `IMPORTANCE` and `FINISH`."""
    chosen = {} if request.threshold is None else {THRESHOLD: request.threshold}
    config = ConfigRecord({**encode_scale(request.scale), **chosen})
    return RecordDict({ARRAYS: encode_arrays(request.weights), CONFIG: config})


def decode_final_request(content: RecordDict) -> FinalRequest:
    """The decoded final model; names and shapes of the weights are not checked."""
    config = take_config(content, ARRAYS)
    threshold: Any = config.get(THRESHOLD)
    if threshold is not None and not is_number(threshold, 0, 1):
        raise ValueError("the server's threshold is invalid: a number from 0 to 1 is needed")
    chosen = None if threshold is None else float(threshold)
    return FinalRequest(scale=decode_scale(config), weights=decode_weights(content), threshold=chosen)


# --- outcomes by subgroup ---------------------------------------------------------------------------------------------

SUBGROUPS = "query.subgroups"
SUBGROUPS_RECORD = "subgroups"
SubgroupCounts = Mapping[str, tuple[int, ...]]
"""Subgroup -> true positives, false positives, true negatives, false negatives; without suppressed subgroups."""


def encode_subgroups(counts: SubgroupCounts) -> RecordDict:
    """The reply to `SUBGROUPS`."""
    return RecordDict({SUBGROUPS_RECORD: MetricRecord({group: list(each) for group, each in counts.items()})})


def decode_subgroups(content: RecordDict) -> SubgroupCounts:
    """Four counts for each subgroup; the names of subgroups are not checked."""
    (record,) = take_records(content, {SUBGROUPS_RECORD: MetricRecord})
    for group, counts in record.items():
        if not is_list(counts, int) or len(counts) != 4 or min(counts) < 0:
            raise ValueError(f"its {group} are not four counts")
    return {group: tuple(counts) for group, counts in record.items()}


# --- permutation importance -------------------------------------------------------------------------------------------

IMPORTANCE = "query.importance"
IMPORTANCE_RECORD = "importance"
DROPS = "auroc-drops"


@dataclass(frozen=True)
class ImportanceDrops:
    """AUROC drop of each feature, in the order of `Schema.features`, over `num_examples` test patients."""

    drops: tuple[float, ...]
    num_examples: int


def encode_importance(importance: ImportanceDrops | None) -> RecordDict:
    """The reply to `IMPORTANCE`; empty if the hospital does not disclose it (None)."""
    if importance is None:
        return RecordDict()
    record = MetricRecord({DROPS: list(importance.drops), NUM_EXAMPLES: importance.num_examples})
    return RecordDict({IMPORTANCE_RECORD: record})


def decode_importance(content: RecordDict) -> ImportanceDrops | None:
    """One drop for each feature; None if the hospital does not disclose them."""
    if not content:
        return None
    (record,) = take_records(content, {IMPORTANCE_RECORD: MetricRecord})
    num_examples, drops = record.get(NUM_EXAMPLES), record.get(DROPS)
    if len(record) != 2 or type(num_examples) is not int:
        raise ValueError(f"its importance must have exactly {DROPS} and an integer {NUM_EXAMPLES}")
    if not isinstance(drops, list):
        raise ValueError(f"its {DROPS} are no list of numbers")
    if not all(type(drop) is float and -1 <= drop <= 1 for drop in drops):
        raise ValueError("an AUROC drop is not a number from -1 to 1")
    return ImportanceDrops(tuple(drops), num_examples)


# --- finish: the hospital keeps the final model and may reply with comparisons ----------------------------------------

FINISH = "query.finish"
ComparedMetric = Literal["auroc", "brier"]
MODELS = ("global", "personal")
METRICS: tuple[ComparedMetric, ...] = get_args(ComparedMetric)
COMPARED = {f"{model}-{metric}": (model, metric) for model in MODELS for metric in METRICS}
"""Name of a record -> the compared model and metric."""
COMPARISON_KEYS = ("value", "alone", "difference", "low", "high")


@dataclass(frozen=True)
class Comparison:
    """A model's metric, that of the hospital's local-only model (`alone`), and their difference with its interval."""

    metric: ComparedMetric
    value: float
    alone: float
    difference: float
    low: float
    high: float


Comparisons = Mapping[str, Comparison]
"""Model (`global`, `personal`) -> its comparison."""


def encode_finish_reply(comparisons: Comparisons) -> RecordDict:
    """The reply to `FINISH`; empty if the hospital does not share its comparisons."""
    return RecordDict(
        {
            f"{model}-{each.metric}": MetricRecord({key: getattr(each, key) for key in COMPARISON_KEYS})
            for model, each in comparisons.items()
        }
    )


def decode_finish_reply(content: RecordDict) -> Comparisons:
    """The comparisons of the global and the personal model; the consistency of their numbers is not checked."""
    known = {
        key: COMPARED[key] for key, record in content.items() if key in COMPARED and isinstance(record, MetricRecord)
    }
    models = sorted(model for model, _ in known.values())
    if len(known) != len(content) or models not in ([], ["global"], ["global", "personal"]):
        raise ValueError(f"it sent {list_names(content)} instead of comparisons")
    return {model: _decode_comparison(content[key], metric) for key, (model, metric) in known.items()}


def _decode_comparison(record: Any, metric: ComparedMetric) -> Comparison:
    values: dict[str, Any] = dict(record)
    if set(values) != set(COMPARISON_KEYS):
        raise ValueError(f"its comparison must have exactly the keys {', '.join(COMPARISON_KEYS)}")
    if not all(type(value) is float and -1 <= value <= 1 for value in values.values()):
        raise ValueError("a value of its comparison is not a number from -1 to 1")
    return Comparison(metric, **values)

"""A round on paper and back: a run that goes on reads its history as it was."""

import json
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.metrics.histogram import Metrics, score_histogram
from fedhealth.server.events import RoundRecord
from fedhealth.server.run_json import evaluation_json, history_json, round_from_json, strict_json, write_long_json
from tests.support.run_events import make_round

numbers = st.floats(allow_nan=False, allow_infinity=False)
some_metrics = st.builds(
    Metrics,
    num_examples=st.integers(0, 10**9),
    num_ill=st.integers(0, 10**9),
    **dict.fromkeys(
        ("loss", "auroc", "auroc_bound", "accuracy", "sensitivity", "specificity", "brier", "ece"), st.none() | numbers
    ),
)
records = st.builds(
    RoundRecord,
    round_num=st.integers(1, 10**6),
    seconds=numbers,
    train_loss=numbers,
    union=some_metrics,
    hospitals=st.dictionaries(st.text(), some_metrics, max_size=3),
    left_out=st.dictionaries(st.text(), st.text(), max_size=3),
    left_out_share=numbers,
    clipped=st.dictionaries(st.text(), numbers, max_size=3),
)


@given(record=records)
def test_a_round_comes_back_from_its_line_bit_for_bit(record: RoundRecord) -> None:
    line = strict_json(history_json(record))
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert round_from_json(json.loads(line)) == record


def test_an_undefined_loss_comes_back_undefined() -> None:
    back = round_from_json(json.loads(strict_json(history_json(replace(make_round(), train_loss=math.nan)))))
    assert math.isnan(back.train_loss)


def test_histograms_are_not_in_the_history() -> None:
    assert "histograms" not in history_json(make_round())


@pytest.mark.parametrize("key", list(history_json(make_round())))
def test_a_line_that_lacks_something_is_no_round(key: str) -> None:
    content: dict[str, Any] = history_json(make_round())
    del content[key]
    with pytest.raises(KeyError):
        round_from_json(content)


def test_the_histograms_of_very_many_hospitals_are_written_in_little_memory(tmp_path: Path) -> None:
    histogram = score_histogram(np.linspace(0, 1, 40), np.arange(40) % 2)
    content = evaluation_json({f"hospital {number}": histogram for number in range(1000)})
    tracemalloc.start()
    try:
        write_long_json(tmp_path / "evaluation.json", content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6
    assert json.loads((tmp_path / "evaluation.json").read_bytes()) == content

"""A round is written to disk and read back unchanged."""

import json
import math
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.metrics.histogram import Metrics, score_histogram
from fedhealth.server.records import RoundRecord
from fedhealth.server.run_files import EvaluationFile, read_json, to_json, write_evaluation
from tests.support.run_events import make_round

pytestmark = pytest.mark.usefixtures("few_draws")

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
    train_loss=st.none() | numbers,
    pooled=some_metrics,
    hospitals=st.dictionaries(st.text(), some_metrics, max_size=3),
    left_out=st.dictionaries(st.text(), st.text(), max_size=3),
    left_out_share=numbers,
    clipped=st.dictionaries(st.text(), numbers, max_size=3),
    asked=st.lists(st.text(), max_size=3).map(tuple),
    validation=st.none() | some_metrics,
)


@given(record=records)
def test_a_round_comes_back_from_its_line_bit_for_bit(record: RoundRecord) -> None:
    line = to_json(record)
    assert len(line.splitlines()) == 1
    assert msgspec.json.decode(line, type=RoundRecord) == record


@given(number=numbers)
def test_any_reader_of_json_gets_the_same_number(number: float) -> None:
    assert json.loads(to_json([number, np.float64(number)])) == [number, number]


def test_an_undefined_loss_is_null_and_comes_back_as_none() -> None:
    line = to_json(make_round(train_loss=math.nan))
    assert json.loads(line)["train_loss"] is None
    assert msgspec.json.decode(line, type=RoundRecord).train_loss is None


def test_a_line_has_no_key_for_what_the_run_did_not_ask_for() -> None:
    plain = json.loads(to_json(make_round()))
    both = json.loads(to_json(make_round(asked=("va",), validation=make_round().pooled)))
    assert set(both) - set(plain) == {"asked", "validation"}


@pytest.mark.parametrize("key", list(msgspec.to_builtins(make_round())))
def test_a_line_that_lacks_something_is_no_round(key: str) -> None:
    content = json.loads(to_json(make_round()))
    del content[key]
    with pytest.raises(ValueError, match=f"missing required field `{key}`"):
        msgspec.json.decode(json.dumps(content), type=RoundRecord)


def test_the_histograms_of_very_many_hospitals_are_written_and_read_in_little_memory(tmp_path: Path) -> None:
    histogram, path = score_histogram(np.linspace(0, 1, 40), np.arange(40) % 2), tmp_path / "evaluation.json"
    histograms = {f'hospital "{number}"': histogram for number in range(1000)}
    tracemalloc.start()
    try:
        write_evaluation(path, histograms)
        written = tracemalloc.get_traced_memory()[1]
        found = read_json(path, EvaluationFile).histograms()
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written < 0.5e6
    assert read < path.stat().st_size + 1e6
    assert list(found) == list(histograms)
    assert all(vars(each).keys() == vars(histogram).keys() for each in found.values())
    np.testing.assert_array_equal(found['hospital "7"'].positives, histogram.positives)
    assert found['hospital "7"'].log_loss == histogram.log_loss
    assert len(path.read_bytes().splitlines()) == 1


def test_without_an_evaluation_there_are_no_histograms(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation.json", {})
    assert len(read_json(tmp_path / "evaluation.json", EvaluationFile).histograms()) == 0


def test_a_histogram_that_contradicts_itself_is_found_when_the_file_is_read(tmp_path: Path) -> None:
    histogram, path = score_histogram([0.25, 0.75], [0, 1]), tmp_path / "evaluation.json"
    write_evaluation(path, {"va": histogram})
    path.write_bytes(path.read_bytes().replace(b'"num-examples":2', b'"num-examples":3'))
    with pytest.raises(ValueError, match="do not add up"):
        read_json(path, EvaluationFile).histograms()

"""Of very many hospitals the run folder has the bin of each patient, from which the same histograms are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedhealth.metrics.many_histograms import ManyHistograms, score_many
from fedhealth.metrics.many_rows import VERY_MANY
from fedhealth.server import run_files
from fedhealth.server.records import pool
from fedhealth.server.run_files import EvaluationFile, read_json, to_json, write_evaluation, write_json

SOME = VERY_MANY + 1


def make_histograms(hospitals: int = SOME, patients: int = 4) -> ManyHistograms:
    generator = np.random.default_rng(0)
    risks = generator.random((hospitals, patients)).astype(np.float32)
    labels = (generator.random((hospitals, patients)) < 0.5).astype(np.float32)
    return ManyHistograms([f"h{number:04}" for number in range(hospitals)], score_many(risks, labels))


def test_very_many_small_hospitals_are_written_by_patient_and_read_as_they_were(tmp_path: Path) -> None:
    histograms, path = make_histograms(), tmp_path / "evaluation.json"
    write_evaluation(path, histograms)
    assert path.stat().st_size < 150 * SOME
    found = read_json(path, EvaluationFile).histograms()
    assert list(found) == list(histograms)
    assert found.metrics() == histograms.metrics()  # type: ignore[attr-defined]
    for name in ("h0000", "h1234", "h2000"):
        np.testing.assert_array_equal(found[name].positives, histograms[name].positives)
        np.testing.assert_array_equal(found[name].negatives, histograms[name].negatives)
    assert vars(pool(found)).keys() == vars(pool(histograms)).keys()
    assert pool(found).log_loss == pool(histograms).log_loss


@pytest.mark.parametrize(("hospitals", "patients"), [(SOME - 1, 4), (SOME, 1000)], ids=["few", "large"])
def test_few_or_large_hospitals_are_written_by_bin(hospitals: int, patients: int, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation.json", make_histograms(hospitals, patients))
    content = json.loads((tmp_path / "evaluation.json").read_bytes())
    assert "form" not in content
    assert sum(content["hospitals"]["h0000"]["positives"] + content["hospitals"]["h0000"]["negatives"]) == patients


@pytest.mark.parametrize(
    "change",
    [{"num-examples": 5}, {"ill": [9999] * 4, "healthy": []}, {"log-loss": -1.0}, {"squared-error": 4.5}],
    ids=str,
)
def test_a_listed_hospital_that_contradicts_itself_is_found_when_the_file_is_read(
    change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "evaluation.json"
    write_evaluation(path, make_histograms())
    content = json.loads(path.read_bytes())
    content["hospitals"]["h0007"] |= change
    path.write_bytes(to_json(content))
    with pytest.raises(ValueError, match=r"no bin|out of range"):
        read_json(path, EvaluationFile).histograms()


def test_rows_made_on_demand_are_written_as_those_of_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = make_histograms(25).metrics()
    assert to_json({"all": metrics}) == to_json({"all": dict(metrics)})
    monkeypatch.setattr(run_files, "ROWS_AT_ONCE", 10)
    assert to_json(metrics) == to_json(dict(metrics))


def test_a_file_too_long_to_read_is_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "short.json", {"a": 1})
    assert (tmp_path / "short.json").read_text(encoding="utf-8") == '{\n  "a": 1\n}\n'
    monkeypatch.setattr(run_files, "INDENTED_BYTES", 5)
    write_json(tmp_path / "long.json", {"a": 1})
    assert (tmp_path / "long.json").read_text(encoding="utf-8") == '{"a":1}\n'

"""Of very many hospitals a page shows quantiles and a few rows; the run folder has the figures of all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedhealth.cli.commands.simulate import main
from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.histogram import compute_metrics
from fedhealth.metrics.many_histograms import in_columns
from fedhealth.metrics.many_rows import VERY_MANY
from fedhealth.reporting.html.charts import run_charts
from fedhealth.reporting.html.many_hospitals import (
    left_out_lines,
    metric_columns,
    quantiles_by_round,
    summarise_many,
    worst_participation,
)
from fedhealth.reporting.html.run_reader import RunRecord, read_run
from fedhealth.reporting.html.tables import HOSPITAL_HEADINGS, has_few, hospital_rows, participation
from fedhealth.server.records import RunDescription
from tests.support.run_folders import make_histogram, make_members, make_record

SOME = VERY_MANY + 4
FLAGS = ("--hospitals", str(SOME), "--patients", "50", "--rounds", "2", "--fraction", "0.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("very-many") / "run"
    assert main([*FLAGS, "--out", str(made)]) == 0
    return made


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_a_page_of_very_many_hospitals_has_quantiles_and_the_extremes(folder: Path) -> None:
    page, card = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "MODEL_CARD.md"))
    for text in (page, card):
        assert f"Quantiles over {SOME:,} hospitals" in text
        assert 20 <= text.count("synthetic-") < 100
    assert "5th percentile" in page
    assert f"Of {SOME:,} hospitals the first twenty" in page
    assert f"Single hospitals have no curves here, because they are {SOME:,}" in page
    assert len(page) < 100_000
    assert len(card) < 20_000


def test_the_files_have_every_hospital(folder: Path) -> None:
    names = [member["name"] for member in read(folder, "settings.json")["hospitals"]]
    assert len(names) == SOME
    assert list(read(folder, "summary.json")["hospitals"]) == names
    assert list(read(folder, "evaluation.json")["hospitals"]) == names
    for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines():
        assert list(json.loads(line)["hospitals"]) == names


def test_the_summary_has_the_figures_of_each_hospital_alone(folder: Path) -> None:
    run, found = read_run(folder), read(folder, "summary.json")["hospitals"]
    for name in run.names[::97]:
        metrics = compute_metrics(run.histograms[name])
        assert run.final.hospitals[name] == metrics
        assert (found[name]["auroc"], found[name]["brier"], found[name]["patients"]) == (
            metrics.auroc,
            metrics.brier,
            50,
        )


def test_quantiles_are_over_the_hospitals_without_few_patients_of_a_class(folder: Path) -> None:
    run = read_run(folder)
    shown = [each.auroc for each in run.final.hospitals.values() if not has_few(each) and each.auroc is not None]
    assert 0 < len(shown) < SOME
    assert quantiles_by_round(run.final, "auroc")["median"] == np.median(shown)
    parts = summarise_many(run)
    assert parts
    assert parts.quantiles[2][:2] == ("median", f"{np.median(shown):.2f}")
    assert parts.quantiles[-1][1] == f"{len(shown):,}"


def test_the_rows_of_the_extremes_are_those_of_the_whole_table(folder: Path) -> None:
    run = read_run(folder)
    parts, whole = summarise_many(run), hospital_rows(run)
    assert parts
    assert set(parts.rows) <= set(whole)
    assert parts.rows[-1] == whole[-1]
    aurocs = [float(row[HOSPITAL_HEADINGS.index("AUROC")]) for row in parts.rows[:-1]]
    assert aurocs == sorted(aurocs, reverse=True)
    assert len(aurocs) == 20


def test_columns_are_the_same_however_the_metrics_are_kept() -> None:
    metrics = make_record(1).hospitals
    one, other = metric_columns(metrics), metric_columns(in_columns(metrics))
    assert in_columns(metrics) == metrics
    assert np.isnan(one["auroc"]).tolist() == [False, False, True, False]
    assert all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)


def make_many(**changes: Any) -> RunRecord:
    """A run of very many hospitals with equal histograms, but the third one, which has 2 healthy patients."""
    names = tuple(f"h{number:04}" for number in range(SOME))
    usual, small = compute_metrics(make_histogram(20, 20, 0)), compute_metrics(make_histogram(20, 2, 0))
    hospitals = in_columns({name: small if place == 2 else usual for place, name in enumerate(names)})
    settings = RunDescription(
        version="1",
        schema="",
        dataset="synthetic",
        hospitals=tuple(make_members(names)),
        settings={"rounds": 1},
    )
    return RunRecord("run", settings, HEART, [make_record(1, names[:3], hospitals=hospitals, **changes)], None, {})


def test_hospitals_that_missed_rounds_come_first_and_the_single_small_one_is_not_found() -> None:
    run = make_many(left_out={"h0077": "away", "h1999": "away"})
    rows = worst_participation(run)
    assert [name for name, _ in rows][:3] == ["h0077", "h1999", "h0000"]
    assert len(rows) == 20
    whole = dict(participation(run))
    assert rows == [(name, whole[name]) for name, _ in rows]
    parts = summarise_many(run)
    assert parts
    assert "h0002" not in {row[0] for row in parts.rows}
    assert set(parts.rows) <= set(hospital_rows(run))
    assert [name for name, _ in run_charts(run).legend][1] == "5th percentile of the hospitals"


def test_of_very_many_hospitals_without_a_part_the_first_are_named(folder: Path) -> None:
    run = read_run(folder)
    run.settings.left_out.update({f"h{number}": "too few patients" for number in range(250)})
    lines = left_out_lines(run)
    assert lines[0] == ("h0", "too few patients")
    assert lines[-1] == ("each of 150 more hospitals", "settings.json has the reasons")
    assert len(lines) == 101

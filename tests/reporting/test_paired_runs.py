"""The comparison page: whether the test patients are the same, and the paired differences if they are."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from fedhealth.metrics.histogram import ScoreHistogram, add_histograms, compute_metrics, score_histogram
from fedhealth.reporting.html.disclosures import disclosure_rows
from fedhealth.reporting.html.pages import compare_runs
from fedhealth.reporting.html.paired_runs import PairedRuns, pair_runs
from fedhealth.reporting.html.run_reader import read_run
from tests.support.run_folders import NAMES, make_histograms, write_run

pytestmark = pytest.mark.usefixtures("few_draws")

KEY = "0123abcd"
HASHES = {name: f"{KEY}-{str(place) * 32}" for place, name in enumerate(NAMES)}
UNKNOWN = "not known whether the test patients are the same (no hash, or hashes under two keys)"


def write_hashed(
    folder: Path, hashes: Mapping[str, str | None] = HASHES, histograms: Mapping[str, ScoreHistogram] | None = None
) -> Path:
    """A run whose hospitals sent these hashes."""
    write_run(folder, histograms=histograms)
    path = folder / "settings.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for member in content["hospitals"]:
        member["split_hash"] = hashes.get(member["name"])
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def pair(*folders: Path) -> PairedRuns:
    (pair,) = pair_runs([read_run(folder) for folder in folders])
    return pair


def test_runs_with_equal_hashes_have_paired_differences(tmp_path: Path) -> None:
    better = make_histograms(3)
    worse = {name: score_histogram([0.25] * 20 + [0.75] * 20, [1, 0] * 20) for name in NAMES}
    worse["switzerland"] = score_histogram([0.25] * 20 + [0.75] * 2, [1] * 20 + [0] * 2)
    found = pair(write_hashed(tmp_path / "a", histograms=worse), write_hashed(tmp_path / "b", histograms=better))
    assert (found.title, found.problems) == ("b minus a", [])
    assert [row[0] for row in found.rows] == ["AUROC", "accuracy", "Brier score"]
    ours, theirs = (compute_metrics(add_histograms(each.values())) for each in (better, worse))
    expected = [(getattr(ours, key) or 0) - (getattr(theirs, key) or 0) for key in ("auroc", "accuracy", "brier")]
    assert [row[1] for row in found.rows] == [f"{difference:+.3f}" for difference in expected]
    for (_, _, limits), difference in zip(found.rows, expected, strict=True):
        low, _, high = limits.partition(" to ")
        assert float(low) < difference < float(high)


@pytest.mark.parametrize(
    ("changed", "problems"),
    [
        ({"va": f"{KEY}-{'f' * 32}"}, ["different test patients: va"]),
        ({"va": None}, [f"{UNKNOWN}: va"]),
        ({"va": f"{'9' * 8}-{'3' * 32}"}, [f"{UNKNOWN}: va"]),
        (dict.fromkeys(NAMES), [f"{UNKNOWN}: {', '.join(NAMES)}"]),
        (
            {"va": f"{KEY}-{'f' * 32}", "hungary": None, "cleveland": f"{KEY}-{'e' * 32}"},
            ["different test patients: cleveland, va", f"{UNKNOWN}: hungary"],
        ),
    ],
)
def test_without_equal_hashes_the_hospitals_are_named_and_there_is_no_difference(
    tmp_path: Path, changed: dict[str, str | None], problems: list[str]
) -> None:
    found = pair(write_hashed(tmp_path / "a"), write_hashed(tmp_path / "b", {**HASHES, **changed}))
    assert (found.problems, found.rows) == (problems, [])


def test_runs_of_other_hospitals_have_no_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "b", NAMES[:3])
    problems = pair(write_hashed(tmp_path / "a"), tmp_path / "b").problems
    assert problems == [f"{UNKNOWN}: cleveland, hungary, switzerland", "took part in one of the two runs only: va"]


def test_a_hospital_that_did_not_evaluate_the_final_model_prevents_a_difference(tmp_path: Path) -> None:
    some = {name: histogram for name, histogram in make_histograms(3).items() if name != "va"}
    found = pair(write_hashed(tmp_path / "a"), write_hashed(tmp_path / "b", histograms=some))
    assert found.problems == ["the final model of one run was not evaluated, or its histogram has other bins: va"]
    assert found.rows == []


def test_equal_hashes_of_other_numbers_of_patients_are_not_believed(tmp_path: Path) -> None:
    lying = {**make_histograms(3), "va": score_histogram([0.9, 0.1], [1, 0])}
    found = pair(write_hashed(tmp_path / "a"), write_hashed(tmp_path / "b", histograms=lying))
    assert found.problems == ["equal hashes, but different numbers of patients: va"]


@pytest.mark.parametrize("hashes", [("x", "x"), ("a-b-c", "a-b-d"), ("-", "-")])
def test_hashes_that_were_changed_by_hand_do_not_stop_the_page(tmp_path: Path, hashes: tuple[str, str]) -> None:
    folders = [write_hashed(tmp_path / name, {**HASHES, "va": each}) for name, each in zip("ab", hashes, strict=True)]
    compare_runs(folders, tmp_path / "both.html")
    assert "<h3>b minus a</h3>" in (tmp_path / "both.html").read_text(encoding="utf-8")


def test_every_run_is_compared_with_the_first_one(tmp_path: Path) -> None:
    folders = [write_hashed(tmp_path / "a"), write_hashed(tmp_path / "b"), write_hashed(tmp_path / "c", {})]
    compare_runs(folders, tmp_path / "all.html")
    page = (tmp_path / "all.html").read_text(encoding="utf-8")
    same, other = page.split("<h3>b minus a</h3>")[1].split("<h3>c minus a</h3>")
    assert "are the same in both runs" in same and "<td>0.000</td>" in same
    assert "No paired difference can be given" in other and f"{UNKNOWN}: cleveland, hungary" in other


def test_the_table_of_what_left_the_hospitals_has_the_hash_only_if_one_was_sent(tmp_path: Path) -> None:
    assert "; a keyed hash of the test patients" in disclosure_rows(read_run(write_hashed(tmp_path / "a")))[0][1]
    assert "hash" not in disclosure_rows(read_run(write_run(tmp_path / "b")))[0][1]

"""Report and model card of a run: their content, suppression of small groups, and the numbers of the curves."""

import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from fedhealth.__main__ import main
from fedhealth.common.errors import UsageError
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.metrics.bins import BIN_EDGES, NUM_BINS, find_edge
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import (
    Metrics,
    ScoreHistogram,
    add_histograms,
    compute_auroc,
    compute_metrics,
    score_histogram,
)
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance, combine_importance
from fedhealth.metrics.subgroups import Outcomes, Subgroups, find_divisions
from fedhealth.reporting.html.charts import NUM_STYLES
from fedhealth.reporting.html.clinical import MANY, benefit_rows, bound_line, clinical_rows
from fedhealth.reporting.html.curves import (
    Group,
    count_outcomes,
    decision_points,
    find_outcomes,
    merge_bins,
    reliability_groups,
    roc_points,
    round_count,
)
from fedhealth.reporting.html.disclosures import disclosure_rows
from fedhealth.reporting.html.importance import feature_parts
from fedhealth.reporting.html.local_benefit import comparison_rows
from fedhealth.reporting.html.pages import compare_runs, model_card_text, report_page, write_report
from fedhealth.reporting.html.run_reader import read_run
from fedhealth.reporting.html.svg import Series, draw_chart, find_ticks
from fedhealth.reporting.html.svg_bars import MARKS
from fedhealth.reporting.html.tables import absences, confusion_rows, find_suppressed, hospital_rows, participation
from tests.support.examples import examples
from tests.support.processes import PATIENCE
from tests.support.run_folders import NAMES, make_histogram, make_record, write_run

pytestmark = pytest.mark.usefixtures("few_draws")

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{7*7}} | a", "</script><!--")


def make_counts(positives: dict[float, int], negatives: dict[float, int]) -> ScoreHistogram:
    """Counts of ill and healthy patients by the lower edge of their bin."""
    ill, healthy = np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64)
    for edge, count in positives.items():
        ill[find_edge(edge)] = count
    for edge, count in negatives.items():
        healthy[find_edge(edge)] = count
    return ScoreHistogram(ill, healthy, 1.0, 1.0)


# --- curves -----------------------------------------------------------------------------------------------------------


def test_neighbouring_bins_are_merged_until_no_group_is_small() -> None:
    groups = merge_bins(make_counts({0.05: 3, 0.1: 2, 0.75: 9}, {0.05: 5, 0.15: 1, 0.75: 2, 0.8: 4}))
    assert [(g.low, g.high, g.ill, g.healthy) for g in groups] == [(0.0, 0.5, 5, 6), (0.5, 1.0, 9, 6)]
    assert groups[0].mean == pytest.approx((8 * 0.0525 + 2 * 0.1025 + 0.1525) / 11)


def test_the_edge_at_one_half_is_dropped_if_a_half_cannot_be_grouped_alone() -> None:
    assert [(g.ill, g.healthy) for g in merge_bins(make_counts({0.25: 2, 0.75: 9}, {0.25: 9, 0.75: 9}))] == [(11, 18)]


def test_too_few_patients_of_a_class_give_no_group() -> None:
    assert merge_bins(make_counts({0.75: 29}, {0.75: 2})) == []
    assert merge_bins(make_counts({}, {})) == []


HISTOGRAMS = st.builds(
    lambda ill, healthy: make_counts(dict(ill), dict(healthy)),
    *[st.lists(st.tuples(st.sampled_from(BIN_EDGES[:-1].tolist()), st.integers(0, 30)), max_size=40)] * 2,
)


@settings(max_examples=examples(100), deadline=None)
@given(HISTOGRAMS)
def test_groups_hold_every_patient_once_and_no_small_count(histogram: ScoreHistogram) -> None:
    groups = merge_bins(histogram)
    ill, healthy = int(histogram.positives.sum()), int(histogram.negatives.sum())
    assert not any(0 < count < 5 for group in groups for count in (group.ill, group.healthy))
    if groups:
        assert (sum(g.ill for g in groups), sum(g.healthy for g in groups)) == (ill, healthy)
        assert all(one.high <= other.low for one, other in itertools.pairwise(groups))
    elif ill + healthy:
        assert 0 < ill < 5 or 0 < healthy < 5


@settings(max_examples=examples(100), deadline=None)
@given(HISTOGRAMS)
def test_a_roc_curve_rises_from_corner_to_corner_in_steps_of_five_patients(histogram: ScoreHistogram) -> None:
    points = roc_points(histogram)
    if not points:
        assert min(histogram.positives.sum(), histogram.negatives.sum()) < 20
        return
    assert (points[0], points[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert points == sorted(points)
    most = round_count(int(histogram.positives.sum()))
    assert all(round(y * most) % 5 == 0 for _, y in points)


def test_a_rounded_roc_curve_of_many_patients_has_the_area_of_sklearns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    risks = 1 / (1 + np.exp(-rng.normal(labels * 2 - 1.0, 1.0)))
    points = np.array(roc_points(score_histogram(risks, labels)))
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(roc_auc_score(labels, risks), abs=0.003)


def test_reliability_groups_are_those_of_sklearn_where_no_group_is_small() -> None:
    rng = np.random.default_rng(1)
    risks = np.repeat((np.arange(10) + 0.5) / 10, 100)
    labels = (rng.random(1000) < risks).astype(int)
    share, mean = calibration_curve(labels, risks, n_bins=10)
    groups = list(reliability_groups(merge_bins(score_histogram(risks, labels))))
    small = min(labels[:100].sum(), 100 - labels[-100:].sum())
    assert small >= 5 and len(groups) == 10
    np.testing.assert_allclose([g.ill / g.patients for g in groups], share)
    np.testing.assert_allclose([g.mean for g in groups], mean, atol=0.0026)


def test_net_benefit_by_hand() -> None:
    outcomes = find_outcomes([Group(0.0, 0.2, 0.1, 10, 30), Group(0.2, 1.0, 0.6, 40, 20)])
    model, everybody = decision_points(outcomes)
    assert model == [(0.0, pytest.approx(0.5)), (0.2, pytest.approx((40 - 20 * 0.25) / 100))]
    assert dict(everybody)[0.2] == pytest.approx((50 - 50 * 0.25) / 100)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_counts_by_threshold_are_rounded_to_fives(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    rows = confusion_rows(run)
    assert len(rows) == 19
    assert all(int(count) % 5 == 0 for row in rows for count in row[1:5])
    middle, pooled = rows[9], run.pooled
    assert pooled is not None
    (exact,) = count_outcomes(pooled, [0.5])
    assert (middle[0], middle[1]) == ("0.50", str(round_count(exact.true_positives)))
    assert middle[5] == f"{compute_metrics(pooled).sensitivity:.0%}"


@pytest.mark.parametrize(("count", "rounded"), [(0, 0), (2, 0), (3, 5), (7, 5), (8, 10), (117, 115)])
def test_counts_are_rounded_to_the_nearest_five(count: int, rounded: int) -> None:
    assert round_count(count) == rounded


def test_a_hospital_with_two_healthy_patients_has_its_count_and_rates_suppressed(tmp_path: Path) -> None:
    rows = {row[0]: row for row in hospital_rows(read_run(write_run(tmp_path)))}
    assert rows["switzerland"][3:5] == ("suppressed", "few")
    assert rows["switzerland"][-2:] == ("few", "few")
    shown = [name for name in NAMES if rows[name][3] != "suppressed"]
    assert len(shown) == 2, "a second count is suppressed, because the total would reveal the first"
    assert rows["all (pooled)"][3] == "80"


def test_only_a_single_suppressed_count_needs_a_second_one() -> None:
    def metrics(tested: int, ill: int) -> Metrics:
        return compute_metrics(score_histogram([0.5] * tested, [1] * ill + [0] * (tested - ill)))

    assert find_suppressed({"a": metrics(40, 20), "b": metrics(30, 15)}) == set()
    assert find_suppressed({"a": metrics(40, 20), "b": metrics(30, 15), "c": metrics(31, 29)}) == {"b", "c"}
    assert find_suppressed({"a": metrics(40, 2), "b": metrics(30, 15), "c": metrics(31, 29)}) == {"a", "c"}


def test_every_hospital_has_figures_with_intervals_unless_a_class_is_small(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    rows = {row[0]: row[1:] for row in clinical_rows(run)}
    assert list(rows) == [*NAMES, "all (pooled)"]
    assert rows["switzerland"] == ("few",) * 5
    pooled = run.pooled
    assert pooled is not None
    exact = flat_metrics(compute_clinical_metrics(pooled))
    for text, key in zip(rows["all (pooled)"], ["", "pr_auc", "sensitivity_at_90", "calibration_slope"], strict=False):
        value, low, high = (float(number) for number in re.findall(r"-?\d\.\d{3}", text))
        assert low < value < high
        assert not key or value == pytest.approx(exact[key], abs=5e-4)


def test_perfectly_ordered_patients_have_intervals_with_a_width(tmp_path: Path) -> None:
    risks = [*np.linspace(0.05, 0.45, 27), *np.linspace(0.55, 0.95, 20)]
    histograms = {"va": score_histogram(risks, [0] * 27 + [1] * 20)}
    rows = clinical_rows(read_run(write_run(tmp_path, ("va",), [make_record(1, ("va",))], histograms=histograms)))
    perfect = ("1.00 (0.92 to 1.00)", "1.00 (0.84 to 1.00)", "1.00 (0.84 to 1.00)")
    assert rows[0] == ("va", *perfect, "n/a", "n/a")


def test_page_and_card_say_by_how_much_the_bins_can_change_the_figures(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    run = read_run(folder)
    assert run.pooled is not None
    auroc_bound, clinical = compute_auroc(run.pooled)[1], flat_metrics(compute_clinical_metrics(run.pooled))
    assert bound_line(run) == (
        "Risks are counted in bins, which changes some metrics by at most: "
        f"AUROC by {auroc_bound:.2g}, PR-AUC by {clinical['pr_auc_bound']:.2g}, "
        f"sensitivity at 90 % specificity by {clinical['sensitivity_at_90_bound']:.2g}, "
        f"calibration slope by {clinical['calibration_slope_bound']:.2g}, "
        f"calibration intercept by {clinical['calibration_intercept_bound']:.2g}."
    )
    assert bound_line(run) in page_of(folder)
    assert bound_line(run) in (folder / "MODEL_CARD.md").read_text()


def test_no_bound_is_given_without_an_ill_patient_nor_for_noisy_counts(tmp_path: Path) -> None:
    """Under differential privacy the bins are ten, and the noise is larger than what they change."""
    run = read_run(write_run(tmp_path))
    hospitals = tuple(replace(member, epsilon=3.0) for member in run.settings.hospitals)
    assert bound_line(replace(run, settings=structs.replace(run.settings, hospitals=hospitals))) == ""
    healthy = {"va": score_histogram([0.2, 0.3], [0, 0])}
    assert bound_line(replace(run, histograms=healthy)) == bound_line(replace(run, histograms={})) == ""


def test_many_hospitals_have_no_intervals_of_their_own(tmp_path: Path) -> None:
    names = tuple(f"hospital {number}" for number in range(MANY + 1))
    assert clinical_rows(read_run(write_run(tmp_path, names, [make_record(1, names)]))) == []


def test_net_benefit_is_shown_per_hundred_patients_in_whole_numbers(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    rows = {row[0]: row[1:] for row in benefit_rows(run)}
    pooled = run.pooled
    assert pooled is not None
    ill, healthy = int(pooled.positives.sum()), int(pooled.negatives.sum())
    assert rows["0.20"][1] == f"{100 * (ill - healthy / 4) / (ill + healthy):.0f}"
    assert all(re.fullmatch(r"-?\d+", cell) for row in rows.values() for cell in row)


def test_participation_is_shown_by_round(tmp_path: Path) -> None:
    absent = make_record(2, left_out={"va": "gone"})
    absent = structs.replace(absent, hospitals={name: each for name, each in absent.hospitals.items() if name != "va"})
    records = [make_record(1, left_out={"hungary": "strange weights"}), absent, make_record(3)]
    run = read_run(write_run(tmp_path, records=records))
    cells = dict(participation(run))
    assert cells == {
        "cleveland": ["trained"] * 3,
        "hungary": ["tested", "trained", "trained"],
        "switzerland": ["trained"] * 3,
        "va": ["trained", "absent", "trained"],
    }
    received = {row[0]: row[3] for row in disclosure_rows(run)}
    assert (received["weights"], received["evaluation"], received["moments"]) == ("10 used", "11", "8")


def test_only_the_hospitals_that_were_drawn_have_trained(tmp_path: Path) -> None:
    records = [
        make_record(1, asked=("cleveland", "va")),
        make_record(2, asked=("cleveland", "hungary"), left_out={"hungary": "strange weights"}),
    ]
    run = read_run(write_run(tmp_path, records=records))
    assert dict(participation(run)) == {
        "cleveland": ["trained"] * 2,
        "hungary": ["tested"] * 2,
        "switzerland": ["tested"] * 2,
        "va": ["trained", "tested"],
    }
    assert {row[0]: row[3] for row in disclosure_rows(run)}["weights"] == "3 used"
    assert "2 of 4 hospitals were drawn to train" in report_page(
        read_run(write_run(tmp_path / "all", records=records[:1]))
    )


def test_a_hospital_that_cannot_take_part_is_named_in_report_and_model_card(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    assert absences(run) == []
    left_out = {"zurich": "could not reply to query.describe: <b>"}
    run = replace(run, settings=structs.replace(run.settings, left_out=left_out))
    assert absences(run) == ["zurich: took no part: could not reply to query.describe: <b>"]
    assert "zurich: took no part: could not reply to query.describe: &lt;b&gt;" in report_page(run)
    assert "\nzurich took no part: could not reply to query.describe: &lt;b&gt;.\n" in model_card_text(run)


# --- permutation importance ---------------------------------------------------------------------------------------------


def make_importance(names: tuple[str, ...] = NAMES) -> Importance:
    """Drops that decrease from feature to feature; those of a later hospital are larger."""
    drops = {name: [(13 - place) / 100 + number / 500 for place in range(13)] for number, name in enumerate(names)}
    return combine_importance(FEATURE_NAMES, drops, dict.fromkeys(names, 1), {})


def test_importance_is_shown_with_a_marker_for_each_hospital_that_has_enough_patients(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, importance=make_importance()))
    parts = feature_parts(run)
    assert parts["headings"] == ("feature", "weighted mean", "cleveland", "hungary", "va")
    assert parts["rows"][0] == ("age", "0.133", "0.130", "0.132", "0.136")
    assert parts["suppressed"] == ["switzerland"], "its drops would rest on 2 healthy patients"
    assert str(parts["chart"]).count("<rect") == 13
    assert str(parts["chart"]).count("<path") == 13 * 3
    assert parts["ranges"][1] == ("sex", "0.123", "0.120 to 0.126")
    page = page_of(tmp_path)
    assert "<h2>Permutation importance</h2>" in page and "resting blood pressure on admission (trestbps)" in page
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "| sex | 0.123 | 0.120 to 0.126 |" in card
    assert {row[0]: row[3] for row in disclosure_rows(run)}["importance"] == "4"


def test_very_many_hospitals_are_shown_as_a_range(tmp_path: Path) -> None:
    names = tuple(f"h{number}" for number in range(100))
    run = read_run(write_run(tmp_path, names, importance=make_importance(names)))
    parts = feature_parts(run)
    assert (parts["headings"], parts["legend"], parts["many"]) == (("feature", "weighted mean"), [], 99)
    assert str(parts["chart"]).count('class="spread"') == 13
    assert "<path" not in parts["chart"]


def test_a_run_without_importance_has_a_page_and_a_card_without_it(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    assert "Permutation importance" not in page
    assert "it was not requested (--no-importance)" in (tmp_path / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    "importance", [{"together": {"cp": "x"}, "hospitals": {}}, {"together": {"<b>": 0.1}, "hospitals": {}}]
)
def test_importance_is_checked_before_it_is_drawn(tmp_path: Path, importance: object) -> None:
    folder = write_run(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "importance": importance}))
    with pytest.raises(UsageError, match="the run's files are damaged"):
        read_run(folder)


def test_every_hospital_style_has_its_own_marker() -> None:
    assert len({MARKS[style] for style in (f"s{place}" for place in range(NUM_STYLES))}) == NUM_STYLES


# --- comparison with local models ---------------------------------------------------------------------------------------


def test_the_page_shows_the_comparisons_that_hospitals_shared_and_no_heading_without_any(tmp_path: Path) -> None:
    comparisons = {HOSTILE[0]: {"global": PairedComparison("auroc", 0.6, 0.67, -0.07, -0.12, -0.01)}}
    folder = write_run(tmp_path / "shared", comparisons=comparisons)
    assert comparison_rows(read_run(folder)) == [
        (HOSTILE[0], "global", "AUROC", "0.60", "0.67", "-0.07", "-0.12 to -0.01", "local model is better"),
    ]
    page = page_of(folder)
    assert "<h2>Comparison with local models</h2>" in page and HOSTILE[0] not in page
    assert "Comparison with local models" not in page_of(write_run(tmp_path / "not shared"))


@pytest.mark.parametrize("comparisons", [{"va": {"global": {"metric": "auroc"}}}, {"va": {"x": {}}}, {"va": 3}, [1]])
def test_comparisons_are_checked_before_they_are_shown(tmp_path: Path, comparisons: object) -> None:
    folder = write_run(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "verdicts": comparisons}))
    with pytest.raises(UsageError, match="the run's files are damaged"):
        read_run(folder)


# --- the page ---------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Names of all tags, and the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def page_of(folder: Path) -> str:
    write_report(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_one_small_file_without_network_requests(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    assert len(page) < 200_000
    tags = Tags(page).tags
    assert not {"link", "img", "iframe", "object", "base"} & {tag for tag, _ in tags}
    assert not any({"src", "href"} & set(attributes) for _, attributes in tags)
    assert not re.search(r"https?://|url\(|@import", page)


def test_a_hostile_name_stays_text_everywhere(tmp_path: Path) -> None:
    records = [make_record(number, HOSTILE, left_out={HOSTILE[0]: "<b>why</b>"}) for number in (1, 2, 3)]
    hostile, plain = (
        Tags(page_of(write_run(tmp_path / str(place), names, [structs.replace(r, **changes) for r in records])))
        for place, (names, changes) in enumerate(
            [
                (HOSTILE, {}),
                (NAMES, {"hospitals": make_record(1).hospitals, "left_out": {"va": "why"}}),
            ]
        )
    )
    kinds = {tag for tag, _ in hostile.tags}
    more = {"label", "input", "strong", "polyline", "circle", "figcaption", "br", "small"}
    assert kinds - {tag for tag, _ in plain.tags} <= more
    assert sum(tag == "script" for tag, _ in hostile.tags) == 2
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    card = (tmp_path / "0" / "MODEL_CARD.md").read_text()
    assert "<script" not in card and "<img" not in card
    table = [line for line in card.splitlines() if line.startswith("|") and "few" in line]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (10, 7) for line in table)


def test_the_browser_may_run_our_script_and_no_other(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    policy = next(a["content"] for tag, a in Tags(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)


def test_the_page_has_a_red_banner_for_synthetic_patients_only(tmp_path: Path) -> None:
    synthetic, real = page_of(write_run(tmp_path / "a")), page_of(write_run(tmp_path / "b", dataset="uci"))
    assert synthetic.index('class="alarm"') < synthetic.index("<h1>")
    assert "SYNTHETIC" not in real
    assert "SYNTHETIC" in (tmp_path / "a" / "MODEL_CARD.md").read_text().split("## Model")[0]
    assert "SYNTHETIC" not in (tmp_path / "b" / "MODEL_CARD.md").read_text()


def test_the_page_shows_the_metrics_of_the_summary(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    page = page_of(folder)
    for key in ("auroc", "brier", "accuracy"):
        assert f"<b>{summary['metrics'][key]:.3f}</b>" in page


def test_a_run_without_histograms_has_a_page_without_curves(tmp_path: Path) -> None:
    folder = write_run(tmp_path, records=[make_record(1)], histograms={})
    assert not (folder / "evaluation.json").exists()
    page = page_of(folder)
    assert "No curves: this run folder has no evaluation.json" in page
    assert "<h3>Reliability</h3>" not in page


def test_the_page_of_an_unfinished_run_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    for name in ("summary.json", "model.npz", "evaluation.json"):
        (folder / name).unlink()
    assert "The run has not ended." in page_of(folder)


def test_undefined_metrics_are_n_a(tmp_path: Path) -> None:
    ill = {"cleveland": make_histogram(20, 0, seed=0), "va": make_histogram(20, 0, seed=1)}
    record = structs.replace(
        make_record(1, ("cleveland", "va")),
        pooled=compute_metrics(add_histograms(ill.values())),
        hospitals={name: compute_metrics(each) for name, each in ill.items()},
    )
    page = page_of(write_run(tmp_path, ("cleveland", "va"), [record], histograms=ill))
    assert "<b>n/a</b>" in page


def test_the_bins_of_another_version_cost_the_curves_and_the_page_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps({**evaluation, "bins": 200}))
    page = page_of(folder)
    assert "No curves: this run folder has no evaluation.json (or one of a version with other bins of risk)" in page


@pytest.mark.parametrize("name", ["settings.json", "history.jsonl", "summary.json", "evaluation.json", "model.npz"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_damaged_folder_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"the run's files are damaged") as caught:
        read_run(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_whose_files_another_json_writer_wrote_gives_the_same_page_and_card(tmp_path: Path) -> None:
    """Python's own `json`, on one line and in ASCII only."""
    names = ("Zürich", *NAMES[1:])
    verdicts = {"va": {"global": PairedComparison("auroc", 0.6, 0.67, -0.07, -0.12, -0.01)}}
    subgroups = Subgroups({"va": {"male": Outcomes(10, 10, 10, 10)}}, {"Zürich": "not here"}, find_divisions(HEART))
    folder = write_run(tmp_path, names, comparisons=verdicts, importance=make_importance(names), subgroups=subgroups)
    texts = page_of(folder), (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for path in (*folder.glob("*.json"), folder / "history.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]
        path.write_text("\n".join(json.dumps(json.loads(line)) for line in lines), encoding="ascii")
    assert (page_of(folder), (folder / "MODEL_CARD.md").read_text(encoding="utf-8")) == texts


def test_the_card_has_all_headings_and_the_required_statements(tmp_path: Path) -> None:
    write_report(write_run(tmp_path, dataset="uci"))
    card = (tmp_path / "MODEL_CARD.md").read_text()
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert headings == [
        *("Model", "Intended use", "Not intended", "Data", "Metrics", "Calibration", "Subgroups"),
        *("Permutation importance", "Limits", "Privacy in this run"),
    ]
    assert "not a medical device" in card
    assert "examined in four hospitals in the 1980s" in card
    assert "No differential privacy" in card


def test_several_runs_are_compared_by_metrics_curves_and_different_settings(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "first"), write_run(tmp_path / "second", model="logistic", seed=7)]
    compare_runs(folders, tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text()
    differing = page.split("Settings that differ")[1]
    assert re.findall(r"<td>(--[a-z-]+)</td>", differing) == ["--seed", "--model"]
    assert page.count('<svg class="chart"') == 5


def test_the_command_writes_and_names_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    assert main(["report", str(one)]) == 0
    assert capsys.readouterr().out == f"wrote {one / 'report.html'} and {one / 'MODEL_CARD.md'}\n"
    assert main(["report", str(one), str(other), "--out", str(tmp_path / "both.html")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'both.html'}: 2 runs compared\n"
    assert main(["report"]) == 2
    assert main(["report", str(tmp_path)]) == 2


def test_a_comparison_overwrites_an_earlier_one_and_no_other_page_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [str(write_run(tmp_path / name)) for name in ("one", "other")]
    page = tmp_path / "comparison.html"
    for _ in range(2):
        assert main(["report", *runs]) == 0
        assert capsys.readouterr().out == "wrote comparison.html: 2 runs compared\n"
    page.write_text("mine")
    assert main(["report", *runs]) == 2
    assert capsys.readouterr().err == (
        "error: comparison.html: exists, and was not written by this version of report; give --out FILE.html\n"
    )
    assert page.read_text() == "mine"
    assert main(["report", *runs, "--out", "comparison.html"]) == 0
    assert page.read_text() != "mine"


# --- charts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1, 20, [5, 10, 15, 20]), (0.28, 0.64, [0.3, 0.4, 0.5, 0.6]), (0, 6e-9, None)],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float] | None) -> None:
    found = find_ticks(low, high)
    assert len(found) <= 7
    if ticks is not None:
        assert found == ticks


def test_a_chart_clips_values_outside_and_skips_those_that_are_not_finite() -> None:
    chart = draw_chart(
        "t", [Series("s", [(0, 0.5), (0.5, 9.0), (1, float("nan"))], "s0")], ("x", (0, 1)), ("y", (0, 1))
    )
    assert 'points="54.0,134.0 231.0,10.0"' in chart


# --- in a browser -----------------------------------------------------------------------------------------------------


def dump_page(page: Path, folder: Path, *flags: str) -> tuple[str, list[str]]:
    """The page in a browser after its script has run, and the browser's console messages."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    always = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--enable-logging=stderr"]
    command = [chromium, *always, *flags, "--dump-dom", f"file://{page}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_moves_the_slider_to_one_half_without_a_console_message(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", HOSTILE, [make_record(number, HOSTILE) for number in (1, 2, 3)])
    write_report(folder)
    dom, messages = dump_page(folder / "report.html", tmp_path / "browser")
    middle = confusion_rows(read_run(folder))[9]
    assert messages == []
    assert '<html lang="en" class="js">' in dom
    for place, text in enumerate(middle):
        assert re.search(rf'id="cell{place}">{re.escape(text)}<', dom)


def test_a_browser_runs_no_script_but_ours(tmp_path: Path) -> None:
    write_report(write_run(tmp_path / "run"))
    page = tmp_path / "run" / "report.html"
    page.write_text(page.read_text().replace("<header>", "<header><script>document.title = 'broken in'</script>"))
    dom, messages = dump_page(page, tmp_path / "browser")
    assert "broken in</title>" not in dom
    assert len(messages) == 1 and "Content Security Policy" in messages[0]


@pytest.mark.slow
def test_a_page_of_a_thousand_hospitals_stays_under_two_megabytes(tmp_path: Path) -> None:
    names = tuple(f"hospital number {number}" for number in range(1000))
    record = make_record(1, names)
    folder = write_run(tmp_path, names, [structs.replace(record, round_num=number) for number in range(1, 41)])
    write_report(folder)
    assert (folder / "report.html").stat().st_size < 2_000_000

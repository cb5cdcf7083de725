"""What is shown of a run with secure aggregation: sums over all hospitals, and "not disclosed" for each of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from fedhealth.api.run import RoundCollector, Run
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.reporting.console.run_text import (
    footnotes,
    header_lines,
    paused_line,
    round_line,
    round_notes,
    table_text,
)
from fedhealth.reporting.console.screen import ServerConsole
from fedhealth.reporting.dashboard.metrics import gauges
from fedhealth.reporting.dashboard.state import LiveRun
from fedhealth.reporting.html.disclosures import disclosure_rows, weight_bytes
from fedhealth.reporting.html.masked_disclosures import num_words
from fedhealth.reporting.html.pages import comparison_page, live_page, model_card_text, report_page
from fedhealth.reporting.html.paired_runs import pair_runs
from fedhealth.reporting.html.run_reader import RunRecord, read_run
from fedhealth.reporting.html.tables import absences, hospital_rows, participation
from fedhealth.reporting.tracking import round_metrics
from fedhealth.server.events import Dropped, Event, Paused, RunFinished, RunStarted
from fedhealth.server.records import TOGETHER, Start
from fedhealth.transport.protocol.newton import FIT_SUMS
from fedhealth.transport.protocol.training import TRAIN
from tests.support.masked_runs import (
    LOST,
    make_masked_record,
    make_roster,
    masked_events,
    without_sum,
    write_masked_run,
)
from tests.support.run_folders import NAMES, write_run

pytestmark = pytest.mark.usefixtures("few_draws")

DIGITS = make_roster().shown_digest


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    return read_run(write_masked_run(tmp_path / "masked"))


def ends(events: list[Event]) -> tuple[RunStarted, RunFinished]:
    started, finished = events[0], events[-1]
    assert isinstance(started, RunStarted) and isinstance(finished, RunFinished)
    return started, finished


def test_each_hospital_has_a_row_without_figures_and_all_have_their_totals(run: RunRecord) -> None:
    *each, total = hospital_rows(run)
    assert each == [(name, *["not disclosed"] * 8) for name in NAMES]
    assert total[:4] == ("all (pooled)", "240", "142", "80")


def test_very_many_hospitals_have_one_row(tmp_path: Path) -> None:
    names = [f"h{number:03}" for number in range(40)]
    rows = hospital_rows(read_run(write_masked_run(tmp_path, names)))
    assert [row[:2] for row in rows] == [("each of 40 hospitals", "not disclosed"), ("all (pooled)", "240")]


@pytest.mark.parametrize("make", [report_page, model_card_text])
def test_no_page_shows_all_hospitals_together_as_a_hospital(run: RunRecord, make: object) -> None:
    text = make(run)  # type: ignore[operator]
    assert TOGETHER not in text and "1 of 1" not in text and "1 hospitals" not in text
    assert all(name in text for name in NAMES)
    assert "4 hospitals" in text
    assert f"shows the roster {DIGITS}" in text


def test_the_model_card_says_what_was_on(run: RunRecord) -> None:
    card = model_card_text(run)
    assert "could read only their sums over all 4 hospitals" in card
    assert "No differential privacy: what the sums themselves show of a patient is not limited." in card
    assert "no secure aggregation" not in card
    assert "| sex | 0.120 | not disclosed |" in card
    assert "| female | 40 | 0.80 (0.61 to 0.91) | 0.67 (0.42 to 0.85) | 0.75 (0.60 to 0.86) | not disclosed |" in card
    assert "By hospital, with 95 % intervals" not in card


def test_keys_without_certificates_are_mentioned(run: RunRecord) -> None:
    words = "keys had no certificates (no TLS)"
    plain, encrypted = (
        replace(run, settings=structs.replace(run.settings, starts=(Start(0, link),))) for link in ("plain text", "TLS")
    )
    assert words in report_page(plain) and words not in report_page(encrypted)


def test_with_differential_privacy_both_guarantees_are_listed(tmp_path: Path) -> None:
    card = model_card_text(read_run(write_masked_run(tmp_path, dp_epsilon=3.0)))
    assert "Secure aggregation" in card and "Differential privacy for each patient: epsilon 3" in card
    assert "No secure aggregation" not in card


def test_the_table_of_messages_counts_masked_numbers_and_sums(run: RunRecord) -> None:
    rows = {row[0]: row for row in disclosure_rows(run)}
    assert list(rows)[:4] == ["describe", "key", "roster", "counts"]
    assert rows["key"][2:] == ("0", "4")
    assert rows["moments"][2:] == (str(4 * 6), "8 (2 sums)")  # a count, and a real number in three words
    assert rows["weights"][2:] == (str(33 + 1 + 3), "12 (3 sums)")
    assert rows["evaluation"][2:] == (str(2 * NUM_BINS + 2 * 3), "12 (3 sums)")
    assert rows["subgroups"][2:] == (str(4 * 5), "4 (1 sum)")
    assert rows["importance"][2:] == (str(13 + 2), "4 (1 sum)")
    assert all(row[1].startswith("masked: ") for row in list(rows.values())[3:] if row[0] != "initial weights")
    assert weight_bytes(run) == f"{(8 * 37 * 12 + 4 * 33) / 1000:.1f} kB at 8 bytes per number"


def test_newtons_messages_have_three_words_for_each_number_of_gradient_and_hessian(tmp_path: Path) -> None:
    run = read_run(write_masked_run(tmp_path, strategy="newton"))
    triangle = 33 * 34 // 2
    assert num_words(run, TRAIN) == 1 + 3 * (33 + triangle) + 3
    assert num_words(run, FIT_SUMS) == 1 + 3 * (33 + 2 * triangle) + 3


def test_a_round_without_a_sum_is_absent_for_every_hospital(tmp_path: Path) -> None:
    records = [make_masked_record(1), without_sum(make_masked_record(2)), make_masked_record(3)]
    run = read_run(write_masked_run(tmp_path, records=records))
    assert dict(participation(run)) == {name: ["trained", "absent", "trained"] for name in NAMES}
    assert absences(run) == ["no sum: round 2: va: not connected"]
    assert {row[0]: row[3] for row in disclosure_rows(run)}["weights"] == "8 (2 sums)"


def test_two_runs_are_compared_without_a_claim_about_their_test_patients(run: RunRecord, tmp_path: Path) -> None:
    clear = read_run(write_run(tmp_path / "clear"))
    why = "not known whether the test patients are the same (no hash under secure aggregation): "
    for pair in (pair_runs([clear, run]), pair_runs([run, run])):
        assert pair[0].problems == [why + ", ".join(NAMES)]
    page = comparison_page([clear, run])
    assert "<td>hospitals</td><td>4</td><td>4</td>" in page


def test_the_live_page_lists_the_hospitals_of_the_roster() -> None:
    live, events = LiveRun("spring"), masked_events()
    for name in NAMES:
        live.on_link("joined", name)
    for event in events[:3]:
        live.on_event(event)
    assert live.states() == [(name, "working", "") for name in NAMES]
    page, _ = live_page(live)
    assert TOGETHER not in page and "in 4 hospitals" in page
    live.on_event(without_sum(make_masked_record(3)))
    assert live.states() == [(name, "late", LOST[TOGETHER]) for name in NAMES]
    assert gauges(live)["hospitals_left_out"][1] == 4


def test_tracking_has_the_pooled_numbers_once() -> None:
    numbers = round_metrics(make_masked_record(1), {})
    assert "union/auroc" in numbers
    assert not [name for name in numbers if name.startswith("hospitals/")]


def test_the_console_lists_the_roster_and_only_the_pooled_line() -> None:
    started, finished = ends(masked_events())
    assert header_lines(started)[1] == (
        f"hospitals: {', '.join(NAMES)}; their figures are not disclosed, only sums over all of them"
    )
    assert len(table_text(finished, terminal=False).splitlines()) == 2
    assert not [note for note in footnotes(finished) if TOGETHER in note]


def test_a_round_without_a_sum_has_one_note() -> None:
    lost = without_sum(make_masked_record(2))
    assert "hospitals 0/4" in round_line(lost, 3, 4)
    assert [note.strip() for note in round_notes(lost)] == ["no sum: va: not connected"]
    paused = Paused(2, 0, 1, LOST, 60.0)
    assert paused_line(paused) == ("round 2 is waiting: a sum needs all hospitals (va: not connected); timeout in 60 s")


def test_the_console_counts_the_hospitals_of_the_roster() -> None:
    lines: list[str] = []
    console = ServerConsole(lines.append, pace=True)
    for event in [*masked_events(), Dropped(TOGETHER, "could not reply")]:
        console.show(event)
    assert [line.split("hospitals ")[1].split()[0] for line in lines if line.startswith("round ")] == ["4/4"] * 3
    assert not [line for line in lines if TOGETHER in line]
    assert lines[-1].startswith("12 hospital-rounds")


def test_the_python_interface_has_the_pooled_figures_and_the_number_of_hospitals() -> None:
    shown: list[object] = []
    collector, events = RoundCollector(shown.append), masked_events()
    for event in events:
        collector(event)
    assert all("hospitals 4/4" in str(each) for each in shown)
    run = Run(*ends(events))
    assert list(run.metrics.index) == ["all (pooled)"]
    assert "4 hospitals" in repr(run)

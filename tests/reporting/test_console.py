"""The console lines of coordinator and hospitals: exact text, footnotes, no control code in a pipe."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.histogram import Metrics, compute_metrics, score_histogram
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.reporting.console.final_text import comparison_lines, importance_lines
from fedhealth.reporting.console.hospital import client_line
from fedhealth.reporting.console.run_text import (
    SYNTHETIC,
    describe_source,
    footnotes,
    header_lines,
    number,
    round_line,
    round_notes,
    table_text,
)
from fedhealth.reporting.console.screen import ServerConsole
from fedhealth.server.events import Dropped, Event, Paused, Waiting
from fedhealth.transport.messages import SERVER_NODE_ID, failure_reply, set_identity, set_message_id
from fedhealth.transport.protocol.evaluation import (
    EVALUATE,
    EvaluateReply,
    EvaluateRequest,
    Histogram,
    encode_evaluate_reply,
    encode_evaluate_request,
)
from fedhealth.transport.protocol.finalization import ImportanceDrops, encode_importance
from fedhealth.transport.protocol.masked_vectors import encode_masked
from fedhealth.transport.protocol.roster import Entry, KeyRoster, encode_acceptance, encode_key_reply, encode_roster
from fedhealth.transport.tls.party_check import fingerprint
from tests.support.run_events import make_began, make_finished, make_round
from tests.support.secured_hospitals import issue

POOLED = Metrics(
    num_examples=230,
    num_ill=127,
    loss=0.4121,
    auroc=0.8608,
    auroc_bound=0.00213,
    accuracy=0.8087,
    sensitivity=0.85,
    specificity=0.75,
    brier=0.131,
    ece=0.05,
)
CONTROL_CODE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
COLOUR_OR_CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def make_metrics(num_ill: int, num_healthy: int) -> Metrics:
    return compute_metrics(score_histogram([0.9] * num_ill + [0.1] * num_healthy, [1] * num_ill + [0] * num_healthy))


def show(*events: Event) -> list[str]:
    """The lines of these events in a pipe."""
    lines: list[str] = []
    console = ServerConsole(lines.append)
    for event in events:
        console.show(event)
    return "\n".join(lines).splitlines()


# --- one line per round -----------------------------------------------------------------------------------------------


def test_a_round_is_one_line() -> None:
    record = make_round(3, pooled=POOLED, seconds=0.031)
    line = "round  3/20   loss 0.412   AUROC 0.861   accuracy 0.81   hospitals 4/4   0.03 s"
    assert round_line(record, rounds=20, hospitals=4) == line


@pytest.mark.parametrize(
    ("round_num", "rounds", "start"),
    [(1, 1, "round 1/1   "), (9, 9, "round 9/9   "), (10, 20, "round 10/20   "), (7, 100, "round   7/100   ")],
)
def test_round_numbers_are_aligned(round_num: int, rounds: int, start: str) -> None:
    assert round_line(make_round(round_num), rounds, 2).startswith(start + "loss ")


def test_a_round_says_how_many_hospitals_answered() -> None:
    record = make_round(left_out={"va": "left the federation"})
    assert "   hospitals 3/4   " in round_line(record, rounds=20, hospitals=4)


def test_an_undefined_metric_is_shown_as_n_a() -> None:
    record = make_round(pooled=make_metrics(2, 0))
    assert "AUROC n/a   accuracy 1.00" in round_line(record, 20, 2)
    empty = round_line(make_round(pooled=make_metrics(0, 0)), 20, 2)
    assert "loss n/a   AUROC n/a   accuracy n/a" in empty
    assert (number(None), number(0.0), number(1.0, 2)) == ("n/a", "0.000", "1.00")


def test_hospitals_left_out_are_listed_below_the_round_with_reason_and_share() -> None:
    record = make_round(left_out={"hungary": "no answer within 5 s", "va": "not here"}, left_out_share=0.347)
    lines = [
        "         left out: hungary (no answer within 5 s)",
        "         left out: va (not here)",
        "         trained without 35% of the training patients",
    ]
    assert round_notes(record) == lines
    shown = show(make_began(), record)
    assert shown[-3:] == lines
    assert round_notes(make_round()) == []


def test_a_hospital_that_trained_but_did_not_evaluate_is_not_in_the_share() -> None:
    lines = round_notes(make_round(left_out={"va": "left the federation"}))
    assert lines == ["         left out: va (left the federation)"]


def test_clipped_updates_are_listed_below_the_round_with_their_norm() -> None:
    record = make_round(clipped={"va": 1234.5, "hungary": 5.0}, left_out={"cleveland": "not here"}, left_out_share=0.1)
    assert round_notes(record) == [
        "         clipped: the update of va (norm 1.23e+03)",
        "         clipped: the update of hungary (norm 5)",
        "         left out: cleveland (not here)",
        "         trained without 10% of the training patients",
    ]


def test_a_paused_round_shows_how_many_it_requires_who_is_missing_and_the_timeout() -> None:
    missing = {"va": "left the federation", "hungary": "no answer within 5 s"}
    assert show(Paused(round_num=7, trained=1, needed=3, missing=missing, seconds_left=24.6)) == [
        "round 7 is waiting: 1 of the 3 required hospitals (--min-hospitals) have trained "
        "(hungary: no answer within 5 s; va: left the federation); timeout in 25 s"
    ]


def test_a_hospital_that_could_take_no_part_is_named_again_below_the_table() -> None:
    finished = make_finished(left_out={"zurich": "could not reply to query.describe: MemoryError"})
    assert "zurich is not in the table: could not reply to query.describe: MemoryError" in show(finished)


def test_a_hospital_that_was_away_at_the_end_is_named() -> None:
    assert "va was away at the end and has no final model" in show(make_finished(unreached=("va",)))


def test_a_hospital_that_is_dropped_is_named_with_the_reason() -> None:
    dropped = Dropped("va", "dropped at strike 3 of 3: its weights are not finite")
    assert show(dropped) == ["out of the run: va (dropped at strike 3 of 3: its weights are not finite)"]


def test_of_very_many_hospitals_that_are_left_out_the_first_hundred_have_a_line() -> None:
    dropped = [Dropped(f"h{number}", "too few patients") for number in range(1234)]
    lines = show(*dropped, make_began())
    assert lines[99:101] == [
        "out of the run: h99 (too few patients)",
        "out of the run: 1,134 more (reasons: settings.json)",
    ]
    notes = round_notes(make_round(left_out={f"h{number}": "away" for number in range(1234)}))
    assert notes[99:] == [
        "         left out: h99 (away)",
        "         left out: 1,134 more (reasons: history.jsonl)",
        *round_notes(make_round(left_out={"h": "away"}))[1:],
    ]


# --- the header -------------------------------------------------------------------------------------------------------


def test_the_header_shows_data_hospitals_patients_and_settings() -> None:
    settings = FederationSettings(hospitals=2, rounds=20, local_epochs=3, batch_size=8, learning_rate=0.05, seed=7)
    text = "\n".join(header_lines(make_began(settings=settings)))
    for part in ("data: uci (Heart Disease data)", "hospitals: cleveland (8), va (10)"):
        assert part in text
    assert "patients: 14 for training, 4 for testing; no row leaves a hospital" in text
    for part in (
        "logistic",
        "fedavg",
        "20 rounds of 3 local",
        "batches of 8",
        "learning rate 0.05",
        "inputs standardised over all hospitals",
        "seed 7",
    ):
        assert part in text


def test_a_resumed_run_shows_after_which_round() -> None:
    assert header_lines(make_began(done=12))[-1] == "resuming after round 12"
    assert not any("resuming" in line for line in header_lines(make_began()))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("uci", "uci (Heart Disease data)"),
        ("kaggle-303", "kaggle-303 (Heart Disease data)"),
        ("own", "the hospitals' own files"),
        ("synthetic", SYNTHETIC),
        ("own+synthetic", f"the hospitals' own files + {SYNTHETIC}"),
    ],
)
def test_a_source_is_described_in_words(source: str, words: str) -> None:
    assert describe_source(source) == words


@pytest.mark.parametrize("dataset", ["synthetic", "synthetic+uci", "own+synthetic"])
def test_synthetic_patients_are_marked_before_the_rounds_and_in_the_last_line(dataset: str) -> None:
    began, finished = make_began(dataset=dataset), make_finished(dataset=dataset)
    lines = show(began, make_round(1), make_round(2), finished)
    first_round = next(place for place, line in enumerate(lines) if line.startswith("round "))
    assert any("SYNTHETIC" in line for line in lines[:first_round])
    assert lines[-1] == SYNTHETIC
    assert "SYNTHETIC" in SYNTHETIC and "real people" in SYNTHETIC


def test_real_patients_are_not_called_synthetic() -> None:
    assert not any("synthetic" in line.lower() for line in show(make_began(), make_round(1), make_finished()))


# --- the table and its footnotes --------------------------------------------------------------------------------------


def test_the_table_has_a_line_per_hospital_and_pooled_metrics_in_the_last() -> None:
    lines = table_text(make_finished(), terminal=False).splitlines()
    assert [line.split() for line in lines] == [
        [
            "hospital",
            "patients",
            "test",
            "patients",
            "loss",
            "accuracy",
            "AUROC",
            "sensitivity",
            "specificity",
            "Brier",
        ],
        ["cleveland", "8", "2", "0.164", "1.000", "1.000", "1.000", "1.000", "0.025"],
        ["va", "10", "2", "0.570", "0.500", "n/a", "0.500", "n/a", "0.200"],
        ["all", "(pooled)", "18", "4", "0.367", "0.750", "1.000", "0.667", "1.000", "0.112"],
    ]


def test_the_table_s_numbers_are_aligned_right() -> None:
    lines = table_text(make_finished(), terminal=False).splitlines()
    assert {line.rindex(line.split()[-1]) + len(line.split()[-1]) for line in lines} == {len(lines[0])}
    assert len({line.index(cell) for line, cell in zip(lines[1:3], ("1.000", "0.500"), strict=True)}) == 1


RULE = "─"


@pytest.mark.parametrize(("columns", "ruled"), [("200", True), ("40", False)])
def test_the_table_in_a_terminal_is_ruled_and_cuts_off_nothing_in_a_narrow_one(
    monkeypatch: pytest.MonkeyPatch, columns: str, ruled: bool
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    members = [replace(make_began().members[0], name="[red]va[/red]")]
    last = make_round(hospitals={"[red]va[/red]": make_metrics(2, 0)})
    table = table_text(make_finished(members=members, rounds=[last]), terminal=True)
    assert (RULE in table) is ruled
    words = COLOUR_OR_CURSOR.sub("", table).split()
    for word in ("[red]va[/red]", "sensitivity", "specificity", "Brier", "0.105", "0.112"):
        assert word in words


def notes_on(hospitals: dict[str, Metrics], pooled: Metrics = POOLED) -> list[str]:
    return footnotes(make_finished(rounds=[make_round(pooled=pooled, hospitals=hospitals)]))


def test_the_footnotes_show_what_was_measured_and_the_error_of_the_auroc() -> None:
    notes = notes_on({"cleveland": make_metrics(40, 36)})
    assert notes == [
        "metrics are measured on test patients, who were not used for training; accuracy, sensitivity and specificity at a "
        "risk threshold of 0.5",
        "the pooled AUROC is computed from histograms; its error is at most 0.0021",
    ]


@pytest.mark.parametrize(
    ("num_ill", "num_healthy", "note"),
    [
        (30, 0, "AUROC of zurich is n/a: no test patient is healthy"),
        (0, 30, "AUROC of zurich is n/a: no test patient is ill"),
        (29, 1, "AUROC of zurich is unreliable: only 1 healthy test patient"),
        (1, 29, "AUROC of zurich is unreliable: only 1 ill test patient"),
        (29, 2, "AUROC of zurich is unreliable: only 2 healthy test patients"),
        (9, 20, "AUROC of zurich is unreliable: only 9 ill test patients"),
    ],
)
def test_a_footnote_warns_of_an_auroc_of_few_patients(num_ill: int, num_healthy: int, note: str) -> None:
    notes = notes_on({"cleveland": make_metrics(40, 36), "zurich": make_metrics(num_ill, num_healthy)})
    assert notes[2:] == [note]


def test_ten_patients_of_each_class_need_no_footnote() -> None:
    assert len(notes_on({"cleveland": make_metrics(10, 10)})) == 2


def test_an_undefined_pooled_auroc_has_no_note_on_its_error() -> None:
    assert not any("error" in note for note in notes_on({}, pooled=make_metrics(5, 0)))


def test_a_footnote_names_hospitals_that_are_not_in_the_table_and_why() -> None:
    # zurich did not train, but did test: it is in the table.
    left_out = {"hungary": "dropped at strike 3 of 3: its weights are not finite", "zurich": "no answer within 5 s"}
    record = make_round(pooled=POOLED, hospitals={"zurich": make_metrics(40, 36)}, left_out=left_out)
    notes = footnotes(make_finished(rounds=[make_round(left_out={"va": "not here"}), record]))
    assert notes[2:] == ["hungary is not in the table: dropped at strike 3 of 3: its weights are not finite"]


def test_the_end_shows_how_long_the_run_took() -> None:
    assert "2 rounds: 0.75 s; whole run: 1.8 s" in show(make_began(), make_finished())


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_waiting_lines_name_the_hospitals_that_have_joined_and_the_timeout() -> None:
    lines: list[str] = []
    console = ServerConsole(lines.append)
    console.show(Waiting(here=0, wanted=4, seconds_left=3600.0))
    console.show_link("joined", "va")
    console.show_link("joined", "cleveland")
    console.show_link("refused", "10.0.0.9: protocol is 0")
    console.show(Waiting(here=2, wanted=4, seconds_left=3590.4))
    console.show_link("left", "va")
    console.show(Waiting(here=1, wanted=4, seconds_left=3580.0))
    console.show_link("joined", "va")
    console.show(Waiting(here=2, wanted=4, seconds_left=10.0))
    assert lines == [
        "waiting: 0 of 4 hospitals have joined (timeout in 3600 s)",
        "joined: va",
        "joined: cleveland",
        "refused: 10.0.0.9: protocol is 0",
        "waiting: 2 of 4 hospitals have joined (cleveland, va; timeout in 3590 s)",
        "left: va",
        "waiting: 1 of 4 hospitals have joined (cleveland; left: va; timeout in 3580 s)",
        "joined: va",
        "waiting: 2 of 4 hospitals have joined (cleveland, va; timeout in 10 s)",
    ]


def test_waiting_for_replies_names_the_hospitals_that_have_not_replied() -> None:
    lines: list[str] = []
    console = ServerConsole(lines.append)
    for name in ("va", "hungary", "cleveland"):
        console.show_link("joined", name)
    console.show(Waiting(here=3, wanted=3, seconds_left=50.0, answered=["hungary"]))
    console.show_link("left", "va")
    console.show(Waiting(here=2, wanted=3, seconds_left=40.0, answered=["hungary"]))
    assert lines[3:] == [
        "waiting for replies from cleveland, va (timeout in 50 s)",
        "left: va",
        "waiting: 2 of 3 hospitals have joined (cleveland, hungary; left: va; timeout in 40 s)",
    ]


def test_hospitals_that_an_engine_does_not_name_are_counted() -> None:
    lines: list[str] = []
    console = ServerConsole(lines.append)
    for here, answered in ((0, []), (1, []), (2, []), (2, ["va"])):
        console.show(Waiting(here=here, wanted=2, seconds_left=9.0, answered=answered))
    assert lines == [
        "waiting: 0 of 2 hospitals have joined (timeout in 9 s)",
        "waiting: 1 of 2 hospitals have joined (timeout in 9 s)",
        "waiting for replies from 2 hospitals (timeout in 9 s)",
        "waiting for replies from 1 hospital (timeout in 9 s)",
    ]


# --- pipe and terminal ------------------------------------------------------------------------------------------------

RUN: Sequence[Event] = (Waiting(0, 2, 5.0), make_began(), make_round(1), make_round(2), make_finished())


def test_piped_output_holds_no_control_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # not even then: grep and awk read this
    console = ServerConsole(print)
    console.show_link("joined", "va")
    for event in RUN:
        console.show(event)
    output = capsys.readouterr()
    assert len(output.out.splitlines()) > 12
    assert not CONTROL_CODE.search(output.out)
    assert output.err == ""


def show_in_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *events: Event) -> str:
    """The output of these events in a terminal of 80 columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console = ServerConsole(print)
    try:
        for event in events:
            console.show(event)
    finally:
        console.close()
    return capsys.readouterr().out


def test_the_progress_bar_in_a_terminal_hides_no_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "a reason that is much longer than the terminal is wide, [bold]with brackets[/bold], " * 2
    second = make_round(2, left_out={"va": reason.strip()}, left_out_share=0.5)
    output = show_in_terminal(capsys, monkeypatch, make_began(), make_round(1), second, make_finished())
    assert COLOUR_OR_CURSOR.search(output), "no progress bar was drawn"
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", COLOUR_OR_CURSOR.sub("", output))]
    places = [
        lines.index(line)
        for line in (
            *header_lines(make_began()),
            round_line(make_round(1), 2, 2),
            round_line(second, 2, 2),
            *(line.rstrip() for line in round_notes(second)),
            *footnotes(make_finished()),
        )
    ]
    assert places == sorted(places)


def test_the_progress_bar_is_gone_when_the_run_is_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = show_in_terminal(capsys, monkeypatch, make_began(), make_round(1), make_round(2), make_finished())
    assert "2/2" in output
    assert output.rindex("\x1b[?25h") < output.index("2 rounds: "), "the cursor stays hidden"
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") == 1


def test_a_failed_run_restores_the_cursor_and_prints_later_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run that fails has no `RunFinished` event; only the console is closed.
    output = show_in_terminal(capsys, monkeypatch, make_began(), make_round(1))
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") == 1
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    lines: list[str] = []
    console = ServerConsole(lines.append)
    console.show(make_began())
    console.close()
    console.show_link("left", "va")
    console.close()
    assert lines[-1] == "left: va"
    capsys.readouterr()


# --- permutation importance ---------------------------------------------------------------------------------------------

TOGETHER = {"age": 0.001, "sex": 0.02, "cp": 0.0541, "chol": -0.003, "ca": 0.03, "thal": 0.01, "fbs": 0.0}


def test_the_most_important_features_are_named_and_the_hospitals_without_importance() -> None:
    importance = Importance(TOGETHER, {"va": TOGETHER}, {"zurich": "not here", "berne": "too few"})
    assert importance_lines(importance) == [
        "most important features (drop in AUROC when permuted within each hospital): cp 0.054, ca 0.030, sex 0.020, thal "
        "0.010, age 0.001",
        "permutation importance excludes berne: too few",
        "permutation importance excludes zurich: not here",
    ]
    shown = show(make_began(), make_finished(importance=importance))
    assert shown[-4].startswith("most important features (drop in AUROC when permuted within each hospital): cp 0.054")
    assert importance_lines(None) == []


def test_very_many_hospitals_without_importance_are_counted() -> None:
    importance = Importance({}, {}, {f"hospital {number}": "not here" for number in range(1000)})
    assert importance_lines(importance) == [
        "permutation importance is unknown: no hospital sent it",
        "permutation importance excludes 1,000 hospitals (reasons: summary.json)",
    ]


BETTER = PairedComparison("auroc", 0.74, 0.67, 0.07, 0.01, 0.12)
UNCLEAR = PairedComparison("brier", 0.12, 0.121, -0.001, -0.01, 0.008)


def test_a_shared_comparison_is_printed_with_the_hospitals_name() -> None:
    finished = make_finished(comparisons={"va": {"global": BETTER, "personal": UNCLEAR}})
    assert show(make_began(), finished)[-3:-1] == [
        "va reports: global model: AUROC 0.74, local model 0.67, difference +0.07 [0.01, 0.12]: better than the local model",
        "va reports: personal model: Brier score 0.120, local model 0.121, difference -0.001 [-0.010, 0.008]: no clear "
        "difference",
    ]


def test_the_comparisons_of_very_many_hospitals_are_counted() -> None:
    comparisons = {str(number): {"global": BETTER if number < 8 else UNCLEAR} for number in range(30)}
    assert comparison_lines(comparisons) == [
        "30 hospitals compared the global model with their local one: no clear difference 22, better than the local model 8"
    ]


# --- in the hospital --------------------------------------------------------------------------------------------------


def make_request(kind: str, content: RecordDict | None = None) -> Message:
    set_identity(SERVER_NODE_ID)
    message = Message(content or RecordDict(), dst_node_id=101, message_type=kind)
    set_message_id(message, "1")
    return message


def test_a_hospital_sees_its_own_metrics_after_each_evaluation() -> None:
    request = make_request(EVALUATE, encode_evaluate_request(EvaluateRequest({}, 3)))
    histogram = score_histogram([0.9, 0.2, 0.6], [1, 0, 0])
    sent = EvaluateReply(Histogram(histogram.num_examples, **vars(histogram)))
    reply = Message(encode_evaluate_reply(sent), reply_to=request)
    assert (
        client_line(HEART, request, reply) == "round   3   own test patients: loss 0.415   AUROC 1.000   accuracy 0.67"
    )


def test_a_hospital_sees_that_it_is_ready() -> None:
    request = make_request("query.describe")
    assert (
        client_line(HEART, request, Message(RecordDict(), reply_to=request)) == "ready; waiting for the other hospitals"
    )


@pytest.mark.parametrize(
    "kind", ["train", "evaluate", "query.counts", "query.subgroups", "query.importance", "query.label_counts"]
)
def test_a_masked_reply_that_is_sent_again_prints_no_line(kind: str) -> None:
    request = make_request(kind, encode_evaluate_request(EvaluateRequest({}, 3)))
    reply = Message(encode_masked(np.arange(3, dtype=np.uint64)), reply_to=request)
    assert client_line(HEART, request, reply) is None


def test_a_hospital_sees_the_line_for_pins_and_the_digits_of_the_roster(tmp_path: Path) -> None:
    identity = issue(tmp_path / "certs", "va")["va"]
    roster = KeyRoster(bytes(16), tuple(Entry(name, name.encode() * 16, identity.cert) for name in ("ab", "cd", "va")))
    request = make_request("query.key")
    reply = Message(encode_key_reply(roster.entries[2]), reply_to=request)
    assert client_line(HEART, request, reply) == (
        f"secure aggregation: the line for the other hospitals' --pin is {fingerprint(identity.cert)} va"
    )
    request = make_request("query.roster", encode_roster(roster))
    assert client_line(HEART, request, Message(encode_acceptance(roster.digest), reply_to=request)) == (
        "secure aggregation: the server can read sums over ab, cd, va only, as long as all of them show the digits "
        f"{roster.shown_digest}"
    )


def test_a_hospital_without_certificate_sees_what_is_not_protected() -> None:
    request = make_request("query.key")
    reply = Message(encode_key_reply(Entry("va", bytes(32))), reply_to=request)
    assert client_line(HEART, request, reply) == (
        "secure aggregation without certificates: whoever controls this computer can read the masked numbers"
    )


@pytest.mark.parametrize("kind", ["query.key", "query.roster", "query.counts"])
def test_a_hospital_that_refuses_a_roster_sees_that_it_cannot_take_part(kind: str) -> None:
    request = make_request(kind)
    line = client_line(HEART, request, failure_reply(request, RunError("a swapped key")))
    assert line == f"could not reply to {kind}; this hospital cannot take part"


def test_a_hospital_sees_the_permutation_importance_that_it_sent() -> None:
    request = make_request("query.importance")
    drops = (0.0, 0.02, 0.0541, *[0.0] * 8, 0.03, -0.01)
    line = client_line(HEART, request, Message(encode_importance(ImportanceDrops(drops, 50)), reply_to=request))
    assert line == (
        "most important features on your test patients (drop in AUROC when permuted): cp 0.054, ca 0.030, sex 0.020, age "
        "0.000, trestbps 0.000"
    )
    assert str(client_line(HEART, request, Message(RecordDict(), reply_to=request))).startswith(
        "sent no permutation importance: too few"
    )


@pytest.mark.parametrize("kind", ["train", "query.first_moments", "query.initial_weights", "query.finish"])
def test_messages_without_news_for_the_hospital_print_no_line(kind: str) -> None:
    request = make_request(kind)
    assert client_line(HEART, request, Message(RecordDict(), reply_to=request)) is None


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("train", "the run continues without this reply"),
        ("evaluate", "the run continues without this reply"),
        ("query.describe", "this hospital cannot take part"),
        ("query.second_moments", "this hospital cannot take part"),
    ],
)
def test_a_hospital_sees_that_it_could_not_reply(kind: str, without: str) -> None:
    request = make_request(kind)
    line = client_line(HEART, request, failure_reply(request, RunError("diverged")))
    assert line == f"could not reply to {kind}; {without}"

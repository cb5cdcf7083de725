"""Report and model card show the link of every stretch of rounds."""

import json
from pathlib import Path

import pytest

from fedhealth.reporting.html.links import find_stretches
from fedhealth.reporting.html.pages import write_report
from fedhealth.server.records import Start
from tests.support.run_folders import write_run

pytestmark = pytest.mark.usefixtures("few_draws")

PLAIN = "plain text, unencrypted (no TLS)"


@pytest.mark.parametrize(
    ("starts", "stretches"),
    [
        ([], []),
        ([(0, "TLS")], [("TLS", "rounds 1 to 30")]),
        ([(0, "TLS"), (12, "plain text")], [("TLS", "rounds 1 to 12"), ("plain text", "rounds 13 to 30")]),
        ([(0, "TLS"), (12, "TLS"), (29, "other")], [("TLS", "rounds 1 to 29"), ("other", "round 30")]),
        ([(0, "TLS"), (1, "other"), (3, "TLS")], [("TLS", "round 1"), ("other", "rounds 2 to 3"), ("TLS", "rounds 4 to 30")]),
    ],
)  # fmt: skip
def test_every_round_has_the_link_of_its_start(starts: list[tuple[int, str]], stretches: list[tuple[str, str]]) -> None:
    assert find_stretches([Start(*each) for each in starts], 30) == stretches


def test_rounds_that_were_repeated_have_the_link_of_the_start_that_repeated_them() -> None:
    starts = [Start(0, "TLS"), Start(12, "other"), Start(10, "TLS")]
    assert find_stretches(starts, 30) == [
        ("TLS", "rounds 1 to 30"),
        ("other", "a start after round 12, without a complete round"),
    ]


def test_a_start_that_only_sent_the_final_model_is_shown() -> None:
    assert find_stretches([Start(0, "TLS"), Start(30, "plain text")], 30) == [
        ("TLS", "rounds 1 to 30"),
        ("plain text", "a start after round 30, without a complete round"),
    ]


def give_starts(folder: Path, *starts: dict[str, object], **environment: str) -> None:
    path = folder / "settings.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["starts"] = starts
    content["environment"] |= environment
    path.write_text(json.dumps(content), encoding="utf-8")


def connection_lines(folder: Path) -> tuple[str, str]:
    """The lines about the link in model card and report."""
    write_report(folder)
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8").splitlines()
    page = (folder / "report.html").read_text(encoding="utf-8").splitlines()
    (in_card,) = (line for line in card if line.startswith("- Connection to the server: "))
    (in_page,) = (line for line in page if "<td>connection</td>" in line)
    return in_card, in_page


def test_report_and_model_card_show_the_link_of_every_stretch_of_rounds(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    give_starts(folder, {"done": 0, "link": "TLS"}, {"done": 2, "link": "plain text"})
    card, page = connection_lines(folder)
    assert card == f"- Connection to the server: rounds 1 to 2: TLS; round 3: {PLAIN}."
    assert f"<td>rounds 1 to 2: TLS; round 3: {PLAIN}</td>" in page


def test_a_single_link_is_shown_without_rounds(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert connection_lines(folder)[0] == f"- Connection to the server: {PLAIN}."
    give_starts(folder, {"done": 0, "link": "TLS"}, {"done": 2, "link": "TLS"})
    assert connection_lines(folder)[0] == "- Connection to the server: TLS."


def test_run_folders_of_earlier_versions_have_the_link_of_their_first_start(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    give_starts(folder, link="TLS")
    assert connection_lines(folder)[0] == "- Connection to the server: TLS."
    give_starts(folder)
    path = folder / "settings.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["environment"]["link"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert connection_lines(folder)[0] == "- Connection to the server: not recorded."

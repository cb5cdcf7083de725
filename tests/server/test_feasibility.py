"""A run with --feasibility: who lacks what, in the console and in the run folder; replies that are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flwr.app import Message, RecordDict

from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.reporting.console.feasibility_text import feasibility_text
from fedhealth.reporting.console.screen import ServerConsole
from fedhealth.server.app import federate
from fedhealth.server.events import Dropped
from fedhealth.server.feasibility import read_report
from fedhealth.server.feasibility_record import Feasibility, HospitalFeasibility
from fedhealth.server.run_directory import make_run_folder
from fedhealth.server.run_files import FEASIBILITY, read_json
from fedhealth.server.run_writer import FolderWriter
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.protocol.feasibility import ALL_BUT_FEW, FEW, FeasibilityReply, encode_feasibility
from tests.support.hospital_apps import make_apps
from tests.support.hospital_files import write_hospitals

SETTINGS = FederationSettings(hospitals=4, feasibility=True)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"))


def ask(hospitals: dict[str, Path], folder: Path, settings: FederationSettings = SETTINGS) -> list[Any]:
    """The events of the run, and the lines of its console."""
    events: list[Any] = []
    grid = InProcessGrid(make_apps(hospitals), settings.to_run_config())
    writer = FolderWriter(folder, 0, 1.0, events.append)
    federate(grid, settings, events.append, ServerConsole(events.append).show, writer=writer, max_wait=0.2)
    return events


def test_the_table_has_what_each_hospital_has_and_the_folder_the_same(
    hospitals: dict[str, Path], tmp_path: Path
) -> None:
    found, text = (event for event in ask(hospitals, tmp_path) if event != "")
    assert isinstance(found, Feasibility)
    assert list(found.hospitals) == sorted(hospitals)
    for name, path in hospitals.items():
        table, report = pd.read_csv(path), found.hospitals[name]
        assert report.patients == len(table)
        for feature in FEATURE_NAMES:
            exact = int(table[feature].isna().sum())
            bounds = {"<5": 0 < exact < 5, f">{len(table) - 5}": 0 < len(table) - exact < 5}
            assert report.missing[feature] == exact or bounds[str(report.missing[feature])]
    assert [path.name for path in tmp_path.iterdir()] == [FEASIBILITY]
    assert read_json(tmp_path / FEASIBILITY, Feasibility) == found
    assert text == feasibility_text(found, terminal=False)


def test_a_line_for_each_feature_says_who_lacks_it() -> None:
    one = HospitalFeasibility("own", 60, 30, {"age": 0, "chol": "<5"})
    two = HospitalFeasibility("own", 123, ">118", {"age": 123, "chol": ">118"})
    lines = feasibility_text(Feasibility("0", "died", {"a": one, "b": two}, {}), terminal=False).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "",
        "patients",
        "with the outcome (died)",
        "lack age",
        "lack chol",
    ]
    assert [line.split()[-2:] for line in lines] == [
        ["a", "b"],
        ["60", "123"],
        ["30", ">118"],
        ["0", "all"],
        ["<5", ">118"],
    ]


def test_a_hospital_that_cannot_take_part_is_left_out_with_its_reason(
    hospitals: dict[str, Path], tmp_path: Path
) -> None:
    name, path = next(iter(hospitals.items()))
    few = pd.read_csv(path).head(17)
    few["num"], few["target"] = [0, 1] * 8 + [0], [0, 1] * 8 + [0]
    few.to_csv(tmp_path / "few.csv", index=False)
    (tmp_path / "run").mkdir()
    events = ask({**hospitals, name: tmp_path / "few.csv"}, tmp_path / "run")
    assert [event.name for event in events if isinstance(event, Dropped)] == [name]
    (found,) = (event for event in events if isinstance(event, Feasibility))
    assert list(found.left_out) == [name] and name not in found.hospitals


def test_a_hospital_that_does_not_come_ends_the_run(hospitals: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"only 4 of 5 hospitals \(--hospitals\) joined"):
        ask(hospitals, tmp_path, replace(SETTINGS, hospitals=5))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_result_is_not_written_over(hospitals: dict[str, Path], tmp_path: Path) -> None:
    ask(hospitals, tmp_path)
    with pytest.raises(UsageError, match="already contains the result of --feasibility; give another folder"):
        make_run_folder(tmp_path)


# --- replies ----------------------------------------------------------------------------------------------------------

SOUND = FeasibilityReply("va", "own", HEART.fingerprint, 80, 32, 5, (0, 80, 5, 75, FEW, ALL_BUT_FEW, *[0] * 7))


def read(reply: FeasibilityReply) -> tuple[str, HospitalFeasibility]:
    asked = Message(RecordDict(), dst_node_id=1, message_type="query.feasibility")
    return read_report(HEART, 5, Message(encode_feasibility(reply), reply_to=asked))


def test_a_sound_reply_is_read() -> None:
    name, report = read(SOUND)
    assert (name, report.outcome) == ("va", 32)
    assert list(report.missing.values())[:7] == [0, 80, 5, 75, "<5", ">75", 0]
    assert read(replace(SOUND, ill=ALL_BUT_FEW, min_count=9, missing=(0,) * 13))[1].outcome == ">71"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema": "0"}, "its schema is 0, the server's is"),
        ({"missing": (0,) * 12}, "it sent 12 counts, but there are 13 features"),
        ({"min_count": 4}, "its --min-count is 4, below 5"),
        ({"ill": 4}, "it sent a count of fewer than 5 patients"),
        ({"ill": 77}, "it sent a count of fewer than 5 patients"),
        ({"missing": (1, *[0] * 12)}, "it sent a count of fewer than 5 patients"),
    ],
)
def test_a_reply_that_discloses_too_much_or_fits_no_schema_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read(replace(SOUND, **change))


def test_a_hostile_name_is_escaped() -> None:
    name, report = read(replace(SOUND, name="a\x1b[2Jb", source="\n"))
    assert name.isprintable() and report.source.isprintable()

"""Counts by sex and age band: what is counted, what is suppressed, and what a recipient who knows the rule can find out."""

import itertools
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.client.limits import LEAST_COUNT, HospitalLimits
from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.metrics.bins import find_edge
from fedhealth.metrics.subgroups import (
    Outcomes,
    Subgroups,
    add_subgroups,
    check_subgroups,
    count_subgroups,
    find_divisions,
    suppress_small_cells,
)
from fedhealth.reporting.console.hospital import client_line
from fedhealth.reporting.html.pages import write_report
from fedhealth.reporting.html.run_reader import read_run
from fedhealth.reporting.html.subgroups import subgroup_notes, subgroup_rows
from fedhealth.server.app import make_server_app
from fedhealth.server.events import RunFinished
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import check_disclosed
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import SERVER_NODE_ID, node_id_of, set_identity, set_message_id
from fedhealth.transport.protocol.finalization import decode_subgroups
from tests.support.asking import make_ask, write_hospital
from tests.support.examples import examples
from tests.support.hospital_apps import make_apps
from tests.support.hospital_files import write_hospitals
from tests.support.run_folders import NAMES, write_run

DIVISIONS = find_divisions(HEART)
GROUPS = [group for groups in DIVISIONS.values() for group in groups]
SEX, AGE = FEATURE_NAMES.index("sex"), FEATURE_NAMES.index("age")
LARGEST = 16
SIZES = st.lists(st.integers(0, 40), min_size=2, max_size=3)


def make_patients(*patients: tuple[int, float, int, float, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and risks of (sex, age, label, risk, how many like that)."""
    rows = [each[:4] for each in patients for _ in range(each[4])]
    features = np.full((len(rows), len(FEATURE_NAMES)), np.nan)
    sexes, ages, labels, risks = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    features[:, SEX], features[:, AGE] = sexes, ages
    return features, labels, risks


# --- counting ---------------------------------------------------------------------------------------------------------


def test_counts_by_hand() -> None:
    disclosed = count_subgroups(
        HEART,
        *make_patients(
            *((0, 49.9, 1, 0.9, 6), (0, 50.0, 0, 0.2, 5), (1, 59.9, 1, 0.49, 3), (1, 60.0, 0, 0.5, 4)),
            *((1, 77.0, 1, 0.5, 2), (1, 18.0, 0, 0.1, 7)),
        ),
        least=5,
    )
    assert disclosed == {
        "female": Outcomes(6, 0, 5, 0),
        "male": Outcomes(2, 4, 7, 3),
        "age under 50": Outcomes(6, 0, 7, 0),
        "age 50 to 59": Outcomes(0, 0, 5, 3),
        "age 60 and over": Outcomes(2, 4, 0, 0),
    }


def test_few_women_suppress_men_too_and_leave_age_as_it_is() -> None:
    disclosed = count_subgroups(
        HEART, *make_patients((0, 40, 1, 0.9, 4), (1, 55, 0, 0.2, 50), (1, 70, 1, 0.7, 9)), least=4
    )
    assert set(disclosed) == set(GROUPS)
    disclosed = count_subgroups(
        HEART, *make_patients((0, 52, 1, 0.9, 4), (1, 55, 0, 0.2, 50), (1, 70, 1, 0.7, 9)), least=5
    )
    assert set(disclosed) == {"age under 50", "age 50 to 59", "age 60 and over"}


def test_hospitals_add_up_to_all_together() -> None:
    one, other = {"female": Outcomes(1, 2, 3, 4), "male": Outcomes(5, 0, 0, 0)}, {"female": Outcomes(10, 0, 0, 1)}
    assert add_subgroups(DIVISIONS, [one, other])["female"] == Outcomes(11, 2, 3, 5)
    assert add_subgroups(DIVISIONS, [one, other])["male"] == Outcomes(5, 0, 0, 0)
    assert add_subgroups(DIVISIONS, [])["age 60 and over"] == Outcomes()


# --- what is suppressed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([20, 30], [True, True]),
        ([3, 30], [False, False]),
        ([0, 30], [True, True]),
        ([2, 2], [False, False]),
        ([20, 30, 40], [True, True, True]),
        ([3, 30, 40], [False, False, True]),
        ([40, 30, 3], [True, False, False]),
        ([3, 5, 40], [False, False, False]),  # 8 could be 4 and 4: the rule would reveal that it is not
        ([3, 4, 40], [False, False, False]),
        ([4, 30, 30], [False, False, False]),
        ([0, 3, 40], [True, False, False]),
    ],
)
def test_a_small_group_takes_the_smallest_other_with_it(sizes: list[int], kept: list[bool]) -> None:
    assert suppress_small_cells(sizes, least=5) == kept


@settings(max_examples=examples(300), deadline=None)
@given(SIZES, st.integers(1, 12))
def test_no_disclosed_group_is_small_and_no_subtraction_leaves_a_small_one(sizes: list[int], least: int) -> None:
    kept = suppress_small_cells(sizes, least)
    disclosed = [size for size, yes in zip(sizes, kept, strict=True) if yes]
    assert not any(0 < size < least for size in disclosed)
    if sum(sizes) >= least:  # the total itself is no secret
        for number in range(len(disclosed) + 1):
            for some in itertools.combinations(disclosed, number):
                assert not 0 < sum(sizes) - sum(some) < least


@pytest.mark.parametrize("num_groups", [2, 3])
@pytest.mark.parametrize("least", [2, 3, 5, 6])
def test_who_knows_total_and_rule_cannot_tell_how_many_are_in_a_small_group(num_groups: int, least: int) -> None:
    """Every division of up to 15 patients: whatever is disclosed, another division would disclose the same."""
    worlds: dict[object, list[tuple[int, ...]]] = defaultdict(list)
    for sizes in itertools.product(range(LARGEST), repeat=num_groups):
        if 5 <= sum(sizes) < LARGEST and sum(sizes) >= least:
            kept = suppress_small_cells(sizes, least)
            seen = tuple(size if yes else None for size, yes in zip(sizes, kept, strict=True))
            worlds[sum(sizes), seen].append(sizes)
    assert len(worlds) > 20
    for possible in worlds.values():
        for place in range(num_groups):
            values = {sizes[place] for sizes in possible}
            assert len(values) > 1 or not 0 < min(values) < least, possible


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(18, 90), st.integers(0, 1)), min_size=5, max_size=60), st.data()
)
def test_what_a_hospital_tells_passes_the_servers_check(rows: list[tuple[int, int, int]], data: st.DataObject) -> None:
    least = data.draw(st.integers(1, 8))
    risks = data.draw(st.lists(st.floats(0, 1), min_size=len(rows), max_size=len(rows)))
    patients = make_patients(*((*row, risk, 1) for row, risk in zip(rows, risks, strict=True)))
    disclosed = count_subgroups(HEART, *patients, least)
    check_subgroups(DIVISIONS, disclosed, len(rows), sum(row[2] for row in rows), least)
    for groups in DIVISIONS.values():
        if all(group in disclosed for group in groups):
            positive = sum(disclosed[group].true_positives + disclosed[group].false_positives for group in groups)
            assert positive == sum(risk >= 0.5 for risk in risks)


# --- at the server ----------------------------------------------------------------------------------------------------

VA = Member(node_id_of("va"), "va", "own", 60, 20, 8)
HONEST = {"female": [3, 1, 3, 0], "male": [4, 2, 6, 1]}


def refuse(record: dict[str, Any]) -> str:
    try:
        check_disclosed(DIVISIONS, decode_subgroups(RecordDict({"subgroups": MetricRecord(record)})), VA, 5)
    except ValueError as problem:
        return str(problem)
    return ""


def test_an_honest_answer_is_taken_whole_or_in_part() -> None:
    assert refuse(HONEST) == ""
    assert refuse({"age 60 and over": [4, 2, 6, 1]}) == ""
    assert refuse({}) == ""


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"rich": [3, 1, 3, 0]}, "it sent a subgroup that does not exist"),
        ({"female": [3, 1, 3]}, "its female are not four counts"),
        ({"female": 3}, "its female are not four counts"),
        ({"female": [3.0, 1.0, 3.0, 0.0]}, "its female are not four counts"),
        ({"female": [9, -1, 3, 0]}, "its female are not four counts"),
        ({"female": [1, 1, 1, 1], "male": [6, 2, 8, 0]}, "it sent a subgroup of fewer than 5 patients"),
        ({"male": [4, 20, 6, 1]}, "its subgroups are not those of the 20 patients (8 ill) that it declared"),
        ({"male": [9, 2, 6, 1]}, "its subgroups are not those of the 20 patients (8 ill) that it declared"),
        ({"male": [1, 10, 4, 0]}, "its subgroups are not those of the 20 patients (8 ill) that it declared"),
        ({**HONEST, "male": [4, 2, 5, 1]}, "its subgroups are not those of the 20 patients (8 ill) that it declared"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(record: dict[str, Any], words: str) -> None:
    assert refuse(record) == words


def run_federation(hospitals: dict[str, Path], **choice: Any) -> RunFinished:
    config = FederationSettings(hospitals=len(hospitals), rounds=2, **choice).to_run_config()
    events: list[Any] = []
    grid = InProcessGrid(make_apps(hospitals), config)
    make_server_app(events.append)(grid, grid.context)
    assert isinstance(events[-1], RunFinished)
    return events[-1]


def test_the_disclosed_groups_add_up_to_the_histograms_of_the_last_round(tmp_path: Path) -> None:
    finished = run_federation(write_hospitals(tmp_path, num_patients=800))
    assert finished.subgroups is not None and finished.subgroups.missing == {}
    whole = 0
    for name, disclosed in finished.subgroups.disclosed.items():
        histogram = finished.histograms[name]
        for groups in DIVISIONS.values():
            if all(group in disclosed for group in groups):
                whole += 1
                total = sum((disclosed[group] for group in groups), start=Outcomes())
                half = find_edge(0.5)
                assert total.true_positives == histogram.positives[half:].sum()
                assert total.true_negatives == histogram.negatives[:half].sum()
                assert (total.ill, total.healthy) == (histogram.positives.sum(), histogram.negatives.sum())
    assert whole > len(DIVISIONS)


def test_without_subgroups_nobody_is_asked_and_a_hospital_that_is_asked_all_the_same_refuses(tmp_path: Path) -> None:
    assert run_federation(write_hospitals(tmp_path), subgroups=False).subgroups is None
    ask = make_ask(write_hospital(tmp_path / "one.csv"), subgroups=False)
    reply = ask("query.subgroups")
    assert reply.error.reason == "the server asks for subgroups, which its own settings exclude (--no-subgroups)"


@pytest.mark.parametrize(("server", "own", "disclosed"), [(5, None, 5), (1, None, 5), (200, None, 0), (5, 200, 0)])
def test_the_larger_limit_of_server_and_hospital_holds(
    tmp_path: Path, server: int, own: int | None, disclosed: int
) -> None:
    path = write_hospital(tmp_path / "one.csv", 400)
    ask = make_ask(path, HospitalLimits(LEAST_COUNT if own is None else own), min_count=server)
    weights: ArrayRecord = ask("query.initial_weights").content.array_records["arrays"]
    reply = ask("query.subgroups", weights, means=[50.0, 130.0, 200.0, 140.0, 1.0, 1.0], stds=[10.0] * 6)
    assert len(reply.content.metric_records["subgroups"]) == disclosed


@pytest.mark.parametrize(("groups", "words"), [(["male"], "male"), ([], "none, every group is too small")])
def test_the_hospital_reads_what_it_disclosed(groups: list[str], words: str) -> None:
    set_identity(SERVER_NODE_ID)
    question = Message(RecordDict({"config": ConfigRecord()}), dst_node_id=7, message_type="query.subgroups")
    set_message_id(question, "1")
    reply = Message(
        RecordDict({"subgroups": MetricRecord({group: [1, 2, 3, 4] for group in groups})}), reply_to=question
    )
    assert client_line(HEART, question, reply) == f"sent test results by subgroup: {words}"


# --- in the report ----------------------------------------------------------------------------------------------------

LARGE = {
    "female": Outcomes(8, 2, 8, 2),
    "male": Outcomes(9, 1, 9, 1),
    "age under 50": Outcomes(3, 0, 20, 0),
    "age 50 to 59": Outcomes(7, 3, 3, 3),
    "age 60 and over": Outcomes(7, 0, 0, 1),
}


def test_subgroups_come_back_from_the_summary_as_they_were() -> None:
    subgroups = Subgroups({"cleveland": LARGE, "va": {}}, {"zurich": "gone"}, DIVISIONS)
    content = msgspec.json.encode(subgroups)
    assert json.loads(content) == {
        "told": {"cleveland": {group: list(each.counts()) for group, each in LARGE.items()}, "va": {}},
        "silent": {"zurich": "gone"},
        "divisions": {"age": list(DIVISIONS["age"]), "sex": ["female", "male"]},
        "threshold": 0.5,
    }
    assert msgspec.json.decode(content, type=Subgroups) == subgroups


@pytest.mark.parametrize("counts", ["[1, 2, 3, -1]", "[1, 2, 3, 0.5]", "[1, 2, 3, 10000000000]", "3"])
def test_what_is_no_count_of_people_is_no_subgroup(counts: str) -> None:
    with pytest.raises(ValueError, match="Expected"):
        msgspec.json.decode(f'{{"told": {{"va": {{"male": {counts}}}}}, "silent": {{}}}}', type=Subgroups)


def write_subgroups(folder: Path, subgroups: Subgroups | None) -> Path:
    return write_run(folder, subgroups=subgroups)


def test_the_table_has_the_groups_and_how_many_hospitals_disclosed_them(tmp_path: Path) -> None:
    folder = write_subgroups(
        tmp_path, Subgroups({"cleveland": LARGE, "hungary": {}, "va": LARGE}, {"x|y": "gone"}, DIVISIONS)
    )
    rows = {row[0]: row[1:] for row in subgroup_rows(read_run(folder))}
    assert rows["female"] == (*("40", "0.80 (0.58 to 0.92)", "0.80 (0.58 to 0.92)", "0.80 (0.65 to 0.90)", "2 of 4"),)
    assert list(rows) == ["age under 50", "age 50 to 59", "age 60 and over", "female", "male"]
    write_report(folder)
    page, card = (folder / "report.html").read_text(), (folder / "MODEL_CARD.md").read_text()
    assert re.search(r"<td>age 60 and over</td>\s*<td>16</td>", page)
    assert "| female | 40 | 0.80 (0.58 to 0.92) |" in card
    assert "No results by subgroup from x\\|y: gone." in card


def test_a_share_of_fewer_than_five_ill_or_healthy_is_not_shown_nor_what_would_tell_them(tmp_path: Path) -> None:
    rows = {
        row[0]: row[2:]
        for row in subgroup_rows(read_run(write_subgroups(tmp_path, Subgroups({"va": LARGE}, {}, DIVISIONS))))
    }
    sensitivities = [rows[group][0] for group in DIVISIONS["age"]]
    assert sensitivities[0] == sensitivities[2] == "few"  # three ill patients under 50; the next fewest take part
    assert sensitivities[1].startswith("0.70")
    assert rows["age 60 and over"][1] == "n/a"  # nobody healthy
    assert rows["age 60 and over"][2].startswith("0.88")


@pytest.mark.parametrize(
    ("subgroups", "words"),
    [
        (None, "were not requested in this run"),
        (Subgroups({"va": {}}, {}), "No hospital's subgroups were large enough"),
        (Subgroups({"va": LARGE}, {}, DIVISIONS), "Hospitals suppress groups of fewer than 5 patients"),
    ],
)
def test_the_page_says_why_there_is_no_table(subgroups: Subgroups | None, words: str, tmp_path: Path) -> None:
    folder = write_subgroups(tmp_path, subgroups)
    assert any(words in line for line in subgroup_notes(read_run(folder)))
    write_report(folder)
    assert words in (folder / "MODEL_CARD.md").read_text()


@pytest.mark.uci
def test_of_the_real_hospitals_only_those_disclose_women_that_tested_enough(uci_folder: Path, tmp_path: Path) -> None:
    import create_dataset

    assert create_dataset.main(["--source", str(uci_folder), "--out", str(tmp_path)]) == 0
    finished = run_federation({name: tmp_path / f"client_{place}.csv" for place, name in enumerate(NAMES, start=1)})
    assert finished.subgroups is not None
    women = {name: "female" in disclosed for name, disclosed in finished.subgroups.disclosed.items()}
    # Switzerland tested 3 women; VA none, which is no patient's secret.
    assert women == {"cleveland": True, "hungary": True, "switzerland": False, "va": True}
    assert "male" not in finished.subgroups.disclosed["switzerland"]
    assert finished.subgroups.disclosed["va"]["female"] == Outcomes()
    assert finished.members[2].test_patients == 31

"""What a hospital sends in a run with --feasibility: no count of few patients, and nothing else in such a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.client.app import QUERIES
from fedhealth.client.feasibility import disclose, fewest_patients
from fedhealth.client.limits import HospitalLimits
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.transport.protocol.feasibility import (
    ALL_BUT_FEW,
    FEASIBILITY,
    FEW,
    FeasibilityReply,
    decode_feasibility,
)
from tests.support.asking import make_ask, write_hospital

CHOL, OLDPEAK, CA = (FEATURE_NAMES.index(name) for name in ("chol", "oldpeak", "ca"))


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """60 patients, 30 ill; 4 lack chol, 57 lack oldpeak, all lack ca, nobody lacks another value."""
    path = write_hospital(tmp_path / "client_1.csv")
    table = pd.read_csv(path)
    defaults = {column.name: (min(column.codes) if column.codes else 60) for column in HEART.features}
    table = table.fillna(defaults)
    table["oldpeak"] = 1.0
    table.loc[:3, "chol"] = np.nan
    table.loc[3:, "oldpeak"] = np.nan
    table["ca"] = np.nan
    table.to_csv(path, index=False)
    return path


def sent(reply: Message) -> FeasibilityReply:
    assert not reply.has_error(), reply.error.reason
    return decode_feasibility(reply.content)


def test_counts_of_few_patients_and_of_all_but_few_are_not_sent(hospital: Path) -> None:
    reply = sent(make_ask(hospital, feasibility=True)(FEASIBILITY))
    assert (reply.name, reply.source, reply.schema) == ("lakeside", "own", HEART.fingerprint)
    assert (reply.patients, reply.ill, reply.min_count) == (60, 30, 5)
    expected = {CHOL: FEW, OLDPEAK: ALL_BUT_FEW, CA: 60}
    assert list(reply.missing) == [expected.get(place, 0) for place in range(13)]


def test_the_reply_has_nothing_but_these_counts_and_names(hospital: Path) -> None:
    content = make_ask(hospital, feasibility=True)(FEASIBILITY).content
    assert {key: sorted(record) for key, record in content.items()} == {
        "hospital": ["name", "schema", "source"],
        "counts": ["ill", "min-count", "patients"],
        "columns": ["missing"],
    }


@pytest.mark.parametrize(("own", "servers", "least"), [(5, 3, 5), (2, 4, 4), (2, 2, 2)])
def test_the_higher_limit_of_hospital_and_server_counts(hospital: Path, own: int, servers: int, least: int) -> None:
    ask = make_ask(hospital, HospitalLimits(min_count=own), feasibility=True, min_count=servers)
    reply = sent(ask(FEASIBILITY))
    assert reply.min_count == least
    assert reply.missing[CHOL] == (4 if least <= 4 else FEW)
    assert reply.missing[OLDPEAK] == (57 if least <= 3 else ALL_BUT_FEW)


@pytest.mark.parametrize("kind", [*(kind for kind in QUERIES if kind != FEASIBILITY), "train", "evaluate"])
def test_in_such_a_run_a_hospital_replies_to_nothing_else(hospital: Path, kind: str) -> None:
    reply = make_ask(hospital, feasibility=True)(kind)
    assert reply.has_error()
    assert f"{kind}, which its own settings exclude (--feasibility)" in reply.error.reason


def test_in_another_run_a_hospital_does_not_reply(hospital: Path) -> None:
    reply = make_ask(hospital)(FEASIBILITY)
    assert reply.has_error()
    assert "which its own settings exclude (no --feasibility)" in reply.error.reason


@pytest.mark.parametrize(
    ("limits", "config", "reason"),
    [
        (HospitalLimits(max_epsilon=9.0), {}, "this hospital takes part under differential privacy only"),
        (HospitalLimits(), {"dp_epsilon": 3.0}, "--feasibility and --dp-epsilon exclude each other"),
        (HospitalLimits(), {"test_share": 0.05}, "fewer than 5"),
    ],
)
def test_a_hospital_that_cannot_take_part_sends_the_reason_only(
    hospital: Path, limits: HospitalLimits, config: dict[str, Any], reason: str
) -> None:
    reply = make_ask(hospital, limits, feasibility=True, **config)(FEASIBILITY)
    assert reply.has_error()
    assert reason in reply.error.reason


@given(total=st.integers(1, 60), count=st.integers(0, 60), least=st.integers(1, 9))
def test_what_is_sent_leaves_every_count_below_the_limit_open(total: int, count: int, least: int) -> None:
    """Given the total and the reply, as many counts are possible as there are below the limit, or the exact one."""
    total = max(total, fewest_patients(least))
    count = min(count, total)
    reply = disclose(count, total, least)
    possible = {other for other in range(total + 1) if disclose(other, total, least) == reply}
    assert count in possible
    if reply in (FEW, ALL_BUT_FEW):
        assert len(possible) >= min(least - 1, total)
    else:
        assert possible == {count}
        assert count == 0 or count >= least
        assert total == count or total - count >= least


def test_a_hospital_of_so_few_patients_that_a_bound_gives_one_away_sends_no_count(hospital: Path) -> None:
    reply = make_ask(hospital, HospitalLimits(min_count=40), feasibility=True)(FEASIBILITY)
    assert reply.has_error()
    assert "fewer than 79 patients, too few for --min-count 40" in reply.error.reason

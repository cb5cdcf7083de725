"""What the server says if there is no sum over all hospitals (secure aggregation)."""

import pytest

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.server.admission import OPEN
from fedhealth.server.participation import Replies, Roster, RoundPolicy
from fedhealth.server.records import TOGETHER, Member
from fedhealth.server.schedule import RoundSchedule
from fedhealth.server.setup_queries import find_too_few
from fedhealth.transport.in_process import InProcessGrid

ALL = Member(7, TOGETHER, "synthetic", 240, 142, 80)
SETTINGS = FederationSettings(hospitals=4, secure_aggregation=True)


def test_the_setup_names_the_hospital_and_its_reason() -> None:
    left_out = {TOGETHER: "could not reply to query.first_moments: va: the disk is full"}
    assert find_too_few(SETTINGS, 1, left_out) == (
        "the setup needs sums over all hospitals, and they could not reply to query.first_moments: va: the disk is full"
    )


def test_a_round_names_the_hospital_and_its_reason() -> None:
    roster = Roster(
        [ALL], RoundPolicy(), RoundSchedule(3, 1, 1.0, 0), lambda event: None, strikes={}, dropped={}, admission=OPEN
    )
    replies = Replies[object]({}, {ALL.node_id: "va: the disk is full"}, set())
    with pytest.raises(RunError) as caught:
        roster.wait_for_members(InProcessGrid({}, SETTINGS.to_run_config()), 2, replies, 0.0)
    assert str(caught.value) == "round 2: there is no sum over all hospitals (va: the disk is full)"

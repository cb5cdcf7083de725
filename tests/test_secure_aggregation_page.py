"""docs/secure-aggregation.md: its flags, keys, messages and numbers are those of the code."""

import re
from dataclasses import fields
from typing import get_args

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedhealth.client.limits import NODE_KEYS
from fedhealth.client.masking_state import ENDING, LARGEST_KEPT
from fedhealth.client.secure_aggregation import SINGLE, SUMMED, WITHOUT_PATIENTS
from fedhealth.common import fixed_point
from fedhealth.common.array_codec import make_array
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.config.scripts import ClientSettings, SecureAggregationWish, ServerSettings
from fedhealth.config.secure_aggregation import FEWEST_HOSPITALS, SUMS_ENOUGH
from fedhealth.config.service import ServicePolicy
from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.subgroups import list_groups
from fedhealth.transport.protocol import roster
from fedhealth.transport.protocol.fields import ARRAYS, CONFIG
from fedhealth.transport.protocol.sum_messages import SumMessages
from fedhealth.transport.protocol.training import EVALUATES, TRAIN
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "secure-aggregation.md").read_text(encoding="utf-8")


def row(start: str) -> str:
    """The line of a table that begins so."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(start)]
    return line


def words() -> str:
    """The page without line breaks."""
    return " ".join(PAGE.split())


def test_every_flag_on_the_page_exists() -> None:
    known = {f.name.replace("_", "-") for kind in (ServerSettings, ClientSettings) for f in fields(kind)}
    assert set(re.findall(r"--([a-z][a-z-]+)", PAGE)) <= known
    named = set(re.findall(r"`(?:--secure-aggregation )?(required|accept|never)`", PAGE))
    assert named == set(get_args(SecureAggregationWish))


def test_policy_and_node_config_have_the_keys_on_the_page() -> None:
    assert "require_secure_aggregation" in {f.name for f in fields(ServicePolicy)}
    assert "`require-secure-aggregation = true`" in PAGE
    assert set(re.findall(r"`?([a-z-]+)=\"", row("| node config"))) <= set(NODE_KEYS)


def test_the_refused_strategies_are_all_that_need_single_hospitals() -> None:
    listed = re.search(r"single hospitals' weights \((.*?)\)", words())
    assert listed
    assert sorted(re.findall(r"`(\w+)`", listed.group(1))) == sorted(set(get_args(StrategyName)) - set(SUMS_ENOUGH))


def test_every_message_is_on_the_page() -> None:
    named = set(re.findall(r"`(query\.\w+|train|evaluate)`", PAGE))
    assert named == {*SINGLE, *SUMMED, *WITHOUT_PATIENTS}


def test_sizes_and_bounds_are_those_of_the_code() -> None:
    assert f"it has {roster.FEWEST} to {roster.MOST} entries" in words()
    assert f"fewer than {FEWEST_HOSPITALS} hospitals" in words() and FEWEST_HOSPITALS == roster.FEWEST
    assert f"the run's id, {roster.RUN_ID_BYTES} random bytes" in PAGE
    assert f'"{roster.VERSION.decode()}"' in PAGE
    shown = roster.KeyRoster(bytes(16), (roster.Entry("a", bytes(32)),)).shown_digest
    assert f"the same {sum(map(str.isalnum, shown))} digits" in words()
    assert f"\\|w\\| < {fixed_point.LIMIT:g};" in PAGE
    assert f"< 2^24 = {fixed_point.MOST_EXAMPLES:,}" in PAGE and fixed_point.MOST_EXAMPLES == 2**24
    assert "rint(w * 2^32)" in PAGE and fixed_point.SCALE == 2**32
    assert f"| {fixed_point.REAL_WORDS}: the whole part" in PAGE
    assert "\\|r\\| < 2^55" in PAGE and fixed_point.REAL_LIMIT == 2**55
    assert f"vectors above {LARGEST_KEPT / 2**20:g} MiB" in words()
    assert f"{ENDING}` beside its table" in words()


def test_the_size_of_a_message_is_that_of_the_default_model() -> None:
    settings = FederationSettings(secure_aggregation=True, hospitals=4)
    model = ArrayRecord({"weights": make_array(np.zeros(33, np.float32))})
    request = RecordDict({ARRAYS: model, CONFIG: ConfigRecord({EVALUATES: True})})
    layout = SumMessages(settings, HEART, NUM_BINS, list_groups(HEART)).layout(TRAIN, request)
    assert f"has {layout.num_words} numbers, {8 * layout.num_words / 1000:.1f} kB" in words()


def test_the_promise_has_five_sentences() -> None:
    section = words().split("data protection officer ")[1].split(" ## Use")[0]
    assert len(re.findall(r"\.(?= |$)", section.replace(").", "."))) == 5

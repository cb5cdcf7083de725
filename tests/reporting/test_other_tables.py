"""Report, model card and live page of another table than the heart disease data: the words follow its schema."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_field

from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.metrics.subgroups import Subgroups, find_divisions
from fedhealth.reporting.dashboard.state import LiveRun
from fedhealth.reporting.html.disclosures import disclosure_rows
from fedhealth.reporting.html.model_card import limit_lines
from fedhealth.reporting.html.pages import live_page, model_card_text, report_page
from fedhealth.reporting.html.run_reader import RunRecord, read_run
from tests.support.processes import ROOT
from tests.support.run_folders import write_run

pytestmark = pytest.mark.usefixtures("few_draws")
SCHEMAS = ROOT / "fedhealth" / "schemas"
BREAST, LUNG = (load_schema(SCHEMAS / f"{name}.toml") for name in ("breast-cancer", "lung-cancer"))
OF_HEART = re.compile(r"heart|angiograph|coronary|13 (columns|measurements)|data/README|cholesterol", re.IGNORECASE)


def make_run(folder: Path, schema: Schema, subgroups: Subgroups | None = None) -> RunRecord:
    run = read_run(write_run(folder, dataset="own", subgroups=subgroups))
    assert run.summary
    importance = Importance(dict.fromkeys(schema.feature_names, 0.1), {}, {})
    return replace(run, schema=schema, summary=replace_field(run.summary, importance=importance))


@pytest.mark.parametrize(
    ("schema", "columns", "ill"),
    [
        (BREAST, 30, "target (diagnosis of the mass) is malignant"),
        (LUNG, 7, "dead (died within 365 days of enrolment) is yes"),
        (HEART, 13, "target (diagnosis) is disease"),
    ],
    ids=["breast", "lung", "heart"],
)
def test_report_and_model_card_say_what_is_predicted_from_what(
    schema: Schema, columns: int, ill: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path, schema)
    page, card = report_page(run), model_card_text(run).replace("\\", "")
    assert f"<h1>Risk of {schema.title}: a model trained by 4 hospitals</h1>" in page
    assert f"Ill: {ill}." in page
    assert card.startswith(f"# Model card: risk of {schema.title}, run ")
    assert f"the {columns} columns" in card
    assert f'"Ill" means: {ill}.' in card
    assert bool(OF_HEART.search(page + card)) == (schema is HEART)


@pytest.mark.parametrize(("schema", "numbers"), [(BREAST, ("60", "31")), (LUNG, ("12", "8")), (HEART, ("12", "14"))])
def test_the_numbers_that_a_message_holds_are_those_of_the_columns(
    schema: Schema, numbers: tuple[str, str], tmp_path: Path
) -> None:
    rows = {row[0]: row[2] for row in disclosure_rows(make_run(tmp_path, schema))}
    assert (rows["moments"], rows["importance"]) == numbers


def test_the_message_of_subgroups_holds_four_counts_for_each_group(tmp_path: Path) -> None:
    divisions = find_divisions(LUNG)
    assert divisions == {"age": ("age under 60", "age 60 to 69", "age 70 and over"), "sex": ("male", "female")}
    run = make_run(tmp_path, LUNG, Subgroups({}, {}, divisions))
    (row,) = (row for row in disclosure_rows(run) if row[0] == "subgroups")
    assert row[1:3] == ("confusion matrix at 0.5 by age and sex group, without small groups", "20 at most")


def test_indicators_of_missing_values_are_no_limit_where_nothing_can_be_missing(tmp_path: Path) -> None:
    texts = [" ".join(limit_lines(make_run(tmp_path / schema.title, schema))) for schema in (BREAST, LUNG)]
    assert ["Indicators of missing values" in text for text in texts] == [False, True]


def test_the_live_page_names_no_disease_before_a_run_has_begun() -> None:
    page, _ = live_page(LiveRun("x"))
    assert not OF_HEART.search(page)

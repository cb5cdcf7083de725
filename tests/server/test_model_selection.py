"""Model selection on validation patients, with toy hospitals that can be checked by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from msgspec import structs

from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.config.scripts import ServerSettings
from fedhealth.metrics.histogram import Metrics, compute_metrics, score_histogram
from fedhealth.reporting.console.screen import ServerConsole
from fedhealth.reporting.html.disclosures import disclosure_rows
from fedhealth.reporting.html.pages import write_report
from fedhealth.reporting.html.run_reader import read_run
from fedhealth.reporting.selection_text import selection_lines
from fedhealth.server.app import federate
from fedhealth.server.checkpoints import Best, Checkpoint
from fedhealth.server.events import RunFinished, RunStarted
from fedhealth.server.model_selection import find_best, is_enough
from fedhealth.server.records import (
    Evaluation,
    Member,
    ModelSelection,
    PooledMetrics,
    Rates,
    RatesByHospital,
    RoundRecord,
)
from fedhealth.transport.protocol.evaluation import decode_evaluate_reply, encode_evaluate_reply
from tests.server import test_resume
from tests.support.run_folders import make_record
from tests.support.run_keeping import CheckpointList, Killed
from tests.support.toy_hospitals import Toy, ToyHospital, as_sent, make_toy

pytestmark = pytest.mark.usefixtures("few_draws")

STEP = 0.05


def hospitals(healthy: int = 1, ill: int = 3) -> Toy:
    """Each round adds 0.05 to a weight that begins at 0.5; the validation loss is least where it is the share of the ill."""
    names = ("cleveland", "hungary", "va")
    return make_toy(*(ToyHospital(name, [50, 60], step=STEP, validation=(healthy, ill)) for name in names))


def run(toy: Toy, rounds: int = 10, **settings: Any) -> list[Any]:
    events: list[Any] = []
    chosen = {"strategy": "fedavg", "patience": 2, **settings}
    asked = FederationSettings(hospitals=3, rounds=rounds, **chosen)
    federate(toy.grid, asked, events.append, writer=CheckpointList(events), max_wait=5.0)
    return events


def finished_of(events: list[Any]) -> RunFinished:
    assert isinstance(events[-1], RunFinished)
    return events[-1]


def rounds_of(events: list[Any]) -> list[RoundRecord]:
    return [event for event in events if isinstance(event, RoundRecord)]


def evaluation_of(round_num: int, **losses: float) -> Evaluation:
    """A round in which these hospitals' validation patients had these losses."""
    nobody = score_histogram([], [])
    return Evaluation(
        make_record(round_num), {}, {name: replace(nobody, log_loss=loss) for name, loss in losses.items()}
    )


# --- the best round ---------------------------------------------------------------------------------------------------


def test_the_round_with_the_least_loss_over_all_hospitals_is_the_best() -> None:
    weights, best = [ArrayRecord({"w": Array(np.array([float(number)]))}) for number in range(5)], None
    for number, (one, other) in enumerate([(5.0, 5.0), (2.0, 6.0), (3.0, 5.0), (9.0, 1.0), (7.9, 0.0)]):
        best = find_best(best, evaluation_of(number + 1, cleveland=one, va=other), weights[number])
    assert best is not None
    assert (best.round_num, best.losses, best.rounds_since) == (5, {"cleveland": 7.9, "va": 0.0}, 0)
    assert best.weights is weights[4]


def test_a_round_that_is_only_as_good_is_no_better_one() -> None:
    best = find_best(None, evaluation_of(1, va=2.0), ArrayRecord())
    for number in (2, 3):
        best = find_best(best, evaluation_of(number, va=2.0), ArrayRecord())
    assert best is not None
    assert (best.round_num, best.rounds_since) == (1, 2)


def test_an_absent_hospital_makes_a_round_neither_better_nor_worse() -> None:
    """Without the hospital with the high loss the sum falls; the others' loss has risen."""
    first = find_best(None, evaluation_of(1, cleveland=2.0, va=9.0), ArrayRecord())
    second = find_best(first, evaluation_of(2, cleveland=2.5), ArrayRecord())
    assert second is not None
    assert (second.round_num, second.rounds_since) == (1, 1)
    third = find_best(second, evaluation_of(3, cleveland=1.5), ArrayRecord())
    assert third is not None
    assert (third.round_num, third.losses) == (3, {"cleveland": 1.5})
    fourth = find_best(third, evaluation_of(4, cleveland=1.0, va=9.0), ArrayRecord())
    assert fourth is not None
    assert (fourth.round_num, fourth.losses) == (4, {"cleveland": 1.0, "va": 9.0})


def test_a_round_that_cannot_be_compared_does_not_count() -> None:
    best = find_best(None, evaluation_of(1, cleveland=2.0), ArrayRecord())
    assert find_best(best, evaluation_of(2), ArrayRecord()) is best
    assert find_best(best, evaluation_of(3, va=9.0), ArrayRecord()) is best
    assert find_best(None, evaluation_of(4), ArrayRecord()) is None


@pytest.mark.parametrize(("since", "patience", "enough"), [(1, 2, False), (2, 2, True), (3, 2, True), (9, 0, False)])
def test_the_rounds_end_after_as_many_without_a_better_one_as_patience_allows(
    since: int, patience: int, enough: bool
) -> None:
    assert is_enough(Best(1, ArrayRecord(), {}, since), patience) is enough
    assert not is_enough(None, patience)


# --- a run that stops -------------------------------------------------------------------------------------------------


def test_a_run_stops_when_nothing_gets_better_and_keeps_the_best_round() -> None:
    toy = hospitals()
    events = run(toy)
    finished = finished_of(events)
    # The weight is 0.55, 0.60, ... and best at 0.75, after round 5; rounds 6 and 7 are worse.
    assert [record.round_num for record in rounds_of(events)] == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(finished.weights["w"].numpy(), [0.75], rtol=1e-6)
    assert finished.choices is not None
    assert (finished.choices.best_round, finished.choices.stopped) == (5, True)
    handed_out = [heard.content.array_records["arrays"]["w"].numpy() for heard in toy.heard if "finish" in heard.kind]
    np.testing.assert_allclose(handed_out, [[0.75]] * 3, rtol=1e-6)


def test_the_reported_metrics_are_those_of_the_final_model() -> None:
    finished = finished_of(run(hospitals()))
    # An ill test patient has the weight as risk, a healthy one the rest to 1; three of four are healthy.
    assert finished.final.pooled.loss == pytest.approx(-np.log(0.75), abs=1e-6)
    assert finished.final.pooled.loss == pytest.approx(finished.rounds[4].pooled.loss, abs=1e-12)
    assert finished.rounds[-1].pooled.loss == pytest.approx(-np.log(0.85), abs=1e-6)
    assert finished.final.round_num == 5
    assert set(finished.histograms) == {"cleveland", "hungary", "va"}
    held = finished.final.validation
    assert held is not None
    assert held.loss == pytest.approx(-(3 * np.log(0.75) + np.log(0.25)) / 4, abs=1e-6)


def test_a_run_that_improves_to_the_end_keeps_its_last_round_without_another_evaluation() -> None:
    toy = hospitals()
    events = run(toy, rounds=4)
    finished = finished_of(events)
    assert finished.choices is not None
    assert (finished.choices.best_round, finished.choices.stopped) == (4, False)
    assert finished.final is finished.choices.evaluation
    assert finished.histograms
    assert toy.kinds().count("evaluate") == 4 * 3


def test_a_run_that_ends_before_patience_does_keeps_its_best_round_too() -> None:
    finished = finished_of(run(hospitals(), rounds=6))
    assert finished.choices is not None
    assert (finished.choices.best_round, finished.choices.stopped) == (5, False)
    np.testing.assert_allclose(finished.weights["w"].numpy(), [0.75], rtol=1e-6)


def test_only_evaluated_rounds_count() -> None:
    """With every second round evaluated, 0.70 (round 4) and 0.80 (round 6) are compared, then 8 and 10."""
    events = run(hospitals(), rounds=20, evaluate_every=2)
    finished = finished_of(events)
    assert finished.choices is not None
    assert (finished.choices.best_round, finished.choices.stopped) == (4, True)
    assert len(finished.rounds) == 8
    assert [record.validation is not None for record in rounds_of(events)] == [False, True] * 4


def test_with_few_hospitals_drawn_all_of_them_still_decide() -> None:
    finished = finished_of(run(hospitals(), fraction=0.4))
    assert finished.choices is not None
    assert finished.choices.best_round == 5
    assert finished.final.validation is not None
    assert finished.final.validation.num_examples == 3 * 4


def test_a_hospital_that_does_not_evaluate_the_final_model_is_named_and_the_others_are_reported() -> None:
    toy = hospitals()
    toy.hospitals["va"].lies["evaluate"] = lambda content: None if toy.kinds().count("evaluate") > 7 * 3 else content
    final = finished_of(run(toy)).final
    assert set(final.hospitals) == {"cleveland", "hungary"}
    assert final.left_out == {"va": "it sent nothing instead of tested and bins"}


def test_without_patience_no_patient_is_held_out_and_the_last_round_stays() -> None:
    toy = make_toy(*(ToyHospital(name, [50, 60], step=STEP) for name in ("cleveland", "hungary", "va")))
    events = run(toy, patience=0, rounds=3)
    finished = finished_of(events)
    assert finished.choices is None
    assert finished.final is finished.rounds[-1]
    assert all(event.best is None for event in events if isinstance(event, Checkpoint))
    began = events[0]
    assert isinstance(began, RunStarted)
    assert all(member.validation_patients == 0 for member in began.members)


def test_patience_and_no_evaluation_before_the_end_exclude_each_other() -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings(patience=3, evaluate_every=0)
    assert str(caught.value) == (
        "--patience is 3, but --evaluate-every 0 evaluates after the last round only; give --evaluate-every 1 or more, or "
        "leave --patience out"
    )


# --- interruptions ----------------------------------------------------------------------------------------------------


def read_kept(folder: Path) -> tuple[Any, ...]:
    """All that a run leaves, without what time it took."""
    weights, history, summary, evaluation = test_resume.read_run(folder)
    del summary["choices"]["evaluation"]["seconds"]
    return weights, history, summary, evaluation


def killed_at_every_event(tmp_path: Path, asked: ServerSettings, make: Callable[[], Toy]) -> dict[str, Any]:
    """Kill the run at every one of its events, resume it and compare; returns the summary of the undisturbed run."""
    calm = len(test_resume.run(replace(asked, out=tmp_path / "calm"), make=make))
    expected = read_kept(tmp_path / "calm")
    for kill_at in range(2, calm + 1):
        folder = tmp_path / f"killed at {kill_at}"
        with pytest.raises(Killed):
            test_resume.run(replace(asked, out=folder), kill_at, make=make)
        test_resume.run(ServerSettings(resume=folder), make=make)
        assert read_kept(folder) == expected, f"killed at event {kill_at}"
    return dict(expected[2])


def test_a_run_that_is_killed_at_any_event_stops_where_it_would_have_and_keeps_the_same_round(tmp_path: Path) -> None:
    """The best weight is 0.65, after round 3, so round 4 is the last of nine."""
    asked = ServerSettings(hospitals=3, rounds=9, strategy="fedavg", patience=1)
    summary = killed_at_every_event(tmp_path, asked, lambda: hospitals(healthy=7, ill=13))
    assert (summary["choices"]["best_round"], summary["choices"]["stopped"], summary["rounds"]) == (3, True, 4)


def test_a_run_whose_last_round_is_the_best_is_evaluated_alike_wherever_it_was_killed(tmp_path: Path) -> None:
    """The last round's histograms are in its checkpoint, so a resumed run needs no further evaluation."""
    asked = ServerSettings(hospitals=3, rounds=4, strategy="fedadam", patience=3)
    summary = killed_at_every_event(tmp_path, asked, lambda: hospitals(healthy=1, ill=19))
    assert (summary["choices"]["best_round"], summary["choices"]["stopped"]) == (4, False)


def test_the_best_round_is_in_the_checkpoint_with_its_weights(tmp_path: Path) -> None:
    asked = ServerSettings(hospitals=3, rounds=9, strategy="fedavg", patience=5, out=tmp_path / "run")
    with pytest.raises(Killed):
        test_resume.run(asked, 11, make=hospitals)
    opened = test_resume.opened_run(ServerSettings(resume=tmp_path / "run"), pytest.fail)
    with opened as run_again:
        assert run_again.past is not None
        best = run_again.past.checkpoint.best
        assert best is not None
        assert (best.round_num, best.rounds_since, run_again.past.checkpoint.round_num) == (4, 0, 5)
        np.testing.assert_allclose(best.weights["w"].numpy(), [0.7], rtol=1e-6)
        assert best.losses["va"] == pytest.approx(-(3 * np.log(0.7) + np.log(0.3)), abs=1e-5)
        assert run_again.past.rounds[3].validation == compute_metrics(
            score_histogram(np.full(12, best.weights["w"].numpy()[0]), [0, 1, 1, 1] * 3)
        )


def test_the_run_folder_says_what_was_chosen(tmp_path: Path) -> None:
    test_resume.run(
        ServerSettings(hospitals=3, rounds=9, strategy="fedavg", patience=2, out=tmp_path / "run"), make=hospitals
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["choices"]["best_round"], summary["choices"]["stopped"], summary["rounds"]) == (5, True, 7)
    assert summary["metrics"]["loss"] == pytest.approx(-np.log(0.75), abs=1e-6)
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    losses = [record["log-loss"] for record in evaluation["hospitals"].values()]
    assert losses == pytest.approx([-4 * np.log(0.75)] * 3, abs=1e-5)
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [line["validation"]["num_examples"] for line in history] == [12] * 7


def test_members_count_those_that_are_held_out() -> None:
    assert Member(1, "va", "own", 60, 30, 20, validation_patients=10).patients == 100


# --- the temperature --------------------------------------------------------------------------------------------------


def test_one_temperature_is_fitted_to_the_validation_patients_of_all_and_the_model_that_is_kept_has_it() -> None:
    """The toys' last layer is their one weight, so a temperature divides it; their replies follow from that."""
    toy = hospitals(healthy=1, ill=3)
    finished = finished_of(run(toy, rounds=6, patience=0, calibrate="temperature"))
    choices = finished.choices
    assert choices is not None
    assert choices.temperature is not None
    assert choices.uncalibrated is not None
    # All twelve have a risk of 0.8, a bin whose middle is 0.8025, and nine are ill: their log odds are to be log(3).
    odds = float(np.log(0.8025 / 0.1975))
    assert choices.temperature == pytest.approx(odds / np.log(3), rel=0.01)
    np.testing.assert_allclose(finished.weights["w"].numpy(), [0.8 / choices.temperature], rtol=1e-6)
    risk = float(finished.weights["w"].numpy()[0])
    assert finished.final.pooled.loss == pytest.approx(-np.log(risk), abs=1e-6)
    assert choices.uncalibrated.pooled.loss == pytest.approx(-np.log(0.8), abs=1e-6)
    assert (finished.final.round_num, choices.best_round, len(finished.rounds)) == (6, None, 6)


def test_the_temperature_is_fitted_to_the_best_round_where_both_are_chosen() -> None:
    toy = hospitals()
    finished = finished_of(run(toy, calibrate="temperature"))
    assert finished.choices is not None
    assert (finished.choices.best_round, len(finished.rounds)) == (5, 7)
    temperature = finished.choices.temperature
    assert temperature == pytest.approx(np.log(0.7525 / 0.2475) / np.log(3), rel=0.01)
    np.testing.assert_allclose(finished.weights["w"].numpy(), [0.75 / temperature], rtol=1e-6)
    assert toy.kinds().count("evaluate") == (7 + 2) * 3


def test_a_temperature_needs_no_other_validation_patients(tmp_path: Path) -> None:
    toy = make_toy(*(ToyHospital(name, [50, 60]) for name in ("cleveland", "hungary", "va")))
    with pytest.raises(
        RunError, match=r"sent an invalid reply to query\.describe: it sent no counts of validation patients"
    ):
        run(toy, patience=0, calibrate="temperature")


def test_a_temperature_is_the_same_wherever_the_run_was_killed(tmp_path: Path) -> None:
    asked = ServerSettings(hospitals=3, rounds=9, strategy="fedavg", patience=1, calibrate="temperature")
    summary = killed_at_every_event(tmp_path, asked, lambda: hospitals(healthy=7, ill=13))
    assert summary["choices"]["temperature"] is not None


# --- class weights ----------------------------------------------------------------------------------------------------

LABELS = {"cleveland": (4, 3), "hungary": (4, 3), "va": (3, 3)}
"""11 healthy and 9 ill in all, so that they count 20/22 and 20/18 times."""
SHIFT = float(np.log((20 / 22) / (20 / 18)))


def labelled(**validation: tuple[int, int]) -> Toy:
    return make_toy(
        *(
            ToyHospital(
                name, [50.0] * sum(labels), step=STEP, labels=labels, validation=validation.get("validation", (0, 0))
            )
            for name, labels in LABELS.items()
        )
    )


def test_class_weights_come_of_the_counts_of_all_and_go_out_with_every_train_message() -> None:
    toy = labelled()
    finished = finished_of(run(toy, rounds=3, patience=0, class_weights=True))
    assert finished.choices is not None
    assert finished.choices.class_weights == pytest.approx((20 / 22, 20 / 18))
    assert [config["class-weights"] for config in toy.configs("train")] == [list(finished.choices.class_weights)] * 9
    assert all("class-weights" not in config for config in toy.configs("evaluate"))
    assert toy.kinds().count("query.label_counts") == 3


def test_evaluated_and_final_weights_are_corrected_and_training_weights_are_not() -> None:
    toy = labelled()
    finished = finished_of(run(toy, rounds=3, patience=0, class_weights=True))
    sent = {
        kind: [heard.content.array_records["arrays"]["w"].numpy()[0] for heard in toy.heard if heard.kind == kind][::3]
        for kind in ("train", "evaluate", "query.finish")
    }
    assert sent["train"] == pytest.approx([0.5, 0.55, 0.6], abs=1e-6)
    assert sent["evaluate"] == pytest.approx([0.55 + SHIFT, 0.6 + SHIFT, 0.65 + SHIFT], abs=1e-6)
    assert sent["query.finish"] == pytest.approx([0.65 + SHIFT], abs=1e-6)
    assert finished.weights["w"].numpy() == pytest.approx(0.65 + SHIFT, abs=1e-6)
    assert finished.final.pooled.loss == pytest.approx(-np.log(0.65 + SHIFT), abs=1e-6)


def test_class_weights_ignore_a_hospital_that_does_not_send_its_counts() -> None:
    toy = labelled()
    toy.hospitals["va"].labels = (0, 0)
    finished = finished_of(run(toy, rounds=1, patience=0, class_weights=True))
    assert finished.choices is not None
    assert finished.choices.class_weights == pytest.approx((14 / 16, 14 / 12))
    for hospital in toy.hospitals.values():
        hospital.labels = (0, 0)
    finished = finished_of(run(toy, rounds=1, patience=0, class_weights=True))
    assert finished.choices is not None
    assert finished.choices.class_weights == (1.0, 1.0)


def test_counts_of_other_patients_than_those_declared_end_the_run_in_one_line() -> None:
    toy = labelled()
    toy.hospitals["va"].labels = (3, 4)
    with pytest.raises(RunError) as caught:
        run(toy, patience=0, class_weights=True, min_hospitals=3)
    assert str(caught.value) == (
        "only 2 of 3 hospitals can take part, too few for --min-hospitals: "
        "va sent an invalid reply to query.label_counts: 3 healthy and 4 ill do not add up to its 6 training patients"
    )


def test_without_class_weights_nobody_is_asked_for_labels() -> None:
    toy = labelled()
    run(toy, rounds=1, patience=0)
    assert "query.label_counts" not in toy.kinds()
    assert all("class-weights" not in config for config in toy.configs("train"))


def test_class_weights_are_the_same_wherever_the_run_was_killed(tmp_path: Path) -> None:
    alone = ServerSettings(hospitals=3, rounds=4, strategy="fedadam", class_weights=True)
    summary = killed_at_every_event(tmp_path / "alone", alone, labelled)
    assert summary["choices"]["class_weights"] == pytest.approx([20 / 22, 20 / 18])
    everything = replace(alone, rounds=9, strategy="fedavg", patience=1, calibrate="temperature")
    # The corrected weight is 0.45 after round 3.
    summary = killed_at_every_event(tmp_path / "everything", everything, lambda: labelled(validation=(11, 9)))
    assert (summary["choices"]["best_round"], summary["choices"]["stopped"]) == (3, True)
    assert summary["choices"]["class_weights"] == pytest.approx([20 / 22, 20 / 18])
    assert summary["choices"]["temperature"] is not None


# --- the threshold ----------------------------------------------------------------------------------------------------


def with_validation(risks: list[float]) -> Toy:
    """Hospitals whose validation patients, of whom the first is healthy, have these risks in every round."""
    held = as_sent(risks, [0] + [1] * (len(risks) - 1))

    def tamper(content: RecordDict) -> RecordDict:
        return encode_evaluate_reply(replace(decode_evaluate_reply(content), validation=held))

    toy = hospitals()
    for hospital in toy.hospitals.values():
        hospital.lies["evaluate"] = tamper
    return toy


def test_the_threshold_is_chosen_on_the_validation_patients_of_the_model_that_is_kept() -> None:
    """All of them have one risk, so the best edges are on either side of it, and the one nearer to 0.5 is taken."""
    toy = hospitals()
    finished = finished_of(run(toy, threshold="youden", calibrate="temperature"))
    choices = finished.choices
    assert choices is not None
    assert choices.temperature is not None
    assert choices.best_round == 5
    # With one risk for all, Youden's index is 0 at every edge, also at 0.5.
    assert choices.threshold == 0.5
    assert toy.configs("query.finish")[0]["threshold"] == 0.5


def test_the_threshold_of_two_groups_lies_between_them_and_nearest_to_one_half() -> None:
    toy = with_validation([0.601, 0.9, 0.9, 0.9])
    finished = finished_of(run(toy, rounds=3, patience=0, threshold="youden"))
    assert finished.choices is not None
    assert finished.choices.threshold == 0.605
    assert [config["threshold"] for config in toy.configs("query.finish")] == [0.605] * 3
    # An ill test patient has a risk of 0.65, the three healthy ones 0.35: all are classified correctly at either threshold.
    assert finished.final.pooled.accuracy == 1.0


def test_without_both_classes_the_threshold_stays_at_one_half() -> None:
    finished = finished_of(run(hospitals(healthy=0), rounds=2, patience=0, threshold="youden"))
    assert finished.choices is not None
    assert finished.choices.threshold == 0.5


def test_the_run_folder_keeps_the_threshold_with_its_rates_on_the_test_patients(tmp_path: Path) -> None:
    asked = ServerSettings(hospitals=3, rounds=4, strategy="fedavg", threshold="youden")
    summary = killed_at_every_event(tmp_path, asked, lambda: with_validation([0.8, 0.9, 0.9, 0.9]))
    # Ill test patients have a risk of 0.70: at 0.805 all three are false negatives, the nine healthy ones true negatives.
    assert summary["choices"]["threshold"] == 0.805
    assert summary["choices"]["at_threshold"]["union"] == {"accuracy": 0.75, "sensitivity": 0.0, "specificity": 1.0}
    assert set(summary["choices"]["at_threshold"]["hospitals"]) == {"cleveland", "hungary", "va"}
    assert summary["metrics"]["accuracy"] == 1.0
    assert read_about(tmp_path / "calm")["threshold"] == 0.805
    test_resume.run(replace(asked, threshold="half", patience=1, out=tmp_path / "half"), make=hospitals)
    assert "threshold" not in read_about(tmp_path / "half")


def read_about(folder: Path) -> dict[str, Any]:
    """The `about` of the model file."""
    with np.load(folder / "model.npz", allow_pickle=False) as file:
        return dict(json.loads(str(file["about"])))


# --- what is reported -------------------------------------------------------------------------------------------------


def metrics_of(**values: float | None) -> Metrics:
    """Metrics of which only these are defined."""
    fields = ("loss", "auroc", "auroc_bound", "accuracy", "sensitivity", "specificity", "brier", "ece")
    return Metrics(num_examples=10, num_ill=5, **{**dict.fromkeys(fields), **values})


def chosen(pooled: Metrics | None = None, **changes: Any) -> ModelSelection:
    """A finished run without model selection, with these changes."""
    pooled = pooled or metrics_of(loss=0.4, ece=0.05)
    evaluation = structs.replace(make_record(20), pooled=pooled, validation=metrics_of(loss=0.45))
    return ModelSelection(evaluation=evaluation, **changes)


def test_the_best_round_is_reported_with_its_loss_and_why_the_run_stopped() -> None:
    assert selection_lines(None, 20) == selection_lines(chosen(), 20) == []
    kept = "the final model is that of round 12, which had the lowest validation loss (0.450)"
    assert selection_lines(chosen(best_round=12), 20) == [kept]
    (line,) = selection_lines(chosen(best_round=12, stopped=True), 17)
    assert line == f"{kept}; the run stopped after 5 rounds without a lower one"
    assert "after 1 round without" in selection_lines(chosen(best_round=12, stopped=True), 13)[0]


def test_class_weights_are_reported_with_their_correction() -> None:
    assert selection_lines(chosen(class_weights=(1.125, 0.9)), 20) == [
        "class weights in training: 1.12 for a healthy patient and 0.90 for an ill one, the same total for both classes; "
        "risks are corrected for it"
    ]


@pytest.mark.parametrize(("temperature", "way"), [(1.25, "less extreme"), (0.8, "more extreme"), (1.0, "unchanged")])
def test_a_temperature_is_reported_with_its_effect_on_test_patients(temperature: float, way: str) -> None:
    before = PooledMetrics(metrics_of(loss=0.41234), metrics_of(loss=0.5))
    both = selection_lines(chosen(best_round=3, temperature=temperature, uncalibrated=before), 3)
    assert both == [
        "the final model is that of round 3, which had the lowest validation loss (0.500)",
        f"log odds were divided by the temperature {temperature:.2f}: risks are {way} (test patients: calibration error n/a "
        "before, 0.050 after; loss 0.412 before, 0.400 after)",
    ]


def test_a_threshold_is_reported_with_the_rates_at_it_and_at_one_half() -> None:
    there, usual = Rates(0.8, 0.9, None), metrics_of(accuracy=0.75, sensitivity=0.7, specificity=1.0)
    record = chosen(usual, threshold=0.435, at_threshold=RatesByHospital(there, {}))
    assert selection_lines(record, 20) == [
        "the threshold 0.435 has the highest sum of sensitivity and specificity on validation patients; on test patients "
        "(at 0.5 in brackets): accuracy 0.800 (0.750), sensitivity 0.900 (0.700), specificity n/a (1.000)"
    ]


def test_console_report_and_model_card_agree(tmp_path: Path) -> None:
    asked = ServerSettings(hospitals=3, rounds=9, strategy="fedavg", patience=2, calibrate="temperature")
    lines: list[str] = []
    console = ServerConsole(lines.append)
    for kept in test_resume.run(replace(asked, out=tmp_path / "run"), make=hospitals):
        if not isinstance(kept, Checkpoint):
            console.show(kept)
    found = [line for line in lines if line.startswith(("the final model is", "log odds were"))]
    assert len(found) == 2
    write_report(tmp_path / "run")
    page, card = ((tmp_path / "run" / name).read_text() for name in ("report.html", "MODEL_CARD.md"))
    for line in found:
        assert f"<li>{line}</li>" in page
        assert f"\n- {line}\n" in card
    assert "of its patients as test patients; 12 others are validation patients." in card
    assert any(
        line
        == "selected on validation patients (not used for training or testing): the best round (stops after 2 rounds "
        "without a better one), a temperature for the risks"
        for line in lines
    )
    assert any(line.startswith("patients: 6 for training, 12 for validation, 12 for testing") for line in lines)
    assert any("validation loss 0.5" in line for line in lines)


def test_the_report_counts_the_evaluations_after_the_rounds(tmp_path: Path) -> None:
    asked = ServerSettings(hospitals=3, rounds=9, strategy="fedavg", patience=2, calibrate="temperature")
    test_resume.run(replace(asked, out=tmp_path / "run"), make=hospitals)
    rows = {row[0]: row[2:] for row in disclosure_rows(read_run(tmp_path / "run"))}
    assert rows["describe"] == ("5", "3")
    assert rows["evaluation"] == ("1470", str((7 + 2) * 3))

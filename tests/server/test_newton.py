"""Newton's method over hospitals equals the logistic regression of their pooled rows, and names what it cannot fit."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.clientapp import ClientApp
from scipy.optimize import linprog
from sklearn.linear_model import LogisticRegression

import create_dataset
from fedhealth.__main__ import main
from fedhealth.client import app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import encoded_names
from fedhealth.data.schema_file import heart_disease
from fedhealth.models.newton_sums import pack_hessian, sum_newton, with_ones
from fedhealth.reporting.html.disclosures import disclosure_rows
from fedhealth.reporting.html.pages import write_report
from fedhealth.reporting.html.run_reader import read_run
from fedhealth.server.checkpoints import Checkpoint, ResumeState, read_checkpoint, write_checkpoint
from fedhealth.server.exact_fit import exact_fit, find_separated
from fedhealth.server.run_writer import FolderWriter, RunWriter
from fedhealth.server.strategies.design import Design, find_constant, find_dependent
from fedhealth.server.strategies.newton import Newton, check_convex, has_converged
from fedhealth.server.strategies.registry import make_strategy
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import SERVER_NODE_ID, set_identity, set_message_id
from fedhealth.transport.protocol.fields import encode_arrays
from fedhealth.transport.protocol.newton import encode_coefficients
from fedhealth.transport.protocol.training import TrainReply, encode_train_reply
from tests.support.asking import make_ask
from tests.support.hospital_files import write_hospitals
from tests.support.newton_runs import PLAIN, Hospitals, change, fit_of, fitted_places, robust_of, rows_of, run
from tests.support.pooled_rows import PooledRows
from tests.support.run_folders import write_run

MOST_ROUNDS = 8


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    set_identity(SERVER_NODE_ID)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Hospitals:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"), num_patients=900)


# --- equality with the pooled rows --------------------------------------------------------------------------------------


def test_without_a_penalty_coefficients_errors_and_p_values_are_those_of_statsmodels(hospitals: Hospitals) -> None:
    sm = pytest.importorskip("statsmodels.api")
    finished = run(hospitals, personalise="none", **PLAIN)
    rows, places, fit = rows_of(hospitals, finished), fitted_places(finished), fit_of(finished)
    pooled = sm.Logit(rows.labels, np.column_stack([rows.inputs[:, places], np.ones(len(rows.labels))]))
    theirs = pooled.fit(method="newton", tol=1e-14, maxiter=50, disp=0)
    ours = [*places, len(fit.coefficients) - 1]
    np.testing.assert_allclose(fit.coefficients[ours], theirs.params, rtol=0, atol=1e-9)
    np.testing.assert_allclose(fit.covariance[np.ix_(ours, ours)], theirs.cov_params(), rtol=1e-6, atol=1e-9)
    assert len(finished.rounds) <= MOST_ROUNDS
    table = {(row.feature, row.contrast): row for row in finished.odds_ratios.rows}  # type: ignore[union-attr]
    age, sex = table["age", "+1 years"], table["sex", "male vs female"]
    names = encoded_names(heart_disease(), missing_indicators=False)
    at_age, at_sex = (places.index(names.index(name)) for name in ("age", "sex=1"))
    assert age.p_value == pytest.approx(theirs.pvalues[at_age], rel=1e-6)
    assert sex.standard_error == pytest.approx(2 * theirs.bse[at_sex], rel=1e-6)
    low, high = 2 * theirs.conf_int()[at_sex]
    assert (sex.low, sex.high) == pytest.approx((np.exp(low), np.exp(high)), rel=1e-6)


def test_the_odds_ratio_of_a_code_is_that_of_a_table_coded_by_hand(hospitals: Hospitals) -> None:
    """A second statistician codes the raw table with dummies of 0 and 1 and numbers in their units."""
    sm = pytest.importorskip("statsmodels.api")
    finished = run(hospitals, personalise="none", **PLAIN)
    rows, scale = rows_of(hospitals, finished), finished.standardisation
    assert scale is not None
    raw, numbers = (rows.inputs + 1) / 2, len(scale.means)
    raw[:, :numbers] = rows.inputs[:, :numbers] * scale.stds + scale.means
    places = fitted_places(finished)
    theirs = sm.Logit(rows.labels, sm.add_constant(raw[:, places])).fit(method="newton", tol=1e-14, maxiter=50, disp=0)
    table = {(row.feature, row.contrast): row.log_odds for row in finished.odds_ratios.rows}  # type: ignore[union-attr]
    names = [encoded_names(heart_disease(), missing_indicators=False)[place] for place in places]
    by_name = dict(zip(names, theirs.params[1:], strict=True))
    assert table["chol", "+1 mg/dl"] == pytest.approx(by_name["chol"], rel=1e-6)
    assert table["cp", "asymptomatic vs typical angina"] == pytest.approx(by_name["cp=4"], rel=1e-6)
    assert table["thal", "reversible defect vs normal"] == pytest.approx(by_name["thal=7"], rel=1e-6)
    assert len(table) == len(names)


def penalised(rows: PooledRows, inputs: np.ndarray, decay: float, weights: np.ndarray | None = None) -> np.ndarray:
    """Coefficients and intercept of scikit-learn's fit of the same objective."""
    strength = 1 / (decay * len(rows.labels))
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-13, max_iter=200)
    model.fit(inputs, rows.labels, sample_weight=weights)
    return np.append(model.coef_[0], model.intercept_)


def test_with_a_penalty_the_coefficients_are_those_of_scikit_learn(hospitals: Hospitals) -> None:
    finished = run(hospitals, personalise="none")
    rows = rows_of(hospitals, finished)
    np.testing.assert_allclose(fit_of(finished).coefficients, penalised(rows, rows.inputs, 0.01), rtol=0, atol=1e-9)
    assert len(finished.rounds) <= MOST_ROUNDS
    assert "intervals are approximate" in finished.odds_ratios.notes[0]  # type: ignore[union-attr]


def test_class_weights_count_as_in_scikit_learn(hospitals: Hospitals) -> None:
    finished = run(hospitals, personalise="none", class_weights=True)
    rows = rows_of(hospitals, finished)
    weights = len(rows.labels) / (2 * np.bincount(rows.labels.astype(int)))
    theirs = penalised(rows, rows.inputs, 0.01, weights[rows.labels.astype(int)])
    np.testing.assert_allclose(fit_of(finished).coefficients, theirs, rtol=0, atol=1e-9)


def test_private_intercepts_are_jointly_optimal_with_everything_else(hospitals: Hospitals) -> None:
    """The pooled fit with a dummy per hospital, scaled so that the common penalty is the prior of its intercept."""
    finished = run(hospitals, personalise="intercept", intercept_prior=2.0)
    rows = rows_of(hospitals, finished)
    scale = np.sqrt(0.01 * len(rows.labels) / (2.0 * 0.25))
    dummies = scale * (rows.hospitals[:, np.newaxis] == np.arange(len(hospitals)))
    theirs = penalised(rows, np.hstack([rows.inputs, dummies]), 0.01)
    width = rows.inputs.shape[1]
    ours = fit_of(finished).coefficients
    np.testing.assert_allclose(ours, np.append(theirs[:width], theirs[-1]), rtol=0, atol=1e-8)
    assert len(finished.rounds) <= MOST_ROUNDS


def test_intercepts_without_a_prior_are_those_of_a_dummy_per_hospital(hospitals: Hospitals) -> None:
    sm = pytest.importorskip("statsmodels.api")
    finished = run(hospitals, personalise="intercept", intercept_prior=0.0, **PLAIN)
    rows, places, fit = rows_of(hospitals, finished), fitted_places(finished), fit_of(finished)
    dummies = rows.hospitals[:, np.newaxis] == np.arange(len(hospitals))
    pooled = sm.Logit(rows.labels, np.hstack([rows.inputs[:, places], dummies]))
    theirs = pooled.fit(method="newton", tol=1e-14, maxiter=50, disp=0)
    few = range(len(places))
    np.testing.assert_allclose(fit.coefficients[places], theirs.params[few], rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        fit.covariance[np.ix_(places, places)], theirs.cov_params()[np.ix_(few, few)], rtol=1e-6, atol=1e-9
    )


# --- what cannot be fitted ----------------------------------------------------------------------------------------------


def test_a_code_with_only_ill_patients_is_named_and_has_no_interval(hospitals: Hospitals, tmp_path: Path) -> None:
    def separate(table: pd.DataFrame) -> None:
        table.loc[table["exang"] == 1, "target"] = 1

    finished = run(change(hospitals, tmp_path, separate), personalise="none", **PLAIN)
    rows = {row.feature: row for row in finished.odds_ratios.rows}  # type: ignore[union-attr]
    assert rows["exang"].note == "separates ill and healthy patients: the odds ratio runs to infinity"
    assert (rows["exang"].odds_ratio, rows["exang"].low, rows["exang"].p_value) == (None, None, None)
    assert rows["age"].low is not None and not rows["age"].note
    assert finished.odds_ratios.notes[0].startswith("separation: exang=1. ")  # type: ignore[union-attr]


def test_a_penalty_makes_a_separated_coefficient_finite(hospitals: Hospitals, tmp_path: Path) -> None:
    def separate(table: pd.DataFrame) -> None:
        table.loc[table["exang"] == 1, "target"] = 1

    finished = run(change(hospitals, tmp_path, separate), personalise="none")
    assert not any(row.note for row in finished.odds_ratios.rows if row.feature == "exang")  # type: ignore[union-attr]


def test_collinear_columns_are_named(hospitals: Hospitals, tmp_path: Path) -> None:
    def copy(table: pd.DataFrame) -> None:
        table["thalach"] = table["trestbps"]

    with pytest.raises(RunError, match=r"thalach is collinear with trestbps, .*--weight-decay above 0"):
        run(change(hospitals, tmp_path, copy), personalise="none", **PLAIN)


def test_a_column_with_one_value_everywhere_is_named_and_left_out_of_the_fit(
    hospitals: Hospitals, tmp_path: Path
) -> None:
    def fix(table: pd.DataFrame) -> None:
        table["fbs"] = 0

    finished = run(change(hospitals, tmp_path, fix), personalise="none", **PLAIN)
    (row,) = (row for row in finished.odds_ratios.rows if row.feature == "fbs")  # type: ignore[union-attr]
    assert row.note == "the same for every patient, so without effect" and row.odds_ratio is None
    assert all(row.low for row in finished.odds_ratios.rows if row.feature != "fbs")  # type: ignore[union-attr]


def test_too_few_rounds_give_no_intervals(hospitals: Hospitals) -> None:
    finished = run(hospitals, personalise="none", rounds=2)
    assert finished.odds_ratios.notes[0].startswith("not converged")  # type: ignore[union-attr]
    assert not any(row.low or row.p_value for row in finished.odds_ratios.rows)  # type: ignore[union-attr]


def test_constant_and_dependent_columns_by_hand() -> None:
    ones, column = np.ones(4), np.array([0.0, 1, 2, 3])
    inputs = np.column_stack([column, 3 * ones, column**2, 2 * column + ones, ones])
    gram = inputs.T @ inputs
    assert find_constant(gram, 4).tolist() == [False, True, False, False, False]
    rest = [0, 2, 3, 4]
    assert find_dependent(gram[np.ix_(rest, rest)]) == [2, 3, 0]
    assert find_dependent(gram[np.ix_([0, 2, 4], [0, 2, 4])]) == []


# --- disclosure ---------------------------------------------------------------------------------------------------------


def test_hospitals_refuse_by_name_of_the_column_where_a_count_would_be_small(hospitals: Hospitals) -> None:
    with pytest.raises(
        RunError,
        match=r"newton would disclose counts below --min-count 5 \(\w+.* and \d+ more\); leave such columns out",
    ):
        run(hospitals, min_count=5)


def test_a_server_that_sets_a_low_min_count_gets_no_sums(hospitals: Hospitals) -> None:
    with pytest.raises(RunError, match="counts below --min-count 5"):
        run(hospitals, limits=HospitalLimits(), min_count=1)


def test_a_server_that_skips_the_description_gets_no_sums(hospitals: Hospitals) -> None:
    ask = make_ask(next(iter(hospitals.values())), strategy="newton", scaling="reference", personalise="none")
    arrays = encode_coefficients(np.zeros(33))
    reply = ask("train", arrays, server_round=1, means=[0.0] * 6, stds=[1.0] * 6)
    assert reply.has_error() and "counts below --min-count 5" in reply.error.reason


def test_the_last_sums_are_not_sent_either_where_a_count_would_be_small(hospitals: Hospitals) -> None:
    ask = make_ask(next(iter(hospitals.values())), strategy="newton", scaling="reference", personalise="none")
    reply = ask("query.fit_sums", encode_coefficients(np.zeros(33)), server_round=1, means=[0.0] * 6, stds=[1.0] * 6)
    assert reply.has_error() and "counts below --min-count 5" in reply.error.reason


def test_the_last_sums_are_three_arrays_and_nothing_else(hospitals: Hospitals) -> None:
    limits = HospitalLimits(min_count=1)
    ask = make_ask(next(iter(hospitals.values())), limits, strategy="newton", min_count=1)
    reply = ask("query.fit_sums", encode_coefficients(np.zeros(33)), server_round=1, means=[0.0] * 6, stds=[1.0] * 6)
    (arrays,), (metrics,) = reply.content.array_records.values(), reply.content.metric_records.values()
    assert {name: array.shape for name, array in arrays.items()} == {
        "gradient": (33,),
        "hessian": (561,),
        "score-products": (561,),
    }
    assert set(metrics) == {"num-examples", "train-loss"} and len(reply.content) == 2


def test_a_run_with_another_strategy_gets_no_sums_of_a_fit(hospitals: Hospitals) -> None:
    ask = make_ask(next(iter(hospitals.values())), HospitalLimits(min_count=1), min_count=1)
    reply = ask("query.fit_sums", encode_coefficients(np.zeros(33)), server_round=1, means=[0.0] * 6, stds=[1.0] * 6)
    assert "which its own settings exclude (no --strategy newton)" in reply.error.reason


def test_coefficients_of_another_model_are_refused(hospitals: Hospitals) -> None:
    limits = HospitalLimits(min_count=1)
    ask = make_ask(next(iter(hospitals.values())), limits, strategy="newton", personalise="none", min_count=1)
    for arrays in (encode_coefficients(np.zeros(5)), encode_arrays({"coefficients": np.zeros(33, np.float32)})):
        reply = ask("train", arrays, server_round=1, means=[0.0] * 6, stds=[1.0] * 6)
        assert "they are not the coefficients of this model" in reply.error.reason


# --- the strategy on its own --------------------------------------------------------------------------------------------


def make_reply(
    strategy: Newton,
    loss: float,
    gradient: Sequence[float],
    hessian: Sequence[float],
    *,
    patients: int = 10,
    who: str = "a",
) -> None:
    """One round of one hospital."""
    shape = (len(gradient) - 1, 1)
    model = ArrayRecord({"kernel": Array(np.zeros(shape, np.float32)), "bias": Array(np.zeros(1, np.float32))})
    (message,) = strategy.configure_train(1, model, ConfigRecord(), InProcessGrid({who: ClientApp()}, {}))
    set_message_id(message, "1")
    arrays: dict[str, Any] = {"gradient": np.array(gradient), "hessian": np.array(hessian)}
    content = encode_train_reply(TrainReply(arrays, patients, loss / patients))
    strategy.aggregate_train(1, [Message(content, reply_to=message)])


def fit_rows(inputs: np.ndarray, labels: np.ndarray, rounds: int = 30) -> Newton:
    """The unpenalised fit of one hospital's rows."""
    settings = FederationSettings(hospitals=1, strategy="newton", weight_decay=0.0, personalise="none")
    strategy = Newton(settings, Design(tuple(map(str, range(inputs.shape[1])))))
    columns, point = with_ones(inputs), np.zeros(inputs.shape[1] + 1)
    for _ in range(rounds):
        sums = sum_newton(columns @ point, columns, labels, np.ones(len(labels)))
        make_reply(strategy, sums.loss, list(sums.gradient), list(pack_hessian(sums.hessian)), patients=len(labels))
        point = strategy.coefficients
        if has_converged(strategy):
            break
    return strategy


def is_separated(inputs: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a direction predicts no patient wrongly and some rightly, by linear programming."""
    signed = with_ones(inputs) * (2 * labels - 1)[:, np.newaxis]
    bounds = [(-1, 1)] * signed.shape[1]
    found = linprog(-signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(labels)), bounds=bounds)
    return bool(found.fun < -1e-7)


def test_separation_is_found_exactly_where_linear_programming_finds_it() -> None:
    generator, answers = np.random.default_rng(1), []
    for _ in range(60):
        patients, columns = int(generator.integers(30, 90)), int(generator.integers(2, 8))
        inputs = generator.normal(size=(patients, columns))
        inputs[:, columns // 2 :] = np.where(inputs[:, columns // 2 :] > 1.2, 1.0, -1.0)
        labels = (generator.random(patients) < 1 / (1 + np.exp(-inputs[:, 0]))).astype(float)
        if find_constant(with_ones(inputs).T @ with_ones(inputs), patients).any():
            continue
        answers.append(is_separated(inputs, labels))
        assert bool(find_separated(fit_rows(inputs, labels)).any()) == answers[-1]
    assert 5 < sum(answers) < len(answers) - 5


def test_nearly_collinear_columns_are_not_taken_for_separation() -> None:
    generator = np.random.default_rng(1)
    number = generator.normal(size=200)
    labels = (generator.random(200) < 1 / (1 + np.exp(-number))).astype(float)
    strategy = fit_rows(np.column_stack([number, number + 1e-3 * generator.normal(size=200)]), labels)
    assert np.abs(strategy.coefficients).max() > 50 and has_converged(strategy)
    assert not find_separated(strategy).any()


def test_only_ill_patients_are_a_separation_of_the_intercept() -> None:
    strategy = fit_rows(np.random.default_rng(0).normal(size=(50, 1)), np.ones(50))
    fit = exact_fit(strategy, FederationSettings(strategy="newton", weight_decay=0.0))
    assert fit is not None and fit.notes[0].startswith("separation: the intercept. ")


def test_a_loss_of_other_hospitals_is_no_reason_to_halve_a_step() -> None:
    strategy = Newton(FederationSettings(hospitals=1, strategy="newton", weight_decay=0.0))
    make_reply(strategy, 7.0, [-4.0, 0.0], [1.0, 0.0, 1.0])
    make_reply(strategy, 70.0, [1.0, 0.0], [1.0, 0.0, 1.0], who="b")
    assert strategy.coefficients.tolist() == [3.0, 0.0]


def test_a_step_that_raises_the_loss_is_halved_until_it_does_not() -> None:
    strategy = Newton(FederationSettings(hospitals=1, strategy="newton", weight_decay=0.0))
    make_reply(strategy, 7.0, [-4.0, 0.0], [1.0, 0.0, 1.0])
    assert strategy.coefficients.tolist() == [4.0, 0.0]
    make_reply(strategy, 8.0, [1.0, 0.0], [1.0, 0.0, 1.0])
    assert strategy.coefficients.tolist() == [2.0, 0.0]
    make_reply(strategy, 7.5, [1.0, 0.0], [1.0, 0.0, 1.0])
    assert strategy.coefficients.tolist() == [1.0, 0.0]
    make_reply(strategy, 6.0, [-0.5, 0.0], [1.0, 0.0, 1.0])
    assert strategy.coefficients.tolist() == [1.5, 0.0]


def test_the_rounds_end_at_a_gradient_of_nothing() -> None:
    strategy = Newton(FederationSettings(hospitals=1, strategy="newton", weight_decay=0.0))
    assert not has_converged(strategy)
    make_reply(strategy, 7.0, [1e-7, 0.0], [1.0, 0.0, 1.0])
    assert not has_converged(strategy)
    make_reply(strategy, 7.0, [1e-9, 0.0], [1.0, 0.0, 1.0])
    assert has_converged(strategy)


def test_more_inputs_than_2000_are_refused() -> None:
    strategy = Newton(FederationSettings(hospitals=1, strategy="newton"))
    model = ArrayRecord({"kernel": Array(np.zeros((2001, 1), np.float32)), "bias": Array(np.zeros(1, np.float32))})
    with pytest.raises(
        RunError, match="2,001 inputs would send 16 MB per hospital and round; 2,000 inputs are the most"
    ):
        strategy.configure_train(1, model, ConfigRecord(), InProcessGrid({"here": ClientApp()}, {}))


def test_a_hessian_with_a_negative_eigenvalue_is_no_reply() -> None:
    good: dict[str, Any] = {"gradient": np.zeros(2), "hessian": np.array([1.0, 0.5, 1.0])}
    check_convex(TrainReply(good, 10, 0.5))
    with pytest.raises(ValueError, match="its Hessian is that of no log loss"):
        check_convex(TrainReply({**good, "hessian": np.array([1.0, 2.0, 1.0])}, 10, 0.5))
    with pytest.raises(ValueError, match="its products are those of no scores"):
        check_convex(TrainReply({**good, "score-products": np.array([1.0, 2.0, 1.0])}, 10, 0.5))


def test_a_resumed_run_ends_with_the_same_bits(hospitals: Hospitals, tmp_path: Path) -> None:
    class Keeper(RunWriter):
        def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
            write_checkpoint(tmp_path, checkpoint, keep=100)

    whole = run(hospitals, writer=Keeper())
    strategy = make_strategy(whole.settings, 4, whole.schema)
    checkpoint = read_checkpoint(tmp_path / "round-00000003.ckpt", strategy)
    past = ResumeState(checkpoint, whole.rounds[: checkpoint.evaluated_rounds])
    resumed = run(hospitals, past=past)
    assert len(resumed.rounds) == len(whole.rounds)
    np.testing.assert_array_equal(fit_of(resumed).coefficients, fit_of(whole).coefficients)
    np.testing.assert_array_equal(fit_of(resumed).covariance, fit_of(whole).covariance)
    ended = make_strategy(whole.settings, 4, whole.schema)
    read_checkpoint(tmp_path / f"round-{len(whole.rounds):08}.ckpt", ended)
    assert has_converged(ended), "a run that is resumed after its last round would train on"


def test_a_round_is_one_exchange_that_also_evaluates_the_round_before(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, evaluate = list[str](), app.evaluate

    def count(hospital: HospitalData, *arguments: Any) -> Any:
        alone.append(hospital.hospital.name)
        return evaluate(hospital, *arguments)

    monkeypatch.setattr(app, "evaluate", count)
    whole = run(hospitals)
    assert len(alone) == len(hospitals), "only the last round is evaluated alone"
    short = run(hospitals, rounds=3)
    assert whole.rounds[2].pooled == short.rounds[2].pooled, "with the training of round 4, or alone"


# --- what is kept -------------------------------------------------------------------------------------------------------


def test_the_model_file_has_coefficients_and_covariance_and_the_command_prints_the_table(
    hospitals: Hospitals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = run(hospitals, writer=FolderWriter(tmp_path, 0, 0.0, pytest.fail))
    with np.load(tmp_path / "model.npz") as model:
        np.testing.assert_array_equal(model["coefficients"], fit_of(finished).coefficients)
        np.testing.assert_array_equal(model["covariance"], fit_of(finished).covariance)
        np.testing.assert_array_equal(model["robust_covariance"], robust_of(finished))
        weights = np.concatenate([model[name].ravel() for name in model.files if name.startswith("weights/")])
    np.testing.assert_array_equal(weights, fit_of(finished).coefficients.astype(np.float32))
    assert main(["coefficients", str(tmp_path), "--format", "json"]) in (None, 0)
    printed = json.loads(capsys.readouterr().out)
    assert [row["odds_ratio"] for row in printed["rows"]] == [
        row.odds_ratio
        for row in finished.odds_ratios.rows  # type: ignore[union-attr]
    ]
    assert main(["coefficients", str(tmp_path), "--format", "csv"]) in (None, 0)
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert lines[0]["feature"] == "age" and float(lines[0]["odds_ratio"]) == printed["rows"][0]["odds_ratio"]
    assert main(["coefficients", str(tmp_path)]) in (None, 0)
    table = capsys.readouterr().out
    assert (
        "robust interval" in table
        and "male vs female" in table
        and "- penalised (--weight-decay 0.01): intervals are approximate" in table
    )
    write_report(tmp_path)
    assert "Odds ratios with 95 % intervals" in (tmp_path / "report.html").read_text(encoding="utf-8")
    disclosed = {row[0]: row[2:] for row in disclosure_rows(read_run(tmp_path))}
    assert disclosed["fit sums"] == ("1,155", "4")
    assert "## Odds ratios" in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_command_names_the_strategy_of_a_run_without_odds_ratios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coefficients", str(write_run(tmp_path / "run"))]) == 2
    assert "trained with fedavg, which has no odds ratios" in capsys.readouterr().err


# --- on real patients ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_hospitals(uci_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Hospitals:
    folder = tmp_path_factory.mktemp("real")
    assert create_dataset.main(["--source", str(uci_folder), "--out", str(folder)]) in (None, 0)
    names = ("cleveland", "hungary", "switzerland", "va")
    return {name: folder / f"client_{number}.csv" for number, name in enumerate(names, start=1)}


@pytest.mark.uci
def test_on_real_patients_the_fit_is_that_of_the_pooled_rows_after_8_rounds_at_most(real_hospitals: Hospitals) -> None:
    sm = pytest.importorskip("statsmodels.api")
    finished = run(real_hospitals, personalise="none")
    rows = rows_of(real_hospitals, finished)
    theirs = penalised(rows, rows.inputs, 0.01)
    np.testing.assert_allclose(fit_of(finished).coefficients, theirs, rtol=0, atol=1e-9)
    plain = run(real_hospitals, personalise="none", **PLAIN)
    rows, places, fit = rows_of(real_hospitals, plain), fitted_places(plain), fit_of(plain)
    pooled = sm.Logit(rows.labels, np.column_stack([rows.inputs[:, places], np.ones(len(rows.labels))]))
    exact = pooled.fit(method="newton", tol=1e-14, maxiter=50, disp=0)
    ours = [*places, len(fit.coefficients) - 1]
    np.testing.assert_allclose(fit.coefficients[ours], exact.params, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)[ours]), exact.bse, rtol=1e-6)
    robust = pooled.fit(method="newton", tol=1e-14, maxiter=50, disp=0, cov_type="HC0")
    np.testing.assert_allclose(robust_of(plain)[np.ix_(ours, ours)], robust.cov_params(), rtol=1e-9, atol=1e-9)
    joint = run(real_hospitals)
    assert max(len(each.rounds) for each in (finished, plain, joint)) <= MOST_ROUNDS


@pytest.mark.uci
def test_all_four_real_hospitals_refuse_at_the_usual_min_count(real_hospitals: Hospitals) -> None:
    with pytest.raises(RunError, match="only 0 of 4 hospitals can take part") as caught:
        run(real_hospitals, min_count=5)
    columns = (
        ("cleveland", "restecg, ca, thal"),
        ("hungary", "trestbps, restecg, thalach"),
        ("va", "ca, thal, sex with cp"),
    )
    for hospital, named in columns:
        assert f"{hospital} could not reply to query.describe: newton" in str(caught.value)
        assert f"({named} and " in str(caught.value)

"""Robust standard errors of Newton's method, and the test whether hospitals differ, equal those of the pooled rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from fedhealth.client import newton
from fedhealth.data.preprocessing import encoded_names
from fedhealth.data.schema_file import heart_disease
from fedhealth.reporting.odds_ratio_table import remarks
from fedhealth.server.events import RunFinished
from fedhealth.transport.messages import SERVER_NODE_ID, set_identity
from tests.support.hospital_files import write_hospitals
from tests.support.newton_runs import PLAIN, Hospitals, change, fit_of, fitted_places, robust_of, rows_of, run
from tests.support.pooled_rows import PooledRows


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    set_identity(SERVER_NODE_ID)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Hospitals:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"), num_patients=900)


def test_robust_errors_are_those_of_statsmodels_hc0(hospitals: Hospitals) -> None:
    sm = pytest.importorskip("statsmodels.api")
    finished = run(hospitals, personalise="none", **PLAIN)
    rows, places = rows_of(hospitals, finished), fitted_places(finished)
    pooled = sm.Logit(rows.labels, np.column_stack([rows.inputs[:, places], np.ones(len(rows.labels))]))
    theirs = pooled.fit(method="newton", tol=1e-14, maxiter=50, disp=0, cov_type="HC0")
    ours = [*places, -1]
    np.testing.assert_allclose(robust_of(finished)[np.ix_(ours, ours)], theirs.cov_params(), rtol=1e-9, atol=1e-9)
    table = {(row.feature, row.contrast): row for row in finished.odds_ratios.rows}  # type: ignore[union-attr]
    sex = table["sex", "male vs female"]
    at_sex = places.index(encoded_names(heart_disease(), missing_indicators=False).index("sex=1"))
    assert sex.robust_error == pytest.approx(2 * theirs.bse[at_sex], rel=1e-9)
    assert sex.robust_p_value == pytest.approx(theirs.pvalues[at_sex], rel=1e-6)
    low, high = 2 * theirs.conf_int()[at_sex]
    assert (sex.robust_low, sex.robust_high) == pytest.approx((np.exp(low), np.exp(high)), rel=1e-9)


def test_with_intercepts_per_hospital_robust_errors_are_those_of_a_dummy_per_hospital(hospitals: Hospitals) -> None:
    sm = pytest.importorskip("statsmodels.api")
    finished = run(hospitals, personalise="intercept", intercept_prior=0.0, **PLAIN)
    rows, places = rows_of(hospitals, finished), fitted_places(finished)
    dummies = rows.hospitals[:, np.newaxis] == np.arange(len(hospitals))
    pooled = sm.Logit(rows.labels, np.hstack([rows.inputs[:, places], dummies]))
    theirs = pooled.fit(method="newton", tol=1e-14, maxiter=50, disp=0, cov_type="HC0").cov_params()
    few = range(len(places))
    ours = robust_of(finished)[np.ix_(places, places)]
    np.testing.assert_allclose(ours, theirs[np.ix_(few, few)], rtol=1e-9, atol=1e-9)


def test_with_penalty_and_prior_robust_errors_are_the_sandwich_of_the_whole_model(hospitals: Hospitals) -> None:
    """Intercepts of the hospitals as further coefficients, whose penalty is their prior; penalties count as information."""
    finished = run(hospitals, personalise="intercept", intercept_prior=2.0)
    rows, fit = rows_of(hospitals, finished), fit_of(finished)
    dummies = (rows.hospitals[:, np.newaxis] == np.arange(len(hospitals))).astype(float)
    fitted = [place for place in range(rows.inputs.shape[1]) if place not in fit.constant]
    columns = np.hstack([rows.inputs[:, fitted], np.ones((len(rows.labels), 1)), dummies])
    penalty = np.array([0.01 * len(rows.labels)] * len(fitted) + [0.0] + [2.0 * 0.25] * len(hospitals))
    point = np.zeros(columns.shape[1])
    for _ in range(20):
        risks = 1 / (1 + np.exp(-columns @ point))
        hessian = columns.T @ (columns * (risks * (1 - risks))[:, np.newaxis]) + np.diag(penalty)
        point -= np.linalg.solve(hessian, columns.T @ (risks - rows.labels) + penalty * point)
    scores = columns * (risks - rows.labels)[:, np.newaxis]
    inverse = np.linalg.inv(hessian)
    whole = inverse @ (scores.T @ scores + np.diag(penalty)) @ inverse
    ours, few = [*fitted, -1], range(len(fitted) + 1)
    np.testing.assert_allclose(robust_of(finished)[np.ix_(ours, ours)], whole[np.ix_(few, few)], rtol=1e-8, atol=1e-9)


def interactions(rows: PooledRows, block: Sequence[int], hospitals: int) -> np.ndarray:
    """A column for each hospital but the first and each input of the block."""
    dummies = rows.hospitals[:, np.newaxis] == np.arange(1, hospitals)
    return np.hstack([rows.inputs[:, [place]] * dummies for place in block])


def test_whether_hospitals_differ_is_the_score_test_of_an_interaction_as_in_statsmodels(hospitals: Hospitals) -> None:
    sm = pytest.importorskip("statsmodels.api")
    finished = run(hospitals, personalise="intercept", intercept_prior=0.0, **PLAIN)
    rows, places = rows_of(hospitals, finished), fitted_places(finished)
    dummies = rows.hospitals[:, np.newaxis] == np.arange(len(hospitals))
    columns = np.hstack([rows.inputs[:, places], dummies])
    null = sm.GLM(rows.labels, columns, family=sm.families.Binomial()).fit(tol=1e-14, maxiter=100)
    names = encoded_names(heart_disease(), missing_indicators=False)
    table = {row.feature: row for row in finished.odds_ratios.rows}  # type: ignore[union-attr]
    for feature, block in {"age": ["age"], "sex": ["sex=1"], "cp": ["cp=2", "cp=3", "cp=4"]}.items():
        extra = interactions(rows, [names.index(name) for name in block], len(hospitals))
        theirs, ours = null.model.score_test(null.params, exog_extra=extra)[0], table[feature]
        assert ours.differs_statistic == pytest.approx(np.ravel(theirs).item(), rel=1e-8)
        rank = np.linalg.matrix_rank
        degrees = rank(np.hstack([columns, extra])) - rank(columns)  # fewer where a hospital has only men
        assert ours.differs_degrees == degrees
        assert ours.differs_p_value == pytest.approx(chi2.sf(ours.differs_statistic, degrees), rel=1e-9)


def test_an_effect_that_differs_is_found_by_the_score_test_as_by_the_likelihood_ratio(
    hospitals: Hospitals, tmp_path: Path
) -> None:
    sm = pytest.importorskip("statsmodels.api")

    def reverse(table: pd.DataFrame) -> None:
        if table["target"].mean() > 0.5:
            table["age"] = 60 - 3 * table["target"] + np.arange(len(table)) % 11

    changed = change(hospitals, tmp_path, reverse)
    finished = run(changed, personalise="intercept", intercept_prior=0.0, **PLAIN)
    rows, places = rows_of(changed, finished), fitted_places(finished)
    columns = np.hstack([rows.inputs[:, places], rows.hospitals[:, np.newaxis] == np.arange(len(hospitals))])
    extra = interactions(rows, [0], len(hospitals))
    fits = [sm.Logit(rows.labels, design).fit(disp=0) for design in (columns, np.hstack([columns, extra]))]
    ratio = 2 * (fits[1].llf - fits[0].llf)
    age = finished.odds_ratios.rows[0]  # type: ignore[union-attr]
    assert age.feature == "age" and age.differs_statistic == pytest.approx(ratio, rel=0.2)
    assert age.differs_p_value is not None and age.differs_p_value < 1e-3
    assert any(f"p < 0.05): age (chi-squared {age.differs_statistic:.1f}" in line for line in remarks_of(finished))


def remarks_of(finished: RunFinished) -> list[str]:
    assert finished.odds_ratios is not None
    return remarks(finished.odds_ratios)


def test_without_intercepts_of_their_own_hospitals_are_not_compared(hospitals: Hospitals) -> None:
    finished = run(hospitals, personalise="none")
    assert all(row.differs_p_value is None for row in finished.odds_ratios.rows)  # type: ignore[union-attr]
    assert any("--personalise intercept" in line for line in remarks_of(finished))


def test_a_hospital_that_does_not_send_the_last_sums_leaves_the_table_without_robust_intervals(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, times = newton.fit_sums, iter([False, True, True, True])

    def fail_once(*arguments: Any) -> Any:
        return whole(*arguments) if next(times) else 1 / 0

    monkeypatch.setattr(newton, "fit_sums", fail_once)
    finished = run(hospitals)
    assert finished.odds_ratios is not None and finished.odds_ratios.rows[0].low is not None
    assert finished.odds_ratios.rows[0].robust_low is None
    assert any("no robust intervals and no test of differences (" in note for note in finished.odds_ratios.notes)

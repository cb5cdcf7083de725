"""Newton's method on the other tables of docs/own-table.md equals statsmodels and scikit-learn on the pooled rows."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from experiments import tables
from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.config.federation import FederationSettings
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from fedhealth.metrics.odds_ratios import ExactFit
from fedhealth.server.app import federate
from fedhealth.server.events import Event, RunFinished
from fedhealth.server.strategies.design import make_design
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import SERVER_NODE_ID, set_identity
from tests.support.hospital_apps import TRAINERS
from tests.support.pooled_rows import PooledRows, pool_rows
from tests.support.processes import ROOT

Table = tuple[Schema, Mapping[str, Path]]


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    set_identity(SERVER_NODE_ID)


def schema_of(name: str) -> Schema:
    return load_schema(ROOT / "fedhealth" / "schemas" / f"{name}.toml")


def write_parts(table: pd.DataFrame, hospital: pd.Series, folder: Path) -> dict[str, Path]:
    """A CSV for each hospital."""
    paths = {}
    for name, patients in table.groupby(hospital):
        paths[str(name)] = folder / f"{name}.csv"
        patients.to_csv(paths[str(name)], index=False)
    return paths


@pytest.fixture(scope="module")
def breast_cancer(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("breast")
    assert tables.main(["breast-cancer", "--out", str(folder)]) in (None, 0)
    table = pd.read_csv(folder / "breast-cancer.csv")
    return schema_of("breast-cancer"), write_parts(table, pd.Series(np.arange(len(table)) % 5), folder)


@pytest.fixture(scope="module")
def lung_cancer(tmp_path_factory: pytest.TempPathFactory) -> Table:
    if find_spec("lifelines") is None:
        pytest.skip("lifelines is not installed (requirements-tables.txt)")
    folder = tmp_path_factory.mktemp("lung")
    assert tables.main(["lung-cancer", "--out", str(folder), "--others"]) in (None, 0)
    table = pd.read_csv(folder / "lung-cancer.csv")
    return schema_of("lung-cancer"), write_parts(table, table["inst"].astype(str), folder)


def run(table: Table, **values: Any) -> tuple[RunFinished, ExactFit, PooledRows]:
    """A run of newton whose hospitals disclose every count, its fit, and the rows that they trained on."""
    schema, paths = table
    common: dict[str, Any] = {"subgroups": False, "importance": False, "min_count": 1, "test_share": 0.3}
    settings = FederationSettings(hospitals=len(paths), strategy="newton", **common, **values)
    limits, events = HospitalLimits(min_count=1), list[Event]()
    apps = {
        name: make_client_app(HospitalData.from_csv(path, TRAINERS, name, limits, schema=schema))
        for name, path in paths.items()
    }
    federate(InProcessGrid(apps, settings.to_run_config()), settings, events.append, max_wait=1.0, schema=schema)
    finished = events[-1]
    assert isinstance(finished, RunFinished) and finished.fit is not None and finished.standardisation is not None
    return finished, finished.fit, pool_rows(paths, settings, finished.standardisation, schema)


def penalised(rows: PooledRows, decay: float) -> np.ndarray:
    """Coefficients and intercept of scikit-learn's fit of the same objective."""
    model = LogisticRegression(C=1 / (decay * len(rows.labels)), solver="newton-cholesky", tol=1e-13, max_iter=200)
    model.fit(rows.inputs, rows.labels)
    return np.append(model.coef_[0], model.intercept_)


@pytest.mark.parametrize("name", ["breast_cancer", "lung_cancer"])
@pytest.mark.parametrize("decay", [0.001, 0.03])
def test_with_a_penalty_the_coefficients_are_those_of_scikit_learn(
    name: str, decay: float, request: pytest.FixtureRequest
) -> None:
    _, fit, rows = run(request.getfixturevalue(name), personalise="none", weight_decay=decay)
    np.testing.assert_allclose(fit.coefficients, penalised(rows, decay), rtol=0, atol=1e-9)


def test_without_a_penalty_coefficients_and_errors_are_those_of_statsmodels(lung_cancer: Table) -> None:
    sm = pytest.importorskip("statsmodels.api")
    plain: dict[str, Any] = {"weight_decay": 0.0, "missing_indicators": False}
    finished, fit, rows = run(lung_cancer, personalise="none", **plain)
    fixed = make_design(finished.schema, missing_indicators=False).references
    places = [place for place in range(rows.inputs.shape[1]) if place not in fixed]
    model = sm.Logit(rows.labels, np.column_stack([rows.inputs[:, places], np.ones(len(rows.labels))]))
    theirs = model.fit(method="newton", tol=1e-14, maxiter=50, disp=0)
    robust = model.fit(method="newton", tol=1e-14, maxiter=50, disp=0, cov_type="HC0")
    ours = [*places, -1]
    np.testing.assert_allclose(fit.coefficients[ours], theirs.params, rtol=0, atol=1e-9)
    np.testing.assert_allclose(fit.covariance[np.ix_(ours, ours)], theirs.cov_params(), rtol=1e-9, atol=1e-9)
    assert fit.robust_covariance is not None
    np.testing.assert_allclose(fit.robust_covariance[np.ix_(ours, ours)], robust.cov_params(), rtol=1e-9, atol=1e-9)


def test_breast_cancer_is_separated_by_its_30_numbers_and_that_is_said(breast_cancer: Table) -> None:
    finished, _, _ = run(breast_cancer, personalise="none", weight_decay=0.0)
    assert finished.odds_ratios is not None
    assert finished.odds_ratios.notes[0].startswith("complete separation: all columns together predict every patient")
    assert not any(row.low or row.robust_low for row in finished.odds_ratios.rows)

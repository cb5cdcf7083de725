"""Fixtures that several test files share."""

import functools
import os
from pathlib import Path

import hypothesis
import pytest
from _pytest.terminal import TerminalReporter

from fedhealth.common.runtime_env import quiet_libraries
from fedhealth.metrics.intervals import confidence_intervals
from tests.support.examples import examples

quiet_libraries()  # as the scripts do, before any test file imports Flower or TensorFlow

hypothesis.settings.register_profile("usual", max_examples=examples(100), deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("usual")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail if any test was skipped")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--no-skips"):
        config.option.reportchars += "s"  # with the reasons


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.nodeid.startswith("tests/chaos"))  # apart from the SuperLink, on the other worker


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        session.config.getoption("--no-skips")
        and isinstance(reporter, TerminalReporter)
        and reporter.stats.get("skipped")
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def uci_folder() -> Path:
    """The folder with the four real UCI files, or a skip that says how to give it."""
    folder = os.environ.get("FEDHEALTH_UCI")
    if not folder:
        pytest.skip("set FEDHEALTH_UCI to the folder with the four UCI files to run the real-data tests")
    return Path(folder)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of 50 bootstrap draws on pages and in run folders, for tests of something else."""
    few = functools.partial(confidence_intervals, num_draws=50)
    for module in ("reporting.html.clinical", "reporting.html.tables", "server.run_files", "metrics.difference_bounds"):
        monkeypatch.setattr(f"fedhealth.{module}.confidence_intervals", few)

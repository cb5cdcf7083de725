"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

from fedhealth.common.runtime_env import quiet_libraries

quiet_libraries()  # as the scripts do, before any test file imports Flower or TensorFlow


@pytest.fixture(scope="session")
def uci_folder() -> Path:
    """The folder with the four real UCI files, or a skip that says how to give it."""
    folder = os.environ.get("FEDHEALTH_UCI")
    if not folder:
        pytest.skip("set FEDHEALTH_UCI to the folder with the four UCI files to run the real-data tests")
    return Path(folder)

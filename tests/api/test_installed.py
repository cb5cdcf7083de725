"""The package as pip installs it, used from an empty folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.hospital_files import write_hospitals
from tests.support.processes import ROOT

NOTEBOOK = """
import sys
import fedhealth as fh
import pandas as pd
hospitals = fh.load_hospitals(sys.argv[1])
run = fh.simulate(hospitals, rounds=2, strategy="fedavg", on_round=print)
print(fh.__file__, list(run.metrics.columns), sep="\\n")
run.save("runs/x")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package; built from a copy, since a build leaves files behind."""
    copy, site = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "fedhealth", copy / "fedhealth")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(copy)]
    subprocess.run(install, check=True, capture_output=True)
    return site


def run_installed(site: Path, folder: Path, command: Sequence[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow  # pip fetches setuptools for the build
def test_the_command_works_in_any_folder(site: Path, tmp_path: Path) -> None:
    assert "simulate" in run_installed(site, tmp_path, [str(site / "bin" / "fedhealth"), "--help"])
    printed = run_installed(
        site,
        tmp_path,
        [str(site / "bin" / "fedhealth"), "simulate", "--hospitals", "3", "--rounds", "1", "--out", "run"],
    )
    assert printed.endswith("run folder: run\n")
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_five_lines_of_python_work_in_any_folder(site: Path, tmp_path: Path) -> None:
    write_hospitals(tmp_path / "data")
    lines = run_installed(site, tmp_path, [sys.executable, "-c", NOTEBOOK, "data"]).splitlines()
    assert [line.split("   ")[0] for line in lines[:2]] == ["round 1/2", "round 2/2"]
    assert Path(lines[2]).is_relative_to(site)
    assert (tmp_path / "runs" / "x" / "report.html").exists()

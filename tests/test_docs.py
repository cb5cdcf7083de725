"""The documentation matches the code: commands run, help texts match, every wing and dependency is named."""

import contextlib
import importlib
import io
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest

import fedhealth
from fedhealth.__main__ import COMMANDS as FEDHEALTH_COMMANDS
from fedhealth.data.sources.heart import HEART
from tests.support.hospital_files import write_hospitals
from tests.support.processes import ANY_PORT, ROOT, Process, recorded_calls

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = ROOT / "docs" / "commands.md"
SCRIPTS = ("create_dataset.py", "server.py", "client.py")
OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def render_commands() -> str:
    """The content of docs/commands.md; `python -m tests.test_docs` writes it."""
    first = "The output of `--help` for every command; a test compares this page with the code."
    sections = [f"# Commands\n\n{first} Files of patients: [own-files.md](own-files.md).\n"]
    commands = {script: script.removesuffix(".py") for script in SCRIPTS}
    commands |= {f"python -m fedhealth {name}": f"fedhealth.cli.commands.{name}" for name in FEDHEALTH_COMMANDS}
    commands |= {f"python -m experiments.{name}": f"experiments.{name}" for name in ("compare", "tables")}
    for command, module in commands.items():
        lines = "\n".join(line.rstrip() for line in render_help(command, module).strip().splitlines())
        sections.append(f"## {command}\n\n```\n{lines}\n```\n")
    return "\n".join(sections)


def render_help(command: str, module: str) -> str:
    """The output of `command --help` in a terminal of 100 columns without colours; `module` has its main function."""
    terminal = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with (
        mock.patch.object(sys, "argv", [command]),
        mock.patch.dict(os.environ, terminal),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        importlib.import_module(module).main(["--help"])
    printed.seek(0)
    return printed.read()


def terminal_commands() -> list[str]:
    """The commands of README's section "The terminals", without comments."""
    block = re.search(r"## Step by step, in five terminals\n\n```\n(.*?)```", README, re.DOTALL)
    assert block
    return [line.split("#")[0].strip() for line in block.group(1).splitlines()]


def test_the_help_texts_in_the_docs_are_those_of_the_scripts() -> None:
    assert COMMANDS.read_text(encoding="utf-8") == render_commands()


@pytest.mark.slow  # five Keras processes
@pytest.mark.processes
@pytest.mark.enable_socket
def test_the_readmes_commands_work_unchanged(tmp_path: Path) -> None:
    """In a copy of the tree, with a free port added. Server and clients open no other connection than between them."""
    for name in (*SCRIPTS, "utils.py", "fedhealth"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    commands = terminal_commands()
    assert commands[0] == "python -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt"
    address, processes = "", list[Process]()
    environment, calls = recorded_calls(tmp_path)
    try:
        for command in commands[1:]:
            python, script, *arguments = command.split()
            assert python == "python"
            port = {"server.py": ["--address", ANY_PORT], "client.py": ["--server", address]}.get(script, [])
            settings = OFFLINE if script == "create_dataset.py" else environment
            processes.append(Process(script, *arguments, *port, environment=settings, cwd=tmp_path))
            if script == "create_dataset.py":
                assert processes[-1].end() == 0, processes[-1].output
            if script == "server.py":
                address = processes[-1].address()
        assert len(processes) == 6
        for process in processes:
            assert process.end() == 0, process.output
    finally:
        for process in processes:
            process.process.kill()
    assert not calls.exists(), calls.read_text()
    (run,) = (tmp_path / "runs").iterdir()
    assert sorted(path.name for path in run.iterdir()) == [
        "MODEL_CARD.md",
        "evaluation.json",
        "history.jsonl",
        "model.npz",
        "report.html",
        "schema.toml",
        "settings.json",
        "summary.json",
    ]
    assert processes[1].lines[-1] == f"run folder: runs/{run.name}"
    assert (tmp_path / "model.keras").is_file()


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_readmes_python_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation, network = python_blocks()
    paths = write_hospitals(tmp_path / "data")
    names: dict[str, Any] = {"patients": pd.read_csv(next(iter(paths.values())))}
    monkeypatch.chdir(tmp_path)
    exec(simulation, names)
    assert names["risks"].shape == (len(names["patients"]),)
    assert (tmp_path / "runs" / "from-python" / "report.html").exists()
    started = list[object]()

    def run(self: object) -> None:
        started.append(self)

    for kind in (fedhealth.Server, fedhealth.Client):
        monkeypatch.setattr(kind, "run", run)
    exec(network, names)
    assert [type(each) for each in started] == [fedhealth.Server, fedhealth.Client]


def test_the_number_of_weights_in_the_readme_is_the_default_models() -> None:
    from fedhealth.config.federation import FederationSettings
    from fedhealth.data.preprocessing import encoded_names
    from fedhealth.models.numpy_training import NumpyTrainer

    settings = FederationSettings()
    num_inputs = len(encoded_names(HEART, settings.missing_indicators))
    weights = NumpyTrainer(settings.model, num_inputs, learning_rate=1, batch_size=1, seed=0).initial_weights()
    assert f"({sum(weight.size for weight in weights)} numbers by default)" in README


def test_every_wing_is_in_the_readmes_table() -> None:
    wings = {f"{path.parent.name}/" for path in (ROOT / "fedhealth").glob("*/__init__.py")}
    named = re.findall(r"^\| `([a-z_]+/)` \|", README.split("## How it works")[1], re.MULTILINE)
    assert set(named) == wings


def test_every_dependency_has_a_reason_in_the_docs() -> None:
    table = (ROOT / "docs" / "development.md").read_text(encoding="utf-8").split("## Dependencies")[1]
    for file in ("requirements.txt", "requirements-dev.txt", "requirements-tables.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                name, pinned, _ = line.partition("==")
                assert pinned, f"{line} is not pinned"
                assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", table), (
                    f"{name} has no reason in docs/development.md"
                )


def test_the_readme_takes_five_minutes_to_read() -> None:
    assert len(README.split()) <= 1200


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_link_to_a_file_has_a_target(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    files = [link for link in links if "://" not in link]
    assert [link for link in files if not (page.parent / link).exists()] == []


if __name__ == "__main__":
    COMMANDS.write_text(render_commands(), encoding="utf-8")

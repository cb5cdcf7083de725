"""The documentation is what the code does: commands run, help texts match, every room and dependency is named."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedhealth.__main__ import COMMANDS as FEDHEALTH_COMMANDS
from fedhealth.cli.demo import free_port
from tests.support.processes import ROOT, Process

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = ROOT / "docs" / "commands.md"
SCRIPTS = ("create_dataset.py", "server.py", "client.py")
MODULE_COMMANDS = ("predict", "export", "report")


def render_commands() -> str:
    """docs/commands.md as it should be. Rewrite it with `python -m tests.test_docs`."""
    sections = ["# Commands\n\nWhat `--help` prints; a test compares this page with the code.\n"]
    for script in (*SCRIPTS, *(f"-m fedhealth {name}" for name in FEDHEALTH_COMMANDS), "-m experiments.compare"):
        command = [sys.executable, *script.split(), "--help"]
        environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
        text = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        sections.append(f"## {script.replace('-m', 'python -m')}\n\n```\n{lines}\n```\n")
    return "\n".join(sections)


def terminal_commands() -> list[str]:
    """The commands of README's section "The terminals", without comments."""
    block = re.search(r"## The terminals\n\n```\n(.*?)```", README, re.DOTALL)
    assert block
    return [line.split("#")[0].strip() for line in block.group(1).splitlines()]


def test_the_help_texts_in_the_docs_are_those_of_the_scripts() -> None:
    assert COMMANDS.read_text(encoding="utf-8") == render_commands()


@pytest.mark.processes
@pytest.mark.enable_socket
def test_the_readmes_terminals_work_as_they_stand(tmp_path: Path) -> None:
    """In a copy of the tree; only a free port is added, and the network is kept away."""
    for name in (*SCRIPTS, "utils.py", "fedhealth"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    commands = terminal_commands()
    assert commands[0] == "python -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt"
    address = f"127.0.0.1:{free_port()}"
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    processes: list[Process] = []
    try:
        for command in commands[1:]:
            python, script, *arguments = command.split()
            assert python == "python"
            port = {"server.py": ["--address", address], "client.py": ["--server", address]}.get(script, [])
            processes.append(Process(script, *arguments, *port, environment=offline, cwd=tmp_path))
            if script == "create_dataset.py":
                assert processes[-1].end() == 0, processes[-1].output
        assert len(processes) == 6
        for process in processes:
            assert process.end() == 0, process.output
    finally:
        for process in processes:
            process.process.kill()
    (run,) = (tmp_path / "runs").iterdir()
    assert sorted(path.name for path in run.iterdir()) == [
        "MODEL_CARD.md",
        "evaluation.json",
        "history.jsonl",
        "model.npz",
        "report.html",
        "settings.json",
        "summary.json",
    ]
    assert processes[1].lines[-1] == f"run folder: runs/{run.name}"
    assert (tmp_path / "model.keras").is_file()


def test_the_number_of_weights_in_the_readme_is_the_default_models() -> None:
    from fedhealth.config.federation import FederationSettings
    from fedhealth.data.preprocessing import encoded_names
    from fedhealth.models.keras_models import build_model

    settings = FederationSettings()
    model = build_model(settings.model, len(encoded_names(settings.missing_indicators)), seed=0)
    assert f"({model.count_params()} numbers by default)" in README


def test_every_wing_is_on_the_readmes_map() -> None:
    wings = {f"{path.parent.name}/" for path in (ROOT / "fedhealth").glob("*/__init__.py")}
    named = re.findall(r"^\| `([a-z_]+/)` \|", README.split("## How it works")[1], re.MULTILINE)
    assert set(named) == wings


def test_every_dependency_has_its_reason_in_the_readme() -> None:
    table = README.split("## Dependencies")[1]
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                name, pinned, _ = line.partition("==")
                assert pinned, f"{line} is not pinned"
                assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", table), f"{name} has no reason in README.md"


if __name__ == "__main__":
    COMMANDS.write_text(render_commands(), encoding="utf-8")

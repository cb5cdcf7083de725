"""docs/own-table.md: its commands work as they stand, and print and measure what it says."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import create_dataset
import fedhealth.__main__
from experiments import compare, tables
from fedhealth.data.schema_file import load_schema
from tests.support.processes import ANY_PORT, ROOT, Process

PAGE = (ROOT / "docs" / "own-table.md").read_text(encoding="utf-8")
SCHEMAS = Path("fedhealth") / "schemas"
PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {
    "python create_dataset.py": create_dataset.main,
    "python -m experiments.tables": tables.main,
    "python -m experiments.compare": compare.main,
    "python -m fedhealth": fedhealth.__main__.main,
}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
SPEED = re.compile(r"[\d.]+ s\b|[\d,]+ per second")
CLOSE = 0.0021
"""How much a printed figure may differ, as between two processors."""
# The import of flwr-datasets imports urllib3, which asks once whether the machine has IPv6 by binding a local socket.
pytestmark = pytest.mark.filterwarnings("ignore:A test tried to use socket.socket")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing but the schemas, in which the commands run."""
    shutil.copytree(ROOT / SCHEMAS, tmp_path / SCHEMAS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sessions() -> list[tuple[str, list[str]]]:
    """The page's commands after a `$`, each with the output that it shows; `...` stands for any lines."""
    blocks = re.findall(r"^```\n(\$ .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    parts = [part.splitlines() for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, [line for line in shown if line]) for command, *shown in parts]


def run(command: str) -> int:
    """The exit code of a command, run in this process."""
    (program,) = (program for program in PROGRAMS if command.startswith(f"{program} "))
    return PROGRAMS[program](shlex.split(command.removeprefix(program)))


def is_like(line: str, shown: str) -> bool:
    """Whether the words are the same and the figures close; how long it took is not compared."""
    line, shown = (SPEED.sub("TIME", " ".join(text.split())) for text in (line, shown))
    ours, theirs = ([float(text) for text in NUMBER.findall(each)] for each in (line, shown))
    return NUMBER.sub("#", line) == NUMBER.sub("#", shown) and all(
        abs(one - other) <= CLOSE for one, other in zip(ours, theirs, strict=True)
    )


def first_difference(printed: Sequence[str], shown: Sequence[str]) -> str | None:
    """The first line shown that was not printed at its place."""
    rest, skipping = list(printed), False
    for line in shown:
        if line == "...":
            skipping = True
            continue
        while skipping and rest and not is_like(rest[0], line):
            rest.pop(0)
        if not rest or not is_like(rest.pop(0), line):
            return line
        skipping = False
    return None if skipping or not rest else rest[0]


@pytest.mark.slow  # imports TensorFlow, flwr-datasets and matplotlib, and runs two federations
def test_the_commands_print_what_the_page_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, shown in sessions():
        assert run(command) == 0, command
        printed = [line for line in capsys.readouterr().out.splitlines() if line]
        assert first_difference(printed, shown) is None, command
    assert len(sessions()) == 7
    for name in ("breast-cancer", "lung-cancer"):
        title = load_schema(SCHEMAS / f"{name}.toml").title
        assert f"Risk of {title}" in (folder / "runs" / name / "report.html").read_text(encoding="utf-8")
        assert (folder / "runs" / name / "schema.toml").read_bytes() == (SCHEMAS / f"{name}.toml").read_bytes()


def test_a_page_that_shows_something_else_would_be_noticed() -> None:
    printed = ["wrote a.csv: 5 patients", "AUROC 0.830", "30 rounds: 0.56 s"]
    assert first_difference(printed, ["...", "AUROC 0.831", "30 rounds: 7.1 s"]) is None
    assert first_difference(printed, ["...", "AUROC 0.84", "30 rounds: 0.56 s"]) == "AUROC 0.84"
    assert first_difference(printed, ["wrote a.csv: 5 patients", "30 rounds: 0.56 s"]) == "30 rounds: 0.56 s"
    assert first_difference(printed, ["wrote a.csv: 5 patients"]) == "AUROC 0.830"


def test_the_columns_that_the_page_shows_are_those_of_the_schema() -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    schema = (ROOT / SCHEMAS / "breast-cancer.toml").read_text(encoding="utf-8")
    tables_of_block = block.strip().split("\n\n")
    assert len(tables_of_block) == 2
    assert all(table in schema for table in tables_of_block)


@pytest.mark.slow  # three Keras processes
@pytest.mark.processes
@pytest.mark.enable_socket
def test_over_the_network_the_figures_are_those_of_the_simulation(folder: Path) -> None:
    for command, _ in sessions():
        if "lung-cancer" in command and "simulate" not in command:
            assert run(command) == 0
    schema = ["--schema", str(SCHEMAS / "lung-cancer.toml")]
    scripts, processes = [str(ROOT / name) for name in ("server.py", "client.py")], list[Process]()
    flags = ["--hospitals", "3", "--test-share", "0.3", "--address", ANY_PORT]
    try:
        processes.append(Process(scripts[0], *flags, *schema, cwd=folder))
        address = processes[0].address()
        for number in (1, 2, 3):
            file = f"lung/client_{number}.csv"
            processes.append(Process(scripts[1], file, "--server", address, *schema, cwd=folder))
        for process in processes:
            assert process.end() == 0, process.output
    finally:
        for process in processes:
            process.process.kill()
    (pooled,) = (line for line in PAGE.splitlines() if line.startswith("all (pooled)        67"))
    assert any(is_like(line, pooled) for line in processes[0].lines)


TABLES = [
    pytest.param("heart disease", "uci", [], marks=pytest.mark.uci),
    ("breast cancer", "breast-cancer", []),
    ("lung cancer", "lung-cancer", []),
    ("lung cancer, `--others`", "lung-cancer", ["--others"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("title", "source", "flags"), TABLES)
def test_the_table_of_figures_is_measured_and_federation_costs_at_most_a_hundredth(
    title: str, source: str, flags: list[str], folder: Path, request: pytest.FixtureRequest
) -> None:
    commands = re.findall(r"^python -m experiments\.compare .*$", PAGE, re.MULTILINE)
    (command,) = (each for each in commands if f"{source}.csv" in each or each.endswith(f"--source {source}"))
    if source == "uci":
        command = command.removesuffix("uci") + shlex.quote(str(request.getfixturevalue("uci_folder")))
    else:
        assert tables.main([source, *flags]) == 0
    assert run(f"{command} --out out") == 0
    results = json.loads((folder / "out" / "results.json").read_text())
    figures = {
        result["method"]: result["mean"]
        for result in results
        if (result["hospital"], result["metric"]) == ("union", "auroc")
    }
    alone, federated, pooled = (figures[name] for name in ("local", "federated fedavg", "central"))
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {title} |"))
    shown = [float(cell) for cell in row.strip("|").split("|")[-4:]]
    assert shown == pytest.approx([alone, federated, pooled, federated - pooled], abs=CLOSE)
    assert abs(federated - pooled) <= 0.01

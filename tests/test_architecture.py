"""Rules for imports and scripts; which wing may import which is in the contracts of pyproject.toml."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fedhealth"
SCRIPTS = ("server", "client", "create_dataset")
TOP_FILES = (*SCRIPTS, "utils")


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def run_python(program: str, folder: Path) -> str:
    """The output of a new interpreter that finds our files but starts in another folder."""
    run = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("fedhealth.server.app", {"tensorflow", "keras", "pandas", "sklearn", "matplotlib"}),
        (
            "fedhealth.server.app, fedhealth.reporting.console.screen, fedhealth.server.run_directory, "
            "fedhealth.transport.grpc.grid, server",
            {"tensorflow", "keras", "pandas", "sklearn", "matplotlib"},
        ),
        (
            "fedhealth.client.app, fedhealth.transport.grpc.client, client",
            {"tensorflow", "keras", "sklearn", "matplotlib"},
        ),
    ],
)
def test_an_import_stays_light(modules: str, heavy: set[str], tmp_path: Path) -> None:
    program = f"import {modules}\nprint(*sorted({heavy!r} & set(sys.modules)))"
    assert run_python(program, tmp_path).split() == []


def test_importing_the_scripts_does_no_work(tmp_path: Path) -> None:
    heavy = {"flwr", "grpc", "tensorflow", "keras", "tyro", "matplotlib", "httpx", "sklearn"}
    program = f"import {', '.join(TOP_FILES)}\nprint(*sorted({heavy!r} & set(sys.modules)))"
    assert run_python(program, tmp_path).split() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", [*python_files(), *(ROOT / f"{name}.py" for name in TOP_FILES)], ids=lambda f: f.stem)
def test_nothing_happens_at_import(file: Path) -> None:
    """Only imports, definitions, values and docstrings stand at the top of a file."""
    calm = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for statement in parse(file).body:
        text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        guarded = isinstance(statement, ast.If) and ast.unparse(statement.test) in (
            "TYPE_CHECKING",
            "__name__ == '__main__'",
        )
        assert text or guarded or isinstance(statement, calm), f"line {statement.lineno} does something"


@pytest.mark.parametrize("file", python_files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_says_what_it_is_for(file: Path) -> None:
    assert ast.get_docstring(parse(file))


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_an_init_is_a_docstring_and_nothing_else(file: Path) -> None:
    if file.parent not in (PACKAGE, PACKAGE / "cli" / "commands"):
        assert len(parse(file).body) == 1

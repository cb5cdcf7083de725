"""Who may import whom, in every file and at any depth of it; what an import must not do; how short a story is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import PATIENCE

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fedhealth"
SCRIPTS = ("server", "client", "create_dataset")
TOP_FILES = (*SCRIPTS, "utils")

Imports = tuple[set[str], set[str]]

# Room -> the third-party packages and the other rooms that it may import. A new room needs a line of its own here.
ROOMS: dict[str, Imports] = {
    # words
    "schema": (set(), set()),
    "errors": (set(), set()),
    "settings": (set(), {"errors"}),
    "quiet": (set(), set()),
    "terminal": ({"tyro"}, {"errors", "quiet"}),
    "tables": ({"rich"}, set()),
    "arrays": ({"numpy", "flwr"}, set()),
    "files": (set(), {"errors"}),
    # patients
    "sources": ({"numpy", "pandas", "httpx", "rich", "scipy", "sklearn"}, {"schema", "errors", "files"}),
    "partition": ({"numpy", "pandas", "flwr_datasets", "datasets"}, {"schema", "errors"}),
    "data": ({"numpy", "pandas", "pandera"}, {"schema", "errors"}),
    "dataset_files": ({"numpy", "pandas"}, {"schema", "errors", "files"}),
    "hospital_table": ({"pandas"}, {"schema", "dataset_files", "tables"}),
    "hospital_picture": ({"numpy", "pandas", "matplotlib"}, {"schema", "dataset_files", "hospital_table"}),
    # learning
    "preprocessing": ({"numpy"}, {"schema"}),
    "metrics": ({"numpy"}, set()),
    "recalibration": ({"numpy"}, set()),
    "privacy": ({"numpy", "dp_accounting"}, {"errors", "files", "metrics", "settings"}),
    "importance": ({"numpy"}, {"metrics", "schema"}),
    "model": ({"numpy", "keras"}, {"preprocessing", "settings"}),
    "training": ({"numpy", "keras", "tensorflow"}, {"model", "settings"}),
    "private_training": ({"numpy", "tensorflow"}, {"training"}),
    # federation
    "wire": ({"cryptography", "flwr", "grpc", "numpy"}, {"errors", "schema"}),
    "simulation": ({"flwr"}, {"data", "errors", "settings", "sources", "wire"}),
    "flower_run": ({"flwr"}, {"console", "errors", "events", "quiet", "run_folder", "settings", "terminal", "wire"}),
    "subgroups": ({"numpy"}, {"schema"}),
    "events": ({"flwr"}, {"importance", "metrics", "preprocessing", "settings", "subgroups", "verdict"}),
    "replies": ({"flwr", "numpy"}, {"arrays", "events", "metrics", "preprocessing", "schema", "subgroups", "verdict"}),
    "control_variates": ({"numpy"}, set()),
    "strategies": ({"flwr", "numpy"}, {"arrays", "control_variates", "settings"}),
    "sampling": ({"flwr", "numpy"}, {"settings"}),
    "rounds": ({"flwr"}, {"errors", "evaluations", "events", "metrics", "replies", "sampling"}),
    "gathering": ({"flwr"}, {"errors", "events", "preprocessing", "recalibration", "replies", "settings"}),
    "evaluations": (set(), {"metrics"}),
    "closing": ({"flwr"}, {"evaluations", "events", "importance", "replies", "settings", "subgroups", "verdict"}),
    "choices": ({"flwr", "numpy"}, {"arrays", "events", "metrics", "recalibration", "settings"}),
    "server_app": (
        {"flwr"},
        {
            *(
                "choices",
                "closing",
                "events",
                "flower_run",
                "gathering",
                "preprocessing",
                "rounds",
                "sampling",
                "settings",
            ),
            "strategies",
        },
    ),
    "requests": ({"numpy", "flwr"}, {"arrays", "errors", "preprocessing"}),
    "participant": (
        {"numpy", "flwr"},
        {
            *("data", "errors", "preprocessing", "privacy", "private_training", "requests", "settings", "simulation"),
            "training",
        },
    ),
    "private_answers": (
        {"numpy", "flwr"},
        {"errors", "metrics", "participant", "privacy", "private_training", "requests", "training"},
    ),
    "client_app": (
        {"numpy", "flwr"},
        {
            *("data", "errors", "flower_run", "importance", "metrics", "own_models", "participant", "preprocessing"),
            *("private_answers", "requests", "subgroups", "training"),
        },
    ),
    "receipts": ({"flwr"}, {"errors"}),
    "audit": (set(), {"errors", "receipts", "tables"}),
    "doctor": (
        {"flwr", "numpy"},
        {"client_app", "data", "errors", "preprocessing", "settings", "simulation", "terminal", "training", "wire"},
    ),
    "verdict": ({"numpy"}, {"metrics"}),
    "own_models": (
        {"numpy"},
        {"data", "participant", "preprocessing", "recalibration", "settings", "verdict"},
    ),
    # what is told of a run
    "closing_words": ({"flwr"}, {"importance", "metrics", "own_models", "schema", "tables", "verdict"}),
    "checkpoints": ({"flwr", "numpy"}, {"arrays", "events", "files", "metrics", "preprocessing"}),
    "run_files": ({"numpy"}, {"events", "files", "metrics", "preprocessing", "schema", "subgroups", "verdict"}),
    "run_folder": (
        set(),
        {"checkpoints", "errors", "events", "files", "run_files", "schema", "settings", "strategies"},
    ),
    "model_file": ({"numpy"}, {"errors", "preprocessing", "schema"}),
    "predict": ({"numpy"}, {"data", "errors", "model_file", "preprocessing", "recalibration", "schema"}),
    "export": ({"numpy", "onnx"}, {"errors", "files", "model", "model_file", "preprocessing"}),
    "report": (
        {"jinja2", "markupsafe", "numpy"},
        {"choice_words", "errors", "files", "metrics", "schema", "subgroups"},
    ),
    "live_run": (set(), {"events", "report", "run_files"}),
    "dashboard": ({"starlette", "uvicorn"}, {"errors", "events", "live_run", "report"}),
    "tracking": ({"mlflow", "tensorboardX"}, {"errors", "events", "run_files"}),
    "choice_words": (set(), set()),
    "console": (
        {"flwr", "rich"},
        {"choice_words", "closing_words", "events", "metrics", "run_files", "settings", "tables"},
    ),
    "demo": (set(), {"terminal"}),
    "compare": (
        {"numpy", "pandas", "sklearn", "matplotlib"},
        {
            "arrays",
            "client_app",
            "data",
            "errors",
            "events",
            "files",
            "metrics",
            "own_models",
            "participant",
            "recalibration",
            "schema",
            "server_app",
            "settings",
            "simulation",
            "sources",
            "tables",
        },
    ),
    # what is typed
    "commands": (
        set(),
        {
            *(
                "audit",
                "compare",
                "data",
                "doctor",
                "export",
                "files",
                "model_file",
                "predict",
                "preprocessing",
                "report",
            ),
            *("client_app", "console", "errors", "events", "run_folder", "server_app", "settings", "simulation"),
            *("terminal", "training", "wire"),
        },
    ),
    "__main__": (set(), {"commands", "errors", "terminal"}),
}


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Full dotted name of everything that is imported, also inside functions and `if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def imports_of(tree: ast.AST) -> Imports:
    """(third-party packages, rooms of ours); a relative import counts as a package named ''."""
    parts = [name.split(".") for name in imported_names(tree)]
    packages = {top for top, *_ in parts if top != "fedhealth" and top not in sys.stdlib_module_names}
    rooms = {rest[0] for top, *rest in parts if top == "fedhealth" and rest and rest[0] != "__version__"}
    return packages, rooms


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@pytest.mark.parametrize("file", python_files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_only_what_the_table_allows(file: Path) -> None:
    room = room_of(file)
    assert room == "__init__" or room in ROOMS, f"the room {room} has no line in the table"
    packages, rooms = ROOMS.get(room, (set(), set()))
    found_packages, found_rooms = imports_of(parse(file))
    assert found_packages <= packages
    assert found_rooms <= rooms | {room}


def test_the_table_lists_no_room_that_is_gone_and_allows_nothing_that_is_unused() -> None:
    found: dict[str, Imports] = {}
    for file in python_files():
        packages, rooms = found.setdefault(room_of(file), (set(), set()))
        new_packages, new_rooms = imports_of(parse(file))
        packages |= new_packages
        rooms |= new_rooms - {room_of(file)}
    found.pop("__init__")
    assert found == ROOMS


def test_imports_are_found_wherever_they_hide() -> None:
    text = """
import numpy.linalg as la
from fedhealth import __version__, schema
if TYPE_CHECKING:
    from fedhealth.training import Trainer
def late():
    import fedhealth.wire.grid, os
    class Deep:
        from utils import say
from . import server
"""
    assert imports_of(ast.parse(text)) == ({"numpy", "utils", ""}, {"schema", "training", "wire"})


def test_no_room_imports_a_script() -> None:
    for file in python_files():
        tops = {name.split(".")[0] for name in imported_names(parse(file))}
        assert not tops & {*TOP_FILES, "tests", "benchmarks"}, file.name


def run_python(program: str, folder: Path) -> str:
    """What a fresh interpreter prints that finds our files but starts in another folder."""
    run = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("fedhealth.server_app", {"tensorflow", "keras", "pandas", "sklearn", "matplotlib"}),
        (
            "fedhealth.server_app, fedhealth.console, fedhealth.run_folder, fedhealth.wire.grid, server",
            {"tensorflow", "keras", "pandas", "sklearn", "matplotlib"},
        ),
        ("fedhealth.client_app, fedhealth.wire.link, client", {"tensorflow", "keras", "pandera", "matplotlib"}),
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


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_story_of_a_script_fits_in_25_lines(script: str) -> None:
    (main,) = (n for n in parse(ROOT / f"{script}.py").body if isinstance(n, ast.FunctionDef) and n.name == "main")
    assert main.end_lineno is not None
    assert main.end_lineno - main.lineno + 1 <= 25
    assert ast.unparse(main.args) == "argv: Sequence[str] | None=None"


@pytest.mark.parametrize("file", python_files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_says_what_it_is_for(file: Path) -> None:
    assert ast.get_docstring(parse(file))

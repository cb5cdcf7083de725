"""The package uses nothing that Windows lacks: read from the source, and tried where those modules and names are gone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE
from tests.support.windows import MODULES, NAMES

ROOT = Path(__file__).parent.parent
FILES = [*sorted((ROOT / "fedhealth").rglob("*.py")), *(ROOT / f"{n}.py" for n in ("server", "client", "utils"))]
GUARDED = {("process_pool.py", name) for name in ("signal.pthread_sigmask", "signal.SIG_BLOCK", "signal.SIG_SETMASK")}
GUARDED |= {("atomic_files.py", "fcntl")}
"""Names that a file uses only where they exist."""


def posix_only(source: str) -> Iterator[str]:
    """The modules that a source imports, and the names that it takes from one, that no Windows has."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in MODULES:
                yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names if a.name in NAMES.get(node.module, ()))
        elif isinstance(node, ast.Attribute) and node.attr in NAMES.get(ast.unparse(node.value), ()):
            yield ast.unparse(node)


def test_the_reader_of_sources_finds_imports_and_names() -> None:
    source = "import fcntl, os\ndef f():\n    from signal import SIGKILL\n    from pwd import getpwnam\n    os.fork()\n"
    assert sorted(posix_only(source)) == ["fcntl", "os.fork", "pwd", "signal.SIGKILL"]
    assert list(posix_only("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n")) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_uses_nothing_that_only_posix_has(file: Path) -> None:
    found = {name for name in posix_only(file.read_text(encoding="utf-8")) if (file.name, name) not in GUARDED}
    assert found == set()


WITHOUT_POSIX = f"""
import sys, warnings
sys.path.insert(0, {str(ROOT)!r})
warnings.simplefilter("ignore")  # filelock: it falls back to another lock than Windows has
from tests.support.windows import take_away
take_away()
"""
IMPORT_ALL = """
import importlib, pkgutil
sys.modules["tensorflow"] = sys.modules["keras"] = None  # slow to import; what needs them is only read (above)
import fedhealth
for found in pkgutil.walk_packages(fedhealth.__path__, "fedhealth."):
    try:
        importlib.import_module(found.name)
    except ImportError as error:
        if error.name not in ("tensorflow", "keras"):
            raise
"""
START = """
import server
from fedhealth.__main__ import main
assert main(["certificates", "--hospitals", "va", "--out", "certs"]) == 0
assert server.main(["--address", "127.0.0.1:0", "--max-wait", "0.01", "--out", "run"]) == 1  # nobody joins
assert main(["doctor", "--server", "127.0.0.1:1", "--data", "none.csv"]) == 1
assert main(["receipts", "none.jsonl"]) == 2
"""


def run_without_posix(program: str, folder: Path) -> None:
    """Run a program in `folder` without what Windows lacks; it must end well."""
    (folder / "program.py").write_text(WITHOUT_POSIX + program, encoding="utf-8")
    command = [sys.executable, "-B", "program.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_can_be_imported_without_what_only_posix_has(tmp_path: Path) -> None:
    run_without_posix(IMPORT_ALL, tmp_path)


def test_server_and_commands_start_without_what_only_posix_has(tmp_path: Path) -> None:
    run_without_posix(START, tmp_path)
    assert (tmp_path / "certs" / "va" / "key.pem").exists()

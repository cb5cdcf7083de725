"""Run a whole federation on this machine with the commands of README.md: data set, server, one client per hospital.

The server's output is printed; a client's output goes to a log, which is printed if the client fails.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from fedhealth.cli.terminal import script

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1


@script
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code of the first process that failed, or 0."""
    print("$ python create_dataset.py", flush=True)
    if failed := subprocess.run([sys.executable, "create_dataset.py"], cwd=ROOT, check=False).returncode:
        return failed
    described = json.loads((ROOT / "data" / "dataset.json").read_text(encoding="utf-8"))
    files = [file["name"] for file in described["files"] if file["name"].startswith("client_")]
    with tempfile.TemporaryDirectory(prefix="fedhealth-demo-") as logs:
        return run_federation(files, Path(logs))


def run_federation(files: list[str], logs: Path) -> int:
    """Start server and clients and wait for all; a failed client ends the demo and its log is printed."""
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(ThreadPoolExecutor(1))
        server_command = ["server.py", "--address", "127.0.0.1:0", "--hospitals", str(len(files))]
        print(f"\n$ python {' '.join(server_command)}", flush=True)
        server = stack.enter_context(running(server_command, subprocess.PIPE))
        address = show_until_address(server.stdout)
        screen.submit(show, server.stdout)
        clients: dict[Path, subprocess.Popen[bytes]] = {}
        for file in files if address else ():
            command = ["client.py", f"data/{file}", "--server", address]
            print(f"$ python {' '.join(command)}", flush=True)
            log = logs / f"{file}.log"
            clients[log] = stack.enter_context(running(command, stack.enter_context(log.open("wb"))))
        while server.poll() is None or any(client.poll() is None for client in clients.values()):
            for log, client in clients.items():
                if client.poll():
                    print(log.read_text(encoding="utf-8"), file=sys.stderr)
                    return client.returncode
            time.sleep(POLL_SECONDS)
        return server.returncode


def show_until_address(lines: IO[bytes] | None) -> str:
    """Print lines until "listening on HOST:PORT" and return HOST:PORT; "" if that line never comes."""
    for line in lines or ():
        print(text := line.decode(errors="replace"), end="", flush=True)
        if text.startswith("listening on "):
            return text.split()[2]
    return ""


def show(lines: IO[bytes] | None) -> None:
    """Print the lines as they arrive, until the end."""
    for line in lines or ():
        print(line.decode(errors="replace"), end="", flush=True)


@contextlib.contextmanager
def running(command: list[str], output: IO[bytes] | int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script as a process that is stopped at the end of the block; both of its streams go to `output`."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_SECONDS)
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())

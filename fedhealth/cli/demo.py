"""The whole federation on this machine, as README.md's terminals would run it: data, one server, one client per hospital.

The server's lines go to the screen; each client's go to a log that is shown if the client fails.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedhealth.cli.terminal import script

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1


@script
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the first process that failed, or 0."""
    print("$ python create_dataset.py", flush=True)
    if failed := subprocess.run([sys.executable, "create_dataset.py"], cwd=ROOT, check=False).returncode:
        return failed
    described = json.loads((ROOT / "data" / "dataset.json").read_text(encoding="utf-8"))
    files = [file["name"] for file in described["files"] if file["name"].startswith("client_")]
    with tempfile.TemporaryDirectory(prefix="fedhealth-demo-") as logs:
        return run_federation(files, f"127.0.0.1:{free_port()}", Path(logs))


def run_federation(files: list[str], address: str, logs: Path) -> int:
    """Start everything and wait for the server; a client that fails ends the demo with its log."""
    with contextlib.ExitStack() as stack:
        server_command = ["server.py", "--address", address, "--hospitals", str(len(files))]
        print(f"\n$ python {' '.join(server_command)}", flush=True)
        server = stack.enter_context(running(server_command, None))
        clients: dict[Path, subprocess.Popen[bytes]] = {}
        for file in files:
            command = ["client.py", f"data/{file}", "--server", address]
            print(f"$ python {' '.join(command)}", flush=True)
            clients[logs / f"{file}.log"] = stack.enter_context(running(command, logs / f"{file}.log"))
        while server.poll() is None or any(client.poll() is None for client in clients.values()):
            for log, client in clients.items():
                if client.poll():
                    print(log.read_text(encoding="utf-8"), file=sys.stderr)
                    return client.returncode
            time.sleep(POLL_SECONDS)
        return server.returncode


@contextlib.contextmanager
def running(command: list[str], log: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """A script of ours as a process, which never outlives the block."""
    with contextlib.ExitStack() as stack:
        output = None if log is None else stack.enter_context(log.open("wb"))
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=output, stderr=output)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=STOP_SECONDS)
                process.kill()
                process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())

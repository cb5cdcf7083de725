"""The whole federation on this machine, as README.md's terminals would run it: data, one server, one client per hospital.

The server's lines go to the screen; each client's go to a log that is shown if the client fails.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10.0


def main() -> int:
    """Exit code of the first process that failed, or 0."""
    print("$ python create_dataset.py", flush=True)
    if failed := subprocess.run([sys.executable, "create_dataset.py"], cwd=ROOT, check=False).returncode:
        return failed
    files = sorted((ROOT / "data").glob("client_*.csv"), key=lambda path: (len(path.name), path.name))
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="fedhealth-demo-") as logs:
        return run_federation(files, address, Path(logs))


def run_federation(files: list[Path], address: str, logs: Path) -> int:
    """Start everything, wait for the server, then for the clients."""
    with contextlib.ExitStack() as stack:
        print(f"\n$ python server.py --address {address} --hospitals {len(files)}", flush=True)
        server = stack.enter_context(running(["server.py", "--address", address, "--hospitals", str(len(files))], None))
        clients = []
        for file in files:
            print(f"$ python client.py data/{file.name} --server {address}", flush=True)
            command = ["client.py", f"data/{file.name}", "--server", address]
            clients.append(
                (stack.enter_context(running(command, logs / f"{file.stem}.log")), logs / f"{file.stem}.log")
            )
        if server.wait():
            return server.returncode
        for client, log in clients:
            if client.wait(timeout=STOP_SECONDS):
                print(log.read_text(), file=sys.stderr)
                return client.returncode
    return 0


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

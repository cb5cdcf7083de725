"""Make docs/report.png and docs/live.png: screenshots by Chromium of a run on synthetic patients, in one process.

python -m docs.make_pictures    (needs chromium: apt-get install chromium)
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fedhealth.cli.terminal import say, script
from fedhealth.common.errors import RunError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr

DOCS = Path(__file__).parent
WIDTH = 1120
LIVE_ROUNDS = 13
"""The live page is shown after this many of the 30 rounds."""


@script
def main(argv: object = None) -> None:
    """Run the federation, write the report and take two screenshots."""
    quiet_libraries()
    from fedhealth.reporting.dashboard.app import Dashboard
    from fedhealth.reporting.html.pages import write_report
    from fedhealth.server.events import RunStarted

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        events = run_federation(folder)
        write_report(folder / "synthetic")
        take_picture(f"file://{folder / 'synthetic' / 'report.html'}", DOCS / "report.png", height=1180, folder=folder)
        board = Dashboard(0)
        (run_started,) = (event for event in events if isinstance(event, RunStarted))
        for member in run_started.members:
            board.show_link("joined", member.name)
        for event in events[: 1 + LIVE_ROUNDS]:
            board.show(event)
        with board.serving() as address:
            take_picture(address, DOCS / "live.png", height=840, folder=folder)


def run_federation(folder: Path) -> list:  # type: ignore[type-arg]
    """The default run on four synthetic hospitals; its run folder is `folder / "synthetic"`."""
    import create_dataset
    from fedhealth.client.app import make_client_app
    from fedhealth.client.hospital_data import HospitalData
    from fedhealth.client.trainers import Trainers
    from fedhealth.config.federation import FederationSettings
    from fedhealth.server.app import make_server_app
    from fedhealth.server.run_directory import make_run_folder
    from fedhealth.server.run_writer import FolderWriter
    from fedhealth.transport.in_process import InProcessGrid

    with silenced_stderr():
        if create_dataset.main(["--source", "synthetic", "--out", str(folder / "data")]):
            raise RunError("create_dataset.py failed to make the synthetic patients")
    names = ["synthetic-cleveland", "synthetic-hungary", "synthetic-switzerland", "synthetic-va"]
    trainers = Trainers()
    apps = {
        name: make_client_app(HospitalData.from_csv(folder / "data" / f"client_{number}.csv", trainers, name))
        for number, name in enumerate(names, start=1)
    }
    grid = InProcessGrid(apps, FederationSettings().to_run_config())
    events: list = []  # type: ignore[type-arg]
    run = make_run_folder(folder / "synthetic")
    server_app = make_server_app(events.append, writer=FolderWriter(run, checkpoints=0, max_wait=0.0, warn=print))
    server_app(grid, grid.context)
    return events


def take_picture(address: str, out: Path, height: int, folder: Path) -> None:
    """Write a screenshot of a page."""
    from PIL import Image

    chromium = shutil.which("chromium")
    if chromium is None:
        raise RunError("chromium is not installed; install it (apt-get install chromium)")
    flags = ["--headless=new", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder / 'browser'}"]
    shot = folder / "shot.png"
    command = [chromium, *flags, f"--window-size={WIDTH},{height}", "--timeout=2000", f"--screenshot={shot}", address]
    subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603  # our own command
    content = io.BytesIO()
    Image.open(shot).convert("RGB").save(content, "PNG", optimize=True)
    out.write_bytes(content.getvalue())
    say(f"wrote {out.name}: {len(content.getvalue()) / 1e3:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())

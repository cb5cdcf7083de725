"""What a run leaves on disk, and how a run that was interrupted finds its way back from there.

Every file appears whole or not at all; the history grows by whole lines. A full disk stops no run: what could not be
written is written when there is room again.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from fedhealth import __version__
from fedhealth.checkpoints import read_last_checkpoint, write_checkpoint
from fedhealth.errors import FedHealthError, RunError, UsageError
from fedhealth.events import Began, Checkpoint, Event, Finished, Past, RoundRecord
from fedhealth.files import append_line, write_file
from fedhealth.run_files import (
    environment_json,
    evaluation_json,
    history_json,
    round_from_json,
    settings_json,
    strict_json,
    summary_json,
    write_json,
    write_long_json,
    write_model,
)
from fedhealth.schema import schema_fingerprint
from fedhealth.settings import FederationSettings, ServerSettings
from fedhealth.strategies import make_strategy

CHECKPOINTS = "checkpoints"
TRY_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Run:
    """An opened run folder, the settings of its run, and what is done already."""

    folder: Path
    settings: FederationSettings
    past: Past | None = None


@contextlib.contextmanager
def opened_run(settings: ServerSettings, warn: Callable[[str], None]) -> Iterator[Run]:
    """A new run folder, or with --resume the one to go on in, held against other servers while the block runs.

    A run that wrote nothing leaves no folder behind.
    """
    with held(settings.resume) if settings.resume else new_run_folder(settings.out) as folder:
        try:
            yield resume_run(folder, settings, warn) if settings.resume else Run(folder, settings.federation())
        except (KeyboardInterrupt, RunError) as error:
            if (folder / "settings.json").exists() and not (folder / "summary.json").exists():
                error.add_note(f"go on with: python server.py --resume {folder}")
            raise


@contextlib.contextmanager
def new_run_folder(out: Path | None) -> Iterator[Path]:
    """A new run folder, held while the block runs; if nothing was written, it is gone afterwards."""
    folder = make_run_folder(out)
    with held(folder):
        try:
            yield folder
        finally:
            remove_empty(
                folder, *([] if out else [folder.parent])
            )  # while it is ours: it may be another server's after


def remove_empty(*folders: Path) -> None:
    """Remove those folders that are empty, up to the first that is not."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def make_run_folder(out: Path | None) -> Path:
    """Create the run folder (default `runs/<time>`), empty and writable, or say why not before anybody waits."""
    folder = out or _unused(Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"a full disk makes files, but takes no byte")
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot write there ({error.strerror}); give another folder") from None
    if (folder / "summary.json").exists() or (folder / "history.jsonl").exists():
        raise UsageError(
            f"--out {folder}: already holds a run; give another folder, or go on with it: --resume {folder}"
        )
    return folder


def _unused(folder: Path) -> Path:
    """The folder, with a number behind it if two runs start in one second."""
    names = (folder, *(folder.with_name(f"{folder.name}_{i}") for i in range(2, 1000)))
    return next(name for name in names if not name.exists())


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Keep other servers out of the folder; the lock goes with the process, however it ends."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"--resume {folder}: cannot be opened ({error.strerror}); give a run folder") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder}: another server is running in it; stop that one first") from None
        yield folder
    finally:
        os.close(descriptor)


# --- going on ---------------------------------------------------------------------------------------------------------


def resume_run(folder: Path, given: ServerSettings, warn: Callable[[str], None]) -> Run:
    """The run of this folder, from its last whole round.

    Raises
    ------
    UsageError
        There is no run to go on with, or flags were given that are not its own.
    """
    settings = read_settings(folder)
    for leftover in folder.rglob(".*.tmp"):  # of a server that was killed while it wrote
        leftover.unlink()
    for each in fields(FederationSettings):
        ours, theirs = getattr(given, each.name), getattr(settings, each.name)
        if ours not in (each.default, theirs):
            flag = each.name.replace("_", "-")
            raise UsageError(f"--{flag} is {ours}, but the run in {folder} was begun with {theirs}; leave --{flag} out")
    checkpoint = read_last_checkpoint(folder / CHECKPOINTS, make_strategy(settings), warn)
    if checkpoint is None:
        warn(f"{folder}: holds no whole round; the run starts again, with its settings")
        cut_history(folder, 0)
        return Run(folder, settings)
    return Run(folder, settings, Past(checkpoint, cut_history(folder, checkpoint.round_num)))


def read_settings(folder: Path) -> FederationSettings:
    """The settings that a run in this folder was begun with, if it can go on with them."""
    if (folder / "summary.json").exists():
        raise UsageError(f"--resume {folder}: this run is finished; its model is {folder / 'model.npz'}")
    try:
        begun = json.loads((folder / "settings.json").read_bytes())
        versions, run_config = (begun["version"], begun["schema"]), dict(begun["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"--resume {folder}: holds no run that has begun; start one without --resume") from None
    if versions != (__version__, schema_fingerprint()):
        raise UsageError(
            f"--resume {folder}: was begun with version {versions[0]}, this is {__version__}; go on with that one"
        )
    return FederationSettings.from_run_config(run_config)


def cut_history(folder: Path, rounds: int) -> list[RoundRecord]:
    """Leave the first `rounds` lines in history.jsonl, and return them."""
    path = folder / "history.jsonl"
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines()[:rounds]
    try:
        records = [round_from_json(json.loads(line)) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError):
        records = []
    if [record.round_num for record in records] != list(range(1, rounds + 1)):
        raise UsageError(f"--resume {folder}: history.jsonl is damaged; a run cannot go on without its past")
    if content != (kept := b"".join(line + b"\n" for line in lines)):
        write_file(path, kept)
    return records


# --- keeping ----------------------------------------------------------------------------------------------------------


class RunKeeper:
    """Writes what an event leaves behind.

    Parameters
    ----------
    keep : how many checkpoints to keep.
    max_wait : seconds to wait for room on the disk at the end of the run, when there is nothing else left to do.
    warn : hears when the disk takes nothing more, and when it does again.
    link : how the hospitals reached the server, for the record.
    """

    def __init__(
        self, folder: Path, keep: int, max_wait: float, warn: Callable[[str], None], link: str = "plain text"
    ) -> None:
        self._folder = folder
        self._keep = keep
        self._max_wait = max_wait
        self._warn = warn
        self._link = link
        self._unwritten: list[Callable[[], None]] = []
        self._complained = False

    def keep(self, event: Event) -> None:
        """Write it now, or as soon as the disk takes it."""
        match event:
            case Began(done=0):
                begun = {**settings_json(event), "environment": {**environment_json(), "link": self._link}}
                self._write(lambda: write_json(self._folder / "settings.json", begun))
            case RoundRecord():
                self._write(lambda: append_line(self._folder / "history.jsonl", strict_json(history_json(event))))
            case Checkpoint():
                if not self._unwritten:
                    self._write(lambda: write_checkpoint(self._folder / CHECKPOINTS, event, self._keep), later=False)
            case Finished():
                self._write(lambda: write_model(self._folder / "model.npz", event))
                if histograms := event.final.histograms:
                    evaluation = evaluation_json(histograms)
                    self._write(lambda: write_long_json(self._folder / "evaluation.json", evaluation))
                self._write(lambda: write_json(self._folder / "summary.json", summary_json(event)))
                self._wait_for_room()
                remove_checkpoints(self._folder / CHECKPOINTS)
            case _:
                pass

    def _write(self, step: Callable[[], None], later: bool = True) -> None:
        """Everything that is still to be written, in order, and then this; a checkpoint is worth no second try."""
        self._unwritten.append(step)
        try:
            while self._unwritten:
                self._unwritten[0]()
                self._unwritten.pop(0)
        except (FedHealthError, OSError) as error:
            if not later:
                self._unwritten.pop()
            if not self._complained:
                self._warn(f"{error}; the run goes on, and what is missing is written as soon as that is possible")
            self._complained = True
            return
        if self._complained:
            self._warn(f"{self._folder}: can be written again, nothing is missing")
        self._complained = False

    def _wait_for_room(self) -> None:
        deadline = time.monotonic() + self._max_wait
        while self._unwritten:
            if time.monotonic() >= deadline:
                raise RunError(f"{self._folder}: could not be written to the end; the hospitals have the final model")
            time.sleep(TRY_AGAIN_SECONDS)
            self._write(lambda: None)


def remove_checkpoints(folder: Path) -> None:
    """A finished run needs none; what cannot be removed does no harm."""
    with contextlib.suppress(OSError):
        for path in folder.glob("*.ckpt"):
            path.unlink()
        folder.rmdir()

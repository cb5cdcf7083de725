"""Resumes an interrupted run: reads its settings, checkpoint and history from its folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec

from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import UsageError
from fedhealth.common.version import __version__
from fedhealth.config.federation import FederationSettings
from fedhealth.config.scripts import ServerSettings
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from fedhealth.server.checkpoints import CHECKPOINTS, ResumeState, read_last_checkpoint
from fedhealth.server.records import RoundRecord, RunDescription
from fedhealth.server.run_files import HISTORY, MODEL, SCHEMA, SETTINGS, SUMMARY, read_json
from fedhealth.server.strategies.registry import make_strategy


@dataclass
class Run:
    """An opened run folder, the settings of its run, and its state if it is resumed."""

    folder: Path
    settings: FederationSettings
    schema: Schema
    past: ResumeState | None = None
    address: str = ""
    """HOST:PORT that the server listens on, once it does: with port 0 in the settings, only this is where it can be found."""


def resume_run(folder: Path, given: ServerSettings, warn: Callable[[str], None]) -> Run:
    """The run of this folder, to be continued after its last completed round.

    Raises
    ------
    UsageError
        There is no run to resume, or a given flag differs from the run's setting.
    """
    begun, schema = read_description(folder), read_schema(folder, given.schema)
    settings = FederationSettings.from_run_config(begun.settings)
    if any(start.link == "TLS" for start in begun.known_starts) and not (given.tls or given.insecure):
        raise UsageError(
            f"--resume {folder}: the run has used TLS; give --tls FOLDER, or --insecure to resume it in plain text"
        )
    for leftover in folder.rglob(".*.tmp"):  # of a server that was killed while it wrote
        leftover.unlink()
    for each in fields(FederationSettings):
        ours, theirs = getattr(given, each.name), getattr(settings, each.name)
        if ours not in (each.default, theirs):
            flag = each.name.replace("_", "-")
            raise UsageError(
                f"--{flag} is {ours}, but the run in {folder} was started with {theirs}; leave --{flag} out"
            )
    strategy = make_strategy(settings, len(begun.hospitals), schema)
    checkpoint = read_last_checkpoint(folder / CHECKPOINTS, strategy, warn)
    if checkpoint is None:
        warn(f"{folder}: contains no checkpoint; the run starts again, with its settings")
        cut_history(folder, 0)
        return Run(folder, settings, schema)
    past = ResumeState(checkpoint, cut_history(folder, checkpoint.evaluated_rounds))
    return Run(folder, settings, schema, leave_out(past, given.without))


def leave_out(past: ResumeState, names: Sequence[str]) -> ResumeState:
    """The state without these hospitals (--without); a `UsageError` if one of them is none of the run's."""
    for name in names:
        if name not in past.remaining and name not in past.checkpoint.dropped:
            raise UsageError(f"--without {name}: is no hospital of this run; give one of {', '.join(past.remaining)}")
    new = [name for name in names if name not in past.checkpoint.dropped]
    return past.without(dict.fromkeys(new, "left out for good (--without)"))


def read_description(folder: Path) -> RunDescription:
    """The description of the run in this folder; raises a `UsageError` if it cannot be resumed."""
    if (folder / SUMMARY).exists():
        raise UsageError(f"--resume {folder}: this run is finished; its model is {folder / MODEL}")
    try:
        begun = read_json(folder / SETTINGS, RunDescription)
    except OSError:
        raise UsageError(f"--resume {folder}: contains no run; start one without --resume") from None
    except ValueError as error:
        raise UsageError(
            f"{folder / SETTINGS}: is damaged, or of another version ({error}); restore it from a copy"
        ) from None
    if begun.version != __version__:
        raise UsageError(
            f"--resume {folder}: was started with version {begun.version}, this is {__version__}; resume it with that version"
        )
    return begun


def read_schema(folder: Path, given: Path | None) -> Schema:
    """The run's schema; raises a `UsageError` if another one is given, or the run folder's is damaged."""
    path = folder / SCHEMA
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file; restore it from a copy, for the run cannot be resumed without its columns"
        )
    schema = load_schema(path)
    if given is not None and load_schema(given).fingerprint != schema.fingerprint:
        raise UsageError(f"--schema {given}: is not the schema of the run in {folder}; leave --schema out")
    return schema


def cut_history(folder: Path, rounds: int) -> list[RoundRecord]:
    """Cut history.jsonl to its first `rounds` lines and return their records."""
    path = folder / HISTORY
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines()[:rounds]
    try:
        records = [msgspec.json.decode(line, type=RoundRecord) for line in lines]
    except ValueError:
        records = []
    if [record.round_num for record in records] != list(range(1, rounds + 1)):
        raise UsageError(f"--resume {folder}: history.jsonl is damaged, so the run cannot be resumed; start a new one")
    if content != (kept := b"".join(line + b"\n" for line in lines)):
        write_file(path, kept)
    return records

#!/usr/bin/env python
"""One hospital joins a federation with one CSV. Weights, sums and counts leave this process; its patients' rows never do."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedhealth.cli.terminal import parse_flags, say, script, warn
from fedhealth.common.errors import FedHealthError, RunError, UsageError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.scripts import ClientSettings
from fedhealth.config.selection import asks_for_choice
from utils import require_writable

if TYPE_CHECKING:
    from pathlib import Path

    from flwr.app import Context, Message

    from fedhealth.client.personalization import Model
    from fedhealth.client.receipts import Receipts
    from fedhealth.data.hospital import Hospital
    from fedhealth.transport.grpc.retry import Attempt
    from fedhealth.transport.tls.identity import Identity


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Check the file, join the server (again and again, if need be), answer it until the run ends."""
    settings = parse_flags(ClientSettings, argv)
    quiet_libraries(settings.verbose)
    from fedhealth.client.receipts import opened_receipts
    from fedhealth.transport.grpc.retry import keep_trying

    seat = take_seat(settings)
    folder = settings.receipts or settings.file.parent / "receipts"
    with opened_receipts(folder, seat.hospital.name, echo=say if settings.verbose else None) as receipts:
        keep_trying(
            lambda attempt: take_part(seat, receipts, attempt),
            settings.server,
            settings.max_wait,
            on_pause=lambda attempts, pause, left, reason: say(
                f"no server at {settings.server} (attempt {attempts}); trying again in {pause:.1f} s, "
                f"giving up in {left:.0f} s ({reason})"
            ),
        )
        say(f"receipts of all that left: {receipts.path} (last hash {receipts.last_hash})")


@dataclass(frozen=True)
class Seat:
    """Who takes part, with what; `splits` collects how servers wanted its patients split."""

    settings: ClientSettings
    hospital: "Hospital"
    identity: "Identity | None"
    node_config: dict[str, Any]
    splits: set[tuple[str, ...]] = field(default_factory=set)


def take_seat(settings: ClientSettings) -> Seat:
    """Check everything that can be checked without a server: flags, certificate, file."""
    from fedhealth.client.participant import read_hospital

    for flag, path in (("save-model", settings.save_model), ("save-personal", settings.save_personal)):
        if path:
            require_writable(path, flag)
    identity, name = None, settings.name
    if settings.tls:
        from fedhealth.transport.tls.identity import load_identity

        identity = load_identity(settings.tls)
        name = identity.name
        if settings.name not in (None, name):
            raise UsageError(f"--name is {settings.name}, but {settings.tls} holds the certificate of {name}")
    if settings.reset_budget:
        forget_budget(settings)
    given = {"name": name, "max-epsilon": settings.max_epsilon, "share-verdict": settings.share_verdict or None}
    node_config = {"data": str(settings.file), "min-count": settings.min_count}
    node_config |= {key: value for key, value in given.items() if value is not None}
    hospital = read_hospital(str(settings.file), name)
    source = f" (so says its certificate; the file says {hospital.name_in_file})" if identity else ""
    shown = source if hospital.name != hospital.name_in_file else ""
    say(
        f"{hospital.name}{shown}: {len(hospital.patients)} patients in {settings.file}; no row of them leaves this computer"
    )
    for warning in (*hospital.warnings, *(identity.warnings if identity else ())):
        warn(warning)
    return Seat(settings, hospital, identity, node_config)


def forget_budget(settings: ClientSettings) -> None:
    """Put aside what was told of the patients of this file by earlier runs."""
    from fedhealth.client.privacy.ledger import reset_budget

    if aside := reset_budget(settings.file):
        warn(f"what earlier runs have told of these patients no longer counts (--reset-budget); it is in {aside}")


def take_part(seat: Seat, receipts: "Receipts", attempt: "Attempt") -> None:
    """Join first, so that the server sees this hospital at once; import TensorFlow while the others join."""
    from fedhealth.client.app import app
    from fedhealth.client.dp_mod import spent_line
    from fedhealth.reporting.console.hospital import client_line
    from fedhealth.transport.grpc.client import join

    server, name = seat.settings.server, seat.hospital.name

    def on_reply(message: "Message", reply: "Message") -> None:
        if line := client_line(message, reply) or spent_line(message, connection.context):
            say(line)
        if message.metadata.message_type == "query.finish":
            look_back(seat.settings, message, connection.context)

    with join(
        server, name, seat.node_config, tls=seat.identity, attempt=attempt, on_join=receipts.write_join
    ) as connection:
        require_same_split(seat, connection.context)
        warn_in_vain(seat.settings, connection.context)
        say(f"joined the federation at {server} as {name}; getting ready to train")
        with silenced_stderr():
            import fedhealth.models.training  # noqa: F401
        connection.serve(receipts.hearing(app), on_reply, on_failure=warn_of, on_send=receipts.write_message)


def require_same_split(seat: Seat, context: "Context") -> None:
    """One start, one split: a server that asks for many could tell patients apart by what their sums differ in."""
    config = context.run_config
    held = config.get("validation") if asks_for_choice(config) else None
    seat.splits.add((str(config.get("seed")), str(config.get("test-share")), str(held)))
    if len(seat.splits) > 1:
        raise RunError(
            "the server asks for another split of the patients (--seed, --test-share, --validation) than before; "
            "if that is meant, start this client again"
        )


def warn_in_vain(settings: ClientSettings, context: "Context") -> None:
    """Name the flags that can have no effect in a run with this server's settings."""
    config = context.run_config
    if settings.save_personal and config.get("personalise") == "none":
        warn("--save-personal: nothing will be saved, for the server wants no personal models (--personalise none)")
    if settings.share_verdict and (config.get("dp-epsilon") or config.get("dp-noise")):
        warn("--share-verdict: nothing will be shared, for no noise covers it (--dp-epsilon at the server)")


def warn_of(error: Exception) -> None:
    """Say, here and not to the server, why a message could not be answered."""
    warn(str(error) if isinstance(error, FedHealthError) else f"{type(error).__name__}: {error}")


def look_back(settings: ClientSettings, message: "Message", context: "Context") -> None:
    """The run is over and the final model is here: say what it is worth to this hospital, save what is to be saved."""
    from fedhealth.client import app
    from fedhealth.client.server_messages import read_threshold
    from fedhealth.reporting.console.hospital import outcome_lines

    threshold = read_threshold(message)
    chosen = "" if threshold is None else f", by which a patient is called ill from a risk of {threshold:g}"
    say(f"the run is over; this hospital has the final model{chosen}")
    outcome = app.look_back(message, context)
    for line in outcome_lines(outcome):
        say(line)
    for flag, path in (("save-model", settings.save_model), ("save-personal", settings.save_personal)):
        model = outcome.models.get("global" if flag == "save-model" else "personal")
        if path and model:
            save(flag, path, model)
        elif path:
            warn(f"--{flag} {path}: there is no personal model, so nothing is saved")


def save(flag: str, path: "Path", own: "Model") -> None:
    """Save one model as it was asked for."""
    from fedhealth.client.local_model import count_inputs
    from fedhealth.models.keras_models import save_model

    name, num_inputs = own.settings.model, count_inputs(own.settings)
    try:
        save_model(path, name, own.weights, num_inputs=num_inputs, standardisation=own.standardisation)
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        which = "final" if flag == "save-model" else "personal"
        raise RunError(f"--{flag} {path}: the {which} model cannot be saved ({reason})") from None
    say(f"saved {'it' if flag == 'save-model' else 'the personal model'} to {path}")


if __name__ == "__main__":
    sys.exit(main())

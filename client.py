"""One hospital joins a federation with one CSV. Weights, sums and counts leave this process; its patients' rows never do."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedhealth.settings import ClientSettings
from fedhealth.terminal import parse_flags, quiet_libraries, say, script, silenced_stderr, warn
from utils import require_writable

if TYPE_CHECKING:
    from flwr.app import Context, Message


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Check the file, join the server (again and again, if need be), answer it until the run ends."""
    settings = parse_flags(ClientSettings, argv)
    quiet_libraries(settings.verbose)
    from fedhealth.data import load_hospital
    from fedhealth.wire.link import keep_trying

    if settings.save_model:
        require_writable(settings.save_model, "save-model")
    hospital = load_hospital(settings.file, settings.name)
    say(f"{hospital.name}: {len(hospital.patients)} patients in {settings.file}; no row of them leaves this computer")
    for warning in hospital.warnings:
        warn(warning)
    keep_trying(
        lambda: take_part(settings, hospital.name),
        max_wait=settings.max_wait,
        on_pause=lambda attempts, pause, left: say(
            f"no server at {settings.server} (attempt {attempts}); trying again in {pause:.1f} s, giving up in {left:.0f} s"
        ),
    )


def take_part(settings: ClientSettings, name: str) -> None:
    """Join first, so that the server sees this hospital at once; import TensorFlow while the others join."""
    from fedhealth.client_app import app
    from fedhealth.console import client_line
    from fedhealth.wire.link import join

    def on_reply(message: "Message", reply: "Message") -> None:
        if line := client_line(message, reply):
            say(line)
        if message.metadata.message_type == "query.finish":
            keep_model(settings, message, connection.context)

    with join(settings.server, name, {"data": str(settings.file), "name": name}) as connection:
        say(f"joined the federation at {settings.server} as {name}; getting ready to train")
        with silenced_stderr():
            import fedhealth.training  # noqa: F401
        connection.serve(app, on_reply, on_failure=lambda error: warn(f"{type(error).__name__}: {error}"))


def keep_model(settings: ClientSettings, message: "Message", context: "Context") -> None:
    """The run is over and the final model is here: save it, if asked to."""
    say("the run is over; this hospital has the final model")
    if settings.save_model:
        from fedhealth.client_app import final_model
        from fedhealth.model import save_model

        save_model(settings.save_model, **final_model(message, context))
        say(f"saved it to {settings.save_model}")


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""One hospital joins a federation with one CSV. Weights, sums and counts leave this process; its patients' rows never do."""

import sys
from collections.abc import Sequence

from fedhealth.cli.terminal import parse_flags, script
from fedhealth.common.runtime_env import quiet_libraries
from fedhealth.config.scripts import ClientSettings
from utils import require_writable


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Check flags and file, join the server, answer it until the run ends, keep the final model."""
    settings = parse_flags(ClientSettings, argv)
    require_writable(settings.save_model, "save-model")
    require_writable(settings.save_personal, "save-personal")
    quiet_libraries(settings.verbose)
    if settings.service:  # takes part in one run after the other, as the hospital's policy allows
        from fedhealth.cli.service.client import serve_file

        serve_file(settings, settings.service)
        return
    from fedhealth.cli.client_session import (
        ClientSession,  # imports Flower and pandas: only for who has given good flags
    )

    # Reads and checks the CSV and, with --tls, the hospital's certificate; no server is needed yet.
    session = ClientSession.prepare(settings)
    # Joins the server and answers its messages: counts and sums for the setup, then, round by round, trained weights and
    # test results. A cut connection is joined again. At the end, prints what the final model is worth here, and saves it.
    session.run()


if __name__ == "__main__":
    sys.exit(main())

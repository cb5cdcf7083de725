"""`python -m fedhealth receipts`: check a hospital's chain of receipts and say what has left."""

import sys
from collections.abc import Sequence

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.common.runtime_env import quiet_libraries
from fedhealth.config.commands import ReceiptsSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Read the chain to its end or to its first broken line."""
    settings = parse_flags(ReceiptsSettings, argv, program="python -m fedhealth receipts")
    quiet_libraries()
    from fedhealth.client.receipts_audit import audit_receipts, audit_text

    say(audit_text(audit_receipts(settings.file, settings.noted), terminal=sys.stdout.isatty()))

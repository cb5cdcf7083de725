"""`python -m fedhealth receipts`: verifies a hospital's chain of receipts and prints what was sent."""

import sys
from collections.abc import Sequence

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.common.runtime_env import quiet_libraries
from fedhealth.config.commands import ReceiptsSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Verify the chain up to its end or its first broken line, and print a summary."""
    settings = parse_flags(ReceiptsSettings, argv, program="python -m fedhealth receipts")
    quiet_libraries()
    from fedhealth.client.receipts_audit import audit_receipts, audit_text

    say(audit_text(audit_receipts(settings.file, settings.noted), terminal=sys.stdout.isatty()))

"""`python -m fedhealth doctor`: checks whether this hospital is ready to take part."""

from collections.abc import Sequence

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.common.runtime_env import quiet_libraries
from fedhealth.config.commands import DoctorSettings


@script
def main(argv: Sequence[str] | None = None) -> int:
    """Run all checks and print their results; exit code 1 if one of them failed."""
    settings = parse_flags(DoctorSettings, argv, program="python -m fedhealth doctor")
    quiet_libraries()
    from fedhealth.client.preflight import Preflight

    all_good = True
    for finding in Preflight(settings).findings():
        shown = "ok" if finding.passed else "SKIPPED" if finding.skipped else "BAD"
        say(f"{shown:<7} {finding.check:<11} {finding.text}")
        for warning in finding.warnings:
            say(f"{'':<7} {'':<11} note: {warning}")
        all_good &= finding.passed
    say("ready to take part" if all_good else "not ready: fix what is BAD, from the top, and run this command again")
    return 0 if all_good else 1

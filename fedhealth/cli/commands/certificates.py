"""`python -m fedhealth certificates`: a folder each for the CA, the server and every hospital."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedhealth.cli.terminal import parse_flags, say, script, warn
from fedhealth.common.text_table import format_table
from fedhealth.config.commands import CertificatesSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Make what is missing and print what goes where, or list what is there."""
    settings = parse_flags(CertificatesSettings, argv, program="python -m fedhealth certificates")
    if settings.list:
        print_list(settings.out)
    else:
        make(settings)


def make(settings: CertificatesSettings) -> None:
    """Make what is missing, replace what is named with --force, and print what goes where."""
    from fedhealth.transport.tls.authority import issue_certificates
    from fedhealth.transport.tls.identity import day

    ca, server, *hospitals = issue_certificates(
        settings.out,
        settings.hospitals,
        settings.server_names,
        days=settings.days,
        ca_days=settings.ca_days,
        force=settings.force,
        server=settings.server,
    )
    for issued in (ca, server, *hospitals):
        names = f" for {', '.join(issued.server_names)}" if issued.server_names else ""
        again = "--server --force" if issued is server else "--force"
        what = "made" if issued.made else f"kept ({again} replaces it)" if issued is not ca else "kept"
        say(f"{issued.folder}: {what}{names}, valid until {day(issued.not_after)}")
    if server.missing:
        names = " ".join(server.missing)
        every = " ".join((*server.server_names, *server.missing))
        warn(f"{server.folder}: the kept certificate lacks {names}; replace it with --force --server-names {every}")
    if server.dropped:
        warn(f"{server.folder}: the new certificate lacks {' '.join(server.dropped)}, which the old one had")
    if server.made or settings.server or settings.server_names:
        say(f"copy {server.folder} to the server's computer:  python server.py --tls {server.folder} ...")
    for hospital, name in zip(hospitals, settings.hospitals, strict=True):
        say(f"copy {hospital.folder} to {name}:  python client.py FILE --name '{name}' --tls {hospital.folder} ...")
    if settings.supernodes:
        print_supernode_keys([issued.folder for issued in hospitals], settings.force)
    say(f"{ca.folder / 'ca.key'}: do not copy it; whoever has it can make certificates for this federation")


def print_list(out: Path) -> None:
    """Print a line for each certificate: folder, subject, server names, end, days left."""
    from fedhealth.transport.tls.identity import day
    from fedhealth.transport.tls.inventory import list_certificates

    lines = [
        (
            str(listed.folder),
            listed.subject or "(none)",
            " ".join(listed.server_names) or "-",
            day(listed.not_after),
            str(listed.days_left) if listed.days_left >= 0 else "expired",
        )
        for listed in list_certificates(out)
    ]
    headings = ("folder", "subject", "server names", "valid until", "days left")
    say(format_table(headings, lines, text_columns=4, terminal=sys.stdout.isatty()))


def print_supernode_keys(folders: Iterable[Path], force: bool) -> None:
    """Make the keys of Flower's SuperNodes and print the commands that register them."""
    from fedhealth.transport.tls.supernode_keys import PRIVATE, PUBLIC, ensure_supernode_keys

    for folder in folders:
        made = ensure_supernode_keys(folder, force=force)
        say(f"{folder / PRIVATE}: {'made' if made else 'kept'}; register it at the SuperLink:")
        say(f"  flwr supernode register {folder / PUBLIC} NAME-OF-THE-SUPERLINK")

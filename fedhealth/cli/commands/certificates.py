"""`python -m fedhealth certificates`: a folder each for the CA, the server and every hospital."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.config.commands import CertificatesSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Make the missing certificates and print where to copy each folder."""
    settings = parse_flags(CertificatesSettings, argv, program="python -m fedhealth certificates")
    from fedhealth.transport.tls.authority import issue_certificates
    from fedhealth.transport.tls.identity import day

    ca, server, *hospitals = issue_certificates(
        settings.out,
        settings.hospitals,
        settings.server_names,
        days=settings.days,
        ca_days=settings.ca_days,
        force=settings.force,
    )
    for issued in (ca, server, *hospitals):
        names = f" for {', '.join(issued.server_names)}" if issued.server_names else ""
        what = "made" if issued.made else "kept (--force replaces it)" if issued is not ca else "kept"
        say(f"{issued.folder}: {what}{names}, valid until {day(issued.not_after)}")
    say(f"copy {server.folder} to the server's computer:  python server.py --tls {server.folder} ...")
    for hospital, name in zip(hospitals, settings.hospitals, strict=True):
        say(f"copy {hospital.folder} to {name}:  python client.py FILE --name '{name}' --tls {hospital.folder} ...")
    if settings.supernodes:
        print_supernode_keys([issued.folder for issued in hospitals], settings.force)
    say(f"{ca.folder / 'ca.key'}: do not copy it; whoever has it can make certificates for this federation")


def print_supernode_keys(folders: Iterable[Path], force: bool) -> None:
    """Make the keys of Flower's SuperNodes and print the commands that register them."""
    from fedhealth.transport.tls.supernode_keys import PRIVATE, PUBLIC, ensure_supernode_keys

    for folder in folders:
        made = ensure_supernode_keys(folder, force=force)
        say(f"{folder / PRIVATE}: {'made' if made else 'kept'}; register it at the SuperLink:")
        say(f"  flwr supernode register {folder / PUBLIC} NAME-OF-THE-SUPERLINK")

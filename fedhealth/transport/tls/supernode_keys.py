"""Key pairs for the authentication of Flower's SuperNodes, in OpenSSH format, beside a hospital's certificate."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fedhealth.common.errors import UsageError

PRIVATE, PUBLIC = "supernode.key", "supernode.pub"


def ensure_supernode_keys(folder: Path, *, force: bool) -> bool:
    """Write both keys into a hospital's folder if they are missing or `force` is set; True if they were written.

    Raises
    ------
    UsageError
        The folder cannot be written to.
    """
    paths = (folder / PRIVATE, folder / PUBLIC)
    if all(path.exists() for path in paths) and not force:
        return False
    key = ec.generate_private_key(ec.SECP384R1())  # Flower requires a NIST curve
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    try:
        for path, content, mode in zip(paths, (private, public + b"\n"), (0o600, 0o644), strict=True):
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); give another folder with --out") from None
    return True

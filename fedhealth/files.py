"""Files that appear whole or not at all."""

import os
from pathlib import Path

from fedhealth.errors import UsageError


def write_file(path: Path, content: bytes) -> None:
    """Write under a temporary name beside `path`, then rename: a reader sees the old file or the new, never half of one.

    Raises
    ------
    UsageError
        The folder cannot be made or written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); give another folder with --out") from error

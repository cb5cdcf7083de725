"""The bytes of the files in a folder or a zip, or of a single file, within limits; nothing is unpacked to disk."""

import hashlib
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from fedhealth.common.errors import UsageError
from fedhealth.common.safe_text import printable, printable_path

MAX_BYTES = 10_000_000
"""Most bytes that one raw file may have, unpacked; the largest real one has 79346."""
MAX_FILES = 50
"""Most files that one folder or zip may offer."""
MAX_ENTRIES = 20_000
"""Most entries of a folder tree or zip that are looked at."""

# All that zipfile raises on damaged, encrypted or exotic archives (found by feeding it damaged ones).
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    OverflowError,
)

Wanted = Callable[[str], bool]
"""Whether a file is wanted, by its bare name in lower case."""


def sha256_of(content: bytes) -> str:
    """Hex sum, as `sha256sum` prints it."""
    return hashlib.sha256(content).hexdigest()


def bare_name(path: str) -> str:
    """`some/folder/Heart.csv` or `some.zip:Heart.csv` -> `Heart.csv`."""
    return re.split(r"[/\\:]", path)[-1]


def is_wanted(path: str, wanted: Wanted) -> bool:
    """Whether `wanted`, and not one of the shadow files that macOS leaves behind."""
    name = bare_name(path).lower()
    return not name.startswith(".") and "__MACOSX" not in path and wanted(name)


def check_limits(files: dict[str, bytes], source: str) -> None:
    """Raise a `UsageError` when too many or too large files were found."""
    if len(files) > MAX_FILES or sum(map(len, files.values())) > 2 * MAX_BYTES:
        raise UsageError(f"{source}: too many or too large files that could be meant; give one of them")


def check_size(content: bytes, file: str) -> bytes:
    """Return `content`, or raise a `UsageError` if it is larger than any raw file."""
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"{file}: more than {MAX_BYTES // 10**6} MB, far more than a heart-disease file; give another file"
        )
    return content


def read_file(path: Path) -> bytes:
    """Bytes of one ordinary file, at most `MAX_BYTES`; a `UsageError` if it cannot be read."""
    if not path.is_file():
        raise UsageError(f"{path}: not a file; give an ordinary file, a folder or a zip")
    try:
        with path.open("rb") as stream:
            return check_size(stream.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def list_folder(folder: Path) -> list[Path]:
    """Files anywhere inside, sorted; links to folders are not followed."""
    found: list[Path] = []
    for parent, _, names in os.walk(folder):
        found += [Path(parent, name) for name in names]
        if len(found) > MAX_ENTRIES:
            raise UsageError(
                f"{folder}: more than {MAX_ENTRIES} files inside; give the folder that holds only the data"
            )
    return sorted(found)


def read_folder(folder: Path, wanted: Wanted) -> dict[str, bytes]:
    """Shown path -> bytes of the wanted files anywhere inside."""
    paths = [path for path in list_folder(folder) if is_wanted(str(path), wanted)]
    files: dict[str, bytes] = {}
    for path in paths:
        files[printable_path(str(path))] = read_file(path)
        check_limits(files, str(folder))
    return files


def read_zip(stream: IO[bytes], source: str, wanted: Wanted) -> dict[str, bytes]:
    """Shown path (`source:member`) -> bytes of the wanted members.

    Raises
    ------
    UsageError
        Not a zip, one cut short, an encrypted one, or one that unpacks to too much.
    """
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(stream) as archive:
            members = [member for member in archive.infolist()[:MAX_ENTRIES] if is_wanted(member.filename, wanted)]
            for member in members:
                shown = f"{source}:{printable_path(member.filename)}"
                # The size in the archive's directory may lie: read one byte past the limit instead of trusting it.
                with archive.open(member) as content:
                    files[shown] = check_size(content.read(MAX_BYTES + 1), shown)
                check_limits(files, source)
    except ZIP_ERRORS as error:
        reason = printable(str(error) or type(error).__name__)
        raise UsageError(f"{source}: not a zip archive that can be read ({reason}); fetch it again") from error
    return files


def read_files(path: Path, wanted: Wanted) -> dict[str, bytes]:
    """Shown path -> bytes of the wanted files in a folder, in a zip, or of the single file itself."""
    if path.is_dir():
        return read_folder(path, wanted)
    if path.is_file() and zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            return read_zip(stream, str(path), wanted)
    content = read_file(path)
    if content.startswith(b"PK") or path.suffix.lower() == ".zip":
        raise UsageError(f"{path}: not a zip archive, or one cut short; fetch it again")
    return {str(path): content} if wanted(path.name.lower()) else {}

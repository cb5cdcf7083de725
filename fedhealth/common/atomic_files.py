"""Atomic writes of files and lines, and locks between processes."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedhealth.common.errors import RunError, UsageError

if TYPE_CHECKING:
    from filelock import FileLock

BINARY: int = getattr(os, "O_BINARY", 0)
"""Windows only: without it `os.write` writes each line feed as two bytes."""


def write_file(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write under a temporary name beside `path`, then rename: a reader sees the old file or the new, never part of one.

    Parts of the content are written one after the other.

    Raises
    ------
    UsageError
        The folder cannot be created or written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); give another folder with --out") from error


def append_line(path: Path, line: str) -> None:
    """Append one line, whole or not at all, and flush it to disk.

    Raises
    ------
    RunError
        The disk is full, or the file cannot be written to.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | BINARY, 0o644)
        try:
            before, content = os.fstat(descriptor).st_size, line.encode() + b"\n"
            try:
                if os.write(descriptor, content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def make_lock(path: Path, *, wait: bool = True) -> "FileLock":
    """The lock for `locked`."""
    from filelock import FileLock

    return FileLock(path.with_name(f".{path.name}.lock"), blocking=wait)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True, lock: "FileLock | None" = None) -> Iterator[None]:
    """Lock `path` against other processes while the block runs; the lock ends with the process, however that ends.

    The lock is a hidden file beside `path`, not `path` itself: on Windows a locked file cannot be read. Whoever locks often
    makes the `lock` once (`make_lock`), which takes half of the time.

    Raises
    ------
    BlockingIOError
        Another process holds it, and `wait` is False.
    OSError
        The file system does not allow writing or locking there.
    """
    from filelock import Timeout

    path.parent.stat()  # raises if the folder does not exist; the library would create it
    lock = lock or make_lock(path, wait=wait)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path)) from None
    try:
        yield
    finally:
        with contextlib.suppress(
            OSError
        ):  # Windows cannot remove an open file; there the library removes it on release
            Path(lock.lock_file).unlink()
        lock.release()

"""Atomic writes of files and lines, and locks between processes."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fedhealth.common.errors import RunError, UsageError

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


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock `path` against other processes while the block runs; the lock ends with the process, however that ends.

    The lock is a hidden file beside `path`, not `path` itself: on Windows a locked file cannot be read.

    Raises
    ------
    BlockingIOError
        Another process holds it, and `wait` is False.
    OSError
        The file system does not allow writing or locking there.
    """
    from filelock import FileLock, Timeout

    path.parent.stat()  # raises if the folder does not exist; the library would create it
    lock = FileLock(path.with_name(f".{path.name}.lock"), blocking=wait)
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


@contextlib.contextmanager
def briefly_locked(path: Path) -> Iterator[None]:
    """As `locked`, for a few system calls that are made often: a tenth of its time where the system has `flock`.

    Processes that share a file must all use the same of the two functions.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        with locked(path):
            yield
        return
    lock_path = path.with_name(f".{path.name}.lock")
    descriptor = _flock(lock_path, fcntl.flock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock_path.unlink()
        os.close(descriptor)


def _flock(lock_path: Path, flock: Callable[[int, int], object], exclusive: int) -> int:
    """A descriptor that holds the lock; another process may have removed the file while this one waited for it."""
    while True:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            flock(descriptor, exclusive)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)

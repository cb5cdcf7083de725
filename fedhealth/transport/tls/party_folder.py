"""Writes the folder of one party (server, hospital or CA) as a whole: never incomplete, its keys never readable by others."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def write_folder(folder: Path, files: Mapping[str, bytes], *, replace: bool) -> None:
    """Create a folder atomically, readable by its owner only from the start.

    With `replace` an existing folder is replaced; its other files (such as the keys of a SuperNode) are kept.
    """
    with _new_folder(folder.parent) as fresh:
        for name, content in files.items():
            mode = 0o600 if name.endswith("key") or name == "key.pem" else 0o644
            with os.fdopen(os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if replace and folder.exists():
            _copy_others(folder, fresh)
            _put_in_place_of(folder, fresh)
        else:
            fresh.rename(folder)  # fails if another process has created it in the meantime


def _copy_others(folder: Path, fresh: Path) -> None:
    """Copy to `fresh` what it lacks of `folder`, with its modes."""
    for path in folder.iterdir():
        if not (fresh / path.name).exists():
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, fresh / path.name)


def _put_in_place_of(folder: Path, fresh: Path) -> None:
    """Replace `folder` by `fresh`; the old folder is deleted afterwards, or restored if the replacement fails."""
    aside = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent)) / folder.name
    try:
        folder.rename(aside)
        fresh.rename(folder)
    except BaseException:
        if not folder.exists():
            aside.rename(folder)
        raise
    finally:
        if folder.exists():
            shutil.rmtree(aside.parent, ignore_errors=True)


@contextmanager
def _new_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder of mode 0700 that is removed after the block, unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

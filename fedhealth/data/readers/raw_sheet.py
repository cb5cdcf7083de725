"""What a reader returns: the cells as the file stores them."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable

LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    *(
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        SyntaxError,
        TypeError,
        ValueError,
    ),
    *(zipfile.BadZipFile, zlib.error),
)
"""What the libraries raise for a damaged file."""


@dataclass(frozen=True)
class RawSheet:
    """A file as rows of cells: text, numbers, dates, or None for a missing one."""

    header: list[str]
    rows: list[tuple[int, list[Any]]]
    """(row number, cells) of each patient; the number is the one that a spreadsheet of the file would show."""
    changed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What was done to cells -> column -> number of cells."""
    labels: Mapping[str, Mapping[float, str]] = field(default_factory=dict)
    """Column -> code -> its label, where the file has labels for codes."""
    notes: tuple[str, ...] = ()
    """Lines about the file as a whole."""


def number_rows(columns: Iterable[list[Any]]) -> list[tuple[int, list[Any]]]:
    """The rows of a file without row numbers: the header would be row 1 of a spreadsheet, the first patient row 2."""
    return [(row, list(cells)) for row, cells in enumerate(zip(*columns, strict=True), start=2)]


@contextmanager
def damaged(path: Path, name: str, errors: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what a library raises for a damaged file into a `DataError` of one line."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        raise UsageError(f"{path}: needs the package {package}; pip install -r requirements-formats.txt") from None
    except LIBRARY_ERRORS + errors as error:
        reason = printable(" ".join(str(error).split()), 80) or type(error).__name__
        raise DataError([f"{path}: cannot be read as {name} ({reason}); export it again, or as a CSV"]) from None

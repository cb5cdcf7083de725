"""Files of SPSS, Stata and SAS -> `RawSheet`.

Codes stay codes, whatever labels the file has for them: an order of categories says nothing about codes. Values that the file
marks as missing (SPSS's user-missing values, Stata's .a to .z, SAS's .A to .Z) are missing, and counted.
"""

import io
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedhealth.common.errors import DataError
from fedhealth.data.file_kinds import NAMES, Format
from fedhealth.data.readers.raw_sheet import RawSheet, damaged, number_rows

if TYPE_CHECKING:
    from pyreadstat import metadata_container

MARKED = "what the file marks as missing (user-missing) is read as missing"
ZERO = "what SAS stores as 5.4e-79 is read as 0"
TINY = 1e-70
"""SAS's transport format has no number below 5.4e-79, which some programs write for 0; nothing measured is so small."""
MEMBER = (b"HEADER RECORD*******MEMBER  HEADER RECORD!!!!!!!", b"HEADER RECORD*******MEMBV8  HEADER RECORD!!!!!!!")
RECORD = 80
"""Bytes of each record of the transport format (SAS Technical Support TS-140)."""


def read_statistics(content: bytes, path: Path, form: Format) -> RawSheet:
    """All columns of an SPSS, Stata or SAS file.

    Raises
    ------
    DataError
        The file is damaged, or a transport file that holds several data sets.
    UsageError
        The package that reads it is not installed.
    """
    if form == "sas transport":
        check_transport(content, path)
    with damaged(path, NAMES[form], _errors()):
        columns, facts = _reader(form)(io.BytesIO(content))
    changed: dict[str, dict[str, int]] = {MARKED: {}, ZERO: {}}
    cells = []
    for name, values in columns.items():
        known = mark_missing(values, name, facts)
        changed[MARKED][name] = sum(value is None for value in known) - sum(value is None for value in values)
        if form == "sas transport":
            known, changed[ZERO][name] = clear_zeros(known)
        cells.append([np.float32(value) if is_single(value, name, facts) else value for value in known])
    labels = {name.strip(): numeric_labels(known) for name, known in facts.variable_value_labels.items()}
    return RawSheet([name.strip() for name in columns], number_rows(cells), changed, labels)


def _errors() -> tuple[type[Exception], ...]:
    """What pyreadstat raises besides Python's own errors; none without the package, which the reader then reports."""
    try:
        import pyreadstat
    except ImportError:
        return ()
    return (pyreadstat.ReadstatError, pyreadstat.PyreadstatError)


def _reader(form: Format) -> Callable[[io.BytesIO], tuple[Mapping[str, list[Any]], "metadata_container"]]:
    """Pyreadstat's function for a format; `read_xport` has no user-missing values to report."""
    import pyreadstat

    if form == "sas transport":
        return lambda stream: pyreadstat.read_xport(stream, output_format="dict")
    read = {"spss": pyreadstat.read_sav, "stata": pyreadstat.read_dta, "sas": pyreadstat.read_sas7bdat}[form]
    return lambda stream: read(stream, output_format="dict", user_missing=True)


def check_transport(content: bytes, path: Path) -> None:
    """Refuse a transport file that was cut off, as it has no number of rows; or with several data sets.

    The second data set would be read as patients of the first (findings/transport_data_sets.sh).
    """
    if len(content) % RECORD:
        raise DataError([f"{path}: ends within a record of {RECORD} bytes, so it was cut off; export or copy it again"])
    starts = range(0, len(content), RECORD)
    count = sum(content.startswith(MEMBER, start) for start in starts)
    if count > 1:
        raise DataError(
            [f"{path}: holds {count} SAS data sets; write the one with the patients into a file of its own"]
        )


def mark_missing(values: list[Any], name: str, facts: "metadata_container") -> list[Any]:
    """The values with None for what the file marks as missing."""
    ranges = facts.missing_ranges.get(name, [])
    is_text = facts.readstat_variable_types[name] == "string"
    return [
        None if (isinstance(value, str) and not is_text) or _in_ranges(value, ranges) else value for value in values
    ]


def _in_ranges(value: Any, ranges: list[Mapping[str, Any]]) -> bool:
    """Whether one of SPSS's user-missing ranges has the value."""
    if isinstance(value, str):
        return any(value == each["lo"] for each in ranges)
    return isinstance(value, Real) and any(each["lo"] <= value <= each["hi"] for each in ranges)


def clear_zeros(values: list[Any]) -> tuple[list[Any], int]:
    """The values with 0 for the smallest number of the transport format, and how many there were."""
    tiny = [isinstance(value, float) and 0 < abs(value) < TINY for value in values]
    return [0.0 if is_tiny else value for is_tiny, value in zip(tiny, values, strict=True)], sum(tiny)


def is_single(value: Any, name: str, facts: "metadata_container") -> bool:
    """Whether a number has four bytes (Stata's usual type, `float`)."""
    return isinstance(value, float) and facts.readstat_variable_types[name] == "float"


def numeric_labels(labels: Mapping[Any, str]) -> dict[float, str]:
    """Number -> its label; texts and Stata's .a to .z with a label are left out."""
    return {float(code): str(label) for code, label in labels.items() if isinstance(code, Real)}

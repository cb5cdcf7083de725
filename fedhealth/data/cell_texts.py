"""A cell that a program stored with a type -> the text that a CSV would have for it."""

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np

EXACT = 2.0**53
"""Below it, every whole number is a float of its own."""


def number_text(value: Any) -> str:
    """The shortest decimal text that gives the same stored number again, without an exponent; empty for NaN.

    The number's own precision counts: a 5.2 of four bytes (Stata's `float`, Parquet's `float32`) is 5.2.
    """
    if np.isnan(value):
        return ""
    if value.is_integer() and abs(float(value)) < EXACT:
        return str(int(value))
    return np.format_float_positional(value, trim="-")


def cell_text(value: Any) -> str:
    """The text of a cell of any type, without blanks at its ends; a missing one is empty, dates and times are ISO."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, float | np.floating):
        return number_text(value)
    return time_text(value) if isinstance(value, date | time) else str(value)


def time_text(value: date | time) -> str:
    """ISO text; a moment at midnight is a date, which is how Excel stores a date."""
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    return value.isoformat()

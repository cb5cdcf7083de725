"""Text that console, report and model card share."""

POOLED = "all (pooled)"
"""The label of all hospitals' patients taken together; no hospital can have this name (`data/hospital.py`)."""

NOT_DISCLOSED = "not disclosed"
"""Instead of a hospital's own figure in a run with secure aggregation."""


def number(value: float | None, digits: int = 3) -> str:
    """A metric as text; n/a if it is undefined."""
    return "n/a" if value is None else f"{value:.{digits}f}"

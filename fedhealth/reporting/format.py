"""Numbers as text."""


def number(value: float | None, digits: int = 3) -> str:
    """A metric, or n/a where it is undefined."""
    return "n/a" if value is None else f"{value:.{digits}f}"

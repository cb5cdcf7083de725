"""The table of a run with --feasibility: who lacks what."""

from fedhealth.common.text_table import format_table
from fedhealth.server.feasibility_record import Feasibility


def feasibility_text(found: Feasibility, terminal: bool) -> str:
    """A line for each feature: how many patients of each hospital lack it; above it, patients and outcomes."""
    each = found.hospitals.values()
    missing = [
        (name, *("all" if report.missing[name] == report.patients else str(report.missing[name]) for report in each))
        for name in next(iter(each)).missing
    ]
    lines = [
        ("patients", *(str(report.patients) for report in each)),
        (f"with the outcome ({found.outcome})", *(str(report.outcome) for report in each)),
        *((f"lack {name}", *counts) for name, *counts in missing),
    ]
    return format_table(("", *found.hospitals), lines, text_columns=1, terminal=terminal)

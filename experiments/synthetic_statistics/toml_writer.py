"""Write the fitted statistics as `fitted.toml`, one line per statistic, with a header that explains them."""

from pathlib import Path
from typing import Any

from fedhealth.common.atomic_files import write_file
from fedhealth.data.sources.fitted import STATISTICS_FILE, FittedStatistics

HEADER = """\
# Aggregate statistics of the UCI Heart Disease data (920 patients of four hospitals), from which
# fedhealth/data/sources/synthetic.py samples patients. Rounded; every statistic is of at least 5 patients.
#
# Made by:  python -m experiments.synthetic_statistics FOLDER     (FOLDER holds the four UCI files)
# Source:   Janosi, Steinbrunn, Pfisterer & Detrano (1988), Heart Disease, UCI Machine Learning Repository, CC BY 4.0,
#           https://doi.org/10.24432/C52P4X
#
# patients      exact number in the group (the data's own description has it)
# n             number of patients with a value of the column, to the nearest 5
# quantiles     at 1/k, 2/k, ... (k - 1)/k of them; k is 20, 10 or 4, so that every step holds 5 patients or more
# counts        of patients by code (codes: data/README.md), to the nearest 5; fewer than 5 are left out
# missing       of patients by pattern of missing columns, to the nearest 5, in the order of missing columns of the
#               exercise test; a pattern of fewer than 5 patients is counted with the most similar one
# correlations  of the underlying normal variables, each with those before it: age, sex, ... num, missing. The group's
#               own are mixed with those over all hospitals (same label) in the ratio number of patients : 75, except
#               those with missing, which are its own; a pair with fewer than 20 patients has only the latter, or 0
# ends          range of values to sample: values that at least 5 patients reach or pass, rounded outward
#
# A section without a column had fewer than 20 observed values of it: [all.healthy] or [all.ill] is used instead.
# A group without missing patterns (8 patients, or too many rare patterns) uses its hospital's [all.missing].
"""


def format_statistics(fitted: FittedStatistics) -> str:
    """The statistics as TOML text, one line per statistic."""
    lines = [HEADER.rstrip()]
    for place, sections in fitted.items():
        for title, section in sections.items():
            tables = {f"{title}.{key}": section[key] for key in ("missing", "correlations") if key in section}
            plain = {key: value for key, value in section.items() if f"{title}.{key}" not in tables}
            for name, table in ({title: plain} | tables).items():
                lines += ["", f"[{place}.{name}]"] if table else []
                lines += [f"{format_key(key)} = {format_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def format_key(key: str) -> str:
    """A TOML key, quoted if it has a space."""
    return f'"{key}"' if " " in key else key


def format_value(value: Any) -> str:
    """A number, a list of numbers or a flat table as TOML; whole numbers have no decimal point."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{format_key(key)} = {format_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    return f"{value:g}"


def write_statistics(fitted: FittedStatistics, path: Path = STATISTICS_FILE) -> None:
    """Write the statistics to `path`."""
    write_file(path, format_statistics(fitted).encode())

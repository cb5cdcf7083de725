"""`python -m fedhealth coefficients`: prints the odds ratios of a run with the strategy newton."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.common.errors import UsageError
from fedhealth.config.results import CoefficientsSettings

if TYPE_CHECKING:
    from fedhealth.metrics.odds_ratios import OddsRatios


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of one run folder."""
    settings = parse_flags(CoefficientsSettings, argv, program="python -m fedhealth coefficients")
    from fedhealth.reporting.odds_ratio_table import as_csv, as_json, as_table

    odds_ratios = read_odds_ratios(settings.run)
    if settings.format == "table":
        say(as_table(odds_ratios, terminal=sys.stdout.isatty()))
    else:
        say((as_csv if settings.format == "csv" else as_json)(odds_ratios).rstrip("\n"))


def read_odds_ratios(folder: Path) -> "OddsRatios":
    """The odds ratios in a run folder.

    Raises
    ------
    UsageError
        The folder holds no run, or one that has not ended or has another strategy.
    """
    from fedhealth.reporting.html.run_reader import read_run

    run = read_run(folder)
    if run.summary is None:
        raise UsageError(f"{folder}: the run has not ended; give a folder with a summary.json")
    if run.summary.odds_ratios is None:
        raise UsageError(
            f"{folder}: the run was trained with {run.settings.settings['strategy']}, which has no odds ratios; "
            "train one with server.py --strategy newton"
        )
    return run.summary.odds_ratios

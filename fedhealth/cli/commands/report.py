"""`python -m fedhealth report`: page and model card of a run, or one page that compares several."""

from collections.abc import Sequence
from pathlib import Path

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.config.results import ReportSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Write what the run folders tell."""
    settings = parse_flags(ReportSettings, argv, program="python -m fedhealth report")
    from fedhealth.reporting.html.pages import compare_runs, write_report

    if len(settings.runs) > 1:
        out = settings.out or Path("comparison.html")
        compare_runs(settings.runs, out)
        say(f"wrote {out}: {len(settings.runs)} runs compared")
        return
    (folder,) = settings.runs
    write_report(folder, settings.out)
    say(f"wrote {settings.out or folder / 'report.html'} and {folder / 'MODEL_CARD.md'}")

"""`python -m fedhealth report`: writes report and model card of a run, or a comparison of several runs."""

from collections.abc import Sequence

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.config.results import ReportSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Write the report of one run folder, or the comparison of several."""
    settings = parse_flags(ReportSettings, argv, program="python -m fedhealth report")
    from fedhealth.reporting.html.pages import compare_runs, write_report

    if len(settings.runs) > 1:
        out = compare_runs(settings.runs, settings.out)
        say(f"wrote {out}: {len(settings.runs)} runs compared")
        return
    (folder,) = settings.runs
    write_report(folder, settings.out)
    say(f"wrote {settings.out or folder / 'report.html'} and {folder / 'MODEL_CARD.md'}")

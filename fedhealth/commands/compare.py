"""`python -m fedhealth compare`: what federation is worth, on the same patients and seeds."""

import sys
from collections.abc import Sequence
from pathlib import Path

from fedhealth.settings import UCI_URL, CompareSettings
from fedhealth.terminal import parse_flags, quiet_libraries, say, script, silenced_stderr, warn

RAW = Path("data/raw")


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Load the patients, run the study, show and keep what came out."""
    settings = parse_flags(CompareSettings, argv, program="python -m fedhealth compare")
    quiet_libraries()
    from fedhealth.compare import keep_study, load_patients, run_study
    from fedhealth.compare.page import console_text

    source, path = load_patients(settings.source, url=UCI_URL, raw_folder=RAW, say=say)
    say(source.description)
    for line in source.warnings:
        warn(line)
    with silenced_stderr():
        import fedhealth.training  # noqa: F401
    study = run_study(
        source,
        path,
        protocols=settings.protocol,
        strategies=settings.strategy,
        settings=settings.federation(settings.strategy[0]),
        seeds=settings.seeds,
        say=say,
        choose=settings.choose,
        epsilons=settings.dp_epsilon,
    )
    say(console_text(study, sys.stdout.isatty()))
    for written in keep_study(study, settings.out, settings.page, settings.flags()):
        say(f"written: {written}")

"""`python -m experiments.compare`: compare local, federated and central training on the same patients and seeds."""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.settings import CompareSettings
from fedhealth.cli.terminal import parse_flags, say, script, warn
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.scripts import UCI_URL

RAW = Path("data/raw")


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Load the patients, run the study, print its tables and write its files."""
    settings = parse_flags(CompareSettings, argv, program="python -m experiments.compare")
    quiet_libraries()
    from experiments.page import console_text
    from experiments.study import load_patients, run_study, write_study

    source, path = load_patients(settings.source, url=UCI_URL, raw_folder=RAW, say=say)
    say(source.description)
    for line in source.warnings:
        warn(line)
    with silenced_stderr():
        import fedhealth.models.training  # noqa: F401
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
    for written in write_study(study, settings.out, settings.page, settings.flags()):
        say(f"wrote {written}")


if __name__ == "__main__":
    sys.exit(main())

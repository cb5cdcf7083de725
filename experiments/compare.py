"""`python -m experiments.compare`: compare local, federated and central training on the same patients and seeds."""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.settings import CompareSettings, Protocol
from fedhealth.cli.terminal import parse_flags, say, script, warn
from fedhealth.common.errors import UsageError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.scripts import UCI_URL
from fedhealth.data.schema_file import heart_disease, load_schema

RAW = Path("data/raw")


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Load the patients, run the study, print its tables and write its files."""
    settings = parse_flags(CompareSettings, argv, program="python -m experiments.compare")
    quiet_libraries()
    from experiments.page import console_text
    from experiments.splits import deal_to_hospitals
    from experiments.study import load_patients, run_study, write_study

    schema = load_schema(settings.schema)
    protocols = possible_protocols(settings) if schema != heart_disease() else settings.protocol
    source, path = load_patients(settings.source, schema, url=UCI_URL, raw_folder=RAW, say=say)
    say(source.description)
    for line in source.warnings:
        warn(line)
    with silenced_stderr():
        import fedhealth.models.training  # noqa: F401
    study = run_study(
        source,
        path,
        schema,
        deal_to_hospitals(schema, source.table, settings.split, settings.clients),
        protocols=protocols,
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


def possible_protocols(settings: CompareSettings) -> Sequence[Protocol]:
    """The protocols for another table than the heart disease data's; raises a `UsageError` if none is left."""
    if settings.page is not None:
        raise UsageError("--page writes about the heart disease data; leave it out with --schema")
    protocols = [each for each in settings.protocol if each != "flamby"]
    if not protocols:
        raise UsageError("--protocol flamby needs the four UCI files; give --protocol cv with --schema")
    if len(protocols) < len(settings.protocol):
        say("left out: --protocol flamby, which needs the four UCI files")
    return protocols


if __name__ == "__main__":
    sys.exit(main())

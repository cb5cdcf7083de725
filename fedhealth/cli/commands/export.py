"""`python -m fedhealth export`: a run's model for other programs."""

from collections.abc import Sequence

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.results import ExportSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Read the model, write it in the format that the file's ending names."""
    settings = parse_flags(ExportSettings, argv, program="python -m fedhealth export")
    quiet_libraries()
    from fedhealth.data.preprocessing import encoded_names
    from fedhealth.models.export import export_model
    from fedhealth.models.saved_model import read_model

    model = read_model(settings.run)
    with silenced_stderr():  # TensorFlow tells of graphics cards and of its optimiser
        export_model(model, settings.to)
    inputs = len(encoded_names(model.missing_indicators))
    say(f"wrote {settings.to}: {inputs} encoded features in (fedhealth.data.preprocessing.encode), risk out")
    if "synthetic" in str(model.about["dataset"]):
        say("trained on SYNTHETIC patients: its risks say nothing about real people")

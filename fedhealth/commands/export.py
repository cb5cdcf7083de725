"""`python -m fedhealth export`: a run's model for other programs."""

from collections.abc import Sequence

from fedhealth.settings.results import ExportSettings
from fedhealth.terminal import parse_flags, quiet_libraries, say, script, silenced_stderr


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Read the model, write it in the format that the file's ending names."""
    settings = parse_flags(ExportSettings, argv, program="python -m fedhealth export")
    quiet_libraries()
    from fedhealth.export import export_model
    from fedhealth.model_file import read_model
    from fedhealth.preprocessing import encoded_names

    model = read_model(settings.run)
    with silenced_stderr():  # TensorFlow tells of graphics cards and of its optimiser
        export_model(model, settings.to)
    inputs = len(encoded_names(model.missing_indicators))
    say(f"wrote {settings.to}: {inputs} encoded features in (fedhealth.preprocessing.encode), risk out")
    if "synthetic" in str(model.about["dataset"]):
        say("trained on SYNTHETIC patients: its risks say nothing about real people")

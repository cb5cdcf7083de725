"""`python -m fedhealth export`: writes a run's model in a format of another program."""

from collections.abc import Sequence

from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.results import ExportSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Read the model and write it in the format of the file name's ending."""
    settings = parse_flags(ExportSettings, argv, program="python -m fedhealth export")
    quiet_libraries()
    from fedhealth.models.export import export_model
    from fedhealth.models.export_readme import SYNTHETIC
    from fedhealth.models.predict import is_synthetic
    from fedhealth.models.saved_model import read_model

    model = read_model(settings.run)
    with silenced_stderr():  # TensorFlow logs lines about graphics cards and its optimiser
        readme = export_model(model, settings.to)
    say(f"wrote {settings.to}: input {len(model.schema.features)} columns (NaN where missing), output risk")
    say(f"wrote {readme}: the columns, the threshold, and five lines of Python that predict")
    if is_synthetic(model):
        say(SYNTHETIC)

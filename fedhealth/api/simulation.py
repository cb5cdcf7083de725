"""A federation in this process."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedhealth.api.settings import check_settings
from fedhealth.common.errors import UsageError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import ModelName, StrategyName
from fedhealth.data.schema_file import heart_disease

if TYPE_CHECKING:
    import pandas as pd
    from flwr.serverapp.strategy import Strategy

    from fedhealth.api.run import Round, Run
    from fedhealth.client.trainers import Trainers
    from fedhealth.data.hospital import Hospital
    from fedhealth.data.schema import Schema
    from fedhealth.models.keras_models import BuildModel

NO_WAIT = 1.0
"""Seconds; in one process no hospital is waited for."""


def simulate(
    hospitals: "str | Path | Mapping[str, Hospital | pd.DataFrame]",
    *,
    strategy: "StrategyName | Strategy" = FederationSettings.strategy,
    model: "ModelName | BuildModel" = FederationSettings.model,
    schema: str | Path | None = None,
    on_round: "Callable[[Round], object] | None" = None,
    **settings: Any,
) -> "Run":
    """A federation in this process, by the two apps of a run over the network: the same seed gives the same weights.

    Parameters
    ----------
    hospitals : what `load_hospitals` returns or takes.
    strategy : a name (`server.py --help`), or a `flwr.serverapp.strategy.Strategy`.
    model : "logistic", "mlp", or a function from the number of inputs to a Keras model that maps standardised inputs
        (num_patients, num_inputs) to log odds (num_patients, 1). Such a function seeds its own initialisers.
    schema : the schema file (TOML) of tables and files; None: heart disease. Hospitals that are loaded already have theirs.
    on_round : called after every round; `print` prints the console's line.
    settings : other flags of `server.py`, such as `rounds=30` or `learning_rate=0.1`.

    Raises
    ------
    UsageError
        A setting is out of its range, or the model cannot be trained here.
    DataError
        A table has faults: one line for each.
    RunError
        Hospitals cannot take part, and too few are left.
    """
    quiet_libraries()
    from flwr.serverapp.strategy import Strategy

    from fedhealth.api.hospitals import load_hospitals
    from fedhealth.api.run import RoundCollector, Run
    from fedhealth.client.app import make_client_app
    from fedhealth.client.hospital_data import HospitalData
    from fedhealth.client.limits import SIMULATED_LIMITS
    from fedhealth.server.app import federate
    from fedhealth.transport.in_process import InProcessGrid

    given = {"strategy": strategy, "model": model}
    if not isinstance(strategy, (str, Strategy)):
        raise UsageError(f"strategy is {strategy!r}; give a name, or an instance of a Flower strategy")
    if not (isinstance(model, str) or callable(model)):
        raise UsageError(f"model is {model!r}; give a name, or a function that builds a Keras model")
    if not (on_round is None or callable(on_round)):
        raise UsageError(f"on_round is {on_round!r}; give a function")
    words = {setting: value for setting, value in given.items() if isinstance(value, str)}
    objects = {setting: _name_of(value) for setting, value in given.items() if not isinstance(value, str)}
    loaded = load_hospitals(hospitals, schema)
    columns = _common_schema(loaded)
    chosen = FederationSettings(**check_settings(FederationSettings, {"hospitals": len(loaded), **words, **settings}))
    trainers = _load_trainers(None if isinstance(model, str) else model)
    trainer = trainers.trainer(columns, chosen)  # refuses a model that cannot be trained, before any hospital is asked
    apps = {
        name: make_client_app(HospitalData(hospital, trainers, SIMULATED_LIMITS)) for name, hospital in loaded.items()
    }
    collector, grid = RoundCollector(on_round), InProcessGrid(apps, chosen.to_run_config())
    own_strategy = None if isinstance(strategy, str) else strategy
    federate(grid, chosen, collector, max_wait=NO_WAIT, schema=columns, strategy=own_strategy, objects=objects)
    return Run(collector.started, collector.finished, trainer=trainer)


def _common_schema(hospitals: "Mapping[str, Hospital]") -> "Schema":
    """The schema that all hospitals have; a `UsageError` if two have different ones."""
    schemas = {hospital.schema.fingerprint: (name, hospital.schema) for name, hospital in hospitals.items()}
    if len(schemas) > 1:
        (one, _), (other, _), *_ = schemas.values()
        raise UsageError(f"{one} and {other} have different schemas; load both with the same schema file")
    return next(iter(schemas.values()))[1] if schemas else heart_disease()


def _name_of(given: object) -> str:
    """The name of a function, or of an object's class."""
    return str(getattr(given, "__name__", type(given).__name__))


def _load_trainers(build: "BuildModel | None") -> "Trainers":
    from fedhealth.client.trainers import Trainers

    with silenced_stderr():
        from fedhealth.models.training import Trainer
    return Trainers(partial(Trainer, build=build) if build else Trainer)

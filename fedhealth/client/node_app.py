"""The hospitals' app for Flower's own engines (`flwr run`), which start processes and pass only a node config."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedhealth.client.app import make_client_app
from fedhealth.client.error_mod import error_mod
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import describe_node_config, read_limits
from fedhealth.client.masking_party import MaskingParty, read_pins
from fedhealth.client.masking_state import MaskingState, masking_path
from fedhealth.client.trainers import Trainers
from fedhealth.client.virtual import KEPT_HOSPITALS, VirtualSource, read_partition
from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.data.decimals import Decimal
from fedhealth.data.readers.read_any import ReadOptions, load_options
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from fedhealth.transport.tls.identity import load_identity

KEPT_SOURCES = 4
"""Number of simulations whose patient sources one process keeps."""
Key = tuple[Any, ...]


class NodeApp(ClientApp):
    """Replies for the node that Flower names; builds its hospital at the first message and caches recent hospitals.

    A SuperNode's node config has `data`, the path of a CSV, and may have `schema` (the path of its schema file), `sheet`,
    `decimal`, `mapping`, `name`, `min-count`, `max-epsilon`, `require-dp`, `share-verdict`, and for secure aggregation
    `secure-aggregation`, `tls`, `pin` and `accept-roster`; a node of a simulation has `partition-id`. Any other key is
    refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self._trainers = Trainers()
        self._apps = BoundedCache[Key, ClientApp](KEPT_HOSPITALS)
        self._sources = BoundedCache[tuple[EngineSettings, int], VirtualSource](KEPT_SOURCES)

    def __call__(self, message: Message, context: Context) -> Message:
        """The reply of the context's node; an error reply if its hospital cannot be built."""
        return error_mod(message, context, self._reply)

    def _reply(self, message: Message, context: Context) -> Message:
        node_config = context.node_config
        # The types are part of the key: Python's 1 and True are equal, but not as limits.
        key: Key = tuple((name, type(value), value) for name, value in sorted(node_config.items()))
        if "data" in node_config:
            app = self._apps.get(key, lambda: self._make_app(node_config))
        else:
            limits = read_limits(node_config)
            number, source = read_partition(node_config), self._source_of(context.run_config)
            app = self._apps.get((source, *key), lambda: make_client_app(source.make(number, limits)))
        return app(message, context)

    def _make_app(self, node_config: Mapping[str, Any]) -> ClientApp:
        """The app of the hospital whose CSV the node config names."""
        limits, name = read_limits(node_config), node_config.get("name")
        logging.getLogger("flwr").info("%s", describe_node_config(node_config, limits))
        path, shown = Path(str(node_config["data"])), None if name is None else str(name)
        schema, options = read_file_options(node_config)
        masking = read_masking(path, node_config)
        if masking.identity and shown not in (None, masking.identity.name):
            raise UsageError(
                f"name is {shown} in the node config, but tls has the certificate of {masking.identity.name}"
            )
        shown = masking.identity.name if masking.identity else shown
        hospital = HospitalData.from_csv(
            path, self._trainers, shown, limits, schema=schema, options=options, masking=masking
        )
        return make_client_app(hospital)

    def _source_of(self, run_config: Mapping[str, Any]) -> VirtualSource:
        """The source of a simulation's patients; raises a `RunError` if the run config is invalid."""
        try:
            seed = FederationSettings.from_run_config(run_config).seed
            engine = EngineSettings.from_run_config(run_config)
        except UsageError as error:
            raise RunError(f"the server's settings are invalid: {error}") from None
        return self._sources.get((engine, seed), partial(VirtualSource, engine, seed, self._trainers))


def read_file_options(node_config: Mapping[str, Any]) -> tuple[Schema, ReadOptions]:
    """The schema of a node's file and how it is read: the keys are the flags of client.py."""
    given = {key: str(node_config[key]) for key in ("schema", "sheet", "decimal", "mapping") if key in node_config}
    schema_file, mapping = (Path(given[key]) if key in given else None for key in ("schema", "mapping"))
    decimals: dict[str, Decimal] = {each: each for each in get_args(Decimal)}
    decimal = decimals.get(given.get("decimal", "auto"))
    if decimal is None:
        raise UsageError(f"decimal is {given['decimal']} in the node config; give {', '.join(decimals)}")
    schema = load_schema(schema_file)
    return schema, load_options(schema, given.get("sheet"), decimal, mapping)


def read_masking(path: Path, node_config: Mapping[str, Any]) -> MaskingParty:
    """The keys of a node under secure aggregation; it needs `tls`, the folder of its certificate."""
    given = {key: str(node_config[key]) for key in ("tls", "pin", "accept-roster") if key in node_config}
    return MaskingParty(
        MaskingState(masking_path(path)),
        load_identity(Path(given["tls"])) if "tls" in given else None,
        is_local=False,
        pins=read_pins(Path(given["pin"])) if "pin" in given else None,
        accepted=frozenset(given.get("accept-roster", "").split()),
    )


app = NodeApp()
"""The clientapp named in pyproject.toml."""

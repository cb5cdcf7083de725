"""flwr_federated_health: hospitals train one risk model together; no patient row leaves a hospital.

From Python: `load_hospitals`, `simulate`, `Server`, `Client` (imported when they are first used).
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedhealth.common.version import __version__

if TYPE_CHECKING:
    from fedhealth.api.hospitals import load_hospitals
    from fedhealth.api.network import Client, Server
    from fedhealth.api.run import Run
    from fedhealth.api.simulation import simulate

__all__ = ["Client", "Run", "Server", "__version__", "load_hospitals", "simulate"]

_MODULES = {
    "Client": "network",
    "Run": "run",
    "Server": "network",
    "load_hospitals": "hospitals",
    "simulate": "simulation",
}


def __getattr__(name: str) -> Any:
    """A name of the Python face; TensorFlow, pandas and Flower are imported by those that need them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"fedhealth.api.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """With the names that have not been used yet."""
    return sorted({*globals(), *__all__})

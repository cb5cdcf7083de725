"""What a strategy asks of a hospital's training beside plain descent: FedProx's pull back and SCAFFOLD's correction.

A hospital's own control variate lives in its `Context`, which never leaves it and is gone when it restarts.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message
from numpy.typing import NDArray

from fedhealth.arrays import read_array
from fedhealth.control_variates import control_change, count_steps
from fedhealth.settings import FederationSettings

if TYPE_CHECKING:
    from fedhealth.training import Steering

CONTROL = "control"
"""Name of the variates in a message and in a hospital's memory."""


def find_steering(message: Message, context: Context, names: Sequence[str]) -> "Steering | None":
    """What the message asks for; None for plain descent. `names` are the model's weights in order."""
    from fedhealth.training import Steering

    proximal_mu = cast(float, message.content.config_records["config"].get("proximal-mu", 0.0))
    if CONTROL not in message.content.array_records:
        return Steering(proximal_mu=proximal_mu) if proximal_mu else None
    shared, own = _controls(message, context, names)
    return Steering(correction=[mean - mine for mean, mine in zip(shared, own, strict=True)])


def keep_control(
    message: Message,
    context: Context,
    trained: Mapping[str, NDArray[np.float32]],
    settings: FederationSettings,
    num_patients: int,
) -> None:
    """Bring the hospital's own variate up to date after a round that gave the weights `trained`."""
    if CONTROL not in message.content.array_records:
        return
    shared, own = _controls(message, context, list(trained))
    steps = count_steps(num_patients, settings.batch_size, settings.local_epochs)
    arrays = message.content.array_records["arrays"]
    sent = [read_array(arrays[name]) for name in trained]
    changes = control_change(shared, sent, list(trained.values()), steps, settings.learning_rate)
    now = (Array(mine + change) for mine, change in zip(own, changes, strict=True))
    context.state[CONTROL] = ArrayRecord(dict(zip(trained, now, strict=True)))


def _controls(
    message: Message, context: Context, names: Sequence[str]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """The federation's variate, from the message, and the hospital's own, which starts from 0."""
    shared = [read_array(message.content.array_records[CONTROL][name]) for name in names]
    if CONTROL not in context.state.array_records:
        return shared, [np.zeros_like(values) for values in shared]
    return shared, [read_array(context.state.array_records[CONTROL][name]) for name in names]

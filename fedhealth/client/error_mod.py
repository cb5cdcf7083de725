"""A Flower mod of the hospital's app: limits what an error discloses to the server.

Flower's engines send the text of any error to the server, and an error text may contain a patient's values.
"""

import logging
import sys

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from fedhealth.common.errors import FedHealthError
from fedhealth.common.runtime_env import quiet_tensorflow
from fedhealth.transport.messages import RUN_ID, failure_reply


def error_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The app's reply; an error is logged here in full, and the server gets `failure_reply`.

    Our own engines, whose run id is `RUN_ID`, do the same themselves; there the error is raised again.
    """
    if "keras" not in sys.modules:
        quiet_tensorflow()  # Flower may have started this process; our scripts have done it before
    try:
        return call_next(message, context)
    except Exception as error:
        if context.run_id == RUN_ID:
            raise
        known = isinstance(error, FedHealthError)
        logging.getLogger("flwr").error("%s", error, exc_info=None if known else error)
        return failure_reply(message, error)

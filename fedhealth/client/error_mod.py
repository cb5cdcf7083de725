"""A mod of the hospital's app: which words of an error are sent to the server.

Flower's engines send the text of any error to the server, and that of ours may quote a patient's values.
"""

import logging

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from fedhealth.common.errors import FedHealthError
from fedhealth.common.runtime_env import quiet_tensorflow
from fedhealth.transport.messages import RUN_ID, failure_reply


def answer_in_own_words(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The mod: an error is logged here in full, and sent to the server as on our own link.

    Our own engines (which number their only run) do the same themselves.
    """
    quiet_tensorflow()  # Flower may have started this process; our scripts have done it before
    try:
        return call_next(message, context)
    except Exception as error:
        if context.run_id == RUN_ID:
            raise
        known = isinstance(error, FedHealthError)
        logging.getLogger("flwr").error("%s", error, exc_info=None if known else error)
        return failure_reply(message, error)

"""Environment variables and log levels of the libraries, set before their first import."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


def quiet_tensorflow() -> None:
    """Silence TensorFlow's messages about missing GPUs, and make it sum in a fixed order: one thread, no oneDNN.

    One thread is also faster: the models are small, and several clients may share two cores. Keras must not read keras.json,
    since a user's `floatx` or backend would give this hospital another model than the others.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = __file__  # a file: Keras finds no keras.json in it, and can write none
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Discard stderr of native libraries: TensorFlow logs about missing GPUs before its log level can be set."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def quiet_libraries(verbose: bool = False) -> None:
    """Turn off telemetry, update checks and log output of flwr, grpc and TensorFlow; call before they are imported."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    quiet_tensorflow()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Flower sets its logger's level when it is imported, but does not change `disabled`.
    logging.getLogger("flwr").disabled = not verbose

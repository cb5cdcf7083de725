"""The environment of a process: switches of the libraries, set before their first import."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


def quiet_tensorflow() -> None:
    """No word about missing GPUs, and sums in the same order everywhere: one thread per operation, no oneDNN.

    The models are tiny, and four clients may share two cores. Keras reads no keras.json: a user's `floatx` or backend would
    give this hospital another model than the others have.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = __file__  # a file: Keras finds no keras.json in it, and can write none
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Close the mouth of native libraries: TensorFlow logs about missing GPUs before any of its switches can be read."""
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
    """Keep the libraries from calling home and from talking; before the first import of flwr, grpc or TensorFlow.

    Flower reads `FLWR_TELEMETRY_ENABLED` when it is imported.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    quiet_tensorflow()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Flower sets the level of its logger when it is imported, but leaves this switch alone.
    logging.getLogger("flwr").disabled = not verbose

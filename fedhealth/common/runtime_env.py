"""Environment variables and log levels of the libraries, set before their first import."""

import contextlib
import ctypes
import gc
import logging
import os
import sys
from collections.abc import Iterator

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""malloc.h of glibc."""
LARGE_ALLOCATION = 1024 * 1024
"""Bytes."""
NEW_OBJECTS = 20_000
"""After how many new objects Python looks for garbage among the young ones; 700 is usual."""


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


def return_large_memory() -> None:
    """Let the C library give the memory of large arrays back to the system as soon as they are freed (glibc only).

    Otherwise it raises the size from which it does so to that of the largest array that was ever freed; smaller ones then
    lie between the chunks of messages, and a server with a 20 MB model holds 100 MB that nothing uses.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        set_option = ctypes.CDLL(None).mallopt
        set_option(M_MMAP_THRESHOLD, LARGE_ALLOCATION)
        set_option(M_TRIM_THRESHOLD, 16 * LARGE_ALLOCATION)


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python look for cyclic garbage rarely, and not among what is imported, which takes 0.1 s each time.

    With a thousand hospitals that was a third of a server's round.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


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

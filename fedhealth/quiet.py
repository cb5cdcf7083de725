"""What must be said to TensorFlow before its first import, in whatever process that is."""

import os


def quiet_tensorflow() -> None:
    """No word about missing GPUs, and sums in the same order everywhere: one thread per operation, no oneDNN.

    The models are tiny, and four clients may share two cores.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

"""client.py with the NumPy trainer: `python -m tests.support.numpy_client FILE --server ...` imports no TensorFlow.

For tests of everything but training. Does not support differential privacy, whose trainer is Keras only.
"""

import sys
from types import SimpleNamespace

import client
from fedhealth.models.numpy_training import NumpyTrainer

if __name__ == "__main__":
    # The client takes its trainer from this module, which it imports after it has joined.
    sys.modules["fedhealth.models.training"] = SimpleNamespace(Trainer=NumpyTrainer)  # type: ignore[assignment]
    sys.exit(client.main())

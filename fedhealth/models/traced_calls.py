"""Traced TensorFlow functions that are called with tensors only."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def trace(function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Sequence[tf.Tensor]]:
    """The traced function, to be called with exactly the tensors of its signature; returns its results one after the other.

    A `ConcreteFunction` first binds its arguments by name and type, which takes a quarter of the time of a small training.
    """
    traced = tf.function(function).get_concrete_function(*signature)
    return lambda *tensors: traced.inference_fn.call_flat(*tensors, *traced.captured_inputs)

"""Flower's `Array` to and from NumPy without `numpy.save`, which is slow, and `numpy.load`, which also is not safe."""

import io
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray

NUMPY = "numpy.ndarray"
"""Flower's serialisation type of these arrays."""


def make_array(values: NDArray[Any]) -> Array:
    """The values as Flower's `Array`, in C order; the same bytes as `numpy.save` writes, in a tenth of the time."""
    dtype, shape = name_of(values.dtype), values.shape
    data = b"".join((header_of(dtype, shape), np.ascontiguousarray(values).data))
    return fill_array(dtype, shape, NUMPY, data)


@lru_cache(maxsize=64)
def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a type, as "float32"; NumPy puts it together each time."""
    return str(dtype)


def fill_array(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> Array:
    """Flower's `Array` without its checks, which take longer than all else here."""
    array = Array.__new__(Array)
    array.__dict__.update(dtype=dtype, shape=shape, stype=stype, data=data)
    return array


def read_array(array: Array) -> NDArray[Any]:
    """The array's values, read-only and without a copy.

    The bytes are accepted only if they start with exactly the header that NumPy writes for the array's declared type
    and shape, and have the matching length. Nothing is parsed and no memory is allocated for untrusted bytes: a header
    of a hundred bytes can claim a petabyte, or be an archive.

    Raises
    ------
    ValueError
        The bytes do not match the declared type and shape.
    """
    shape = tuple(array.shape)
    for order in ("C", "F"):
        header = _header(array.dtype, shape, order)
        if array.stype == NUMPY and header and array.data.startswith(header):
            dtype = np.dtype(array.dtype)
            if len(array.data) - len(header) == dtype.itemsize * math.prod(shape) and dtype.subdtype is None:
                return np.frombuffer(array.data, dtype=dtype, offset=len(header)).reshape(shape, order=order)
    raise ValueError(f"its bytes do not match the declared type {array.dtype} and shape {shape}")


def read_arrays(arrays: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
    """The values of all arrays by name (see `read_array`)."""
    return {name: read_array(array) for name, array in arrays.items()}


def header_of(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The bytes before the values of an array in C order."""
    return _header(dtype, shape, "C")


@lru_cache(maxsize=256)
def _header(dtype: str, shape: tuple[int, ...], order: str) -> bytes:
    """The header that `numpy.save` writes for an array of this type and shape; empty if there is no such array."""
    try:
        header = io.BytesIO()
        description = np.lib.format.dtype_to_descr(np.dtype(dtype))
        np.lib.format.write_array_header_1_0(
            header, {"descr": description, "fortran_order": order == "F", "shape": shape}
        )
        return header.getvalue()
    except (TypeError, ValueError, SyntaxError):
        return b""

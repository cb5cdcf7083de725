"""Flower's `Array` -> NumPy without the copy and the parsing of `numpy.load`, which are slow and not safe with strangers."""

import io
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray


def read_array(array: Array) -> NDArray[Any]:
    """The array's values, read-only and without a copy.

    Bytes that another program sent are taken only if they begin as NumPy begins an array of the type and shape that the
    array says it has, and are as many. Nothing is parsed and no memory is taken on their word: a header of a hundred bytes
    can claim a petabyte, or be an archive.

    Raises
    ------
    ValueError
        The bytes are not the array that they are said to be.
    """
    shape = tuple(array.shape)
    for order in ("C", "F"):
        header = _header(array.dtype, shape, order)
        if array.stype == "numpy.ndarray" and header and array.data.startswith(header):
            dtype = np.dtype(array.dtype)
            if len(array.data) - len(header) == dtype.itemsize * math.prod(shape) and dtype.subdtype is None:
                return np.frombuffer(array.data, dtype=dtype, offset=len(header)).reshape(shape, order=order)
    raise ValueError(f"its bytes are not what they say they are (type {array.dtype}, shape {shape})")


def read_arrays(arrays: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
    """The values of all arrays by name, as `read_array` gives them."""
    return {name: read_array(array) for name, array in arrays.items()}


@lru_cache(maxsize=256)
def _header(dtype: str, shape: tuple[int, ...], order: str) -> bytes:
    """What `numpy.save` writes before the values of such an array; nothing if there is no such."""
    try:
        header = io.BytesIO()
        description = np.lib.format.dtype_to_descr(np.dtype(dtype))
        np.lib.format.write_array_header_1_0(
            header, {"descr": description, "fortran_order": order == "F", "shape": shape}
        )
        return header.getvalue()
    except (TypeError, ValueError, SyntaxError):
        return b""

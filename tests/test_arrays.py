"""Reading an array fast is reading it right."""

import io

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedhealth.arrays import read_array

ANY_ARRAY = hnp.arrays(
    dtype=st.sampled_from(["float32", "float64", "int64", "int8", "bool", "complex64"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(ANY_ARRAY)
def test_every_array_is_what_flower_makes_of_it(values: np.ndarray) -> None:
    array = Array(values)
    np.testing.assert_array_equal(read_array(array), array.numpy())
    assert read_array(array).dtype == values.dtype


def test_a_weight_matrix_is_not_copied() -> None:
    array = Array(np.ones((32, 16), dtype=np.float32))
    values = read_array(array)
    assert not values.flags.owndata
    assert np.shares_memory(values, np.frombuffer(array.data, dtype=np.uint8))


@pytest.mark.parametrize(
    "write",
    [
        lambda values, file: np.save(file, np.asfortranarray(values)),
        lambda values, file: np.lib.format.write_array(file, values, version=(2, 0)),
        lambda values, file: np.save(file, values.astype(">f4")),
    ],
    ids=["fortran order", "another version of the format", "big endian"],
)
def test_other_layouts_are_left_to_flower(write: object) -> None:
    values, file = np.arange(6, dtype=np.float32).reshape(2, 3), io.BytesIO()
    write(values, file)  # type: ignore[operator]
    array = Array(dtype="float32", shape=(2, 3), stype="numpy.ndarray", data=file.getvalue())
    np.testing.assert_array_equal(read_array(array), values)


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", Array(np.ones(3, dtype=np.float32)).data[:-1]])
def test_damaged_bytes_are_an_error_and_never_wrong_values(data: bytes) -> None:
    array = Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=data)
    with pytest.raises((ValueError, EOFError, OSError)):
        read_array(array)


def test_a_header_that_contradicts_the_metadata_is_not_trusted() -> None:
    array = Array(dtype="float32", shape=(2, 3), stype="numpy.ndarray", data=Array(np.ones(6, dtype=np.float32)).data)
    assert read_array(array).shape == array.numpy().shape == (6,)

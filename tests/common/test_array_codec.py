"""The fast reader of arrays gives the right values or an error."""

import io

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedhealth.common.array_codec import make_array, read_array

ANY_ARRAY = hnp.arrays(
    dtype=st.sampled_from(["float32", "float64", "int64", "int8", "bool", "complex64"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(ANY_ARRAY)
def test_every_array_is_read_as_flower_reads_it(values: np.ndarray) -> None:
    array = Array(values)
    np.testing.assert_array_equal(read_array(array), array.numpy())
    assert read_array(array).dtype == values.dtype


def test_a_weight_matrix_is_not_copied() -> None:
    array = Array(np.ones((32, 16), dtype=np.float32))
    values = read_array(array)
    assert not values.flags.owndata
    assert np.shares_memory(values, np.frombuffer(array.data, dtype=np.uint8))


@given(ANY_ARRAY)
def test_an_array_is_made_as_flower_makes_it(values: np.ndarray) -> None:
    made, theirs = make_array(values), Array(values)
    assert (made.dtype, tuple(made.shape), made.stype) == (theirs.dtype, tuple(theirs.shape), theirs.stype)
    assert made.data == theirs.data


@given(ANY_ARRAY)
def test_an_array_that_is_no_block_of_memory_is_made_in_c_order(values: np.ndarray) -> None:
    np.testing.assert_array_equal(read_array(make_array(values.T)), values.T)


@given(ANY_ARRAY)
def test_an_array_that_lies_column_by_column_is_read_as_well(values: np.ndarray) -> None:
    array = Array(np.asfortranarray(values))
    np.testing.assert_array_equal(read_array(array), values)


@given(dtype=st.sampled_from([">f4", "<f8", "int16", "uint8"]))
def test_every_order_of_bytes_is_read_as_what_it_is(dtype: str) -> None:
    array = Array(np.arange(6).astype(dtype).reshape(2, 3))
    np.testing.assert_array_equal(read_array(array), [[0, 1, 2], [3, 4, 5]])


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, w=np.ones(3, np.float32))
    return file.getvalue()


def big_endian() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3, ">f4"))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        b"\x93NUMPY\x01\x00\x04\x00((((",
        b"\x93NUMPY\x01\x00\x04\x00\0\0\0\0",
        b"PK\x03\x04 no archive",
        b"PK\x05\x06" + b"\0" * 18,
        archive(),
        header((10**15,)),
        header((2**40, 2**40)),
        header((-3,)) + b"\0" * 12,
        header((3,), "|O") + b"\0" * 24,
        header((3,)) + b"\0" * 11,
        header((3,)) + b"\0" * 13,
        header((3, 1)) + b"\0" * 12,
        big_endian(),
    ],
)
def test_bytes_that_do_not_match_the_declared_array_raise_an_error(data: bytes) -> None:
    array = Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=data)
    with pytest.raises(ValueError, match=r"do not match the declared type float32 and shape \(3,\)"):
        read_array(array)


@given(
    dtype=st.sampled_from(["float32", "object", "V8", "U3", "f4,f4", "(2,)f4", "M8[s]", ""]) | st.text(max_size=8),
    shape=st.lists(st.integers(-(2**70), 2**70) | st.integers(-1, 3), max_size=3).map(tuple),
    stype=st.sampled_from(["numpy.ndarray", "pickle", ""]),
    values=st.binary(max_size=40),
)
def test_any_declared_array_is_read_or_raises_an_error(
    dtype: str, shape: tuple[int, ...], stype: str, values: bytes
) -> None:
    try:
        data = header(shape, np.lib.format.dtype_to_descr(np.dtype(dtype))) + values
    except Exception:  # noqa: BLE001  # there is no such header
        data = values
    array = Array(dtype=dtype, shape=shape, stype=stype, data=data)
    try:
        read = read_array(array)
    except ValueError:
        return
    assert read.shape == shape
    assert read.dtype == np.dtype(dtype)

"""One column of an Arrow batch -> numbers, where that gives exactly what `cell_words.py` gives; None for any other cell."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedhealth.data.cell_words import OTHER_MARKS, QUIET_MARKS, parse_cell
from fedhealth.data.decimals import OTHER, SIGNS, Reading, read_as
from fedhealth.data.schema import Column

if TYPE_CHECKING:
    import pyarrow as pa


def text_type(column: Column) -> "pa.DataType":
    """The type in which Arrow reads a column that holds texts: words of codes, or numbers and marks of a missing value."""
    import pyarrow as pa

    return pa.string() if column.is_number else pa.dictionary(pa.int32(), pa.string())


def type_for(shown: "pa.DataType", column: Column) -> "pa.DataType":
    """The type for a column of which Arrow has found a type in the first rows."""
    import pyarrow as pa

    if pa.types.is_null(shown) and column.is_number:
        return pa.float64()
    return shown if pa.types.is_integer(shown) or pa.types.is_floating(shown) else text_type(column)


def take_numbers(
    array: "pa.Array", column: Column, reading: Reading, numbers: NDArray[np.float64]
) -> Counter[str] | None:
    """Write a column's numbers, words as their codes, NaN where missing; None if a cell may be read in another way.

    Returns
    -------
    The marks of a missing value that deserve a warning, and in how many cells they are.
    """
    import pyarrow as pa

    marks = Counter[str]()
    if pa.types.is_dictionary(array.type):
        return _take_words(array, column, reading, numbers)
    if pa.types.is_string(array.type):
        try:
            array, marks = _without_marks(array, reading)
        except pa.ArrowException:
            return None
    numbers[:] = array.to_numpy(zero_copy_only=False)
    are_numbers = np.count_nonzero(np.isfinite(numbers)) == len(array) - array.null_count  # "inf" and "-nan" are none
    return marks if are_numbers else None


def may_have_mark(array: "pa.Array", reading: Reading) -> bool:
    """Whether numbers of a column may be written with a decimal mark, or one between thousands."""
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_string(array.type):
        return bool(compute.any(compute.match_substring(array, SIGNS[reading])).as_py())
    return bool(pa.types.is_floating(array.type))


def _take_words(
    array: "pa.DictionaryArray", column: Column, reading: Reading, numbers: NDArray[np.float64]
) -> Counter[str] | None:
    """The same for a column of words and codes."""
    texts = [text.strip() for text in array.dictionary.to_pylist()]
    if any(read_as(OTHER[reading], text) for text in texts):
        return None
    codes = np.array([parse_cell(column, read_as(reading, text) or text) for text in texts])
    if np.isinf(codes).any():
        return None
    places = array.indices.to_numpy()
    numbers[:] = codes[places]
    counts = dict(zip(texts, np.bincount(places, minlength=len(texts)).tolist(), strict=True))
    return Counter({text: count for text, count in counts.items() if text.lower() in OTHER_MARKS})


def _without_marks(array: "pa.Array", reading: Reading) -> tuple["pa.Array", Counter[str]]:
    """The numbers in a column of texts, null where missing; and the marks that deserve a warning."""
    import pyarrow as pa
    from pyarrow import compute

    texts = compute.utf8_trim_whitespace(array)
    small = compute.utf8_lower(texts)
    others = compute.is_in(small, value_set=pa.array(sorted(OTHER_MARKS)))
    quiet = compute.is_in(small, value_set=pa.array(sorted(QUIET_MARKS)))
    numbers = compute.if_else(compute.or_(others, quiet), pa.scalar(None, pa.string()), texts)
    if reading == "comma":
        numbers = compute.replace_substring(compute.replace_substring(numbers, ".", "x"), ",", ".")
    return numbers.cast(pa.float64()), Counter(texts.filter(others).to_pylist())

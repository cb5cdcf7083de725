"""Untrusted text fits in one line of a terminal, and its escapes can be read."""

from hypothesis import given
from hypothesis import strategies as st

from fedhealth.common.safe_text import printable, printable_path


def test_plain_text_is_left_alone_and_the_rest_is_escaped() -> None:
    assert printable("cleveland, K\u00f6ln") == "cleveland, K\u00f6ln"
    assert printable("a\n\x1b[31m\u200b") == r"a\n\x1b[31m\u200b"
    assert printable(3.5) == "3.5"


def test_a_long_text_is_cut_at_its_end_and_a_long_path_at_its_beginning() -> None:
    assert printable("abcdefghij", 9) == "abcdef..."
    assert printable_path("abcdefghij", 9) == "...efghij"
    assert printable("abcdefghi", 9) == printable_path("abcdefghi", 9) == "abcdefghi"


@given(text=st.text())
def test_any_text_is_printable_and_no_longer_than_asked(text: str) -> None:
    for shown in (printable(text, 20), printable_path(text, 20)):
        assert shown.isprintable()
        assert len(shown) <= 20

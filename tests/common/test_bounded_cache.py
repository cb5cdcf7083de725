"""The bounded cache: which values are kept and replaced, and that a failure is not cached."""

import pytest

from fedhealth.common.bounded_cache import BoundedCache


def test_a_value_is_made_once_and_the_least_recently_used_one_is_replaced() -> None:
    made: list[str] = []
    cache = BoundedCache[str, str](2)

    def ask(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key.upper()

        return cache.get(key, make)

    assert [ask(key) for key in "abacab"] == list("ABACAB")
    assert made == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_a_failure_is_not_cached() -> None:
    cache = BoundedCache[int, int](2)
    with pytest.raises(ZeroDivisionError):
        cache.get(0, lambda: 1 // 0)
    assert len(cache) == 0
    assert cache.get(0, lambda: 7) == 7

"""The limit on a hospital's update."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedhealth.models.update_clipping import clip_update


def test_an_update_is_clipped_over_all_weights_together() -> None:
    before = {"k": np.array([[1, 1]], np.float32), "b": np.array([2], np.float32)}
    # Updates (2, 3) and (6): a norm of 7 over all three, clipped to 3.5, that is by half.
    after = {"k": np.array([[3, 4]], np.float32), "b": np.array([8], np.float32)}
    cut, norm = clip_update(after, before, 3.5)
    assert norm == 7.0
    np.testing.assert_array_equal(cut["k"], np.array([[2, 2.5]], np.float32))
    np.testing.assert_array_equal(cut["b"], np.array([5], np.float32))
    assert list(cut) == ["k", "b"]
    assert cut["k"].dtype == np.float32


@pytest.mark.parametrize("longest", [7.0, 7.1, 1e30])
def test_an_update_within_the_limit_is_not_changed(longest: float) -> None:
    before, after = {"w": np.array([0], np.float32)}, {"w": np.array([-7], np.float32)}
    cut, norm = clip_update(after, before, longest)
    assert cut is after
    assert norm is None


@given(
    before=hnp.arrays(np.float64, 5, elements=st.floats(-10, 10)),
    step=hnp.arrays(np.float64, 5, elements=st.floats(-1e150, 1e150)),
    longest=st.floats(1e-3, 1e3),
)
def test_a_clipped_update_has_the_maximum_norm_and_its_old_direction(
    before: np.ndarray, step: np.ndarray, longest: float
) -> None:
    after = before + step
    taken = after - before
    cut, norm = clip_update({"w": after}, {"w": before}, longest)
    moved = cut["w"] - before
    if norm is None:
        assert np.linalg.norm(taken) <= longest * (1 + 1e-12)
        np.testing.assert_array_equal(cut["w"], after)
    else:
        assert norm == pytest.approx(np.linalg.norm(taken))
        assert np.linalg.norm(moved) == pytest.approx(longest, rel=1e-6)
        np.testing.assert_allclose(moved, taken * (longest / norm), rtol=1e-6, atol=1e-11)


def test_the_longest_possible_update_is_clipped_as_well() -> None:
    far = np.finfo(np.float32).max
    before, after = {"w": np.array([-far, far], np.float32)}, {"w": np.array([far, -far], np.float32)}
    cut, norm = clip_update(after, before, 1.0)
    assert norm == pytest.approx(float(far) * math.sqrt(8))
    assert np.isfinite(cut["w"]).all()

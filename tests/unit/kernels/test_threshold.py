from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.errors import InputError
from segem.kernels.threshold import threshold_probability

EVERY_VALUE = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize(("threshold", "first"), [(0.5, 128), (0.2, 51), (1.0, 255), (0.475, 122), (0.001, 1)])
def test_first_value_that_counts(threshold, first):
    mask = threshold_probability(EVERY_VALUE, threshold)
    assert int(np.argmax(mask)) == first
    assert mask[first:].all()


@given(st.integers(1, 255))
def test_a_stored_probability_reaches_itself(value):
    mask = threshold_probability(EVERY_VALUE, value / 255)
    assert mask[value] == 1
    assert mask[value - 1] == 0


def test_shape_and_dtype():
    mask = threshold_probability(np.zeros((2, 3, 4), np.uint8), 0.5)
    assert mask.shape == (2, 3, 4)
    assert mask.dtype == np.uint8


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01, float("nan")])
def test_not_a_threshold(threshold):
    with pytest.raises(InputError, match="threshold"):
        threshold_probability(EVERY_VALUE, threshold)

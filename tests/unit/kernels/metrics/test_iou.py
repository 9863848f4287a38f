from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.errors import InputError
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.not_defined import NO_MEMBRANE_FOUND, NO_TRUE_MEMBRANE, NotDefined

MASKS = arrays(np.uint8, (5, 4), elements=st.sampled_from([0, 1, 255]))


def test_counts_by_hand():
    truth = np.array([[1, 1, 0, 0, 0]], np.uint8)
    predicted = np.array([[255, 0, 1, 0, 0]], np.uint8)
    found = Confusion.count(truth, predicted)
    assert found == Confusion(tp=1, fp=1, fn=1, tn=2)
    assert found.iou == pytest.approx(1 / 3)
    assert found.precision == found.recall == 0.5


def test_two_empty_masks_agree():
    empty = np.zeros((3, 3), np.uint8)
    found = Confusion.count(empty, empty)
    assert (found.iou, found.precision, found.recall) == (1.0, NO_MEMBRANE_FOUND, NO_TRUE_MEMBRANE)


def test_membrane_on_one_side_only_scores_zero():
    empty, full = np.zeros((3, 3), np.uint8), np.ones((3, 3), np.uint8)
    assert Confusion.count(empty, full).iou == 0.0
    assert Confusion.count(full, empty).iou == 0.0
    assert Confusion.count(full, empty).precision == NO_MEMBRANE_FOUND
    assert Confusion.count(full, empty).recall == 0.0


def test_pooling_is_not_the_mean_of_sections():
    large, small = Confusion(90, 5, 5, 0), Confusion(0, 1, 1, 98)
    assert (large + small).iou == pytest.approx(90 / 102)
    assert (large.iou + small.iou) / 2 == pytest.approx(0.45)


def test_refuses_masks_of_different_shapes():
    with pytest.raises(InputError, match=r"\(2, 2\), found \(2, 3\)"):
        Confusion.count(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))


@given(MASKS, MASKS)
def test_bounds_symmetry_and_pooling(a, b):
    whole = Confusion.count(a, b)
    assert whole.tp + whole.fp + whole.fn + whole.tn == a.size
    for half, pixels in ((whole.precision, b), (whole.recall, a)):
        assert pixels.any() != isinstance(half, NotDefined)
        assert isinstance(half, NotDefined) or 0 <= whole.iou <= half <= 1
    assert whole.iou == Confusion.count(b, a).iou
    assert whole == Confusion.count(a[:2], b[:2]) + Confusion.count(a[2:], b[2:])

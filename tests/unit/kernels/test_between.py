"""What lies between two sections."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import arrays

from segem.kernels.between import interpolate_masks

MASKS = arrays(bool, (7, 9))


@given(MASKS)
def test_between_equal_masks_lies_the_same(mask):
    assert np.array_equal(interpolate_masks(mask, mask), mask)


@given(MASKS, MASKS)
def test_where_both_agree_the_mask_is_what_they_say_and_order_does_not_matter(below, above):
    between = interpolate_masks(below, above)
    if below.any() and above.any():
        assert between[below & above].all()
    assert not between[~below & ~above].any()
    assert np.array_equal(between, interpolate_masks(above, below))


def test_a_disk_that_moves_is_half_way():
    y, x = np.indices((41, 61))
    disks = [(y - 20) ** 2 + (x - centre) ** 2 <= 100 for centre in (24, 36)]
    between = interpolate_masks(*disks)
    assert abs(x[between].mean() - 30) < 1e-9
    assert between[20, 30]
    assert 0 < between.sum() < disks[0].sum()

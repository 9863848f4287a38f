from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.kernels.regions import find_largest, sum_tiles

SECTIONS = arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 9))


@given(SECTIONS, st.integers(1, 5))
def test_the_largest_sum_is_that_of_its_tile(values, tile_px):
    sums = sum_tiles(values, tile_px)
    assert sums.sum() == values.sum()
    most, box = find_largest(sums, values.shape, tile_px, 7)
    assert (box.start[0], box.stop[0]) == (7, 8)
    assert most == sums.max() == values[box.slices[1:]].sum()

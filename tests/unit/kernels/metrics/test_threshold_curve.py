from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.errors import InputError
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.threshold_curve import LevelCounts

SHAPE = (3, 5)


@given(
    arrays(np.uint8, SHAPE, elements=st.integers(0, 2)),
    arrays(np.uint8, SHAPE),
    st.integers(0, 255),
)
def test_counts_at_a_level_are_those_of_the_mask_it_cuts(truth, probability, level):
    mask, known, membrane = probability >= level, truth != 2, truth == 1
    assert LevelCounts.count(truth, probability).at(level) == Confusion(
        tp=int((mask & membrane).sum()),
        fp=int((mask & known & ~membrane).sum()),
        fn=int((~mask & membrane).sum()),
        tn=int((~mask & known & ~membrane).sum()),
    )


def test_sections_add_up_to_their_volume():
    rng = np.random.default_rng(0)
    truth, probability = rng.integers(0, 3, (2, 2, 8, 8), np.uint8)[0], rng.integers(0, 256, (2, 8, 8)).astype(np.uint8)
    parts = [LevelCounts.count(*pair) for pair in zip(truth, probability, strict=True)]
    whole = LevelCounts.count(truth.reshape(16, 8), probability.reshape(16, 8))
    assert (parts[0] + parts[1]).voxels.tolist() == whole.voxels.tolist()


def test_the_curve_goes_from_nearly_all_to_nearly_nothing():
    points = list(LevelCounts.count(np.array([[0, 1]], np.uint8), np.array([[10, 250]], np.uint8)).curve())
    assert [round(points[n][0] * 255) for n in (0, 1, -1)] == [5, 10, 255]
    assert [points[n][1].iou for n in (0, 2, -2, -1)] == [0.5, 1.0, 1.0, 0.0]


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        LevelCounts.count(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))

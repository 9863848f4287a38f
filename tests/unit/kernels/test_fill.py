"""What stands in for pixels that are no tissue."""

from __future__ import annotations

import numpy as np

from segem.kernels.fill import fill_outside
from segem.kernels.normalize import IntensityStatistics, histogram


def test_filling_by_hand() -> None:
    image = np.array([[1, 100, 110, 120, 250]], np.uint8)
    statistics = IntensityStatistics(110.4, 10.0, 0, 255, {}, low=90, high=130)
    outside = np.array([[1, 0, 0, 0, 0]], np.uint8)
    assert fill_outside(image, outside, statistics).tolist() == [[110, 100, 110, 120, 130]]
    assert image.tolist() == [[1, 100, 110, 120, 250]]
    clean = IntensityStatistics.from_histogram(histogram(image))
    assert fill_outside(image, None, clean) is image
    assert fill_outside(image, np.zeros_like(image), clean) is image

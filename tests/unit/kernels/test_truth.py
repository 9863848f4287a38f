"""What nobody has painted counts for nothing in any score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.kernels.bootstrap import count_tiles
from segem.kernels.borders import border_weights
from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.pictures import FOUND, UNLABELLED, draw_errors, draw_membrane
from segem.kernels.platt import fit_platt
from segem.kernels.truth import UNKNOWN

SECTION = (6, 8)
MASKS = arrays(np.uint8, SECTION, elements=st.integers(0, 1))
PROBABILITIES = arrays(np.uint8, SECTION)


def test_a_confusion_counts_known_voxels_only() -> None:
    truth = np.array([[1, 1, 0, 0, 2, 2]], np.uint8)
    found = Confusion.count(truth, np.array([[1, 0, 1, 0, 1, 0]], np.uint8))
    assert found == Confusion(tp=1, fp=1, fn=1, tn=1)
    assert found.voxels == 4
    assert Confusion.count(np.full((2, 2), UNKNOWN), np.ones((2, 2), np.uint8)).voxels == 0


def test_calibration_counts_known_voxels_only() -> None:
    bins = CalibrationBins.count(np.array([1, 0, 0, 0, 2, 2, 2], np.uint8), np.array([0.5] * 6 + [1.0]))
    assert sum(bins.voxels) == 4
    assert sum(bins.found) == 1
    assert bins.error == 0.25


def test_blocks_count_known_voxels_only() -> None:
    truth = np.array([[1, 2, 0, 0, 2, 2]], np.uint8)
    assert count_tiles(truth, np.array([[1, 1, 1, 0, 1, 1]], np.uint8), 2).tolist() == [[1, 0, 0], [0, 1, 0], [0] * 3]


def test_a_cell_that_unknown_voxels_part_is_no_error_of_either_kind() -> None:
    truth = np.array([[0, 0, 2, 2, 0, 0, 1, 0]], np.uint8)
    one_cell = np.array([[0, 0, 0, 0, 0, 0, 255, 0]], np.uint8)
    two_cells = np.array([[0, 0, 255, 0, 0, 0, 255, 0]], np.uint8)
    for proposal in (one_cell, two_cells):
        sums = SegmentationSums.count(truth, proposal)
        assert (sums.sections, sums.best("rand").value, sums.best("information").value) == (1, 1, 1)


def test_a_merger_where_the_truth_is_known_is_still_one() -> None:
    # Two cells of two pixels each become one: 8 of 16 pairs are right, and all of the truth's.
    sums = SegmentationSums.count(np.array([[0, 0, 1, 0, 0, 2, 2]], np.uint8), np.zeros((1, 7), np.uint8))
    best = sums.best("rand")
    assert (best.precision, best.recall) == (0.5, 1)
    assert SegmentationSums.count(np.array([[1, 2, 2]], np.uint8), np.zeros((1, 3), np.uint8)).sections == 0


@given(MASKS, MASKS, MASKS, PROBABILITIES)
def test_scores_are_those_of_the_known_voxels(truth, other, known, probability) -> None:
    mask = (probability > 99).astype(np.uint8)
    sparse = np.where(known, truth, UNKNOWN).astype(np.uint8)
    chosen = known == 1
    assert Confusion.count(sparse, mask) == Confusion.count(truth[chosen], mask[chosen])
    assert CalibrationBins.count(sparse, probability / 255) == CalibrationBins.count(
        truth[chosen], probability[chosen] / 255
    )
    # What is said where nothing is known changes nothing.
    said = np.where(known, mask, other)
    assert Confusion.count(sparse, said) == Confusion.count(sparse, mask)
    assert np.array_equal(count_tiles(sparse, said, 3), count_tiles(sparse, mask, 3))
    assert count_tiles(sparse, mask, 3).sum() == np.count_nonzero(chosen & ((truth | mask) == 1))


@given(MASKS.filter(np.any), arrays(np.float64, SECTION, elements=st.floats(-5, 5)))
def test_calibration_is_fitted_to_the_known_voxels(known, logits) -> None:
    truth = (np.arange(48).reshape(SECTION) % 3 == 0).astype(np.uint8)
    chosen = known == 1
    sparse = np.where(chosen, truth, UNKNOWN).astype(np.uint8)
    assert fit_platt([[(logits, sparse)]]) == fit_platt([[(logits[chosen], truth[chosen])]])


@pytest.mark.parametrize("strength", [0, 10])
def test_unknown_pixels_weigh_nothing_and_are_no_cell(strength: float) -> None:
    truth = np.array([[0, 1, 2, 2, 1, 0, 1, 0]], np.uint8)
    weights = border_weights(truth, strength, 1.0)[0]
    assert weights.dtype == np.float32
    assert (weights > 0).tolist() == [True, True, False, False, True, True, True, True]
    # Membrane between two cells weighs more; membrane beside a cell and what is unknown is between none.
    assert weights[6] > weights[4] if strength else weights[6] == 1
    assert weights[1] == pytest.approx(1, abs=1e-3)


def test_pictures_show_unknown_as_grey() -> None:
    truth = np.array([[1, 0, 2, 2]], np.uint8)
    assert draw_membrane(truth).tolist() == [[0, 255, 128, 128]]
    assert draw_membrane(truth, factor=2).tolist()[0][1] == 128
    picture = draw_errors(np.zeros((1, 4), np.uint8), truth, np.array([[1, 0, 1, 0]], np.uint8)).astype(int)
    assert np.abs(picture[0, 0] - FOUND).max() < 20
    assert np.abs(picture[0, 2] - UNLABELLED).max() < 20
    assert (picture[0, 2] == picture[0, 3]).all(), "what the model finds there is neither right nor wrong"

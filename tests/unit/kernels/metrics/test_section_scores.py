"""Scores of a mask of one section: membrane, borders, centre lines, mergers and splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.morphology import skeletonize

from segem.errors import InputError
from segem.kernels.metrics.border_band import count_outside_band, iou_outside_band
from segem.kernels.metrics.boundary_f1 import BoundarySums
from segem.kernels.metrics.centreline_dice import CentrelineSums
from segem.kernels.metrics.dice import dice
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.mean_iou import mean_iou
from segem.kernels.metrics.merges_splits import Join, MergesSplits
from segem.kernels.metrics.not_defined import (
    NO_MEMBRANE_FOUND,
    NO_TRUE_CELL,
    NO_TRUE_MEMBRANE,
    NOTHING_KNOWN,
    ONE_CLASS,
    NotDefined,
)
from segem.kernels.metrics.pixel_error import PixelErrorSums
from segem.kernels.metrics.section import SectionMask, choose_tolerance, compare_section
from segem.kernels.truth import UNKNOWN

MASKS = arrays(np.uint8, (9, 11), elements=st.integers(0, 1))
NM = (4.0, 4.0)


def pair(truth, mask, tolerance_nm=4.0):
    return compare_section(np.array(truth, np.uint8), np.array(mask, np.uint8), NM, tolerance_nm)


def test_dice_and_mean_iou_by_hand():
    counts = Confusion(tp=1, fp=1, fn=2, tn=4)
    assert dice(counts) == pytest.approx(2 / 5)
    assert dice(counts) == pytest.approx(2 * counts.iou / (1 + counts.iou))
    assert mean_iou(counts) == pytest.approx((1 / 4 + 4 / 7) / 2)


@given(MASKS, MASKS)
def test_mean_iou_is_that_of_a_histogram_of_classes(truth, mask):
    """As the reference code of FCN counts it, with its mean over classes that occur; here both have to."""
    table = np.bincount(2 * truth.ravel().astype(int) + mask.ravel(), minlength=4).reshape(2, 2)
    found = mean_iou(Confusion.count(truth, mask))
    if (table.sum(axis=1) == 0).any():
        assert found == ONE_CLASS
    else:
        assert found == pytest.approx((np.diag(table) / (table.sum(1) + table.sum(0) - np.diag(table))).mean())


def test_band_is_as_wide_as_stated():
    truth = np.zeros((1, 12), np.uint8)
    truth[:, 4:9] = 1
    # Within 4 nm of a border lies one pixel on each side of it, within 7.9 nm no more, within 8 nm two.
    for tolerance_nm, left_out in ((3.9, 0), (4, 4), (7.9, 4), (8, 8)):
        assert count_outside_band(*pair(truth, truth, tolerance_nm)).voxels == 12 - left_out
    shifted = np.roll(truth, 1)
    assert iou_outside_band(count_outside_band(*pair(truth, shifted, 4))) == 1
    assert Confusion.count(truth, shifted).iou == pytest.approx(4 / 6)
    gone = iou_outside_band(count_outside_band(*pair(truth, truth, 12)))
    assert gone == NotDefined("no true membrane lies outside the band along its borders")


def test_pixels_need_not_be_square():
    truth = np.zeros((5, 5), np.uint8)
    truth[2, 2] = 1
    band = SectionMask.of_truth(truth, (10.0, 4.0), 8.0).band
    assert np.argwhere(band).tolist() == [[2, 0], [2, 1], [2, 2], [2, 3], [2, 4]]
    assert choose_tolerance((10.0, 4.0)) == 10
    assert choose_tolerance((4.0, 20.0)) == 20


def test_boundary_f1_by_hand():
    truth, mask = np.zeros((2, 7, 9), np.uint8)
    truth[3, :] = 1
    mask[4, :5] = 1
    exact, near = (BoundarySums.count(*pair(truth, mask, nm)) for nm in (3, 4))
    assert (exact.precision, exact.recall, exact.f1) == (0, 0, 0)
    # Each of the 5 pixels found has a counterpart; of the 9 true ones 5 have.
    assert (near.precision, near.recall, near.f1) == (1, 5 / 9, pytest.approx(10 / 14))


def test_border_is_membrane_beside_background_and_never_the_edge_of_the_section():
    truth = np.zeros((5, 5), np.uint8)
    truth[:, :3] = 1
    border = SectionMask.of_truth(truth, NM, 4).border
    assert np.argwhere(border).tolist() == [[y, 2] for y in range(5)]
    truth[:, 3:] = UNKNOWN
    assert not SectionMask.of_truth(truth, NM, 4).border.any()


def test_width_moves_iou_and_hardly_centre_lines():
    truth, mask = np.zeros((2, 20, 60), np.uint8)
    truth[9:12], mask[7:14] = 1, 1
    assert Confusion.count(truth, mask).iou == pytest.approx(3 / 7)
    sums = CentrelineSums.count(*pair(truth, mask))
    assert sums.sensitivity == 1
    assert sums.cl_dice == pytest.approx(1, abs=0.05)


def test_centre_lines_by_hand():
    truth, mask = np.zeros((2, 5, 8), np.uint8)
    truth[2, :], mask[2, :4], mask[0, 6:] = 1, 1, 1
    sums = CentrelineSums.count(*pair(truth, mask))
    # 4 of the 8 true pixels are covered; of the 6 found ones 4 lie in true membrane.
    assert (sums.sensitivity, sums.precision) == (0.5, pytest.approx(2 / 3))
    assert sums.cl_dice == pytest.approx(4 / 7)


@given(MASKS.filter(np.any), MASKS.filter(np.any))
def test_centre_lines_are_those_of_the_published_formula(truth, mask):
    precision = (skeletonize(mask > 0) & (truth > 0)).sum() / skeletonize(mask > 0).sum()
    sensitivity = (skeletonize(truth > 0) & (mask > 0)).sum() / skeletonize(truth > 0).sum()
    half = precision + sensitivity
    expected = 2 * precision * sensitivity / half if half else 0
    assert CentrelineSums.count(*pair(truth, mask)).cl_dice == pytest.approx(expected)


def test_pixel_error_is_one_minus_the_best_f1_of_cells():
    truth = np.array([[0, 0, 0, 0, 1, 1]], np.uint8)
    # P(cell) is 1, 0.8, 0.2, 0.2, 0.5, 0: from 0.2 on two cells are lost, below it one membrane pixel is taken for one.
    probability = np.array([[0, 51, 204, 204, 128, 255]], np.uint8)
    assert PixelErrorSums.count(truth, probability).error == pytest.approx(1 - 8 / 9)
    mask = np.array([[0, 0, 0, 255, 255, 0]], np.uint8)
    once = PixelErrorSums.count(truth, mask)
    assert once.error == pytest.approx(0.25)
    assert (once + PixelErrorSums.count(truth, 255 * truth)).error == pytest.approx(1 - 14 / 16)
    assert PixelErrorSums.count(1 | truth, mask).error == NO_TRUE_CELL
    with pytest.raises(InputError, match="do not match"):
        PixelErrorSums.count(truth, mask.astype(float))


def rooms(*walls):
    """Return rooms of 11 x 11 pixels in a row, with walls of 3 pixels; those named have a gap of 3 pixels in row 5."""
    truth = np.zeros((11, 53), np.uint8)
    for k in range(3):
        at = 11 + 14 * k
        truth[:, at : at + 3] = 1
        if k in walls:
            truth[4:7, at : at + 3] = 0
    return truth


@pytest.mark.parametrize(
    ("truth", "mask", "merges", "splits"),
    [
        (rooms(), rooms(), [], []),
        (rooms(), rooms(1), [(5, 26)], []),
        (rooms(1), rooms(), [], [(5, 26)]),
        (rooms(), rooms(0, 2), [(5, 12), (5, 40)], []),
        (rooms(), rooms(0, 1, 2), [(5, 12), (5, 26), (5, 40)], []),
        (rooms(0), rooms(2), [(5, 40)], [(5, 12)]),
    ],
)
def test_mergers_and_splits_are_found_where_they_are(truth, mask, merges, splits):
    found = MergesSplits.count(*pair(truth, mask, 8))
    assert (found.merges, found.splits) == (len(merges), len(splits))
    for joins, expected in ((found.find_merges(), merges), (found.find_splits(), splits)):
        assert sorted((join.y, join.x) for join in joins) == expected
        assert list(joins) == sorted(joins, reverse=True)


def test_what_is_smaller_than_the_tolerance_is_no_error():
    truth = rooms()
    shifted, specked = np.roll(truth, 1, axis=1), truth.copy()
    specked[3:8, 3:8], specked[5, 5] = 1, 0
    for mask in (shifted, specked, ndimage.binary_dilation(truth, iterations=2)):
        found = MergesSplits.count(*pair(truth, mask, 8))
        assert (found.merges, found.splits) == (0, 0)
    # With no tolerance to speak of, the speck is a cell of its own.
    assert MergesSplits.count(*pair(truth, specked, 1)).splits == 1


def test_a_cell_filled_with_membrane_is_merged_into_another():
    filled = rooms()
    filled[:, 14:25] = 1
    found = MergesSplits.count(*pair(rooms(), filled, 8))
    # Its neighbours grow into it from both sides and meet in its middle, so each takes a half.
    assert (found.merges, found.splits) == (2, 1)
    assert sorted((join.y, join.x) for join in found.find_merges()) == [(5, 12), (5, 26)]
    assert [join.x for join in found.find_splits()] == [19]
    nothing = MergesSplits.count(*pair(rooms(), np.ones_like(filled), 8))
    assert (nothing.merges, nothing.splits) == (3, 0)
    assert sorted((j.y, j.x) for j in nothing.find_merges()) == [(5, 12), (5, 26), (5, 40)]


def test_parts_that_what_is_unknown_separates_are_parts_of_their_own():
    truth = np.zeros((9, 21), np.uint8)
    truth[:, 10] = UNKNOWN
    found = MergesSplits.count(*pair(truth, np.zeros_like(truth), 4))
    assert (found.merges, found.splits) == (0, 0)


@given(MASKS, MASKS, st.sampled_from([1.0, 4.0, 6.0]))
def test_each_merger_and_split_has_a_place_and_swapping_sides_swaps_them(truth, mask, tolerance_nm):
    there, back = (MergesSplits.count(*pair(*both, tolerance_nm)) for both in ((truth, mask), (mask, truth)))
    assert (there.merges, there.splits) == (back.splits, back.merges)
    assert len(there.find_merges()) == there.merges
    assert len(there.find_splits()) == there.splits
    assert there.find_merges() == back.find_splits()
    for join in (*there.find_merges(), *there.find_splits()):
        assert isinstance(join, Join)
        assert 0 <= join.y < truth.shape[0]
        assert 0 <= join.x < truth.shape[1]
        assert join.pixels > 0


def test_ids_are_cells_even_where_they_touch_and_once_for_each_part():
    ids = np.array([[7, 7, 9, 9, 0, 7]], np.uint64) * np.uint64(2**60)
    truth = np.array([[0, 1, 1, 0, 1, 0]], np.uint8)
    true = SectionMask.of_truth(truth, NM, 4, ids)
    assert true.cells.tolist() == [[1, 1, 2, 2, 0, 3]]
    assert SectionMask.of_truth(truth, NM, 4).cells.tolist() == [[1, 0, 0, 2, 0, 3]]
    truth[0, 0] = UNKNOWN
    assert SectionMask.of_truth(truth, NM, 4, ids).cells.tolist() == [[0, 1, 2, 2, 0, 3]]


def test_values_that_are_not_defined_say_why():
    empty, full = np.zeros((6, 6), np.uint8), np.ones((6, 6), np.uint8)
    some = np.zeros((6, 6), np.uint8)
    some[2] = 1
    assert dice(Confusion.count(empty, some)) == NO_TRUE_MEMBRANE
    assert mean_iou(Confusion.count(empty, some)) == mean_iou(Confusion.count(full, full)) == ONE_CLASS
    assert mean_iou(Confusion()) == NOTHING_KNOWN
    no_truth, nothing_found = (CentrelineSums.count(*pair(*both)) for both in ((empty, some), (some, empty)))
    assert no_truth.cl_dice == NO_TRUE_MEMBRANE
    assert (nothing_found.cl_dice, nothing_found.sensitivity) == (NO_MEMBRANE_FOUND, 0)
    boundary = BoundarySums.count(*pair(some, full))
    assert boundary.f1 == boundary.precision == NotDefined("the membrane of the mask has no border")
    assert BoundarySums.count(*pair(full, some)).f1 == NotDefined("the membrane of the truth has no border")


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(InputError, match=r"\(2, 2\), found \(2, 3\)"):
        compare_section(np.zeros((2, 2)), np.zeros((2, 3)), NM, 4)

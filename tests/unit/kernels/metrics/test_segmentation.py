from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from skimage.metrics import adapted_rand_error, variation_of_information

from segem.errors import InputError
from segem.kernels.metrics.contingency import Contingency, FScore
from segem.kernels.metrics.information import information_score
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segmentation import THRESHOLDS, SegmentationSums
from segem.kernels.metrics.segments import label_cells, thin_segments

LABELS = arrays(np.int32, (6, 6), elements=st.integers(0, 4))
CELLS = LABELS.filter(lambda a: (a > 0).any())
MASKS = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def scores(truth, proposal):
    table = Contingency.count(truth, proposal)
    return rand_score(table), information_score(table)


def four_cells():
    """Four cells of 3 x 3 in a cross of membrane, and the same with one pixel of the upper wall open."""
    truth = np.ones((7, 7), np.uint8)
    truth[3, :] = truth[:, 3] = 0
    leaky = truth.copy()
    leaky[1, 3] = 1
    return truth, leaky


@pytest.mark.parametrize("segments", [label_cells, thin_segments])
def test_one_leak_merges_two_of_four_cells(segments):
    truth, leaky = four_cells()
    rand, information = scores(label_cells(truth), segments(leaky))
    assert astuple(rand) == (pytest.approx(0.8), pytest.approx(2 / 3), 1.0)
    assert astuple(information) == (pytest.approx(0.857142857), pytest.approx(0.75), 1.0)


def test_split_is_a_merger_seen_from_the_other_side():
    merged, split = np.ones((1, 4), int), np.array([[1, 1, 2, 2]])
    assert astuple(scores(merged, split)[0]) == (pytest.approx(2 / 3), 1.0, 0.5)
    assert astuple(scores(split, merged)[0]) == (pytest.approx(2 / 3), 0.5, 1.0)


def test_each_pixel_on_a_line_is_a_segment_of_its_own():
    table = Contingency.count(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 0, 0]]))
    assert (table.pixels, table.on_lines) == (4, 2)
    # joint 2² + 1 + 1, truth 4², proposal 2² + 1 + 1
    assert astuple(rand_score(table)) == (pytest.approx(12 / 22), 1.0, pytest.approx(6 / 16))


def test_information_by_hand_with_lines():
    # T: two cells of 2 px, S: one segment of 3 px and one line pixel, all in cells.
    table = Contingency.count(np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 0]]))
    h_truth = np.log(2)
    h_proposal = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    h_joint = -0.5 * np.log(0.5) - 2 * 0.25 * np.log(0.25)
    mutual = h_truth + h_proposal - h_joint
    found = information_score(table)
    assert found.value == pytest.approx(2 * mutual / (h_truth + h_proposal))
    assert (found.precision, found.recall) == (pytest.approx(mutual / h_truth), pytest.approx(mutual / h_proposal))


def test_a_side_of_one_segment_carries_no_information():
    one, two = np.ones((1, 4), int), np.array([[1, 1, 2, 2]])
    assert astuple(scores(one, two)[1]) == (0.0, 0.0, 1.0)
    assert astuple(scores(two, one)[1]) == (0.0, 1.0, 0.0)
    assert astuple(scores(one, one)[1]) == (1.0, 1.0, 1.0)


def test_true_membrane_does_not_count():
    truth = np.array([[1, 0, 0, 2]])
    assert Contingency.count(truth, np.array([[1, 7, 8, 2]])).pixels == 2
    assert scores(truth, np.array([[1, 7, 8, 2]])) == scores(truth, np.array([[1, 0, 0, 2]]))
    assert Contingency.count(truth * 0, truth).pixels == 0


def test_label_images_must_have_one_shape():
    with pytest.raises(InputError, match="different shapes"):
        Contingency.count(np.zeros((2, 2), int), np.zeros((2, 3), int))


@given(CELLS, LABELS)
def test_scores_are_bounded_and_harmonic(truth, proposal):
    for score in scores(truth, proposal):
        assert 0 <= score.value <= 1 + 1e-12
        assert 0 <= score.precision <= 1 + 1e-12
        assert 0 <= score.recall <= 1 + 1e-12
        half = score.precision + score.recall
        assert score.value == pytest.approx(2 * score.precision * score.recall / half if half else 0.0)


@given(CELLS, LABELS, st.permutations(range(1, 5)), st.permutations(range(1, 5)))
def test_numbering_does_not_matter(truth, proposal, renamed, renumbered):
    before = scores(truth, proposal)
    after = scores(np.array([0, *renamed])[truth], np.array([0, *renumbered])[proposal] * 1000)
    for a, b in zip(before, after, strict=True):
        assert (a.value, a.precision, a.recall) == pytest.approx((b.value, b.precision, b.recall))


@given(CELLS, CELLS)
def test_swapping_sides_swaps_precision_and_recall(a, b):
    full = arrays_without_zero(a), arrays_without_zero(b)
    for there, back in zip(scores(*full), scores(*full[::-1]), strict=True):
        assert (there.value, there.precision, there.recall) == pytest.approx((back.value, back.recall, back.precision))


@given(CELLS)
def test_a_segmentation_agrees_with_itself(truth):
    for score in scores(truth, truth):
        assert (score.value, score.precision, score.recall) == pytest.approx((1.0, 1.0, 1.0))


@given(CELLS, CELLS)
def test_information_agrees_with_scikit_image(a, b):
    a, b = arrays_without_zero(a), arrays_without_zero(b)
    split, merge = variation_of_information(a, b) * np.log(2)
    h_a, h_b = (-sum(p * np.log(p) for p in np.unique(x, return_counts=True)[1] / x.size) for x in (a, b))
    expected = 1 - (split + merge) / (h_a + h_b) if h_a + h_b else 1.0
    assert scores(a, b)[1].value == pytest.approx(expected, abs=1e-9)


def arrays_without_zero(labels):
    return labels + 1


@given(MASKS)
def test_thinning_keeps_cells_and_their_number(cell):
    cells, segments = label_cells(cell), thin_segments(cell)
    if not cell.any():
        assert (segments == 1).all()
        return
    assert set(np.unique(segments)) - {0} == set(range(1, cells.max() + 1))
    assert np.array_equal(segments[cell], cells[cell])
    for a, b in ((segments[1:], segments[:-1]), (segments[:, 1:], segments[:, :-1])):
        assert not ((a != b) & (a > 0) & (b > 0)).any(), "two segments touch without a line between them"


def test_corners_do_not_connect():
    assert label_cells(np.eye(3)).max() == 3
    assert label_cells(np.array([[1, 1], [0, 1]])).max() == 1


def test_lines_are_one_pixel_wide():
    cell = np.zeros((5, 9), bool)
    cell[:, :2] = cell[:, 7:] = True
    assert (thin_segments(cell) == [1, 1, 1, 1, 0, 2, 2, 2, 2]).all()


def test_thresholds_are_those_of_the_challenge():
    assert len(THRESHOLDS) == 11
    assert THRESHOLDS[0] == 0.0
    assert THRESHOLDS[10] == 0.9999999999999999


def test_best_threshold_is_one_for_the_whole_stack():
    truth, _ = four_cells()
    membrane = (1 - truth) * np.uint8(255)
    faint_wall, strong_wall = membrane.copy(), membrane.copy()
    faint_wall[membrane > 0] = 100  # membrane only where P(cell) must exceed 0.7: 1 - 100/255 = 0.61
    strong_wall[membrane == 0] = 200  # all membrane from 0.3 on: 1 - 200/255 = 0.22
    faint, strong = (SegmentationSums.count(truth == 0, m) for m in (faint_wall, strong_wall))
    assert faint.best("rand").value == strong.best("rand").value == 1.0
    assert (faint.best("rand").threshold, strong.best("rand").threshold) == (0.7, 0.0)
    both = faint + strong
    merged = FScore(2 * (1 / 4) / (1 + 1 / 4), 1 / 4, 1.0).value
    assert both.sections == 2
    assert both.best("rand").value == pytest.approx((1 + merged) / 2)


def test_a_mask_scores_alike_at_every_threshold():
    truth, leaky = four_cells()
    found = SegmentationSums.count(truth == 0, (1 - leaky) * np.uint8(255))
    assert np.allclose(found.rand, found.rand[0])
    assert found.best("rand").value == pytest.approx(0.8)
    assert found.best("information").value == pytest.approx(0.857142857)
    assert found.best("rand").threshold == 0.0


def test_all_membrane_is_one_segment():
    truth, _ = four_cells()
    found = SegmentationSums.count(truth == 0, np.full((7, 7), 255, np.uint8)).best("rand")
    assert (found.value, found.precision, found.recall) == (pytest.approx(0.4), pytest.approx(0.25), 1.0)


def test_a_section_without_cells_is_not_scored():
    all_membrane = np.ones((4, 4), np.uint8)
    nothing = SegmentationSums.count(all_membrane, all_membrane)
    assert nothing.sections == 0
    assert nothing.best("rand") is None
    truth, _ = four_cells()
    found = SegmentationSums.count(truth == 0, (1 - truth) * np.uint8(255))
    assert (found + nothing).best("rand").value == 1.0


def test_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="do not match"):
        SegmentationSums.count(np.zeros((4, 4)), np.zeros((4, 5), np.uint8))
    with pytest.raises(InputError, match="found float32"):
        SegmentationSums.count(np.zeros((4, 4)), np.zeros((4, 4), np.float32))


def test_real_truth_agrees_with_its_own_thinned_self(em_data):
    labels = tifffile.imread(em_data / "isbi2012" / "train-labels.tif")
    total = SegmentationSums.nothing()
    for section in labels[::6]:
        total = total + SegmentationSums.count(section == 0, np.uint8(255) - section)
    assert total.sections == 4
    for measure in ("rand", "information"):
        found = total.best(measure)
        assert (found.value, found.precision, found.recall) == pytest.approx((1.0, 1.0, 1.0), abs=1e-12)


def test_agrees_with_adapted_rand_on_thinned_real_sections(em_data):
    raw = tifffile.imread(em_data / "isbi2012" / "train-volume.tif", key=0)
    truth = label_cells(tifffile.imread(em_data / "isbi2012" / "train-labels.tif", key=0) > 0)
    segments = thin_segments(gaussian_filter(raw.astype(float), 3) > 125)
    error, *_ = adapted_rand_error(truth, segments, ignore_labels=(0,))
    assert scores(truth, segments)[0].value == pytest.approx(1 - error, abs=2e-3)

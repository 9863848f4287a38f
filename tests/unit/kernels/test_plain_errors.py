"""What is plainly wrong in a mask: gaps and false membranes, and not where two people draw one border."""

from __future__ import annotations

import numpy as np
import pytest

from segem.kernels.plain_errors import find_plain_errors
from segem.kernels.truth import UNKNOWN


@pytest.fixture
def truth():
    drawn = np.zeros((60, 60), np.uint8)
    drawn[:, 28:32] = 1
    return drawn


def test_a_border_that_is_off_by_less_than_the_tolerance_is_right(truth):
    for shift in (-2, 0, 2):
        assert not find_plain_errors(np.roll(truth, shift, 1) == 1, truth, 2).any()
    assert not find_plain_errors(np.isin(np.indices(truth.shape)[1], range(26, 34)), truth, 2).any()
    # Beyond it, both what is missing and what is false: a column of each.
    off = find_plain_errors(np.roll(truth, 3, 1) == 1, truth, 2)
    assert np.flatnonzero(off.any(axis=0)).tolist() == [28, 34]


def test_a_gap_and_a_false_membrane_are_found_where_they_are(truth):
    mask = truth == 1
    mask[20:32, 28:32] = False
    mask[40:43, 34:60] = True
    found = find_plain_errors(mask, truth, 2)
    assert (found & ~(mask ^ (truth == 1))).sum() == 0
    assert found[22:30, 28:32].all()
    # What touches a true membrane is no error yet, and what lies beyond the region is not known.
    assert np.flatnonzero(found[40:43].any(axis=0)).tolist() == list(range(34, 58))
    assert not find_plain_errors(mask, np.full_like(truth, UNKNOWN), 2).any()


def test_specks_are_no_plain_errors_and_a_mask_or_truth_without_membrane_is_one(truth):
    speck = truth == 1
    speck[10:13, 10:14] = True
    assert not find_plain_errors(speck, truth, 2).any()
    speck[13, 10] = True
    assert find_plain_errors(speck, truth, 2).any()
    nothing = np.zeros_like(truth)
    assert find_plain_errors(nothing == 1, truth, 2).sum() == find_plain_errors(truth == 1, nothing, 2).sum() == 56 * 4
    assert not find_plain_errors(nothing == 1, nothing, 2).any()

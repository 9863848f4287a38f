from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.kernels.metrics.seam import SeamSums, seam_ratio


def test_step_at_a_seam_by_hand():
    section = np.array([[0, 2, 10, 12], [0, 2, 10, 12]], np.uint8)
    # across column 2: |10 - 2| = 8; elsewhere: 2 and 2
    assert seam_ratio(section, [], [2]) == 4.0


def test_rows_and_columns_are_pooled():
    section = np.array([[0, 1, 2], [4, 5, 6]], np.uint8)
    # across row 1: 4, 4, 4; across column 1: 1, 1; elsewhere along x: 1, 1
    assert seam_ratio(section, [1], [1]) == pytest.approx((14 / 5) / 1)


def test_falling_steps_do_not_wrap_around():
    assert SeamSums.count(np.array([[255, 0, 255]], np.uint8), [], [1]).across == 255


def test_none_without_a_seam():
    section = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert seam_ratio(section, [], []) is None
    assert seam_ratio(section, [0, 4, 9], [-1]) is None, "the edge of the section is no seam"


def test_flat_maps_show_no_seam_and_a_lone_step_stays_finite():
    flat = np.zeros((4, 4), np.uint8)
    assert seam_ratio(flat, [2], []) == 1.0
    flat[2:] = 9
    assert seam_ratio(flat, [2], []) == 9 * 8


@given(arrays(np.uint8, (6, 7)), st.sets(st.integers(1, 5), min_size=1))
def test_sections_add_up(section, rows):
    once = SeamSums.count(section, list(rows), [])
    assert once.across_pairs == 7 * len(rows)
    assert once.across_pairs + once.elsewhere_pairs == 5 * 7
    total = np.abs(np.diff(section.astype(int), axis=0)).sum()
    assert once.across + once.elsewhere == total
    assert once + once == SeamSums.count(np.hstack([section, section]), list(rows), [])


def test_smooth_noise_has_no_seam():
    rng = np.random.default_rng(1)
    section = rng.integers(0, 256, (400, 400)).astype(np.uint8)
    assert seam_ratio(section, range(50, 400, 50), range(50, 400, 50)) == pytest.approx(1.0, abs=0.03)

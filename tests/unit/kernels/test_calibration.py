"""Probabilities against frequencies, by hand; and the line that brings them together."""

from __future__ import annotations

import numpy as np
import pytest

from segem.errors import InputError
from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.platt import fit_platt


def count(truth: list[int], probability: list[float]) -> CalibrationBins:
    return CalibrationBins.count(np.array(truth, np.uint8), np.array(probability))


def test_the_error_of_two_bins_by_hand() -> None:
    # Bin of 0.1: promised 0.3 of 3 voxels, found 1. Bin of 0.9: promised 1.8 of 2, found 1. (0.7 + 0.8) / 5.
    bins = count([1, 0, 0, 1, 0], [0.1, 0.1, 0.1, 0.9, 0.9])
    assert bins.error == pytest.approx(0.3)


def test_errors_in_one_bin_cancel_and_in_two_do_not() -> None:
    assert count([1, 0], [0.5, 0.5]).error == pytest.approx(0)
    assert count([1, 0], [0.4, 0.6]).error == pytest.approx(0.6)


def test_a_border_belongs_to_the_bin_below_and_both_ends_belong() -> None:
    bins = count([0, 0, 0, 1], [0.0, 1 / 15, 0.2, 1.0])
    assert bins.voxels == (2, 0, 1, *[0] * 11, 1)


def test_sections_add_up_to_what_they_are_together() -> None:
    rng = np.random.default_rng(0)
    truth, p = rng.integers(0, 2, 100).tolist(), rng.random(100).tolist()
    parts = count(truth[:30], p[:30]) + count(truth[30:], p[30:])
    assert parts.error == pytest.approx(count(truth, p).error)
    assert CalibrationBins().error == 0


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="not probabilities"):
        count([0], [value])
    with pytest.raises(InputError, match="one shape"):
        count([0, 1], [0.5])


@pytest.mark.parametrize(("scale", "bias"), [(0.5, -1.0), (3.0, 0.7), (1.0, 0.0), (0.1, 4.0)])
def test_the_line_that_made_the_truth_is_found(scale: float, bias: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 500))
    truth = (rng.random(logits.shape) < 1 / (1 + np.exp(-(scale * logits + bias)))).astype(np.uint8)
    assert fit_platt([[(logits, truth)]]) == pytest.approx((scale, bias), abs=0.06 * max(1, scale))


def test_each_volume_counts_as_much() -> None:
    rare, often = (np.zeros((1, 100)), np.zeros((1, 10000)))
    some, half = (rare == 1).astype(np.uint8), (often == 1).astype(np.uint8)
    some[0, :25], half[0, :7500] = 1, 1
    # Logits are all 0, so that only the bias can move: a quarter and three quarters are a half.
    assert fit_platt([[(rare, some)], [(often, half)]])[1] == pytest.approx(0, abs=0.02)


def test_perfect_separation_stays_finite() -> None:
    logits = np.repeat([-2.0, 2.0], 500)
    scale, bias = fit_platt([[(logits, (logits > 0).astype(np.uint8))]])
    assert 1 < scale < 10
    assert abs(bias) < 0.01


def test_logits_that_say_the_opposite_are_left_alone() -> None:
    logits = np.random.default_rng(0).normal(size=1000)
    assert fit_platt([[(logits, (logits < 0).astype(np.uint8))]]) == (1.0, 0.0)


def test_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="logits are not finite"):
        fit_platt([[(np.array([np.nan]), np.array([1], np.uint8))]])

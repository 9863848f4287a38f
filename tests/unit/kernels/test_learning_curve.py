"""Learning curves: laws that are known are found again, and intervals hold the truth as often as they promise."""

from __future__ import annotations

import numpy as np
import pytest

from segem.errors import InputError
from segem.kernels.learning_curve import Curve, _fits, fit_curve, learning_curve, why_not

COUNTS = [1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16, 16]


def test_a_law_worked_by_hand_is_found_again() -> None:
    # 0.9 - 0.4 / sqrt(n)
    found = fit_curve([1, 4, 16, 64], [0.5, 0.7, 0.8, 0.85])
    assert found == Curve(0.9, 0.4, 0.5)
    gain = learning_curve([1, 1, 4, 4, 16, 16], [0.5, 0.5, 0.7, 0.7, 0.8, 0.8]).gain(16, 9)
    # From 16 to 25 sections: 0.4 / 4 - 0.4 / 5. There is no scatter, so there is no doubt.
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.02, 0.02, 0.02), abs=1e-9)


@pytest.mark.parametrize(
    ("scores", "asymptote", "height"),
    [
        ([0.8, 0.7, 0.6], 0.7, 0.0),  # it never falls, so the best is flat
        ([0.4, 0.7, 0.98], 1.0, None),  # no IoU is above 1
    ],
)
def test_a_curve_stays_within_what_an_iou_can_be(scores: list[float], asymptote: float, height: float | None) -> None:
    found = fit_curve([1, 2, 4], scores)
    assert found.asymptote == pytest.approx(asymptote)
    assert found.height == pytest.approx(height) if height is not None else 0.5 < found.height <= 1


def test_no_other_law_fits_better() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = Curve(rng.uniform(0.6, 1), rng.uniform(0, 0.6), rng.uniform(0.1, 2)).at(np.array(COUNTS))
        scores += rng.normal(0, 0.03, len(COUNTS))
        found = fit_curve(COUNTS, scores.tolist())
        best = ((found.at(np.array(COUNTS)) - scores) ** 2).sum()
        for _ in range(200):
            other = Curve(
                min(1.0, found.asymptote + rng.normal(0, 0.02)),
                float(np.clip(found.height + rng.normal(0, 0.02), 0, 1)),
                float(np.clip(round(found.exponent + rng.normal(0, 0.1), 2), 0.05, 2)),
            )
            assert ((other.at(np.array(COUNTS)) - scores) ** 2).sum() >= best - 1e-12


@pytest.mark.parametrize("scatter", ["alike", "less with more sections"])
@pytest.mark.parametrize("largest", [4, 8, 16])
def test_intervals_hold_the_true_gain_as_often_as_they_promise(largest: int, scatter: str) -> None:
    rng, trials = np.random.default_rng(largest), 300
    counts = np.array([n for n in COUNTS if n <= largest])
    sd = 0.01 if scatter == "alike" else 0.03 / np.sqrt(counts)
    more, held = min(5, largest), 0
    for trial in range(trials):
        truth = Curve(rng.uniform(0.7, 0.9), rng.uniform(0.05, 0.4), rng.uniform(0.2, 1.5))
        scores = truth.at(counts) + rng.normal(size=len(counts)) * sd
        gain = learning_curve(counts.tolist(), scores.tolist(), resamples=300, seed=trial).gain(largest, more)
        held += gain.low <= np.diff(truth.at(np.array([largest, largest + more])))[0] <= gain.high
    # Of 300 intervals that hold it with 95 %, fewer than 275 do by chance in 1 test of 100.
    assert held >= 275


@pytest.mark.parametrize("seeds", [2, 3])
def test_drawing_among_the_seeds_instead_would_be_too_sure(seeds: int) -> None:
    rng, trials, held = np.random.default_rng(seeds), 300, 0
    levels = np.array([1, 2, 4, 8, 16])
    counts = np.repeat(levels, seeds)
    for _ in range(trials):
        truth = Curve(rng.uniform(0.7, 0.9), rng.uniform(0.05, 0.4), rng.uniform(0.2, 1.5))
        scores = (truth.at(counts) + rng.normal(0, 0.01, len(counts))).reshape(5, seeds)
        drawn = scores[np.arange(5)[:, None], rng.integers(seeds, size=(300, 5, seeds))].reshape(300, -1)
        _, b, c = _fits(counts.astype(float), drawn).T
        low, high = np.quantile(b * (16.0**-c - 21.0**-c), [0.025, 0.975])
        held += low <= np.diff(truth.at(np.array([16, 21])))[0] <= high
    assert held < 0.9 * trials


def test_more_scatter_means_more_doubt() -> None:
    rng, truth = np.random.default_rng(0), Curve(0.8, 0.3, 0.7).at(np.array(COUNTS))
    noise = rng.normal(size=len(COUNTS))
    found = [learning_curve(COUNTS, (truth + sd * noise).tolist()) for sd in (0.005, 0.02)]
    widths = [one.gain(16, 5).high - one.gain(16, 5).low for one in found]
    assert widths[1] > 2 * widths[0]
    at = found[0].at(16)
    assert at.low < at.value < at.high


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = (Curve(0.8, 0.3, 0.7).at(np.array(COUNTS)) + np.random.default_rng(1).normal(0, 0.01, 15)).tolist()
    first, again, other = (learning_curve(COUNTS, scores, seed=seed).gain(16, 5) for seed in (0, 0, 1))
    assert first == again != other


def test_it_is_said_when_the_points_do_not_allow_an_answer() -> None:
    rising = Curve(0.8, 0.3, 0.7).at(np.array(COUNTS)) + np.random.default_rng(0).normal(0, 0.01, 15)
    assert why_not(COUNTS, rising.tolist(), 5) == ""
    assert "three different numbers" in why_not([1, 1, 1, 2, 2, 2], [0.5, 0.5, 0.5, 0.6, 0.6, 0.6], 2)
    assert "six trainings" in why_not([1, 2, 4], [0.5, 0.6, 0.7], 2)
    assert "twice the 16 sections" in why_not(COUNTS, rising.tolist(), 17)
    assert why_not(COUNTS, rising.tolist(), 16) == ""
    falling = rising[::-1].tolist()
    assert "do not rise" in why_not(COUNTS, falling, 5)
    # A flat curve is an answer: no more sections are needed.
    assert why_not(COUNTS, [0.7, 0.71, 0.69] * 5, 5) == ""
    # Scores that are all the same within a number, and off the curve by what nobody would notice, are no misfit.
    assert why_not([1, 1, 2, 2, 4, 4, 8, 8], [0.6, 0.6, 0.7, 0.7, 0.75, 0.75, 0.7755, 0.7755], 5) == ""


def test_points_without_a_score_are_refused() -> None:
    with pytest.raises(InputError, match="needs its score"):
        fit_curve([1, 2], [0.5])
    with pytest.raises(InputError, match="too few points"):
        learning_curve([1, 2, 4], [0.5, 0.6, 0.7])

"""Sections that lie elsewhere than those around them, told from drift, jitter and lasting steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segem.kernels.displacement import find_displaced


def vectors(*downs, start=1):
    return {z: np.array([float(down), 0.0]) for z, down in enumerate(downs, start)}


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        (vectors(0, 0, 9, -9, 0, 0, 0, 0), {3: (9, "alone")}),
        (vectors(0, 0, 12, 0, 0, 0, 0, 0), {3: (12, "lasting")}),
        (vectors(0, 9, -9, 0, 0, 0, 0, 0, 0, -20, 20, 0, 0, 0, 0), {2: (9, "alone"), 10: (-20, "alone")}),
        (vectors(0, 0, 9, -18, 9, 0, 0, 0), {3: (9, "alone"), 4: (-9, "alone")}),
        (vectors(0, 0, 0, 0, -12), {5: (-12, "last")}),
        (vectors(-12, 0, 0, 0, 0), {0: (12, "first")}),
        (vectors(3, 3, 12, -6, 3, 3, 3, 3), {3: (9, "alone")}),  # on a drift
        (vectors(0, 0, 4, -4, 0, 0), {}),  # less than the least
        (vectors(0, 0, 0, 6.9, 0, 0, 0), {}),  # of a lasting step, both ends vary
        (vectors(8, -8, 9, -8, 8, -9, 8, -8), {}),  # what all do is usual
        (vectors(0, 0), {}),
        (vectors(30), {}),  # nothing to tell which of two it is
        ({}, {}),
        # Nothing is known of how section 5 lies to section 4.
        (vectors(0, 0, 9, -9) | vectors(0, 0, 0, 0, 0, start=6), {3: (9, "alone")}),
        (vectors(0, 0, 0, 0) | vectors(0, 0, -9, 9, 0, 0, start=6), {8: (-9, "alone")}),
    ],
)
def test_displacements_are_told_from_the_steps_they_leave(steps, found):
    assert {z: (away.y_px, away.extent) for z, away in find_displaced(steps).items()} == found


@settings(max_examples=40)
@given(
    st.integers(0, 14),
    st.floats(0, 6.28),
    st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    st.integers(0, 2**32 - 1),
)
def test_a_displaced_section_is_found_on_any_drift(z, angle, drift, seed):
    jitter = np.random.default_rng(seed).uniform(-1, 1, (15, 2))
    away = 8 * np.array([np.sin(angle), np.cos(angle)])
    places = np.arange(15)[:, None] * np.array(drift) + jitter
    places[z] += away
    found = find_displaced(dict(enumerate(np.diff(places, axis=0), 1)))
    assert list(found) == [z]
    # Two sections beside it on each side, each astray by 1 px at most, and a drift that is estimated.
    assert [found[z].y_px, found[z].x_px] == pytest.approx(away, abs=4)


def test_where_sections_jitter_more_it_takes_more():
    jitter = np.random.default_rng(0).normal(0, 4, (40, 2))
    found = []
    for px in (8, 30):
        places = jitter.copy()
        places[20] = [px, 0]
        found.append(list(find_displaced(dict(enumerate(np.diff(places, axis=0), 1)))))
    assert found == [[], [20]]

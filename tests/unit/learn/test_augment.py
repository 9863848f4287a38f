"""Augmentation: what may move, what may not."""

from __future__ import annotations

import numpy as np

from segem.learn.augment import IMAGE, LABEL, WEIGHT, RandNeighbourDefectsd, em_augmentation


def stack() -> np.ndarray:
    return np.random.default_rng(0).random((5, 32, 32), np.float32)


def test_truth_and_weight_move_with_the_section_they_belong_to() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((1, 64, 64)) > 0.7).astype(np.float32)
    augment = em_augmentation(64, seed=3)
    for _ in range(10):
        out = augment({IMAGE: truth * 0, LABEL: truth, WEIGHT: 1 + truth})
        assert np.array_equal(np.asarray(out[WEIGHT]), 1 + np.asarray(out[LABEL]))


def test_the_section_in_the_middle_is_never_touched() -> None:
    spoil = RandNeighbourDefectsd([IMAGE], lost=0.5, shifted=0.5)
    sections = stack()
    for _ in range(20):
        assert np.array_equal(spoil({IMAGE: sections})[IMAGE][2], sections[2])


def test_shifted_neighbours_keep_their_shape_and_most_of_their_content() -> None:
    spoil = RandNeighbourDefectsd([IMAGE], lost=0.0, shifted=1.0, max_px=3)
    sections = stack()
    spoil.set_random_state(1)
    out = spoil({IMAGE: sections})[IMAGE]
    assert out.shape == sections.shape
    assert np.isin(out[0], sections[0]).all()
    assert not np.array_equal(out[[0, 1, 3, 4]], sections[[0, 1, 3, 4]])


def test_a_lost_neighbour_is_replaced_by_the_next_one_towards_the_middle() -> None:
    spoil = RandNeighbourDefectsd([IMAGE], lost=1.0)
    out = spoil({IMAGE: stack()})[IMAGE]
    assert all(np.array_equal(section, out[2]) for section in out)


def test_a_single_section_passes_unchanged() -> None:
    section = stack()[:1]
    assert np.array_equal(RandNeighbourDefectsd([IMAGE], lost=1.0)({IMAGE: section})[IMAGE], section)

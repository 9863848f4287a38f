"""Augmentation: what may move, what may not."""

from __future__ import annotations

import numpy as np
import pytest

from segem.kernels.truth import UNKNOWN
from segem.learn.augment import (
    DEFECTS,
    IMAGE,
    LABEL,
    WEIGHT,
    RandNeighbourDefectsd,
    RandOutsided,
    RandSectionDefectsd,
    build_augmentation,
)


def stack() -> np.ndarray:
    return np.random.default_rng(0).random((5, 32, 32), np.float32)


def test_truth_and_weight_move_with_the_section_they_belong_to() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((1, 64, 64)) > 0.7).astype(np.float32)
    augment = build_augmentation(64, seed=3, defects=0.5)
    for _ in range(10):
        out = augment({IMAGE: truth * 0, LABEL: truth, WEIGHT: 1 + truth})
        label, weight = np.asarray(out[LABEL]), np.asarray(out[WEIGHT])
        assert np.array_equal(weight, np.where(label == UNKNOWN, 0, 1 + label))


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


def spoiled(kind: str, sections: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, truth and weights after a defect; before it, all were the section in the middle."""
    middle = sections[len(sections) // 2][np.newaxis]
    spoil = RandSectionDefectsd([IMAGE], moved=[LABEL, WEIGHT], prob=1.0, kinds=[kind])
    spoil.set_random_state(seed)
    out = spoil({IMAGE: sections, LABEL: middle, WEIGHT: middle})
    return out[IMAGE], out[LABEL], out[WEIGHT]


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("seed", range(5))
def test_a_defect_is_one_of_the_section_itself_and_follows_from_its_seed(kind: str, seed: int) -> None:
    sections = stack()
    image, truth, weight = spoiled(kind, sections, seed)
    assert np.array_equal(sections, stack()), "what was given is not changed"
    assert image.dtype == truth.dtype == np.float32
    assert image.shape == sections.shape
    assert np.array_equal(image[[0, 1, 3, 4]], sections[[0, 1, 3, 4]])
    assert not np.array_equal(image[2], sections[2])
    assert np.array_equal(truth[0], image[2] if kind == "misaligned" else sections[2])
    assert np.array_equal(truth, weight)
    assert np.array_equal(spoiled(kind, sections, seed)[0], image)
    assert not np.array_equal(spoiled(kind, sections, seed + 100)[0], image)


@pytest.mark.parametrize("seed", range(10))
def test_each_defect_is_what_its_name_says(seed: int) -> None:
    grey = np.full((1, 48, 64), 0.5, np.float32)
    grey[0, ::2] = -0.5

    dark = grey - spoiled("dark", grey, seed)[0]
    assert dark.std() == pytest.approx(0, abs=1e-6)
    assert 0.5 <= dark.mean() <= 2

    pale = spoiled("pale", grey, seed)[0]
    assert pale.mean() == pytest.approx(0, abs=1e-6)
    assert 0.05 <= pale.max() <= 0.25

    dirt = spoiled("dirt", grey, seed)[0]
    (value,) = set(dirt[dirt != grey].tolist())
    assert abs(value) == 3
    assert 0 < np.mean(dirt != grey) < 0.1

    fold = spoiled("fold", grey, seed)[0]
    assert (fold[fold != grey] <= -2).all()
    rows, columns = np.nonzero(fold[0] != grey[0])
    line = np.stack([rows, columns]) - np.array([[rows.mean()], [columns.mean()]])
    # A straight line: across it, all is within its 12 px.
    across = np.linalg.svd(line, full_matrices=False)[0][:, -1] @ line
    assert np.ptp(across) <= 13
    assert len(rows) >= 1


@pytest.mark.parametrize("seed", range(10))
def test_the_misaligned_part_is_shifted_along_a_cut(seed: int) -> None:
    ramp = np.tile(np.arange(64, dtype=np.float32), (1, 48, 1))
    image, truth, _ = spoiled("misaligned", ramp, seed)
    moved = (image[0] != ramp[0]).any(axis=1)
    cut = int(np.argmax(moved))
    assert 0 < cut < 48
    assert moved[cut:].all()
    assert not moved[:cut].any()
    (dx,) = set((image[0, cut:, 20:44] - ramp[0, cut:, 20:44]).ravel().tolist())
    assert 1 <= abs(dx) <= 16
    assert np.array_equal(truth, image)


@pytest.mark.parametrize("seed", range(10))
def test_beyond_the_end_of_the_tissue_is_the_mean_and_nothing_is_known(seed: int) -> None:
    ones = np.ones((1, 48, 64), np.float32)
    end = RandOutsided([IMAGE], LABEL, WEIGHT, prob=1.0).set_random_state(seed)
    out = end({IMAGE: np.concatenate([2 * ones] * 3), LABEL: ones, WEIGHT: ones})
    outside = out[IMAGE][0] == 0
    assert out[IMAGE].dtype == out[LABEL].dtype == out[WEIGHT].dtype == np.float32
    assert all(np.array_equal(section, np.where(outside, 0, 2)) for section in out[IMAGE])
    assert np.array_equal(out[LABEL][0], np.where(outside, UNKNOWN, 1))
    assert np.array_equal(out[WEIGHT][0], ~outside)
    assert 0 < outside.mean() < 0.5
    y, x = np.indices(outside.shape)
    centred = np.hypot(y - 23.5, x - 31.5) <= 12
    assert not outside[centred].any(), "what a crop is about stays in it"


def test_as_many_crops_have_a_defect_as_is_asked_for() -> None:
    sections = stack()
    spoil = RandSectionDefectsd([IMAGE], moved=[], prob=0.2).set_random_state(0)
    touched = [not np.array_equal(spoil({IMAGE: sections})[IMAGE], sections) for _ in range(2000)]
    # The standard deviation is 0.9 %.
    assert np.mean(touched) == pytest.approx(0.2, abs=0.03)


def test_without_defects_all_other_choices_stay_the_same() -> None:
    crop = {IMAGE: stack(), LABEL: stack()[:1], WEIGHT: stack()[:1]}
    with_few, without = (build_augmentation(32, seed=5, defects=share) for share in (0.2, 0.0))
    pairs = [(with_few(crop)[IMAGE], without(crop)[IMAGE]) for _ in range(30)]
    same = [np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs]
    assert 15 <= sum(same) < 30

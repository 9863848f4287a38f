"""Changes of appearance: what each does, and what none of them may touch."""

from __future__ import annotations

import numpy as np
import pytest

from segem.config import TrainConfig
from segem.errors import ConfigError
from segem.kernels.appearance import CHANGES
from segem.learn.appearance import RandAppearanced
from segem.learn.augment import IMAGE, LABEL, WEIGHT, build_augmentation
from segem.learn.batches import draw_batches, draw_edge
from segem.learn.sections import LabelledSection


def lines(edge_px: int = 64, every: int = 16) -> np.ndarray:
    """Dark lines of four pixels on bright ground, twice."""
    image = np.ones((2, edge_px, edge_px), np.float32)
    for start in range(0, edge_px, every):
        image[:, start : start + 4] = -1
    return image


def striped(pixel_nm: tuple[float, float] | None, edge_px: int = 128) -> LabelledSection:
    image = lines(edge_px)[:1]
    return LabelledSection("striped", image, (image[0] < 0).astype(np.uint8), pixel_nm=pixel_nm)


def changed(image: np.ndarray, kind: str, seed: int = 0) -> np.ndarray:
    transform = RandAppearanced([IMAGE], prob=1.0, kinds=[kind])
    transform.set_random_state(seed)
    return np.asarray(transform({IMAGE: image})[IMAGE])


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_seen_and_keeps_mean_and_spread(kind: str) -> None:
    image = lines() + np.random.default_rng(1).normal(0, 0.3, (2, 64, 64)).astype(np.float32)
    out = changed(image, kind)
    assert out.shape == image.shape
    assert out.dtype == np.float32
    assert not np.allclose(out, image, atol=0.01)
    assert out.mean() == pytest.approx(image.mean(), abs=1e-4)
    assert out.std() == pytest.approx(image.std(), abs=1e-4)


@pytest.mark.parametrize("kind", CHANGES)
def test_sections_of_one_grey_stay_finite(kind: str) -> None:
    assert np.isfinite(changed(np.full((1, 16, 16), 2.0, np.float32), kind)).all()


def test_a_stain_keeps_the_order_of_greys() -> None:
    ramp = np.linspace(-2, 2, 256, dtype=np.float32).reshape(1, 16, 16)
    for seed in range(5):
        assert (np.diff(changed(ramp, "stain", seed).ravel()) > 0).all()


def test_dark_lines_become_wider_or_narrower_by_up_to_a_pixel_on_each_side() -> None:
    widths = set()
    for seed in range(20):
        out = changed(lines(), "width", seed)[0]
        widths.add(int((out[16:32, 8] < (out.min() + out.max()) / 2).sum()))
    assert widths <= {2, 4, 5, 6}
    assert len(widths) > 1


def test_no_other_entry_is_touched_and_the_share_is_kept() -> None:
    transform = RandAppearanced([IMAGE], prob=0.25)
    transform.set_random_state(0)
    image, truth = lines(), np.ones((1, 64, 64), np.float32)
    made = [transform({IMAGE: image, LABEL: truth}) for _ in range(200)]
    assert all(one[LABEL] is truth for one in made)
    assert sum(one[IMAGE] is not image for one in made) == pytest.approx(50, abs=20)


def test_without_appearance_crops_are_as_they_were() -> None:
    data = {IMAGE: lines()[:1], LABEL: lines()[:1] * 0, WEIGHT: lines()[:1] * 0 + 1}
    one, other = build_augmentation(64, 5, 0.1)(data), build_augmentation(64, 5, 0.1, appearance=1.0)(data)
    assert np.array_equal(one[LABEL], other[LABEL])
    assert not np.array_equal(one[IMAGE], other[IMAGE])


def test_crops_have_the_pixel_sizes_asked_for() -> None:
    config = TrainConfig(steps=1, crop_px=32, pixel_nm=(3, 12))
    rng = np.random.default_rng(0)
    edges = [draw_edge(striped((6.0, 6.0)), config, rng) for _ in range(400)]
    # From 3 to 12 nm with pixels of 6 nm: half to twice the edge, and as often finer as coarser.
    assert min(edges) == 16
    assert max(edges) == 64
    assert sum(edge < 32 for edge in edges) == pytest.approx(200, abs=40)
    # No coarser than the whole section, and never magnified for want of tissue.
    small = striped((3.0, 3.0), edge_px=48)
    assert max(draw_edge(small, config, rng) for _ in range(50)) == 48
    assert {draw_edge(striped((6.0, 6.0), 16), config, rng) for _ in range(50)} <= set(range(16, 33))


def test_a_crop_of_double_pixel_size_shows_lines_of_half_the_width() -> None:
    config = TrainConfig(
        model="unet", architecture={"features": 2, "depth": 2}, steps=1, batch=1, crop_px=64, pixel_nm=(8, 8), defects=0
    )
    batch = next(draw_batches([striped((4.0, 4.0))], config))
    assert batch.image.shape == batch.truth.shape == (1, 1, 64, 64)
    # Lines of 4 pixels in 16 are 2 in 8: the same share of membrane, twice as many lines.
    assert float(batch.truth.mean()) == pytest.approx(0.25, abs=0.1)
    assert set(np.unique(batch.truth)) <= {0.0, 1.0, 2.0}


def test_an_unknown_pixel_size_cannot_be_changed() -> None:
    with pytest.raises(ConfigError, match="unknown pixel size"):
        draw_edge(striped(None), TrainConfig(steps=1, pixel_nm=(3, 12)), np.random.default_rng(0))


def test_patches_have_one_pixel_size() -> None:
    with pytest.raises(ConfigError, match="at one pixel size"):
        next(draw_batches([striped((4.0, 4.0))], TrainConfig(model="patchnet", steps=1, pixel_nm=(3, 12))))


@pytest.mark.parametrize("given", [(12, 3), (0, 4), (3, float("inf"))])
def test_a_range_of_pixel_sizes_is_two_sizes(given: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="smaller one first"):
        TrainConfig(steps=1, pixel_nm=given)

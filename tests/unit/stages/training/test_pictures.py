"""The picture of a training: panels with captions, a curve with numbered axes, and words that fit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from segem.learn.sections import LabelledSection
from segem.learn.watch import Snapshot
from segem.stages.training.pictures import IOU, LOSS, choose_ticks, draw_training

HISTORY = tuple(Snapshot(step=n, seconds=60.0 * n, loss=1 / n, validation_iou=0.5 + 0.01 * n) for n in range(1, 6))


def drawn(shape: tuple[int, int], history: Sequence[Snapshot] = HISTORY) -> np.ndarray:
    random = np.random.default_rng(0)
    image = random.normal(size=(1, *shape)).astype(np.float32)
    section = LabelledSection("a-volume-with-a-very-long-name-" * 3, image, (image[0] > 1).astype(np.uint8))
    with Image.open(io.BytesIO(draw_training(section, random.random(shape, np.float32), history))) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def holds(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=-1).any())


@pytest.mark.parametrize("shape", [(32, 32), (96, 96), (512, 512), (1024, 700), (64, 400), (400, 64)])
def test_sections_of_any_shape_have_room_for_their_captions(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[float, float]] = []
    text = ImageDraw.ImageDraw.text

    def note(draw: ImageDraw.ImageDraw, at: tuple[float, float], words: str, **how: Any) -> None:
        written.append(draw.textbbox(at, words, font=how["font"], anchor=how.get("anchor"))[::2])
        text(draw, at, words, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    picture = drawn(shape)
    assert picture.shape[1] >= 600
    # Three captions, two names of axes and their numbers, the minutes, and what is said of the loss.
    assert len(written) > 3 + 2 + 4 + 1 + 2
    assert min(left for left, _ in written) >= 0
    assert max(right for _, right in written) <= picture.shape[1]


def test_both_curves_are_drawn_once_something_is_known() -> None:
    assert not holds(drawn((64, 64), ()), LOSS)
    for history in (HISTORY[:1], HISTORY):
        picture = drawn((64, 64), history)
        assert holds(picture, LOSS)
        assert holds(picture, IOU)


@given(st.floats(-10, 10), st.floats(0, 1e4), st.integers(2, 8))
def test_ticks_are_round_numbers_around_what_is_drawn(low: float, span: float, most: int) -> None:
    ticks = choose_ticks(low, low + span, most)
    assert 2 <= len(ticks) <= most + 2
    tolerance = 1e-5 * max(1, span)
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= low + span - tolerance

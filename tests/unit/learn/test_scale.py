"""A model at another pixel size: the ratio that is chosen, the resampling by hand, and tiles that equal the whole."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segem.errors import ConfigError
from segem.geometry import VoxelSize
from segem.learn.artefact import load_artefact, save_version
from segem.learn.engine import Engine
from segem.learn.models.registry import build
from segem.learn.scale import (
    AS_IS,
    SCALES,
    MeanOfScales,
    Resample,
    Rescaled,
    Scale,
    at_scale,
    choose_scale,
    geometry_at,
    net_at,
    scales_of,
)
from segem.records.card import LearnedAt, ModelCard

CARD = ModelCard(name="m", architecture="unet", threshold=0.5, options={"features": 2, "depth": 2})
LEARNED = CARD.model_copy(update={"learned_at": LearnedAt(pixel_nm=(4, 6), section_nm=(30, 50))})


@pytest.mark.parametrize(
    ("pixel", "scale"),
    [
        (4, AS_IS),
        (6, AS_IS),
        (6.9, AS_IS),
        (8, Scale(4, 3)),
        (9, Scale(3, 2)),
        (12, Scale(2, 1)),
        (24, Scale(4, 1)),
        (3.6, AS_IS),
        (3, Scale(3, 4)),
        (2, Scale(1, 2)),
        (1, Scale(1, 4)),
    ],
)
def test_the_nearest_simple_ratio_to_the_nearest_size_is_chosen(pixel: float, scale: Scale) -> None:
    assert choose_scale(VoxelSize(50, pixel, pixel), LEARNED) == scale


@pytest.mark.parametrize("pixel", [0.9, 24.1, 4000])
def test_pixels_too_far_off_are_refused_with_the_range(pixel: float) -> None:
    with pytest.raises(ConfigError, match="1 to 24 nm"):
        choose_scale(VoxelSize(50, pixel, pixel), LEARNED)


def test_pixels_that_are_not_square_and_cards_that_do_not_say_leave_the_volume_as_it_is() -> None:
    assert choose_scale(VoxelSize(50, 6, 12), LEARNED) == AS_IS
    assert choose_scale(VoxelSize(50, 100, 100), CARD) == AS_IS


def test_three_become_two_and_two_become_three_by_hand() -> None:
    row = torch.tensor([0.0, 3.0, 6.0, 9.0, 12.0, 15.0]).repeat(3, 1)[None, None]
    # Centres at 0.25 and 1.75 of each three pixels; a triangle of 1.5 pixels to each side averages what lies beneath.
    left = (1 * (1 - 1.25 / 1.5), 1 - 0.25 / 1.5, 1 - 0.75 / 1.5)
    first = (left[0] * 0 + left[1] * 0 + left[2] * 3) / sum(left)
    assert Resample(3, 2)(row)[0, 0, 0, 0].item() == pytest.approx(first)
    # At 1.75, pixels 1, 2 and 3 with weights 1/2, 5/6 and 1/6; at 3.25 the same from the other side.
    inner = (3 / 2 + 6 * 5 / 6 + 9 / 6) / 1.5
    assert Resample(3, 2)(row)[0, 0, 0, 1:3].tolist() == pytest.approx([inner, 15 - inner])
    assert Resample(2, 3)(row[..., :2, :])[0, 0, 0, 1:4].tolist() == pytest.approx([1.5, 3.5, 5.5])


@pytest.mark.parametrize("scale", SCALES)
def test_resampling_is_that_of_torch(scale: Scale) -> None:
    edge = 12
    x = torch.rand(1, 2, edge, edge, generator=torch.Generator().manual_seed(0))
    size = (edge * scale.net_px // scale.source_px,) * 2
    found = Resample(scale.source_px, scale.net_px, channels=2)(x)
    expected = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    assert found.shape == expected.shape
    inner = np.s_[..., 4:-4, 4:-4] if size[0] > 12 else np.s_[..., 1:-1, 1:-1]
    # At the borders torch leaves out what lies beyond, where here the last pixel is repeated.
    assert torch.allclose(found[inner], expected[inner], atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_there_and_back_keeps_size_and_place(scale: Scale) -> None:
    y, x = torch.meshgrid(torch.arange(29.0), torch.arange(23.0), indexing="ij")
    slope = (y + 2 * x)[None, None]
    found = Rescaled(nn.Identity(), scale)(slope)
    assert found.shape == slope.shape
    assert torch.allclose(found[..., 9:-9, 9:-9], slope[..., 9:-9, 9:-9], atol=0.35)


@pytest.mark.parametrize(
    "scales",
    [
        *((scale,) for scale in (Scale(4, 3), Scale(3, 2), Scale(2, 3), Scale(1, 2), Scale(3, 4))),
        *(scales_of(scale, "several") for scale in (AS_IS, Scale(2, 3))),
    ],
)
def test_a_tile_with_its_halo_comes_out_as_in_the_whole_section(scales: tuple[Scale, ...]) -> None:
    torch.manual_seed(0)
    shape = geometry_at(CARD, *scales)
    assert shape.halo_px is not None
    plain = build("unet", CARD.options).eval()
    net = MeanOfScales([Rescaled(plain, scale) for scale in scales])
    stride, halo = shape.stride_px, shape.halo_px
    assert halo % stride == 0
    core = stride * math.ceil(24 / stride)
    x = torch.randn(1, 1, 2 * core + 2 * halo + 5, 2 * core + 2 * halo + 7)
    with torch.inference_mode():
        whole = net(x)
        for y0, x0 in ((stride, stride), (core, 0)):
            read = np.s_[..., y0 : y0 + core + 2 * halo, x0 : x0 + core + 2 * halo]
            inner = np.s_[..., halo : halo + core, halo : halo + core]
            assert torch.allclose(net(x[read])[inner], whole[read][inner], atol=1e-5)


def test_several_sizes_share_a_lattice_and_the_longest_halo() -> None:
    scales = scales_of(Scale(3, 4), "several")
    assert scales == (Scale(3, 4), Scale(9, 8), Scale(3, 2))
    each = [geometry_at(CARD, scale) for scale in scales]
    # 4 pixels of the net are a step of its lattice: 16, 32 and 8 of the volume.
    assert [one.stride_px for one in each] == [16, 32, 8]
    together = geometry_at(CARD, *scales)
    assert (together.stride_px, together.halo_px) == (32, 64)
    assert max(one.halo_px or 0 for one in each) == 48
    whole = ModelCard(name="m", architecture="deeplab-v3-resnet50", threshold=0.5)
    assert geometry_at(whole, *scales).halo_px is None


def test_the_mean_over_sizes_is_that_of_probabilities(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build("unet", CARD.options).eval()
    artefact = load_artefact(save_version(tmp_path / "m", CARD, net).path)
    scales = scales_of(AS_IS, "several")
    x = torch.randn(1, 1, 40, 56)
    with torch.inference_mode():
        expected = torch.stack([torch.sigmoid(net_at(artefact, scale)(x)) for scale in scales]).mean(0)
        found = torch.sigmoid(net_at(artefact, *scales)(x))
    assert expected.std() > 1e-3
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_certain_of_all_sizes_is_a_finite_logit(dtype: torch.dtype) -> None:
    for sign in (1.0, -1.0):
        found = MeanOfScales([nn.Identity(), nn.Identity()])(torch.full((1, 1, 2, 2), sign * 200, dtype=dtype))
        assert torch.isfinite(found).all()
        assert (found * sign > 10).all()


def test_the_halo_is_no_larger_than_it_must_be() -> None:
    # Off the halo by a lattice step and a pixel less, some tile would differ: the bound is not a guess of thousands.
    plain, twice, half = (geometry_at(CARD, scale).halo_px for scale in (AS_IS, Scale(2, 1), Scale(1, 2)))
    assert (plain, twice, half) == (24, 16, 56)


@pytest.mark.parametrize("scales", [(Scale(4, 3),), scales_of(Scale(4, 3), "several")])
def test_runtimes_agree(scales: tuple[Scale, ...]) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(1)
    plain = build("unet", CARD.options).eval()
    net = MeanOfScales([at_scale(plain, scale, 1) for scale in scales]).eval()
    sections = [np.random.default_rng(0).normal(size=(1, h, w)).astype(np.float32) for h, w in ((48, 48), (35, 41))]
    found = []
    for runtime in ("torch", "openvino"):
        with Engine(net, torch.device("cpu"), threads=1, runtime=runtime) as engine:
            found.append(list(engine.probabilities(sections)))
    for one, other in zip(*found, strict=True):
        assert np.allclose(one, other, atol=1e-4)

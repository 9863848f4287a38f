"""What tiles, halos and blending do to a net's output: nothing, for any shape."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segem.geometry import ZYX, Halo, around, ceil_div
from segem.kernels.normalize import IntensityStatistics, zscore
from segem.kernels.threshold import quantize_probability
from segem.learn.engine import Engine
from segem.learn.models.registry import build, geometry
from segem.plan import Plan, blend_tiling, crop_tiling
from tests.nets import Intensity, Pooled
from tests.unit.learn.models.test_registry import with_random_statistics

CPU = torch.device("cpu")
UNSCALED = IntensityStatistics(mean=0, std=1, minimum=0, maximum=255, percentiles={})
SCALED = IntensityStatistics(mean=128, std=74, minimum=1, maximum=255, percentiles={})
NOISE = np.random.default_rng(0).integers(1, 256, (2, 320, 320), np.uint8)
DEEP = {"features": 2, "depth": 4}
ROUNDING = 2.0**-24
"""Largest relative error of one operation in float32."""


def predict(engine: Engine, image: np.ndarray, plan: Plan, statistics: IntensityStatistics) -> np.ndarray:
    out = np.full(plan.shape, np.nan, np.float32)
    for block in plan.blocks():
        out[block.write.slices] = engine.predict_block(plan, block, image[block.read.slices], statistics)
    return out


@cache
def intensity() -> Engine:
    return Engine(Intensity(), CPU, threads=1)


@st.composite
def volumes(draw: st.DrawFn, smallest_block: int, largest: int) -> tuple[ZYX, ZYX]:
    """Return the shape of a volume and that of its write blocks, which may be larger and seldom divide it."""
    # Left alone, hypothesis prefers volumes so small that one tile sees all of them.
    edges = st.integers(1, largest) | st.integers(largest * 3 // 4, largest)
    block_edges = st.integers(smallest_block, largest)
    return (draw(st.integers(1, 2)), draw(edges), draw(edges)), (1, draw(block_edges), draw(block_edges))


@st.composite
def tilings(draw: st.DrawFn, mode: str) -> Plan:
    shape, write_block = draw(volumes(smallest_block=12, largest=32))
    stride_px, tile_px = draw(st.sampled_from([1, 2, 4, 8])), draw(st.integers(8, 48))
    if mode == "crop":
        halo = Halo(draw(st.integers(0, 1)), draw(st.integers(0, 20)), draw(st.integers(0, 20)))
        return Plan(shape, write_block, crop_tiling(shape, write_block, halo, stride_px, tile_px))
    overlap = draw(st.floats(0, 0.75))
    return Plan(shape, write_block, blend_tiling(shape, stride_px, tile_px, overlap, 0, mode))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["crop", "gaussian", "hann"])
def test_the_identity_net_gives_every_voxel_back(mode: str) -> None:
    @settings(max_examples=1000)
    @given(tilings(mode))
    def check(plan: Plan) -> None:
        _, height, width = plan.shape
        image = NOISE[: plan.shape[0], :height, :width]
        found = predict(intensity(), image, plan, UNSCALED)
        np.testing.assert_array_equal(quantize_probability(found), image)
        # Before it is stored: a few roundings of the probability itself, and one for each window that sees a voxel.
        windows = np.prod([ceil_div(c, s) for c, s in zip(plan.tiling.core_px, plan.tiling.step_px, strict=True)])
        assert np.abs(found - image / 255).max() <= (windows + 15) * ROUNDING

    check()


@cache
def unet(context: int, seed: int) -> tuple[nn.Module, Engine]:
    torch.manual_seed(seed)
    net = with_random_statistics(build("unet", DEEP | {"context_sections": context}), seed)
    return net, Engine(net, CPU, context, threads=1)


def whole_sections(net: nn.Module, image: np.ndarray, context: int) -> np.ndarray:
    """Evaluate each section at once, without plan, engine or folding."""
    with torch.inference_mode():
        return np.stack([torch.sigmoid(net(x[None]))[0, 0].numpy() for x in neighbourhoods(image, context)])


def neighbourhoods(image: np.ndarray, context: int) -> list[torch.Tensor]:
    scaled, last = zscore(image, SCALED), len(image) - 1
    around_z = [[min(max(z + dz, 0), last) for dz in around(context)] for z in range(len(image))]
    return [torch.from_numpy(scaled[sections]) for sections in around_z]


@pytest.mark.slow
@settings(max_examples=100)
@given(
    volumes(smallest_block=100, largest=230),
    st.integers(1, 160),
    st.integers(0, 40),
    st.sampled_from([1, 3]),
    st.integers(0, 2),
)
def test_cropped_tiles_of_a_unet_equal_the_whole_section(
    volume: tuple[ZYX, ZYX], tile_px: int, more_px: int, context: int, seed: int
) -> None:
    (shape, write_block), (net, engine) = volume, unet(context, seed)
    known = geometry("unet", DEEP)
    assert known.halo_px is not None
    halo = Halo(context // 2, known.halo_px + more_px, known.halo_px + more_px)
    plan = Plan(shape, write_block, crop_tiling(shape, write_block, halo, known.stride_px, max(32, tile_px)))
    image = NOISE[: shape[0], : shape[1], : shape[2]]
    expected = whole_sections(net, image, context)
    assert np.abs(predict(engine, image, plan, SCALED) - expected).max() <= 1e-5


@pytest.mark.parametrize("less_px", [0, 32])
def test_a_halo_that_is_too_narrow_is_noticed(less_px: int) -> None:
    shape, known, (net, engine) = (1, 311, 297), geometry("unet", DEEP), unet(1, 0)
    assert known.halo_px is not None
    halo = Halo(0, known.halo_px - less_px, known.halo_px - less_px)
    plan = Plan(shape, shape, crop_tiling(shape, shape, halo, known.stride_px, 64))
    image = NOISE[:1, :311, :297]
    difference = np.abs(predict(engine, image, plan, SCALED) - whole_sections(net, image, 1)).max()
    assert difference <= 1e-5 if less_px == 0 else difference > 1e-4


@pytest.mark.parametrize("halo_px", [0, 32, 64])
def test_no_halo_makes_tiles_exact_for_a_net_that_pools_over_the_section(halo_px: int) -> None:
    torch.manual_seed(0)
    net, shape = Pooled().eval(), (1, 300, 300)
    ramp = np.broadcast_to(np.linspace(0, 255, 300).astype(np.uint8), shape)
    plan = Plan(shape, shape, crop_tiling(shape, shape, Halo(0, halo_px, halo_px), 2, 64))
    with Engine(net, CPU, threads=1) as engine:
        difference = np.abs(predict(engine, ramp, plan, SCALED) - whole_sections(net, ramp, 1)).max()
    assert difference > 1e-2

"""Blocks are predicted exactly: identity nets come back, tiles equal the whole, NaN never passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segem.config import SegmentConfig
from segem.errors import BlockError, ConfigError
from segem.geometry import Halo
from segem.kernels.normalize import IntensityStatistics, histogram
from segem.kernels.threshold import quantize_probability
from segem.learn.engine import Engine, choose_device
from segem.learn.models.unet import UNet, unet_halo_px
from segem.plan import Plan, blend_tiling, crop_tiling
from tests.unit.learn.models.test_registry import with_random_statistics

CPU = torch.device("cpu")


class Pass(nn.Module):
    """Gives back the middle section, as a logit."""

    def forward(self, x: Tensor) -> Tensor:
        middle = x.shape[1] // 2
        return x[:, middle : middle + 1]


class Mean(nn.Module):
    """Averages its sections, so that a wrong neighbour shows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True)


def predict(
    net: nn.Module, image: np.ndarray, plan: Plan, context: int = 1, threads: int = 2, views: int = 1
) -> np.ndarray:
    statistics = statistics_of(image)
    out = np.full(plan.shape, np.nan, np.float32)
    with Engine(net, CPU, context, threads, views=views) as engine:
        for block in plan.blocks():
            out[block.write.slices] = engine.predict_block(plan, block, image[block.read.slices], statistics)
    return out


def statistics_of(image: np.ndarray) -> IntensityStatistics:
    return IntensityStatistics.from_histogram(np.sum([histogram(section) for section in image], 0))


def expected_of_pass(image: np.ndarray) -> np.ndarray:
    s = statistics_of(image)
    return 1 / (1 + np.exp(-(image - s.mean) / max(s.std, 1)))


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 60), st.integers(1, 60)),
    st.integers(1, 5),
    st.integers(0, 12),
    st.none() | st.integers(1, 40),
    st.booleans(),
)
def test_the_identity_net_gives_every_voxel_back(
    shape: tuple[int, int, int], edge: int, halo: int, tile_px: int | None, blend: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_block = (2, 8 * edge, 16)
    tiling = (
        blend_tiling(shape, 4, tile_px or 16, 0.5)
        if blend
        else crop_tiling(shape, write_block, Halo(0, halo, halo), 4, tile_px)
    )
    found = predict(Pass(), image, Plan(shape, write_block, tiling))
    np.testing.assert_allclose(found, expected_of_pass(image), atol=2e-6)


@pytest.mark.parametrize("tile_px", [16, 32, 48])
def test_cropped_tiles_equal_the_whole_section(tile_px: int) -> None:
    torch.manual_seed(0)
    net, depth = with_random_statistics(UNet(features=2, depth=3)), 3
    image = np.random.default_rng(1).integers(0, 256, (2, 150, 131), np.uint8)
    halo = unet_halo_px(depth)
    whole = Plan((2, 150, 131), (2, 256, 256), crop_tiling((2, 150, 131), (2, 256, 256), Halo(0, halo, halo), 8))
    tiles = Plan((2, 150, 131), (1, 64, 64), crop_tiling((2, 150, 131), (1, 64, 64), Halo(0, halo, halo), 8, tile_px))
    assert tiles.overhead() > whole.overhead() == 1
    np.testing.assert_allclose(predict(net, image, tiles), predict(net, image, whole), atol=1e-5)


def test_too_small_a_halo_is_seen_by_the_test_above() -> None:
    torch.manual_seed(0)
    net = with_random_statistics(UNet(features=2, depth=3))
    image = np.random.default_rng(1).integers(0, 256, (1, 150, 131), np.uint8)
    shape, block = (1, 150, 131), (1, 64, 64)
    exact = predict(net, image, Plan(shape, block, crop_tiling(shape, block, Halo(0, 48, 48), 8, 32)))
    short = predict(net, image, Plan(shape, block, crop_tiling(shape, block, Halo(0, 8, 8), 8, 32)))
    assert np.abs(exact - short).max() > 1e-3


def test_bytes_do_not_depend_on_threads_or_blocks() -> None:
    torch.manual_seed(0)
    net = with_random_statistics(UNet(features=4, depth=2))
    image = np.random.default_rng(1).integers(0, 256, (3, 96, 96), np.uint8)
    tiling = blend_tiling((3, 96, 96), 4, 32, 0.5)
    results = [
        predict(net, image, Plan((3, 96, 96), write_block, tiling), threads=threads)
        for threads in (1, 2)
        for write_block in ((1, 32, 32), (3, 96, 96), (2, 64, 24))
    ]
    assert all(np.array_equal(results[0], other) for other in results)


def test_context_repeats_the_first_and_last_section() -> None:
    image = np.zeros((3, 8, 8), np.uint8)
    image[0], image[1], image[2] = 0, 90, 180
    shape = image.shape
    tiling = crop_tiling(shape, (1, 8, 8), Halo(1, 0, 0), 1)
    found = predict(Mean(), image, Plan(shape, (1, 8, 8), tiling), context=3)
    s = statistics_of(image)
    means = np.array([(0 + 0 + 90) / 3, (0 + 90 + 180) / 3, (90 + 180 + 180) / 3])
    np.testing.assert_allclose(found[:, 0, 0], 1 / (1 + np.exp(-(means - s.mean) / s.std)), atol=1e-6)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_nan_from_the_net_names_the_tile(poison: float) -> None:
    class Poisoned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.clone()
            y[..., 3, 3] = poison
            return y

    image = np.zeros((1, 8, 8), np.uint8)
    plan = Plan((1, 8, 8), (1, 8, 8), crop_tiling((1, 8, 8), (1, 8, 8), Halo(), 1))
    with pytest.raises(BlockError, match=r"NaN or infinity"):
        predict(Poisoned(), image, plan)


def test_a_constant_volume_gives_finite_probabilities() -> None:
    image = np.full((1, 8, 8), 77, np.uint8)
    plan = Plan((1, 8, 8), (1, 8, 8), crop_tiling((1, 8, 8), (1, 8, 8), Halo(), 1))
    np.testing.assert_allclose(predict(Pass(), image, plan), 0.5, atol=1e-6)


def test_a_device_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match="no cuda device here"):
        choose_device("cuda")
    assert choose_device("auto").type in ("cpu", "mps")


def test_segment_settings_that_make_no_sense_are_refused() -> None:
    refused: list[Callable[[], object]] = [lambda: SegmentConfig(overlap=1.0), lambda: SegmentConfig(threshold=0.0)]
    for make in refused:
        with pytest.raises(ValueError, match="1 validation error"):
            make()


@pytest.mark.parametrize("shape", [(2, 70, 45), (1, 64, 64), (1, 33, 90)])
def test_tiles_averaged_over_their_views_equal_whole_sections(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    net = with_random_statistics(UNet(features=2, depth=2))
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    halo = unet_halo_px(2)
    found = {}
    for name, tile_px in (("tiles", 16), ("whole", None)):
        plan = Plan(shape, (1, 64, 64), crop_tiling(shape, (1, 64, 64), Halo(0, halo, halo), 4, tile_px))
        found[name] = predict(net, image, plan, views=8)
    np.testing.assert_allclose(found["tiles"], found["whole"], atol=1e-5)
    assert np.abs(found["whole"] - predict(net, image, plan)).max() > 1e-3


def test_the_average_of_a_net_that_cannot_tell_views_apart_is_its_output() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 31), np.uint8)
    plan = Plan(image.shape, (1, 32, 32), crop_tiling(image.shape, (1, 32, 32), Halo(), 4))
    np.testing.assert_allclose(predict(Pass(), image, plan, views=8), expected_of_pass(image), atol=2e-6)


def test_an_average_is_the_mean_of_the_turned_sections() -> None:
    torch.manual_seed(0)
    net = with_random_statistics(UNet(features=2, depth=1))
    image = np.random.default_rng(1).integers(0, 256, (1, 16, 16), np.uint8)
    plan = Plan(image.shape, (1, 16, 16), crop_tiling(image.shape, (1, 16, 16), Halo(), 2))
    lain = [image, image[:, ::-1], image[:, :, ::-1], image[:, ::-1, ::-1]]
    a, b, c, d = (predict(net, np.ascontiguousarray(turned), plan)[0] for turned in lain)
    expected = (a + b[::-1] + c[:, ::-1] + d[::-1, ::-1]) / 4
    np.testing.assert_allclose(predict(net, image, plan, views=4)[0], expected, atol=1e-6)


@pytest.mark.parametrize("window", [None, "gaussian"])
def test_stored_probabilities_are_those_of_the_floats(window: str | None) -> None:
    image = np.random.default_rng(2).integers(0, 256, (2, 40, 56), np.uint8)
    tiling = blend_tiling(image.shape, 4, 16, 0.5) if window else crop_tiling(image.shape, (1, 16, 16), Halo(), 4, 16)
    plan, statistics = Plan(image.shape, (1, 16, 16), tiling), statistics_of(image)
    with Engine(Mean(), CPU) as engine:
        for block in plan.blocks():
            both = [
                engine.predict_block(plan, block, image[block.read.slices], statistics, stored=s) for s in (False, True)
            ]
            assert np.array_equal(quantize_probability(both[0]), both[1])

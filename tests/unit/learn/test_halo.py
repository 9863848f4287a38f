"""The measured halo is the reach worked out by hand, and none where the net sees everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segem.learn.halo import measure_halo
from segem.learn.models.registry import build, geometry
from tests.nets import DILATED_REACH_PX, Dilated, Pooled
from tests.unit.learn.models.test_registry import with_random_statistics


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("stride_px", "expected"), [(1, DILATED_REACH_PX), (2, 6), (4, 8), (8, 8)])
def test_the_reach_of_a_dilated_net_rounded_up_to_the_stride(stride_px: int, expected: int) -> None:
    assert measure_halo(Dilated(), stride_px, limit_px=16) == expected


def test_a_limit_below_the_reach_gives_none() -> None:
    assert measure_halo(Dilated(), 1, limit_px=DILATED_REACH_PX) == DILATED_REACH_PX
    assert measure_halo(Dilated(), 1, limit_px=DILATED_REACH_PX - 1) is None


def test_a_net_that_sees_one_pixel_needs_no_halo() -> None:
    assert measure_halo(nn.Conv2d(3, 1, 1), 4, context_sections=3, limit_px=8) == 0


@pytest.mark.parametrize("limit_px", [0, 16, 64])
def test_a_net_that_pools_over_the_section_never_converges(limit_px: int) -> None:
    assert measure_halo(Pooled().eval(), 2, limit_px=limit_px) is None


def test_the_tolerance_decides() -> None:
    class Fading(nn.Module):
        """One part in a thousand comes from 6 px away."""

        def forward(self, x: Tensor) -> Tensor:
            return x + 1e-3 * torch.roll(x, 6, dims=-1)

    assert measure_halo(Fading(), 1, tolerance=1e-5, limit_px=16) == 6
    assert measure_halo(Fading(), 1, tolerance=1e-1, limit_px=16) == 0


def test_real_sections_show_what_noise_does_not() -> None:
    class Rare(nn.Module):
        """Looks 8 px to the left of whatever is brighter than any noise."""

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.roll(x, 8, dims=-1) * (x > 100)

    assert measure_halo(Rare(), 1, limit_px=16) == 0
    section = np.random.default_rng(0).normal(200, 1, (1, 90, 70)).astype(np.float32)
    assert measure_halo(Rare(), 1, limit_px=16, sections=[section]) == 8


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_halo_of_the_unet_is_never_less_than_measured(depth: int, context: int) -> None:
    options = {"features": 4, "depth": depth, "context_sections": context}
    net, known = with_random_statistics(build("unet", options)), geometry("unet", options)
    assert known.halo_px is not None
    limit_px = known.halo_px + 2**depth
    measured = measure_halo(net, known.stride_px, context, limit_px=limit_px)
    assert measured is not None
    # The outermost pixels of the reach matter too little to be seen at the tolerance; in full precision they are.
    assert 0 < measured <= known.halo_px
    assert measure_halo(net, known.stride_px, context, tolerance=1e-11, limit_px=limit_px) == known.halo_px

"""The zoo: exact counts, any input size, halos that are enough and no larger than needed."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from segem.errors import ConfigError, ModelError
from segem.learn.models.registry import ZOO, build, geometry, resolved
from segem.learn.models.unet import UNet, unet_halo_px


def with_random_statistics(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics and scales that are not those of the start, so that a test sees them."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.weight, 0.5)):
                assert tensor is not None
                tensor.data.copy_(low + torch.rand(tensor.shape, generator=generator))
    return net.eval()


def test_parameter_count_by_hand() -> None:
    # features 2, depth 1: down 1>2>2 and 2>4>4, up 4>2, merge 4>2>2, head 2>1; two numbers of batch norm a channel.
    convolutions = 9 * (1 * 2 + 2 * 2 + 2 * 4 + 4 * 4 + 4 * 2 + 2 * 2)
    norms = 2 * (2 + 2 + 4 + 4 + 2 + 2)
    assert sum(p.numel() for p in UNet(features=2, depth=1).parameters()) == convolutions + norms + (4 * 4 * 2 + 2) + 3


def test_squares_of_pixels_become_channels_and_pixels_again() -> None:
    net = UNet(features=2, depth=1, shuffle_px=2)
    inner = UNet(channels_in=4, classes=4, features=2, depth=1)
    inner.load_state_dict(net.state_dict())
    x = torch.randn(1, 1, 8, 12)
    # By hand: channel 2 i + j is the pixel of row i and column j of each square.
    squares = torch.stack([x[0, 0, i::2, j::2] for i in (0, 1) for j in (0, 1)])[None]
    expected, found = inner.eval()(squares)[0], net.eval()(x)[0, 0]
    for i, j in product((0, 1), (0, 1)):
        assert torch.equal(found[i::2, j::2], expected[2 * i + j])


def test_parameters_of_the_customary_size() -> None:
    assert sum(p.numel() for p in build("unet", {"features": 32, "depth": 4}).parameters()) == 7_762_465


@pytest.mark.parametrize("shuffle_px", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 31), (64, 5)])
def test_any_input_size_gives_logits_of_that_size(size: tuple[int, int], shuffle_px: int) -> None:
    net = UNet(features=2, depth=3, shuffle_px=shuffle_px).eval()
    assert net(torch.zeros(2, 1, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize(("depth", "shuffle_px"), [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (2, 3), (3, 2)])
def test_the_halo_is_enough_and_a_stride_less_is_not(depth: int, shuffle_px: int) -> None:
    torch.manual_seed(depth)
    net = with_random_statistics(UNet(features=2, depth=depth, shuffle_px=shuffle_px)).double()
    halo, stride = unet_halo_px(depth, shuffle_px), shuffle_px * 2**depth
    core = 2 * stride
    x = torch.randn(1, 1, 3 * core + 2 * halo, 3 * core + 2 * halo, dtype=torch.float64)
    start, stop = core + halo, 2 * core + halo
    with torch.inference_mode():
        whole = net(x)[..., start:stop, start:stop]

        def tiled(reach: int) -> torch.Tensor:
            tile = x[..., start - reach : stop + reach, start - reach : stop + reach]
            logits: torch.Tensor = net(tile)[..., reach : reach + core, reach : reach + core]
            return logits

        assert (tiled(halo) - whole).abs().max() < 1e-10
        assert (tiled(halo - stride) - whole).abs().max() > 1e-6


def test_registry_knows_what_it_builds() -> None:
    assert geometry("unet", {"depth": 4, "context_sections": 3}).context_sections == 3
    assert set(ZOO) == {spec.name for spec in ZOO.values()}
    with pytest.raises(ModelError, match=r"known: .*unet"):
        build("vnet")
    with pytest.raises(ConfigError, match="unknown key widht"):
        build("unet", {"widht": 3})


@pytest.mark.parametrize("name", sorted(ZOO))
def test_options_that_no_net_can_have_are_refused_by_name(name: str) -> None:
    numbers = [key for key, field in ZOO[name].options.model_fields.items() if field.annotation is int]
    assert "context_sections" in numbers
    for key, value in product(numbers, ("0", "-1", "1000000", "1.5", "nan", "many", "")):
        with pytest.raises(ConfigError, match=f"{name}: option {key}: "):
            resolved(name, {key: value})
    with pytest.raises(ConfigError, match=f"{name}: option context_sections: give an odd number such as 1 or 3"):
        resolved(name, {"context_sections": "2"})

"""What a net costs: weights, operations and time."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segem.config import Config
from segem.geometry import round_up
from segem.learn.engine import Engine, choose_device
from segem.learn.memory import activation_bytes
from segem.learn.models.spec import ModelSpec
from segem.learn.runtimes.choice import choose_runtime

_COUNTED_PX = 256
_TIMES = 3
_COPIES_OF_WEIGHTS = 3
"""The net, its copy with batch norm folded, and the runtime's own."""


def parameter_count(spec: ModelSpec, options: Config) -> int:
    """Return the number of trainable parameters of a net, without allocating them.

    Examples
    --------
    >>> from segem.learn.models.registry import spec_of
    >>> unet = spec_of("unet")
    >>> parameter_count(unet, unet.options())
    1942289
    """
    return sum(parameter.numel() for parameter in bare_net(spec, options).parameters())


def bare_net(spec: ModelSpec, options: Config) -> nn.Module:
    """Return a net in evaluation mode whose weights take no memory and have no values."""
    with torch.device("meta"):
        return spec.build(options).eval()


def gflop_per_megapixel(spec: ModelSpec, options: Config) -> float:
    """Return the operations for one more million pixels, in 10^9; a multiplication with an addition counts as two.

    Convolutions and matrix products are counted. An input of height and width n takes a n^2 + b n + c operations, where
    b comes from padding and c is done once for an image; the second difference over three sizes isolates a.

    Parameters
    ----------
    spec : ModelSpec
        The architecture.
    options : Config
        Its options.

    Examples
    --------
    >>> from segem.learn.models.registry import spec_of
    >>> unet = spec_of("unet")
    >>> round(gflop_per_megapixel(unet, unet.options()), 1)
    92.0
    """
    net, geometry = bare_net(spec, options), spec.geometry(options)
    # Multiples of the stride: padding to it would break the polynomial.
    edge = round_up(_COUNTED_PX, geometry.stride_px)
    small, medium, large = (_flop(net, geometry.context_sections, n * edge) for n in (1, 2, 3))
    return (large - 2 * medium + small) / (2 * edge**2) * 1e6 / 1e9


def bytes_needed(spec: ModelSpec, options: Config, size_px: int) -> int:
    """Estimate the bytes that evaluating one square tile takes, weights included, without building the net.

    Examples
    --------
    >>> from segem.learn.models.registry import spec_of
    >>> unet = spec_of("unet")
    >>> bytes_needed(unet, unet.options(), 512) // 10**6
    162
    """
    return _COPIES_OF_WEIGHTS * 4 * parameter_count(spec, options) + tile_bytes(spec, options, size_px)


def tile_bytes(spec: ModelSpec, options: Config, size_px: int) -> int:
    """Estimate the bytes that evaluating one square tile takes besides the weights, without building the net.

    Examples
    --------
    >>> from segem.learn.models.registry import spec_of
    >>> unet = spec_of("unet")
    >>> tile_bytes(unet, unet.options(), 512) // 10**6
    138
    """
    net, channels = bare_net(spec, options), spec.geometry(options).context_sections
    with torch.device("meta"):
        return activation_bytes(net, (channels, size_px, size_px))


def megapixels_per_second(spec: ModelSpec, options: Config, size_px: int) -> float:
    """Evaluate one square tile with the runtime that ``auto`` takes here, and return the rate of the median of three.

    One tile is evaluated by one thread, whatever the number of cores; weights are random, which changes no time.

    Examples
    --------
    >>> from segem.learn.models.registry import spec_of
    >>> unet = spec_of("unet")
    >>> megapixels_per_second(unet, unet.options(features=2, depth=1), 64) > 0
    True
    """
    device, channels = choose_device("auto"), spec.geometry(options).context_sections
    tile = np.random.default_rng(0).normal(size=(channels, size_px, size_px)).astype(np.float32)
    # One thread, as for each tile of a run, so the rate does not depend on the number of cores.
    net, seconds = spec.build(options).eval(), []
    with Engine(net, device, channels, threads=1, runtime=choose_runtime("auto", device)) as engine:
        # The first call compiles and is not timed.
        engine.probability(tile)
        for _ in range(_TIMES):
            started = time.perf_counter()
            engine.probability(tile)
            seconds.append(time.perf_counter() - started)
    return size_px**2 / 1e6 / statistics.median(seconds)


def _flop(net: nn.Module, channels: int, edge_px: int) -> int:
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), torch.device("meta"), counter:
        net(torch.empty(1, channels, edge_px, edge_px))
    return int(counter.get_total_flops())

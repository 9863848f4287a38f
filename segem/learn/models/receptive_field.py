"""What an output pixel sees: intervals of indices, followed through a net from its output to its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from segem.geometry import ceil_div, round_up

Interval = tuple[int, int]
"""First and last index, both included; negative ones lie before the start of the axis."""


class Step(Protocol):
    """One layer, or what a net does between two of them."""

    def sees(self, first: int, last: int) -> Interval:
        """Return the input indices that the outputs `first` to `last` depend on."""
        ...


@dataclass(frozen=True)
class Window:
    """A convolution or a pooling; with a kernel of 1 and a negative padding, a crop.

    Examples
    --------
    >>> Window(3, dilation=12).extent
    25
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0

    @property
    def extent(self) -> int:
        """Pixels from the first to the last tap of the kernel, ``k + (k - 1) (r - 1)``."""
        return self.kernel + (self.kernel - 1) * (self.dilation - 1)

    def sees(self, first: int, last: int) -> Interval:
        """Return the input indices that the outputs `first` to `last` depend on."""
        return first * self.stride - self.padding, last * self.stride - self.padding + self.extent - 1


@dataclass(frozen=True)
class Transposed:
    """A transposed convolution whose first `crop` outputs are cut off."""

    kernel: int
    stride: int
    crop: int = 0

    def sees(self, first: int, last: int) -> Interval:
        """Return the input indices that the outputs `first` to `last` depend on."""
        return ceil_div(first + self.crop - self.kernel + 1, self.stride), (last + self.crop) // self.stride


@dataclass(frozen=True)
class Resampled:
    """Bilinear interpolation, half-pixel centres (``align_corners=False``), from `down` pixels to `up`."""

    up: int
    down: int = 1

    def sees(self, first: int, last: int) -> Interval:
        """Return the input indices that the outputs `first` to `last` depend on."""
        return self._below(first), self._below(last) + 1

    def _below(self, index: int) -> int:
        # In integers: rounding could put a position on the wrong side of a pixel, and a halo would be one short.
        return ((2 * index + 1) * self.down - self.up) // (2 * self.up)


@dataclass(frozen=True)
class Parallel:
    """Chains of steps on the same input whose outputs meet in one pixel."""

    branches: tuple[tuple[Step, ...], ...]

    def sees(self, first: int, last: int) -> Interval:
        """Return the input indices that the outputs `first` to `last` depend on."""
        found = [seen(branch, first, last) for branch in self.branches]
        return min(start for start, _ in found), max(stop for _, stop in found)


def seen(steps: Sequence[Step], first: int, last: int) -> Interval:
    """Return the input indices that the outputs `first` to `last` of a chain of steps depend on.

    Examples
    --------
    >>> seen([Window(3, padding=1), Window(2, stride=2)], 0, 0)
    (-1, 2)
    """
    for step in reversed(steps):
        first, last = step.sees(first, last)
    return first, last


def windows(*modules: nn.Module) -> tuple[Window, ...]:
    """Return the convolutions and poolings of modules that form one chain, in the order of their definition.

    The 1x1 convolution beside a residual block (``downsample``) is left out, as it sees less than the block.

    Examples
    --------
    >>> windows(nn.Sequential(nn.Conv2d(1, 1, 3, padding=2, dilation=2), nn.ReLU(), nn.MaxPool2d(2)))
    (Window(kernel=3, stride=1, dilation=2, padding=2), Window(kernel=2, stride=2, dilation=1, padding=0))
    """
    found = []
    for module in modules:
        for name, part in module.named_modules():
            if isinstance(part, nn.ZeroPad2d):
                found.append(Window(1, padding=part.padding[0]))
            elif isinstance(part, nn.Conv2d | nn.MaxPool2d) and "downsample" not in name:
                sizes = (part.kernel_size, part.stride, part.dilation, part.padding)
                found.append(Window(*(size[0] if isinstance(size, tuple) else int(size) for size in sizes)))
    return tuple(found)


def reach_px(steps: Sequence[Step], stride_px: int) -> int:
    """Return the context a core needs on each side for exact output, a multiple of the stride.

    Cores and tiles start on multiples of `stride_px`; the last pixel of a core is the last of a stride.

    Examples
    --------
    >>> reach_px([Window(3, padding=1), Window(2, stride=2), Resampled(2)], 2)
    4
    """
    before, _ = seen(steps, 0, 0)
    _, after = seen(steps, stride_px - 1, stride_px - 1)
    return round_up(max(-before, after - (stride_px - 1)), stride_px)


def longest_px(steps: Sequence[Step], stride_px: int) -> int:
    """Return the longest edge of what one output pixel depends on, over all positions on the lattice.

    Examples
    --------
    >>> longest_px([Window(3, padding=1), Window(2, stride=2), Resampled(2)], 2)
    6
    """
    found = [seen(steps, position, position) for position in range(stride_px)]
    return max(last - first + 1 for first, last in found)

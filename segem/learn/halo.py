"""Measures how much context around a core a net needs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segem.geometry import round_up

LIMIT_PX = 256
"""Widest halo worth having: around a core of 512 pixels it makes a net compute four times as much as it keeps."""
TOLERANCE = 1e-5
"""Largest difference of a logit that counts as none; a probability then differs by a quarter of it at most."""


def measure_halo(
    net: nn.Module,
    stride_px: int,
    context_sections: int = 1,
    tolerance: float = TOLERANCE,
    limit_px: int = LIMIT_PX,
    sections: Sequence[NDArray[np.float32]] = (),
) -> int | None:
    """Measure how much context a core needs for the logits that it has within a much larger section.

    Parameters
    ----------
    net : Module
        (B, C, H, W) to (B, 1, H, W) logits.
    stride_px : int
        Lattice on which tiles start.
    context_sections : int
        Sections the net takes as channels.
    tolerance : float
        Largest difference of a logit that is accepted.
    limit_px : int
        Widest halo to try, rounded up to the stride.
    sections : sequence of (C, H, W) float32
        Real input, in z-scores, to measure on beside noise; at best at least ``4 * limit_px`` in y and x.

    Returns
    -------
    int or None
        In pixels, a multiple of the stride; None when not even the widest is enough, as with a net that pools over its
        whole input.

    Notes
    -----
    A measurement can miss context that matters for none of its inputs, so a halo derived from the architecture is
    better where there is one. Everything is computed in double precision, so that tile and section differ by what
    the net did not see and not by rounding. The noise grows brighter away from the core: otherwise the mean of a tile
    would be close to that of its section, and a net that pools over everything would seem to need little.

    Examples
    --------
    >>> measure_halo(nn.Conv2d(1, 1, 7, padding=3), stride_px=1, limit_px=16)
    3
    """
    # A copy, so that the caller's net keeps its device and precision.
    net = copy.deepcopy(net).cpu().double().eval()
    widest = max(round_up(limit_px, stride_px), stride_px)
    # Twice the widest halo on each side of a core of two strides.
    inputs = [_noise(context_sections, 4 * widest + 2 * stride_px)]
    inputs += [torch.from_numpy(np.ascontiguousarray(section)).double() for section in sections]
    with torch.inference_mode():
        probes = [_Probe(net, section, stride_px, 2 * widest) for section in inputs]
        enough = None
        # From wide to narrow, because a halo is enough only if every wider one is.
        for halo in range(widest, -1, -stride_px):
            if not all(probe.difference(halo) <= tolerance for probe in probes):
                break
            enough = halo
    return enough


class _Probe:
    """One section, and the logits of the core in its middle when the net sees the whole section."""

    def __init__(self, net: nn.Module, section: Tensor, stride_px: int, reach: int) -> None:
        self._net, self._stride = net, stride_px
        # The middle of a large section is enough, and saves the time and memory of the rest.
        self._section = section[:, *(_middle(n, stride_px, reach) for n in section.shape[1:])]
        self._whole = net(self._section[None])

    def difference(self, halo: int) -> float:
        """Return the largest difference of a logit of the core when only `halo` around it is seen."""
        core = [_middle(n, self._stride, 0) for n in self._section.shape[1:]]
        tile = [_middle(n, self._stride, halo) for n in self._section.shape[1:]]
        logits = self._net(self._section[None, :, *tile])
        inner = [slice(c.start - t.start, c.stop - t.start) for c, t in zip(core, tile, strict=True)]
        return float((logits[..., *inner] - self._whole[..., *core]).abs().max())


def _middle(size: int, stride_px: int, reach: int) -> slice:
    """Return a core of two strides in the middle of an axis, grown by `reach` and cut at the ends, on the lattice."""
    # On the lattice: elsewhere poolings would fall on other pixels than in the whole section.
    start = (size - 2 * stride_px) // 2 // stride_px * stride_px
    return slice(max(0, start - reach), min(size, start + 2 * stride_px + reach))


def _noise(channels: int, size: int) -> Tensor:
    noise = torch.randn(channels, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outward = torch.linspace(-1, 1, size, dtype=torch.float64).abs()
    return noise + 2 * torch.maximum(outward[:, None], outward[None, :])

"""A model applied to a place by the plainest way there is: one window, and neither tiles, runtimes nor engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segem.geometry import ZYX, Box, Halo, around, round_up
from segem.io.tissue import Tissue
from segem.kernels.blend import axis_weights
from segem.kernels.normalize import IntensityStatistics, zscore
from segem.kernels.threshold import quantize_probability
from segem.kernels.views import turn, turn_back
from segem.plan import Plan

Map = NDArray[np.float32]


@dataclass(frozen=True)
class PlainModel:
    """Computes the probability of places as it would be stored, to hold against what tiles were made into."""

    evaluate: Callable[[NDArray[np.float32]], Map]
    """Takes (C, H, W) z-scores and returns the probability (H, W)."""
    read: Callable[[Box], Tissue]
    statistics: IntensityStatistics
    """Of the whole volume."""
    context_sections: int = 1
    stride_px: int = 1
    """Lattice of the net's poolings."""
    views: int = 1

    def compute_whole(self, place: Box, shape: ZYX, halo_px: int) -> NDArray[np.uint8]:
        """Return the probability of a place from one window, which holds all that the net sees there.

        Parameters
        ----------
        place : Box
            In one section.
        shape : tuple of int
            Of the volume (z, y, x).
        halo_px : int
            What the net sees around a pixel; a larger one changes nothing.

        Returns
        -------
        (y, x) uint8
        """
        # Grown from the lattice of the net's poolings on: from a place in the middle of one of its cells, the net looks
        # further than from its edge, where tiles end.
        stride = self.stride_px
        _, top, left = (start // stride * stride for start in place.start)
        _, bottom, right = (round_up(stop, stride) for stop in place.stop)
        cells = Box((place.start[0], top, left), (place.stop[0], bottom, right))
        window = cells.grow(Halo(0, *[round_up(halo_px, stride)] * 2), Box.of_shape(shape))
        return self._store(self._look(window, shape)[place.relative_to(window.start).slices[1:]], place)

    def compute_tiled(self, place: Box, plan: Plan) -> NDArray[np.uint8]:
        """Return the probability of a place from the tiles that reach it, each looked at by itself.

        Parameters
        ----------
        place : Box
            In one section.
        plan : Plan
            How tiles are laid, and what their weights are.

        Returns
        -------
        (y, x) uint8
        """
        total = np.zeros(place.shape[1:], np.float32)
        halo = Halo() if plan.tiling.window else Halo(0, plan.tiling.halo.y, plan.tiling.halo.x)
        for y0, y1, rows in _weigh(plan, 1):
            for x0, x1, columns in _weigh(plan, 2):
                tile = Box((place.start[0], y0, x0), (place.stop[0], y1, x1))
                part = tile.intersect(place)
                if not part.size:
                    continue
                seen = tile.grow(halo, Box.of_shape(plan.shape))
                found = self._look(seen, plan.shape)[part.relative_to(seen.start).slices[1:]]
                _, y, x = part.relative_to(tile.start).slices
                total[part.relative_to(place.start).slices[1:]] += found * np.outer(rows[y], columns[x])
        return self._store(np.clip(total, 0, 1), place)

    def _look(self, window: Box, shape: ZYX) -> Map:
        """Return the probability of a window of one section; beyond the ends of the volume the last section repeats."""
        wanted = np.clip([window.start[0] + dz for dz in around(self.context_sections)], 0, shape[0] - 1)
        first, last = int(wanted[0]), int(wanted[-1])
        image = self.read(Box((first, *window.start[1:]), (last + 1, *window.stop[1:]))).image
        channels = zscore(image[wanted - first], self.statistics)
        if self.views == 1:
            return self.evaluate(channels)
        height, width = channels.shape[1:]
        filled = np.pad(channels, ((0, 0), (0, -height % self.stride_px), (0, -width % self.stride_px)))
        seen = (turn_back(self.evaluate(turn(filled, view)), view) for view in range(self.views))
        mean: Map = (np.sum(list(seen), axis=0) / np.float32(self.views)).astype(np.float32)
        return mean[:height, :width]

    def _store(self, probability: Map, place: Box) -> NDArray[np.uint8]:
        stored = quantize_probability(probability)
        outside = self.read(place).outside
        if outside is not None:
            stored[outside[0] != 0] = 0
        return stored


def _weigh(plan: Plan, axis: Literal[1, 2]) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield start, stop and weights of the tiles along an axis: 1 in each core where they are cropped."""
    windows, form = plan.windows(axis), plan.tiling.window
    if form is None:
        weights: list[NDArray[Any]] = [np.ones(stop - start, np.float32) for start, stop in windows]
    else:
        weights = list(axis_weights(plan.shape[axis], plan.tiling.core_px[axis - 1], windows, form))
    yield from ((start, stop, weight) for (start, stop), weight in zip(windows, weights, strict=True))

"""A section as its mask divides it into cells, and as its probability would divide or join them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.basins import find_basins
from segem.kernels.merge_tree import MergeTree
from segem.kernels.merging import Borders
from segem.kernels.metrics.segments import thin_segments

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PixelBorders:
    """Borders, and the pixels that each consists of.

    Parameters
    ----------
    borders : Borders
        Their strengths.
    pixels : (n,) int64
        Pixels by their number in reading order.
    of : (n,) int64
        The border that each of them belongs to.
    """

    borders: Borders
    pixels: Ints
    of: Ints

    @classmethod
    def gather(cls, pixels: Ints, one: Ints, other: Ints, height: NDArray[np.uint8]) -> PixelBorders:
        """Take pixels between two numbered regions each; `height` is the probability that counts for a pixel."""
        borders = Borders.gather(one, other, height)
        count = int(borders.other.max(initial=0)) + 1
        keys = np.minimum(one, other) * count + np.maximum(one, other)
        return cls(borders, pixels, np.searchsorted(borders.one * count + borders.other, keys))

    def find(self, chosen: NDArray[np.bool_]) -> Ints:
        """Return the pixels of some of the borders, in reading order, each once."""
        return np.unique(self.pixels[chosen[self.of]])


@dataclass(frozen=True, eq=False)
class DividedSection:
    """A section and the places where its mask may be wrong about a membrane.

    Parameters
    ----------
    segments : (y, x) int32
        Cells of the mask, grown until lines of one pixel part them; 0 on the lines and outside.
    parts : (y, x) int64
        Basins of the probability, cut by those lines; 0 where segments are.
    lines : PixelBorders
        Between segments that meet, their pixels those of the lines: what the mask may part wrongly.
    seams : PixelBorders
        Between the parts of one segment, their pixels the first of each two that touch.
    tree : MergeTree
        How the parts of each segment merge: what the mask may join wrongly.
    depth : (y, x) float32
        Distance of each pixel of the mask to the nearest that is none, in pixels; 0 elsewhere.

    Examples
    --------
    Two cells, and a faint line in the second one:

    >>> probability = np.array([[0, 0, 255, 0, 0, 99, 0]], np.uint8)
    >>> section = DividedSection.divide(probability, (probability > 127).astype(np.uint8), sigma_px=0)
    >>> section.segments.tolist(), section.parts.tolist()
    ([[1, 1, 0, 2, 2, 2, 2]], [[1, 1, 0, 2, 2, 2, 3]])
    >>> section.lines.borders.mean.tolist(), section.tree.strength.round(2).tolist()
    ([1.0], [0.39])
    """

    segments: NDArray[np.int32]
    parts: Ints
    lines: PixelBorders
    seams: PixelBorders
    tree: MergeTree
    depth: NDArray[np.float32]

    @classmethod
    def divide(
        cls,
        probability: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        sigma_px: float,
        outside: NDArray[np.uint8] | None = None,
    ) -> DividedSection:
        """Divide a section.

        Parameters
        ----------
        probability : (y, x) uint8
            Membrane probability, 255 = certain.
        mask : (y, x) uint8
            1 = membrane.
        sigma_px : float
            See `segem.kernels.cells.find_cells`.
        outside : (y, x) uint8, optional
            Nonzero where there is no tissue.

        Returns
        -------
        DividedSection
        """
        inside = np.ones(mask.shape, bool) if outside is None else outside == 0
        segments = thin_segments(mask == 0, inside)
        within = segments != 0
        basins = find_basins(probability, sigma_px, outside)[within].astype(np.int64)
        parts = np.zeros(mask.shape, np.int64)
        parts[within] = np.unique(basins * (int(segments.max(initial=0)) + 1) + segments[within], return_inverse=True)[
            1
        ]
        parts[within] += 1
        seams = _find_seams(parts, probability)
        return cls(
            segments,
            parts,
            _find_lines(segments, inside & ~within, probability),
            seams,
            MergeTree.grow(seams.borders, np.bincount(parts.ravel(), minlength=1)),
            # Beyond the section there is no membrane, so that a mask of nothing else has a depth.
            ndimage.distance_transform_edt(np.pad(mask != 0, 1))[1:-1, 1:-1].astype(np.float32),
        )

    @cached_property
    def segment_pixels(self) -> Ints:
        """Area of each segment, by its number."""
        return np.bincount(self.segments.ravel())

    @cached_property
    def width_px(self) -> int:
        """Median width of the membranes of the mask, an odd number."""
        if not self.lines.pixels.size:
            return 1
        return max(1, 2 * round(float(np.median(self.depth.ravel()[self.lines.pixels]))) - 1)


def _find_seams(parts: Ints, probability: NDArray[np.uint8]) -> PixelBorders:
    number = np.arange(parts.size).reshape(parts.shape)
    found = []
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        one, other = parts[here], parts[there]
        touch = (one != other) & (one != 0) & (other != 0)
        height = np.maximum(probability[here][touch], probability[there][touch])
        found.append((number[here][touch], one[touch], other[touch], height))
    return PixelBorders.gather(*map(np.concatenate, zip(*found, strict=True)))


def _find_lines(segments: NDArray[np.int32], line: NDArray[np.bool_], probability: NDArray[np.uint8]) -> PixelBorders:
    pixels = np.flatnonzero(line)
    around = np.pad(segments, 1).ravel()
    width = segments.shape[1] + 2
    rows, columns = np.divmod(pixels, segments.shape[1])
    at = (rows + 1) * width + columns + 1
    beside = np.stack([around[at + step] for step in (-width, -1, 1, width)]).astype(np.int64)
    high, low = beside.max(axis=0), np.where(beside == 0, np.iinfo(np.int64).max, beside).min(axis=0)
    # A pixel where three meet is no border of two of them: to erase it would open the third.
    two = (low < high) & ((beside == 0) | (beside == low) | (beside == high)).all(axis=0)
    return PixelBorders.gather(pixels[two], low[two], high[two], probability.ravel()[pixels[two]])

"""Intensity statistics of a whole volume, and images scaled by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError

PERCENTILES = (1, 50, 99)
FENCE = 1.0
"""How far from the 1st and 99th percentile an intensity may lie, in units of the distance between the two."""

_LEAST_LEVELS = 16
"""With fewer intensities, an image is drawn, and none of them is an exception."""
_COUNTED_AT_A_TIME = 2**18


@dataclass(frozen=True)
class IntensityStatistics:
    """Statistics of the intensities of a volume, over all voxels of its tissue.

    Parameters
    ----------
    mean, std : float
        Mean and standard deviation (of the population) of the voxels between `low` and `high`.
    minimum, maximum : int
        Extremes.
    percentiles : mapping of str to float
        Keys ``"1"``, ``"50"`` and ``"99"``: the least intensity that this percentage of the voxels does not exceed.
    low, high : int, optional
        The fence: what lies beyond, such as hot pixels, is no intensity of tissue, and is clipped before anything is
        computed of it. None in volumes that an earlier version of segem ingested, and nothing is clipped.
    """

    mean: float
    std: float
    minimum: int
    maximum: int
    percentiles: Mapping[str, float]
    low: int | None = None
    high: int | None = None

    @classmethod
    def from_histogram(cls, counts: NDArray[np.int64], window: tuple[int, int] | None = None) -> IntensityStatistics:
        """Return the exact statistics of the voxels that a histogram counts.

        Parameters
        ----------
        counts : (bins,) int64
            ``counts[i]`` voxels have intensity i.
        window : (int, int), optional
            The fence, where the user says what it is; all voxels then count, clipped to it. Otherwise it lies
            `FENCE` times the distance between the 1st and the 99th percentile beyond these two, and voxels beyond the
            fence do not count. Where the two are equal, there is no fence.

        Raises
        ------
        InputError
            When the histogram counts no voxel.

        Examples
        --------
        >>> statistics = IntensityStatistics.from_histogram(np.array([1, 0, 0, 0, 3]))
        >>> statistics.mean, statistics.maximum, statistics.percentiles["50"]
        (3.0, 4, 4.0)
        """
        total = int(counts.sum())
        if total == 0:
            raise InputError(
                "no voxels to take statistics of", expected="a volume of at least one voxel", fix="give a volume"
            )
        occupied = np.flatnonzero(counts)
        percentiles = _percentiles(occupied, counts)
        minimum, maximum = int(occupied[0]), int(occupied[-1])
        if window is None:
            first, _, last = _percentiles(_without_bars(occupied, counts), counts)
            # Within the extremes, so that the fence of clean data says that nothing was clipped.
            reach = FENCE * (last - first) if first < last else maximum - minimum
            low, high = max(minimum, math.floor(first - reach)), min(maximum, math.ceil(last + reach))
            levels = occupied[(occupied >= low) & (occupied <= high)]
            weights = counts[levels].astype(np.float64)
        else:
            low, high = window
            levels, weights = np.clip(occupied, low, high), counts[occupied].astype(np.float64)
        mean = float(np.dot(levels, weights) / weights.sum())
        # Around the mean: E(x^2) - E(x)^2 would lose digits by cancellation.
        variance = float(np.dot((levels - mean) ** 2, weights) / weights.sum())
        return cls(
            mean=mean,
            std=float(np.sqrt(variance)),
            minimum=minimum,
            maximum=maximum,
            percentiles=dict(zip(map(str, PERCENTILES), map(float, percentiles), strict=True)),
            low=low,
            high=high,
        )

    def clip(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return intensities with those beyond the fence moved to it; the same array where there are none.

        Examples
        --------
        >>> statistics = IntensityStatistics(mean=10.0, std=2.0, minimum=0, maximum=255, percentiles={}, low=0, high=20)
        >>> statistics.clip(np.array([6, 255], np.uint8)).tolist()
        [6, 20]
        """
        if self.low is None or self.high is None or (self.low <= self.minimum and self.high >= self.maximum):
            return image
        clipped: NDArray[Any] = np.clip(image, self.low, self.high)
        return clipped

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {**asdict(self), "percentiles": dict(self.percentiles)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IntensityStatistics:
        """Rebuild the statistics from `to_dict`; keys of others are ignored.

        Raises
        ------
        ValueError
            When a number is NaN or infinite: every voxel scaled by it would be.
        """
        statistics = cls(
            mean=float(values["mean"]),
            std=float(values["std"]),
            minimum=int(values["minimum"]),
            maximum=int(values["maximum"]),
            percentiles={str(key): float(value) for key, value in values["percentiles"].items()},
            low=None if values.get("low") is None else int(values["low"]),
            high=None if values.get("high") is None else int(values["high"]),
        )
        numbers = (statistics.mean, statistics.std, *statistics.percentiles.values())
        if not np.isfinite(numbers).all():
            raise ValueError(f"statistics that are not finite: {statistics}")
        return statistics


def _percentiles(levels: NDArray[np.intp], counts: NDArray[np.int64]) -> list[int]:
    running = np.cumsum(counts[levels])
    # Integer ranks, because 0.99 * total is not exact in floating point.
    ranks = [-(-percent * int(running[-1]) // 100) for percent in PERCENTILES]
    return [int(levels[i]) for i in np.searchsorted(running, ranks)]


def _without_bars(occupied: NDArray[np.intp], counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the intensities without the least and the largest, where these lie far beyond all others.

    A bar that was drawn into the image may fill more than a hundredth of it, and would then move the percentiles.
    """
    between = occupied[1:-1]
    # What lies between must be the image, and the extremes the exception.
    if between.size < _LEAST_LEVELS or 2 * counts[between].sum() < counts.sum():
        return occupied
    first, _, last = _percentiles(between, counts)
    reach = FENCE * (last - first)
    low = int(between[0] - occupied[0] > reach)
    high = occupied.size - int(occupied[-1] - between[-1] > reach)
    return occupied[low:high]


def find_span(counts: NDArray[np.int64]) -> int:
    """Return the distance between the 1st and the 99th percentile of the voxels that a histogram counts.

    Examples
    --------
    >>> find_span(np.ones(241, np.int64))
    236
    """
    first, _, last = _percentiles(np.flatnonzero(counts), counts)
    return last - first


def histogram(section: NDArray[np.uint8 | np.uint16]) -> NDArray[np.int64]:
    """Count the voxels of every intensity.

    Parameters
    ----------
    section : array of uint8 or uint16
        Of any shape.

    Returns
    -------
    (256,) or (65536,) int64
        Add those of all sections up for the histogram of a volume.

    Raises
    ------
    InputError
        When the intensities are of another type.

    Examples
    --------
    >>> histogram(np.array([[0, 2], [2, 2]], np.uint8))[:4]
    array([1, 0, 3, 0])
    """
    if section.dtype not in (np.uint8, np.uint16):
        raise InputError(
            "a histogram counts whole intensities",
            expected="uint8 or uint16",
            found=section.dtype,
            fix="ingest it first",
        )
    voxels = section.reshape(-1)
    if section.dtype == np.uint16:
        return _count(voxels)
    # Bytes are counted in pairs, which takes half of the time: a pair is one of 65,536 numbers.
    whole = voxels.size // 2 * 2
    pairs = _count(np.ascontiguousarray(voxels[:whole]).view(np.uint16)).reshape(256, 256)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    counts += np.bincount(voxels[whole:], minlength=256)
    return counts


def _count(voxels: NDArray[Any]) -> NDArray[np.int64]:
    counts = np.zeros(2**16, np.int64)
    # Piece by piece, because bincount first converts its input to eight bytes a voxel.
    for start in range(0, voxels.size, _COUNTED_AT_A_TIME):
        counts += np.bincount(voxels[start : start + _COUNTED_AT_A_TIME], minlength=2**16)
    return counts


def zscore(image: NDArray[Any], statistics: IntensityStatistics) -> NDArray[np.float32]:
    """Shift and scale intensities to zero mean and unit deviation of the volume they come from.

    Parameters
    ----------
    image : array of any shape and numeric type
        Intensities of the volume, or of any part of it.
    statistics : IntensityStatistics
        Of the whole volume, so that no part is scaled by itself.

    Returns
    -------
    array of the same shape, float32
        ``(image - mean) / max(std, 1)``; finite for a constant volume too.

    Examples
    --------
    >>> statistics = IntensityStatistics(mean=10.0, std=2.0, minimum=0, maximum=20, percentiles={})
    >>> zscore(np.array([6, 10, 14], np.uint8), statistics)
    array([-2.,  0.,  2.], dtype=float32)
    """
    # In place, because a section of floats is large. A deviation below one grey level is noise, or 0 in a constant
    # volume, which would divide to NaN.
    scaled = image.astype(np.float32)
    scaled -= np.float32(statistics.mean)
    scaled /= np.float32(max(statistics.std, 1.0))
    return scaled

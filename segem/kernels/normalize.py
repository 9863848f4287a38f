"""Intensity statistics of a whole volume, and images scaled by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError

PERCENTILES = (1, 50, 99)

_COUNTED_AT_A_TIME = 2**18


@dataclass(frozen=True)
class IntensityStatistics:
    """Statistics of the intensities of a volume, over all its voxels.

    Parameters
    ----------
    mean, std : float
        Mean and standard deviation (of the population).
    minimum, maximum : int
        Extremes.
    percentiles : mapping of str to float
        Keys ``"1"``, ``"50"`` and ``"99"``: the least intensity that this percentage of the voxels does not exceed.
    """

    mean: float
    std: float
    minimum: int
    maximum: int
    percentiles: Mapping[str, float]

    @classmethod
    def from_histogram(cls, counts: NDArray[np.int64]) -> IntensityStatistics:
        """Return the exact statistics of the voxels that a histogram counts.

        Parameters
        ----------
        counts : (bins,) int64
            ``counts[i]`` voxels have intensity i.

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
        weights = counts[occupied].astype(np.float64)
        mean = float(np.dot(occupied, weights) / total)
        # Around the mean: E(x^2) - E(x)^2 would lose digits by cancellation.
        variance = float(np.dot((occupied - mean) ** 2, weights) / total)
        # Integer ranks, because 0.99 * total is not exact in floating point.
        ranks = [-(-percent * total // 100) for percent in PERCENTILES]
        at = np.searchsorted(np.cumsum(counts[occupied]), ranks)
        return cls(
            mean=mean,
            std=float(np.sqrt(variance)),
            minimum=int(occupied[0]),
            maximum=int(occupied[-1]),
            percentiles={str(p): float(occupied[i]) for p, i in zip(PERCENTILES, at, strict=True)},
        )

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
        )
        numbers = (statistics.mean, statistics.std, *statistics.percentiles.values())
        if not np.isfinite(numbers).all():
            raise ValueError(f"statistics that are not finite: {statistics}")
        return statistics


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
    bins = int(np.iinfo(section.dtype).max) + 1
    counts, voxels = np.zeros(bins, np.int64), section.reshape(-1)
    # Piece by piece, because bincount first converts its input to eight bytes a voxel.
    for start in range(0, voxels.size, _COUNTED_AT_A_TIME):
        counts += np.bincount(voxels[start : start + _COUNTED_AT_A_TIME], minlength=bins)
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

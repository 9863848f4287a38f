"""Intensities of any type as whole numbers of 8 or 16 bits, exact where their values fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.geometry import ZYX, Box, ceil_div
from segem.kernels.normalize import FENCE

STORED_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
"""What an image of a volume may be."""

_SAMPLED = 2**22
_LEVELS = 2**16
_PILED = 0.005
"""Share of a sample in one extreme value from which that value stands for something other than an intensity."""


@dataclass(frozen=True)
class Scaling:
    """How the values of a source are stored: ``value = offset + scale * stored``.

    Parameters
    ----------
    dtype : dtype
        uint8 or uint16.
    offset, scale : float
        Whole numbers where values are stored exactly.
    clipped : (float, float), optional
        Lowest and highest value that is stored; what lies beyond is clipped. None where all values are stored.
    nothing : int, optional
        What is stored of NaN and infinity, and of nothing else; None where there are none.
    """

    dtype: np.dtype[Any]
    offset: float = 0
    scale: float = 1
    clipped: tuple[float, float] | None = None
    nothing: int | None = None

    @property
    def is_identity(self) -> bool:
        """Whether values are stored as they are."""
        return (self.offset, self.scale, self.clipped, self.nothing) == (0, 1, None, None)

    def store(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values as they are stored, of `dtype`.

        Examples
        --------
        >>> Scaling(np.dtype(np.uint8), offset=-3).store(np.array([-3, 0, 5], np.int16))
        array([0, 3, 8], dtype=uint8)
        """
        if values.dtype == self.dtype and self.is_identity:
            return values
        stored = np.empty(values.shape, self.dtype)
        # Row by row of the first axes: as float64, a slab would take eight times the memory.
        for at in np.ndindex(values.shape[:-1]):
            stored[at] = self._store(values[at])
        return stored

    def level(self, value: float) -> float:
        """Return where a value lies among the stored numbers, which need not be a whole one."""
        return (value - self.offset) / self.scale

    def to_dict(self, source: np.dtype[Any]) -> dict[str, Any]:
        """Return plain values that JSON can hold, by which values of this type can be restored."""
        clipped = None if self.clipped is None else list(self.clipped)
        return {
            "source_dtype": str(source),
            "offset": self.offset,
            "scale": self.scale,
            "clipped": clipped,
            "nothing": self.nothing,
        }

    def _store(self, row: NDArray[Any]) -> NDArray[Any]:
        if self.scale == 1 and self.clipped is None and self.nothing is None:
            if row.dtype.kind in "iu":
                # In their own type, since a float would lose digits of 64 bits. A difference that overflows it wraps
                # around, and again when it is stored, to the number that it is.
                whole: NDArray[Any] = (row - row.dtype.type(self.offset)).astype(self.dtype)
                return whole
            row = row.astype(np.float64) - self.offset
            return row.astype(self.dtype, copy=False)
        wide = row.astype(np.float64)
        finite = np.isfinite(wide)
        levels = (np.where(finite, wide, self.offset) - self.offset) / self.scale
        least = 0 if self.nothing is None else self.nothing + 1
        stored = np.clip(np.rint(levels), least, np.iinfo(self.dtype).max)
        return np.where(finite, stored, self.nothing or 0).astype(self.dtype)


@dataclass
class ValueSurvey:
    """What must be known of all values of a source before it is known how to store them.

    Parameters
    ----------
    shape : tuple of int
        Of the source.
    """

    shape: ZYX
    least: float | int | None = None
    most: float | int | None = None
    whole: bool = True
    """Whether all values are whole numbers."""
    not_numbers: int = 0
    """Values that are NaN or infinite."""
    samples: list[NDArray[Any]] = field(default_factory=list)

    def add(self, box: Box, values: NDArray[Any]) -> None:
        """Look at the values of a box; every box of the source once, in any order and of any size."""
        for z, section in enumerate(values):
            self._add(Box((box.start[0] + z, *box.start[1:]), (box.start[0] + z + 1, *box.stop[1:])), section)

    def _add(self, box: Box, section: NDArray[Any]) -> None:
        numbers = section.ravel()
        if section.dtype.kind == "f":
            finite = np.isfinite(numbers)
            if not finite.all():
                self.not_numbers += int(np.count_nonzero(~finite))
                numbers = numbers[finite]
            self.whole = self.whole and bool((numbers == np.rint(numbers)).all())
        if numbers.size:
            # As Python's numbers, which hold 64 bits exactly.
            least, most = numbers.min().item(), numbers.max().item()
            self.least = least if self.least is None else min(self.least, least)
            self.most = most if self.most is None else max(self.most, most)
        # Every so many rows and columns, counted from those of the source, so that the sample is the same however the
        # source is cut into boxes.
        step = max(1, ceil_div(int(np.sqrt(np.prod(self.shape, dtype=float))), int(np.sqrt(_SAMPLED))))
        rows, columns = (slice(-start % step, None, step) for start in box.start[1:])
        self.samples.append(section[rows, columns].ravel())

    def choose(self, window: tuple[float, float] | None = None) -> Scaling:
        """Return how the values are stored.

        Parameters
        ----------
        window : (float, float), optional
            Lowest and highest value that count. Needed, and used, only where the values do not fit exactly; where it
            is absent, it reaches beyond the 1st and the 99th percentile by twice the distance between the two.

        Raises
        ------
        InputError
            When there is no finite value.

        Examples
        --------
        >>> survey = ValueSurvey((1, 1, 3))
        >>> survey.add(Box.of_shape((1, 1, 3)), np.array([[[-3, 0, 5]]], np.int16))
        >>> survey.choose()
        Scaling(dtype=dtype('uint8'), offset=-3, scale=1, clipped=None, nothing=None)
        """
        if self.least is None or self.most is None:
            raise InputError(
                "not one voxel is a number",
                expected="intensities",
                found="NaN or infinity only",
                fix="check the source",
            )
        nothing = 0 if self.not_numbers else None
        first = 0 if nothing is None else 1
        low, high, clipped = self.least, self.most, None
        fits = self.whole and high - low < _LEVELS - first
        if not fits:
            low, high = window or self._robust_window()
            clipped = (float(low), float(high)) if low > self.least or high < self.most else None
        if self.whole and high - low < _LEVELS - first:
            # Numbers that fit as they are stay as they are.
            low = int(np.floor(low))
            offset = 0 if low >= first and high < _LEVELS else low - first
            dtype = np.uint8 if np.ceil(high) - offset < 256 else np.uint16
            return Scaling(np.dtype(dtype), offset, 1, clipped, nothing)
        scale = (high - low) / (_LEVELS - 1 - first) or 1.0
        return Scaling(np.dtype(np.uint16), float(low - first * scale), float(scale), clipped, nothing)

    def _robust_window(self) -> tuple[float, float]:
        least, most = float(self.least or 0), float(self.most or 0)
        sample = np.concatenate(self.samples).astype(np.float64)
        sample = np.sort(sample[np.isfinite(sample)])
        # A value for "no data", as padding has it, must not decide what is dark.
        for end in (sample[:1], sample[-1:]):
            others = sample[sample != end]
            if 0 < others.size <= (1 - _PILED) * sample.size:
                sample = others
        if not sample.size:
            return least, most
        first, last = (float(sample[int(share * (sample.size - 1))]) for share in (0.01, 0.99))
        reach = 2 * FENCE * (last - first)
        if reach == 0:
            return least, most
        return max(least, first - reach), min(most, last + reach)

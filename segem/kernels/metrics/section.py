"""One mask of a section and what scores need of it, each worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from segem.errors import InputError
from segem.kernels.instances import mark_borders
from segem.kernels.metrics.segments import grow_segments, label_cells, split_segments, thin_segments
from segem.kernels.truth import is_known, is_membrane

TOLERANCE_NM = 10.0
"""How far a border may be off, about half a membrane; at least a pixel, see `choose_tolerance`."""


def choose_tolerance(pixel_nm: tuple[float, float]) -> float:
    """Return by how many nanometres a border may be off, for pixels of a size: `TOLERANCE_NM`, or a pixel if larger.

    Examples
    --------
    >>> choose_tolerance((4.0, 4.0)), choose_tolerance((16.0, 16.0))
    (10.0, 16.0)
    """
    return max(TOLERANCE_NM, *pixel_nm)


@dataclass(frozen=True, eq=False)
class SectionMask:
    """The membrane of one section as one observer draws it: a person for the truth, a model or a method for a mask.

    What lies where the truth is unknown is left out here, so no score can depend on it. Truth and mask are the same
    kind of thing, so a score that is defined symmetrically is symmetric.

    Parameters
    ----------
    membrane : ndarray of bool, shape (y, x)
        True on membrane.
    known : ndarray of bool, shape (y, x)
        Where the truth is known; nothing else counts.
    pixel_nm : tuple of float
        Pixel size along (y, x) in nanometres.
    tolerance_nm : float
        How far a border may be off.
    numbered : ndarray of int32, shape (y, x), optional
        The cells, 0 outside of them, where they were numbered and not outlined.

    Examples
    --------
    >>> truth, mask = np.array([[0, 1, 0, 2]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8)
    >>> pair = compare_section(truth, mask, (4, 4), 4)
    >>> pair[0].cells.tolist(), pair[1].cells.tolist()
    ([[1, 0, 2, 0]], [[1, 1, 0, 0]])
    """

    membrane: NDArray[np.bool_]
    known: NDArray[np.bool_]
    pixel_nm: tuple[float, float]
    tolerance_nm: float
    numbered: NDArray[np.int32] | None = None

    @classmethod
    def of_truth(
        cls,
        truth: NDArray[Any],
        pixel_nm: tuple[float, float],
        tolerance_nm: float,
        ids: NDArray[np.integer[Any]] | None = None,
    ) -> SectionMask:
        """Take what is true: 1 on membrane, 0 on background, `segem.kernels.truth.UNKNOWN` elsewhere.

        Where the cells were numbered, `ids` are their numbers, 0 outside of cells. Parts of one cell that do not touch
        within the section are cells of their own, as nobody can tell from the section alone that they belong together.
        """
        known = is_known(truth)
        numbered = None if ids is None else split_segments(ids, known & (ids != 0))
        return cls(is_membrane(truth), known, pixel_nm, tolerance_nm, numbered)

    def of_mask(self, mask: NDArray[Any]) -> SectionMask:
        """Take a mask, nonzero on membrane, that is to be compared with this truth.

        Raises
        ------
        InputError
            When the shapes differ.
        """
        if mask.shape != self.known.shape:
            raise InputError(
                "masks of different shapes cannot be compared",
                expected=self.known.shape,
                found=mask.shape,
                fix="crop them to the same shape",
            )
        return SectionMask((mask != 0) & self.known, self.known, self.pixel_nm, self.tolerance_nm)

    @cached_property
    def cells(self) -> NDArray[np.int32]:
        """Connected cells, numbered from 1; 0 on membrane and where nothing is known."""
        return label_cells(~self.membrane & self.known) if self.numbered is None else self.numbered

    @cached_property
    def segments(self) -> NDArray[np.int32]:
        """The cells, grown until lines of one pixel part them; see `thin_segments`."""
        if self.numbered is None or not self.numbered.any():
            return thin_segments(~self.membrane, self.known)
        return grow_segments(self.numbered, self.known)

    @cached_property
    def skeleton(self) -> NDArray[np.bool_]:
        """The centre lines of the membrane, one pixel wide."""
        lines: NDArray[np.bool_] = skeletonize(self.membrane)
        return lines

    @cached_property
    def border(self) -> NDArray[np.bool_]:
        """Membrane pixels beside background, 4-connected."""
        beside = np.zeros_like(self.membrane)
        background = ~self.membrane & self.known
        beside[1:] |= background[:-1]
        beside[:-1] |= background[1:]
        beside[:, 1:] |= background[:, :-1]
        beside[:, :-1] |= background[:, 1:]
        border: NDArray[np.bool_] = beside & self.membrane
        return border

    @cached_property
    def near_border(self) -> NDArray[np.bool_]:
        """Pixels within the tolerance of a pixel of `border`, from centre to centre."""
        return self.border | mark_borders(self.border, 2 * self.tolerance_nm, self.pixel_nm)

    @cached_property
    def band(self) -> NDArray[np.bool_]:
        """Pixels within the tolerance of one of the other class: a band along the borders, twice as wide."""
        return mark_borders(self.membrane, 2 * self.tolerance_nm, self.pixel_nm, self.known)

    @cached_property
    def deep(self) -> NDArray[np.bool_]:
        """Pixels of segments that are further than the tolerance from every other segment and from lines."""
        edges = mark_borders(self.segments, 2 * self.tolerance_nm, self.pixel_nm, self.known)
        deep: NDArray[np.bool_] = ~edges & (self.segments != 0)
        return deep


def compare_section(
    truth: NDArray[Any], mask: NDArray[Any], pixel_nm: tuple[float, float], tolerance_nm: float
) -> tuple[SectionMask, SectionMask]:
    """Return truth and mask of one section as scores take them, see `SectionMask`."""
    true = SectionMask.of_truth(truth, pixel_nm, tolerance_nm)
    return true, true.of_mask(mask)

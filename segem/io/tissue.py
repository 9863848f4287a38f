"""The intensities of a volume as all that computes must see them: the one way to read an image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segem.geometry import Box
from segem.io.cache import CachedReader
from segem.io.volume import Volume
from segem.kernels.fill import fill_outside


class Tissue(NamedTuple):
    """Intensities of a box, and where there is no tissue in it."""

    image: NDArray[Any]
    """(z, y, x), within the fence of the volume's statistics, and the mean of the tissue outside."""
    outside: NDArray[np.uint8] | None
    """(z, y, x), 1 outside; None where all of the box is tissue."""

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The image, and where there is any the outside."""
        return (self.image,) if self.outside is None else (self.image, self.outside)


class TissueReader:
    """Reads boxes of a volume, and keeps the chunks that were used last.

    Parameters
    ----------
    volume : Volume
        An ingested volume.
    budget_bytes : int
        Most bytes of decoded chunks to keep, see `segem.io.cache.CachedReader`.
    """

    def __init__(self, volume: Volume, budget_bytes: int = 0) -> None:
        self._statistics = volume.statistics
        fix = f"run `segem ingest` for {volume.name} with --again"
        # What is outside takes a byte a voxel, so both keep the same chunks.
        share = 0 if volume.outside is None else budget_bytes // (volume.dtype.itemsize + 1)
        self._image = CachedReader(volume.raw, budget_bytes - share, fix)
        self._outside = None if volume.outside is None else CachedReader(volume.outside, share, fix)

    def read(self, box: Box) -> Tissue:
        """Return a box.

        Raises
        ------
        WorkspaceError
            When a file is missing or does not decode.
        """
        outside = None if self._outside is None else self._outside.read(box)
        # So that a block far from anything outside is made of the same as in a volume that is all tissue.
        outside = outside if outside is not None and outside.any() else None
        return Tissue(fill_outside(self._image.read(box), outside, self._statistics), outside)


def read_tissue(volume: Volume, box: Box) -> Tissue:
    """Return a box of a volume, see `TissueReader`.

    Raises
    ------
    WorkspaceError
        When a file is missing or does not decode.
    """
    return TissueReader(volume).read(box)

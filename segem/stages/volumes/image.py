"""What is counted of an image while it is ingested: digests, intensities, and what is no tissue."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.geometry import ZYX, Box, grid
from segem.io.blocks import read_block
from segem.io.readers import Stack
from segem.io.seen import DIGEST_DIGITS
from segem.io.volume import Volume
from segem.kernels.normalize import IntensityStatistics, find_span, histogram
from segem.kernels.painted import PaintedTally
from segem.stages.volumes.outside import Areas, Outside

_DOUBTFUL_BEYOND, _MOST_BEYOND = 0.05, 0.99
"""Share of the tissue beyond a window from which on it is doubted, and refused."""
_FAINT = 0.1
"""Share of the usual span of intensities below which a section may show nothing."""

MASK_LEVELS = 2
"""How many intensities a mask has."""


class ImageTally:
    """Counts an image box by box; what comes out does not depend on how it was cut into boxes.

    Parameters
    ----------
    shape : tuple of int
        Of the image.
    dtype : dtype
        uint8 or uint16.
    each : bool
        Whether each section gets a digest of its own, by which a model's training sections are recognised later.
    """

    def __init__(self, shape: ZYX, dtype: np.dtype[Any], *, each: bool) -> None:
        self.shape = shape
        self.areas = Areas(shape)
        self.constant: list[int] = []
        self.painted = PaintedTally()
        self.counts = np.zeros(int(np.iinfo(dtype).max) + 1, np.int64)
        self._digest = _Digest(each=each)
        self._in_order = True
        self._beyond = 0.0
        self._spans: dict[int, int] = {}
        self._of_sections: dict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros_like(self.counts))

    def add(self, box: Box, slab: NDArray[Any]) -> None:
        """Count a box; the boxes are those of a grid, in its order.

        Parameters
        ----------
        box : Box
            Its rows and columns start at multiples of 8.
        slab : (z, y, x) array
            Its intensities.
        """
        last = box.stop[1:] == self.shape[1:]
        # In other boxes, the bytes of a section are not together.
        rows = box.shape[2] == self.shape[2] and (len(slab) == 1 or box.shape[1] == self.shape[1])
        self._in_order = self._in_order and rows
        for z, band in enumerate(slab, box.start[0]):
            if self._in_order:
                self._digest.add(band)
            self._of_sections[z] += histogram(band)
            self.areas.add(z, (box.start[1], box.start[2]), band)
            # All sections of labels are labels, so that one will do.
            if z == self.shape[0] // 2:
                self.painted.add(band)
            if last:
                self._finish(z)

    def _finish(self, z: int) -> None:
        counts = self._of_sections.pop(z)
        self.counts += counts
        levels = int(np.count_nonzero(counts))
        if levels == 1:
            self.constant.append(z)
        else:
            self._spans[z] = find_span(counts)
        self.areas.finish(z, counts)
        if self._in_order:
            # A constant section holds no tissue, and its digest would match those of other volumes.
            self._digest.end_section(known=levels > 1)

    def finish(self, volume: Volume) -> None:
        """Read the image back from a volume where its digests could not be taken on the way."""
        if self._in_order:
            return
        self._digest = _Digest(each=self._digest.each)
        rows = volume.write_block[1]
        for z in range(self.shape[0]):
            for _, box in grid((1, *self.shape[1:]), (1, rows, self.shape[2])):
                moved = Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))
                self._digest.add(read_block(volume.raw, moved, "run the command again"))
            self._digest.end_section(known=z not in self.constant)

    @property
    def source_digest(self) -> str:
        """The sha256 of all intensities."""
        return self._digest.whole.hexdigest()

    @property
    def section_digests(self) -> list[str]:
        """A digest of each section; empty for one of a single intensity."""
        return self._digest.of_sections

    @property
    def whole(self) -> list[int]:
        """Sections of one intensity, which hold no tissue, unless all do."""
        return self.constant if len(self.constant) < self.shape[0] else []

    def statistics(self, outside: Outside, window: tuple[int, int] | None) -> dict[str, Any]:
        """Return the statistics of the tissue, as the volume keeps them.

        Raises
        ------
        InputError
            When there is no tissue.
        """
        tissue = self.counts - outside.counts
        if not tissue.any():
            raise InputError(
                "nothing of the image is tissue", found="areas of one intensity only", fix="check the source"
            )
        if window is not None:
            low, high = window
            self._beyond = 1 - float(tissue[low : high + 1].sum() / tissue.sum())
            if self._beyond > _MOST_BEYOND:
                raise InputError(
                    "almost nothing of the tissue lies within the window",
                    expected=f"intensities from {low} to {high}",
                    found=f"{self._beyond:.1%} beyond",
                    fix="correct --window (window in a manifest), or leave it out",
                )
        return {
            **IntensityStatistics.from_histogram(tissue, window).to_dict(),
            "constant_sections": self.constant,
        }

    def warnings(self, raw: Stack) -> Iterator[str]:
        """Yield what the user should know of the image."""
        if self._beyond > _DOUBTFUL_BEYOND:
            yield f"{self._beyond:.0%} of the tissue lies beyond the window and is clipped to it: check --window"
        if self.constant:
            listed = ", ".join(raw.label_of(z) for z in self.constant[:5])
            more = f" and {len(self.constant) - 5} more" if len(self.constant) > 5 else ""
            yield f"{len(self.constant)} of {self.shape[0]} sections hold one intensity only: {listed}{more}"
        if doubt := doubt_levels(np.flatnonzero(self.counts), self.painted):
            yield doubt
        usual = float(np.median(list(self._spans.values()))) if self._spans else 0.0
        if faint := [z for z, span in self._spans.items() if span < _FAINT * usual]:
            yield (
                f"{len(faint)} of {self.shape[0]} sections hold almost one intensity only and are taken for tissue, "
                f"the first is {raw.label_of(faint[0])}: if they show none, make them black or leave them out"
            )


def doubt_levels(levels: NDArray[Any], painted: PaintedTally) -> str | None:
    """Return a doubt where an image looks like labels: it holds two intensities only, or is areas of one value each.

    Parameters
    ----------
    levels : (n,) array
        Every intensity that occurs; a few of them will do where there are more than `MASK_LEVELS`.
    painted : PaintedTally
        Of some of the sections.

    Examples
    --------
    >>> doubt_levels(np.array([0, 255]), PaintedTally())
    'the image holds only two values (0 and 255), which looks like labels: give the image itself, and these by --labels'
    """
    if len(levels) == MASK_LEVELS:
        low, high = (f"{level:g}" for level in levels)
        seen = f"holds only two values ({low} and {high})"
    elif painted.looks_painted:
        seen = "is made of areas of one value each"
    else:
        return None
    return f"the image {seen}, which looks like labels: give the image itself, and these by --labels"


class _Digest:
    """The sha256 of an image, and of each of its sections."""

    def __init__(self, *, each: bool) -> None:
        self.each = each
        self.whole = hashlib.sha256()
        self.of_sections: list[str] = []
        self._section = hashlib.sha256()

    def add(self, rows: NDArray[Any]) -> None:
        # Little endian, so that a volume has one digest whatever the byte order of its source or of the machine.
        data = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).data
        self.whole.update(data)
        if self.each:
            self._section.update(data)

    def end_section(self, *, known: bool) -> None:
        if self.each:
            self.of_sections.append(self._section.hexdigest()[:DIGEST_DIGITS] if known else "")
            self._section = hashlib.sha256()

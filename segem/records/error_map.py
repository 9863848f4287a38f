"""Where in a volume the model's mask is likely wrong, and where it is: a table of regions, ``errors/<volume>.json``."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from segem.records.base import Record

Grid = tuple[tuple[float | None, ...], ...]
"""A number for each region of a section, row by row; None where a region has no tissue, or no known truth."""


class SectionErrors(Record):
    """The errors of one section: a step of the strip along z."""

    section: int
    expected: float | None
    """Share of its tissue that is expected to be wrong; None where it has no tissue."""
    measured: float | None = None
    """Share of its pixels with known truth that are wrong; None without any."""
    worst: float | None
    """What is expected of its worst region."""
    reasons: tuple[str, ...] = ()
    """What else speaks against it: how it differs from the sections that the estimate was fitted on."""


class RegionError(Record):
    """One region of a section, for those who look at the worst first."""

    section: int
    y_px: tuple[int, int]
    x_px: tuple[int, int]
    """Half-open."""
    expected: float
    """Share of its tissue that is expected to be wrong."""
    measured: float | None
    """Share that is wrong; None without known truth."""
    reasons: tuple[str, ...]
    """Those of its section."""


class ErrorMap(Record):
    """Expected errors of all regions of a volume, and the measured ones where there is truth."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    volume: str
    region_px: int
    """About the edge of a region."""
    y_px: tuple[int, ...]
    x_px: tuple[int, ...]
    """Where regions begin, with the end of the last one."""
    abstains: str | None = None
    """Why the volume has no expected scores: regions are then in order of doubt, and their numbers no shares."""
    sections: tuple[SectionErrors, ...]
    expected: tuple[Grid, ...]
    """Of each section."""
    measured: tuple[Grid, ...] = ()
    """Of each section; empty without truth."""

    def regions(self) -> Iterator[RegionError]:
        """Yield every region with tissue, section by section and row by row."""
        return (self._describe(*found) for found in self._list_expected())

    def _list_expected(self) -> Iterator[tuple[float, int, int, int]]:
        for z, grid in enumerate(self.expected):
            for j, row in enumerate(grid):
                for i, expected in enumerate(row):
                    if expected is not None:
                        yield expected, z, j, i

    def _describe(self, expected: float, z: int, j: int, i: int) -> RegionError:
        section = self.sections[z]
        return RegionError(
            section=section.section,
            y_px=(self.y_px[j], self.y_px[j + 1]),
            x_px=(self.x_px[i], self.x_px[i + 1]),
            expected=expected,
            measured=self.measured[z][j][i] if self.measured else None,
            reasons=section.reasons,
        )

    def rank(self, most: int | None = None) -> list[RegionError]:
        """Return the regions, those where most is expected to be wrong first; of equal ones in their order.

        Of a large volume, which has millions, none but the first `most` are made, where that is given.

        Examples
        --------
        >>> strip = tuple(SectionErrors(section=z, expected=0.1, worst=0.1) for z in (0, 1))
        >>> found = ErrorMap(
        ...     volume="fly", region_px=256, y_px=(0, 256), x_px=(0, 256, 512), sections=strip,
        ...     expected=(((0.02, 0.18),), ((None, 0.1),)),
        ... )
        >>> [(region.section, region.x_px, region.expected) for region in found.rank()]
        [(0, (256, 512), 0.18), (1, (256, 512), 0.1), (0, (0, 256), 0.02)]
        """
        found = self._list_expected()
        if most is None:
            ranked = sorted(found, key=lambda one: one[0], reverse=True)
        else:
            ranked = heapq.nlargest(most, found, key=lambda one: one[0])
        return [self._describe(*one) for one in ranked]

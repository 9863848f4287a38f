"""What a reviewer is to look at: regions of a volume, and questions about single membranes, each in order of worth."""

from __future__ import annotations

from segem.records.base import Record


class Region(Record):
    """A part of a section to be looked at, as the error map cuts it."""

    volume: str
    z: int
    y: int
    x: int
    """Its first pixel."""
    height_px: int = 256
    width_px: int = 256
    priority: float
    """What is expected to be wrong in it, from 0; the largest comes first."""
    reason: str
    """Why it comes where it does, for people."""


class Question(Record):
    """Is there a membrane here? Yes draws the ridge, no erases it, whichever the mask does not say already."""

    volume: str
    z: int
    y: int
    x: int
    """The pixel of the ridge that is nearest to its middle."""
    ridge: tuple[tuple[int, int], ...]
    """The pixels (y, x) of the line between the two cells, one pixel wide."""
    width_px: int
    """How wide the line is drawn or erased."""
    closeness: float
    """How likely it is that the mask is wrong here, 0 to 1."""
    consequence: float
    """What it costs if it is: the product of the areas of the two cells, each as a share of the section."""
    has_membrane: bool
    """What the mask says now."""

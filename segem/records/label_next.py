"""Which sections to label first, ``label-next.json``."""

from __future__ import annotations

from typing import Literal

from segem.records.base import Record


class Spot(Record):
    """A box of voxels in (z, y, x)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    disagreement: float


class RankedSection(Record):
    """One section that might be labelled."""

    volume: str
    section: int
    disagreement: float
    """Mean over its pixels, in bits: 0 where all models agree."""
    membrane: float
    """Mean probability of membrane. Where it is far below that of neighbouring sections, all models may miss it."""
    hottest: Spot
    """The tile where they disagree most."""


class LabelNext(Record):
    """The content of ``label-next.json``: sections, the one to label first at the top."""

    schema_version: Literal[2] = 2
    name: str
    manifest: str
    start: str
    """Where the trainings of these models started: ``scratch``, or the name of a base model."""
    digests: tuple[str, ...]
    """Of the models whose disagreement was measured."""
    sections: tuple[RankedSection, ...]

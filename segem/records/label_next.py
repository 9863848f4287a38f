"""Which sections to label first, ``label-next.json``."""

from __future__ import annotations

from typing import Literal

from segem.records.base import Record


class Spot(Record):
    """A box of voxels in (z, y, x)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    disagreement: float


class Candidate(Record):
    """One section that might be labelled."""

    volume: str
    section: int
    disagreement: float
    """Mean over its pixels, in bits: 0 where all models agree."""
    membrane: float
    """Mean probability of membrane. Far below that of the neighbours, all models may miss it alike."""
    hottest: Spot
    """The tile where they disagree most."""


class LabelNext(Record):
    """The content of ``label-next.json``: sections, the one to label first at the top."""

    format: Literal[1] = 1
    name: str
    manifest: str
    start: str
    """Where the models started that were asked."""
    digests: tuple[str, ...]
    """Of those models."""
    sections: tuple[Candidate, ...]

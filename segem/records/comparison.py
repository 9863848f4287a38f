"""The comparison of several runs on the same volumes, ``comparison.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segem.records.base import Record
from segem.records.intervals import Interval, TooFew
from segem.records.scores import SeenSections


class ComparedMask(Record):
    """One way of finding membrane, among those that are compared."""

    name: str
    """What people call it, such as ``monday: unet-em``."""
    run: str
    mask: Literal["model", "baseline"]


class MaskScores(Record):
    """What one mask scores on a volume; None where it was not measured or is not defined."""

    iou: float | None = None
    precision: float | None = None
    recall: float | None = None
    v_rand: float | None = None
    v_info: float | None = None


class ScoreDifference(Record):
    """How much more a mask scores than the first one."""

    value: float
    interval: Interval | TooFew | None = None
    """Of the difference, with a confidence of 95 %; None where none is known for such masks."""


class ComparedSection(Record):
    """A section, and where it stands with each mask."""

    section: int
    ious: tuple[float | None, ...]
    changed: float
    """Share of its voxels in which a model's mask differs from the first one; a baseline's, where no other model is."""


class ComparedVolume(Record):
    """One volume, by each mask in the order of the comparison; None where a run has no such mask of it."""

    name: str
    source_digest: str
    scores: tuple[MaskScores | None, ...]
    differences: tuple[dict[str, ScoreDifference], ...]
    """To the first mask, by the name of the score; none of the first itself, and none without truth."""
    changed: tuple[float | None, ...]
    """Share of the voxels in which a mask differs from the first one."""
    sections: tuple[ComparedSection, ...]
    seen: tuple[tuple[SeenSections, ...], ...] = ()
    """Which sections each mask's model has used."""


class Comparison(Record):
    """The content of ``comparison.json``."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    runs: tuple[str, ...]
    masks: tuple[ComparedMask, ...]
    volumes: tuple[ComparedVolume, ...]
    left_out: dict[str, str] = {}
    """Volumes that cannot be compared, with the reason."""

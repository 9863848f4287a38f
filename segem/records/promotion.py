"""What was decided about a version of a model, ``promotion.json``."""

from __future__ import annotations

from typing import Literal

from segem.config import GateConfig
from segem.geometry import Range
from segem.records.base import Record


class Judgement(Record):
    """A candidate beside the model in use, on sections of one volume on which neither was trained.

    Nor was the threshold of either chosen there, as far as their cards say what they were trained on.
    """

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    sections: tuple[int, int]
    blocks: int
    iou_candidate: float
    iou_against: float
    difference: float
    low: float
    high: float
    """Ends of the two-sided interval of the difference, which decides."""
    lower_bound: float
    """End of the one-sided interval of the same confidence."""
    harm: str = ""
    """Why the volume speaks against the candidate; empty where it does not."""
    candidate_calibrated_on: tuple[Range, ...] = ()
    incumbent_calibrated_on: tuple[Range, ...] = ()
    """Those of the sections that the calibration of either was fitted on; that moved probabilities, not masks."""


class Rival(Record):
    """The model that a candidate was compared with."""

    name: str
    path: str
    digest: str


class Promotion(Record):
    """The content of ``promotion.json``: whether a version was promoted, and on what grounds."""

    format: Literal[1] = 1
    name: str
    version: str
    digest: str
    against: Rival | None
    """None where there was no model yet and K-means had to be beaten."""
    promoted: bool
    forced: bool
    """Whether it was promoted although the gate refused it."""
    reason: str
    """Why the gate refused it; empty where it did not."""
    judged: tuple[Judgement, ...]
    unknown_origin: tuple[Literal["candidate", "incumbent"], ...] = ()
    """Whose card does not say what it was trained on, so that it may have seen what was judged."""
    gate: GateConfig
    manifest: str
    who: str
    when: str
    """ISO 8601 in UTC."""
    segem_version: str

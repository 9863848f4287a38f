"""The decision about a version of a model, ``promotion.json``."""

from __future__ import annotations

from typing import Literal

from segem.config import GateConfig
from segem.geometry import Range
from segem.records.base import Record, computed


class ScorePair(Record):
    """One score of a candidate and of the incumbent, or of K-means where there is none, on the same sections."""

    candidate: float
    incumbent: float

    @computed
    def difference(self) -> float:
        """How much better the candidate is."""
        return self.candidate - self.incumbent


class DifferenceInterval(Record):
    """How far chance may have moved the difference of two scores, candidate less incumbent."""

    low: float
    high: float
    """Ends of the two-sided interval."""
    lower_bound: float
    """End of the one-sided interval of the same confidence."""
    blocks: int
    """Number of blocks that were resampled."""


class Judgement(Record):
    """The comparison of a candidate with the incumbent, on sections of one volume.

    Neither was trained on these sections or had its threshold chosen there, as far as their cards say.
    """

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    sections: Range
    candidate_calibrated_on: tuple[Range, ...]
    incumbent_calibrated_on: tuple[Range, ...]
    """Which of the sections the calibration of either was fitted on; that moved probabilities, not masks."""
    iou: ScorePair
    iou_interval: DifferenceInterval
    v_rand: ScorePair | None
    v_info: ScorePair | None
    """Means over the sections at the best of eleven thresholds, as in a report; None where the truth holds no cell."""
    v_rand_interval: DifferenceInterval | None
    """Of the difference in V_rand within blocks (`segem.kernels.bootstrap.compare_v_rand`), which is smaller than that
    of whole sections; None where there are too few blocks or cells to tell."""
    harm: str = ""
    """Why the volume speaks against the candidate; empty where it does not."""


class Incumbent(Record):
    """The model that a candidate was compared with."""

    name: str
    path: str
    digest: str


class Promotion(Record):
    """The content of ``promotion.json``: whether a version was promoted, and on what grounds."""

    schema_version: Literal[2] = 2
    name: str
    version: str
    digest: str
    incumbent: Incumbent | None
    """None where there was no model yet and K-means had to be beaten."""
    promoted: bool
    forced: bool
    """Whether it was promoted although the gate refused it."""
    reason: str
    """Why the gate refused it; empty where it did not."""
    judged: tuple[Judgement, ...]
    unknown_origin: tuple[Literal["candidate", "incumbent"], ...] = ()
    """Which of the two has a card that does not say what it was trained on, so it may have seen what was judged."""
    gate: GateConfig
    manifest: str
    who: str
    when: str
    """ISO 8601 in UTC."""
    segem_version: str

"""The result of a learning curve, ``learning-curve.json``, and its trainings so far, ``points.json``."""

from __future__ import annotations

from typing import Literal

from segem.config import LearningCurveConfig, TrainConfig
from segem.geometry import Range
from segem.records.base import Record

Verdict = Literal["worth it", "not worth it", "cannot say"]


class Trial(Record):
    """One training of a learning curve, and its scores."""

    start: str
    sections: int
    seed: int
    train: dict[str, Range]
    """Its training sections, by volume."""
    volumes: dict[str, float]
    """IoU on the test sections of each volume."""
    iou: float
    """Their mean."""


class Estimate(Record):
    """A value with its interval."""

    value: float
    low: float
    high: float


class Arm(Record):
    """The curve of all trainings that start from the same weights."""

    start: str
    """``scratch``, or the name of the base model."""
    digest: str | None
    """Of the base model; None for trainings from scratch."""
    points: tuple[Trial, ...]
    curve: dict[str, float] | None
    """Asymptote, height and exponent of ``IoU(n) = asymptote - height * n ** -exponent``."""
    line: tuple[tuple[float, float, float, float], ...]
    """The curve as it is drawn: number of sections, IoU, and the ends of its interval."""
    gain: Estimate | None
    """What ``config.more`` further sections would add on average."""
    verdict: Verdict
    why: str
    """The verdict in words."""
    members: tuple[str, ...]
    """Folders of the nets that were trained on all sections."""


class LearningCurveResult(Record):
    """The content of ``learning-curve.json``."""

    schema_version: Literal[2] = 2
    name: str
    manifest: str
    sections: int
    """Number of ``train`` sections available."""
    test: dict[str, Range]
    arms: tuple[Arm, ...]
    left_out: str
    """Why there is no curve that starts from the bundled model; empty where there is one or none was requested."""
    config: LearningCurveConfig
    training: TrainConfig
    """Settings of all its trainings, except for their seeds."""
    segem_version: str


class SavedTrials(Record):
    """The content of ``points.json``: the trainings that are finished, so that none is done twice."""

    schema_version: Literal[2] = 2
    identity: str
    """sha256 of all that decides the scores."""
    points: tuple[Trial, ...] = ()

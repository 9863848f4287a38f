"""What a learning curve found, ``learning-curve.json``, and its trainings so far, ``points.json``."""

from __future__ import annotations

from typing import Any, Literal

from segem.config import LearningCurveConfig
from segem.geometry import Range
from segem.records.base import Record

Verdict = Literal["worth it", "not worth it", "cannot say"]


class Point(Record):
    """One training and what it reached."""

    start: str
    sections: int
    seed: int
    taught: dict[str, Range]
    """The sections it learned from, of each volume."""
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
    """The curve of trainings that start from one place."""

    start: str
    """``scratch``, or the name of the model that was gone on from."""
    digest: str | None
    """Of that model."""
    points: tuple[Point, ...]
    curve: dict[str, float] | None
    """Asymptote, height and exponent of ``IoU(n) = asymptote - height * n ** -exponent``."""
    line: tuple[tuple[float, float, float, float], ...]
    """The curve as it is drawn: number of sections, IoU, and the ends of its interval."""
    gain: Estimate | None
    """What so many more sections as asked for would add on average."""
    verdict: Verdict
    why: str
    """The verdict in words."""
    members: tuple[str, ...]
    """Folders of the nets that learned from all sections."""


class LearningCurveResult(Record):
    """The content of ``learning-curve.json``."""

    format: Literal[1] = 1
    name: str
    manifest: str
    sections: int
    """As many as can be learned from."""
    test: dict[str, Range]
    arms: tuple[Arm, ...]
    left_out: str
    """Why there is no curve that starts from the bundled model; empty where there is one, or none was wanted."""
    config: LearningCurveConfig
    training: dict[str, Any]
    segem_version: str


class Kept(Record):
    """The content of ``points.json``: the finished trainings."""

    format: Literal[1] = 1
    identity: str
    """sha256 of all that decides the scores."""
    points: tuple[Point, ...] = ()

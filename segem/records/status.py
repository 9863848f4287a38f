"""How a campaign fares, ``status.json``, and what its steps took, one line each of ``usage.jsonl``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segem.records.base import Record

State = Literal["waiting", "running", "complete", "failed"]


class StepStatus(Record):
    """How one step of a volume fares."""

    state: State = "waiting"
    seconds: float | None = None
    """So far, or until it ended."""
    megapixels_per_second: float | None = None
    """Over the whole step; None until it ends."""


class VolumeStatus(Record):
    """How one volume fares."""

    name: str
    state: State
    megapixels: float | None = None
    """None until it is ingested."""
    steps: dict[str, StepStatus]
    reason: str | None = None
    """Why it failed."""


class CampaignStatus(Record):
    """How a campaign fares."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: str
    project: str
    state: Literal["running", "complete", "failed", "stopped"]
    """A campaign that was killed stays ``running``: look at `changed`."""
    started: str
    changed: str
    """When this was written, ISO 8601 in UTC; while the campaign runs, every few seconds."""
    seconds_left: float | None
    """At the rates so far; None where there are none yet."""
    volumes: tuple[VolumeStatus, ...]


class StepUsage(Record):
    """What one step of one volume took."""

    time: str
    """When it ended, ISO 8601 in UTC."""
    project: str
    volume: str
    step: str
    complete: bool
    megapixels: float | None
    seconds: float
    cpu_seconds: float
    """Of the processor, of this process and its workers; steps side by side share it evenly."""
    gpu_seconds: float
    """How long the step held the GPU."""


class ProjectAccount(Record):
    """What the runs of one project took."""

    project: str
    runs: int
    volumes: int
    """That were segmented, in any run; one of two runs counts once."""
    megapixels: float
    """Of these volumes."""
    cpu_hours: float
    gpu_hours: float
    reviewer_minutes: float
    """Of work in the logs of reviews, without breaks."""

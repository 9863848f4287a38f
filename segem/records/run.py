"""The record of a run, ``run.json``."""

from __future__ import annotations

from typing import Any, Literal

import segem
from segem.config import Config

Stage = Literal["baseline", "segment"]


class ModelRecord(Config):
    """Which weights were used."""

    name: str
    digest: str


class StageRecord(Config):
    """How one stage of one volume ended, and what it was made of."""

    state: Literal["waiting", "running", "complete", "failed"]
    """``waiting``: made by an earlier attempt, and not reached by the one that goes on."""
    reason: str | None = None
    """Why it failed."""
    source_digest: str | None = None
    """sha256 of the volume's voxels; the outcome is worthless for a volume that has changed since."""
    model: ModelRecord | None = None
    segem_version: str = segem.__version__
    config: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    """What the stage found: thresholds, tile size, blocks computed and skipped."""
    changed: str = ""
    """When the state was reached, ISO 8601 in UTC."""


class VolumeRecord(Config):
    """The stages of one volume in a run; a stage that never started is absent."""

    baseline: StageRecord | None = None
    segment: StageRecord | None = None
    failure: str | None = None
    """Why a volume never reached its stages: its ingest failed."""


class RunRecord(Config):
    """The content of ``run.json``."""

    run: str
    created: str
    segem_version: str
    environment: dict[str, str]
    model: ModelRecord | None = None
    volumes: dict[str, VolumeRecord] = {}

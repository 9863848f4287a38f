"""How many volumes a campaign works on at a time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segem.config.base import Config


class ResourceConfig(Config):
    """Volumes side by side, up to a limit for each resource: nothing here changes a result."""

    cpu: int | None = Field(default=None, ge=1, le=256)
    """Most steps of a campaign that the processor works on at a time, each of another volume: while a net computes one
    volume, others are ingested, clustered and scored. 1 takes the volumes one after the other. When absent, two, or one
    where the machine has one core."""
    gpu: Literal[1] = 1
    """Volumes that the GPU works on at a time. One: a process drives one GPU, and holds one net."""

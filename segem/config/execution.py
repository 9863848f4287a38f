"""Where and how blocks are computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from segem.config.amounts import parse_bytes
from segem.config.base import Config

Device = Literal["auto", "cpu", "cuda", "mps"]
EngineName = Literal["loop", "dask"]


class ExecutionConfig(Config):
    """Where and how a plan is executed: nothing here changes the result, except for rounding by device and memory.

    Another device rounds differently, and memory decides how large tiles are; both are part of block identity.
    """

    device: Device = "auto"
    """Where to compute; ``auto`` takes a GPU where there is one."""
    engine: EngineName = "loop"
    """What runs the blocks: a ``loop`` in this process, or several ``dask`` processes. Both give the same bytes."""
    workers: int = Field(default=1, ge=1, le=256)
    """Number of processes; more than one requires the ``dask`` engine."""
    memory: Annotated[int, BeforeValidator(parse_bytes)] | None = None
    """Peak memory of one process in bytes, or as in ``2GB``: it decides how large tiles are and how many are computed
    at once. When absent, tiles are planned for 3 GB, and half of the machine's memory decides how many at once. A run
    that is resumed with another amount computes its blocks again if that changes the tiles."""

    reserved: int = Field(default=0, ge=0)
    """Bytes of that memory left to other steps of the process: fewer tiles are computed at once, none is smaller."""

    @model_validator(mode="after")
    def _workers_need_dask(self) -> ExecutionConfig:
        if self.workers > 1 and self.engine != "dask":
            raise ValueError("several workers need the dask engine; the loop uses every core by itself")
        return self

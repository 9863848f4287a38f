"""Where and how blocks are computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from segem.config.amounts import parse_bytes
from segem.config.base import Config

Device = Literal["auto", "cpu", "cuda", "mps"]
EngineName = Literal["loop", "dask"]


class ExecutionConfig(Config):
    """Where and how a plan is executed: nothing here changes the result, but for rounding by device and memory.

    Another device rounds otherwise, and memory decides how large tiles are; both are part of block identity.
    """

    device: Device = "auto"
    engine: EngineName = "loop"
    workers: int = Field(default=1, ge=1, le=256)
    memory: Annotated[int, BeforeValidator(parse_bytes)] | None = None
    """Bytes that one process may take at its peak, as a number or as in ``2GB``."""

    @model_validator(mode="after")
    def _workers_need_dask(self) -> ExecutionConfig:
        if self.workers > 1 and self.engine != "dask":
            raise ValueError("several workers need the dask engine; the loop uses every core by itself")
        return self

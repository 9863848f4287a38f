"""Where and how blocks are computed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segem.config.amounts import parse_bytes
from segem.config.base import Config

Device = Literal["auto", "cpu", "cuda", "mps"]
EngineName = Literal["loop", "dask"]

SLURM = "slurm"
"""The cluster whose workers are SLURM jobs that segem submits; any other one is a dask scheduler that runs already."""


class SlurmConfig(Config):
    """The jobs that ``--cluster slurm`` submits; what is absent is taken from dask's configuration (jobqueue.slurm)."""

    queue: str | None = None
    """Partition of SLURM that jobs are submitted to."""
    account: str | None = None
    """Account that jobs are charged to."""
    walltime: str | None = Field(default=None, pattern=r"^(\d+-)?\d+(:\d{2}){0,2}$")
    """Time limit of a job, as SLURM writes it (``04:00:00``). It may be shorter than the volume takes: a job that ends
    is replaced."""
    cores: int | None = Field(default=None, ge=1)
    """Cores of a job, all used by one worker; 1 when absent everywhere."""
    job_memory: Annotated[int, BeforeValidator(parse_bytes)] | None = None
    """Memory of a job in bytes, or as in ``4GB``; when absent everywhere, a third more than the peak of a process."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a job."""
    interface: str | None = None
    """Network interface by which jobs and this process reach each other, such as ``ib0``; nothing listens on others."""

    @field_validator("queue", "account", "interface")
    @classmethod
    def _one_word(cls, value: str | None) -> str | None:
        # These become lines of a job script.
        if value is not None and not re.fullmatch(r"[\w.,:@+-]+", value):
            raise ValueError("give a name without spaces")
        return value


class ExecutionConfig(Config):
    """Where and how a plan is executed: nothing here changes the result, except for rounding by device and memory.

    Another device rounds differently, and memory decides how large tiles are; both are part of block identity.
    """

    device: Device = "auto"
    """Where to compute; ``auto`` takes a GPU where there is one."""
    engine: EngineName = "loop"
    """What runs the blocks: a ``loop`` in this process, or several ``dask`` processes. Both give the same bytes."""
    cluster: str | None = None
    """Other machines that compute the blocks: ``slurm``, or a dask scheduler that runs already, by its address
    (``tls://HOST:PORT``) or its scheduler file (``scheduler.json``). They must reach the workspace by the same path."""
    workers: int = Field(default=1, ge=1, le=1024)
    """Number of processes, or of jobs with ``slurm``; more than one requires the ``dask`` engine."""
    memory: Annotated[int, BeforeValidator(parse_bytes)] | None = None
    """Peak memory of one process in bytes, or as in ``2GB``: it decides how large tiles are and how many are computed
    at once. When absent, tiles are planned for 3 GB, and half of the machine's memory decides how many at once. A run
    that is resumed with another amount computes its blocks again if that changes the tiles."""
    reserved: int = Field(default=0, ge=0)
    """Bytes of that memory left to other steps of the process: fewer tiles are computed at once, none is smaller."""
    slurm: SlurmConfig = SlurmConfig()
    """The jobs of ``--cluster slurm``."""

    @model_validator(mode="before")
    @classmethod
    def _others_mean_dask(cls, values: Any) -> Any:
        # Every cluster is one of dask, so only a contradiction has to be said.
        if isinstance(values, dict) and values.get("cluster") is not None:
            return {"engine": "dask", **values}
        return values

    @field_validator("cluster")
    @classmethod
    def _known_kind(cls, value: str | None) -> str | None:
        if value is None or value == SLURM or value.endswith(".json") or re.fullmatch(r"(tls|tcp)://\S+:\d+", value):
            return value
        raise ValueError("give slurm, tls://HOST:PORT, or the path of a scheduler file that ends in .json")

    @model_validator(mode="after")
    def _workers_need_dask(self) -> ExecutionConfig:
        if self.workers > 1 and self.engine != "dask":
            raise ValueError("several workers need the dask engine; the loop uses every core by itself")
        if self.cluster is not None and self.engine != "dask":
            raise ValueError("a cluster needs the dask engine")
        if self.workers > 1 and self.cluster not in (None, SLURM):
            raise ValueError("a scheduler that runs already has its own workers; start more of them there")
        if self.slurm != SlurmConfig() and self.cluster != SLURM:
            raise ValueError("settings of jobs need the cluster slurm")
        return self

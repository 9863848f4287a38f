"""What the tasks of an array job hand in, for the coordinator to take into the ledger."""

from __future__ import annotations

from typing import Any, Literal

from segem.records.base import Record
from segem.records.run import ModelRecord

SCHEMA: Literal[1] = 1


class ArrayRequest(Record):
    """What all tasks of an array compute of a volume: the first writes it, the others must be asked for the same."""

    schema_version: Literal[1] = SCHEMA
    step: str
    config: dict[str, Any]
    """The settings of the step."""
    model: ModelRecord
    device: Literal["auto", "cpu", "cuda", "mps"]
    memory: int | None
    """Peak memory of one process in bytes, which decides how large tiles are."""
    code: str
    """sha256 of the code that computes blocks."""
    source_digest: str | None
    """Of the ingested volume."""
    shards: int
    """Number of tasks among which the blocks are divided."""


class Receipt(Record):
    """A block that a task has finished: its row for the ledger."""

    identity: str
    digest: str
    value: str
    """What is kept of the block, in hexadecimal digits."""

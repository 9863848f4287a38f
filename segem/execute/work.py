"""What an engine is given and what it gives back."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from segem.config import ExecutionConfig
from segem.errors import BlockError, SegemError
from segem.geometry import ZYX
from segem.io.ledger import LedgerRow
from segem.plan import Block, Plan

L = TypeVar("L")
C = TypeVar("C")


@dataclass(frozen=True)
class BlockOutcome:
    """What comes back from a block: a few bytes, so that sending it between processes is cheap."""

    index: ZYX
    row: LedgerRow
    computed: bool
    """False when the block was finished already and is intact."""


class BlockWork(Protocol[L, C]):
    """How one block is finished, in three steps that overlap with those of its neighbours; each is safe to repeat.

    An instance is pickled to reach the workers. What passes between the steps never leaves its process.
    """

    def load(self, block: Block, known: LedgerRow | None) -> L:
        """Read what the block needs; `known` is what the ledger holds of it."""

    def compute(self, loaded: L, threads: int | None, on_voxels: Callable[[int], None]) -> C:
        """Compute what is to be written."""

    def store(self, computed: C) -> BlockOutcome:
        """Write it, durably."""


@dataclass(frozen=True)
class Sweep:
    """Blocks that are to be finished, and how: what every engine is given."""

    plan: Plan
    """The blocks, with their boxes and tiles."""
    work: BlockWork[Any, Any]
    """How a block is computed and written."""
    known: Mapping[ZYX, LedgerRow]
    """What the ledger holds of the blocks already."""
    scratch: Path
    """Existing folder in which an engine may keep files while it runs."""
    order: Callable[[Iterator[Block]], Iterable[Block]] = iter
    """Puts the blocks into the order they are started in; the result does not depend on it."""
    tiles_at_once: int | None = None
    """Tiles that one process evaluates side by side; as many as it has cores when absent."""
    one_at_a_time: bool = False
    """Whether blocks are so large that a process may hold no second one."""
    fence: str = ".sweep"
    """File in `scratch` that says which sweep may write; one for each volume."""


@dataclass
class Summary:
    """How a sweep went."""

    computed: int = 0
    skipped: int = 0
    failed: dict[ZYX, str] = field(default_factory=dict)


Outcomes = Generator[list[tuple[ZYX, BlockOutcome | BlockError]], None, None]
"""How blocks went; those that are ready at the same moment come together, and are recorded together."""
BlockEngine = Callable[[Sweep, ExecutionConfig, Callable[[int], None]], Outcomes]
"""Finishes every block of a sweep and yields how each went; the last argument is called with the voxels just done.

All engines leave the same bytes. An error of one block is yielded, one that all blocks share is raised.
"""


def cores() -> int:
    """Return how many cores this process may use."""
    # Not os.cpu_count(): a batch job or a container is often given fewer cores than the machine has.
    return len(os.sched_getaffinity(0))


def blamed(error: Exception, block: Block) -> BlockError:
    """Return an error that concerns one block alone; raise one that concerns all."""
    if isinstance(error, BlockError):
        return error
    # A full disk or a bad model would fail every block to come in the same way.
    if isinstance(error, SegemError):
        raise error
    # Anything else may be due to the data of this block: the others are still finished.
    return BlockError(
        f"{type(error).__name__}: {error}",
        where=f"block {block.index} {block.write}",
        fix="run the same command again; if it fails again, report it",
    )

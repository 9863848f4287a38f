"""What the arithmetic of every step has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segem.plan import Block

Voxels = tuple[NDArray[Any], ...]
"""What a block is made of: one array (z, y, x) for each volume that is read, and last, where not all of it is tissue,
what is outside."""


@dataclass(frozen=True)
class Computed:
    """What comes out of a block."""

    layers: tuple[NDArray[np.unsignedinteger[Any]], ...] = ()
    """(z, y, x) of the shape of the block's write box, in the order of the layers that the phase writes."""
    value: bytes = b""
    """What is kept of it in the ledger, for a later phase or the summary."""


class Arithmetic(Protocol):
    """Computes the blocks of one phase of a step.

    An instance is pickled to reach the workers, so it carries names and paths, and opens them once per process. The
    search for the code that makes a block begins at the module of its class, which therefore holds nothing else.
    """

    def read(self, block: Block) -> Voxels:
        """Return the voxels that a block is made of."""

    def made_of(self, block: Block) -> Mapping[str, Any]:
        """Return all that decides the result besides those voxels, the plan and the code, as plain JSON."""

    def compute(self, block: Block, voxels: Voxels, threads: int | None, on_voxels: Callable[[int], None]) -> Computed:
        """Compute a block with at most `threads` threads; `on_voxels` is called with the voxels just finished."""


def outside_of(block: Block, outside: tuple[NDArray[np.uint8], ...]) -> NDArray[np.bool_] | None:
    """Return where the write box of a block holds no tissue, from what was read last of it, if anything; None nowhere.

    Examples
    --------
    >>> from segem.geometry import Box
    >>> block = Block((0, 0, 0), Box((0, 0, 1), (1, 1, 3)), Box((0, 0, 0), (1, 1, 4)), ())
    >>> outside_of(block, (np.array([[[0, 0, 1, 1]]], np.uint8),))
    array([[[False,  True]]])
    >>> outside_of(block, ())
    """
    if not outside:
        return None
    found: NDArray[np.bool_] = outside[0][block.write.relative_to(block.read.start).slices] != 0
    return found


def count_membrane(mask: NDArray[np.uint8]) -> bytes:
    """Return the number of membrane voxels of a block's mask, as the ledger keeps it.

    Examples
    --------
    >>> count_membrane(np.array([0, 1, 1], np.uint8))
    b'2'
    """
    return str(int(np.count_nonzero(mask))).encode()

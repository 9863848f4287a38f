"""Reads of overlapping blocks of an array that decode each chunk once, as far as memory allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.geometry import ZYX, Box, ceil_div, round_up
from segem.io.blocks import read_chunks
from segem.io.chunks import Array, Layout
from segem.plan import Plan


class CachedReader:
    """Reads like `segem.io.blocks.read_block`, and keeps the chunks that were used last.

    Blocks that are computed one after the other overlap by their halo, and by sections where a net sees several at
    once. `bytes_to_decode_once` returns the budget with which no chunk is decoded again.

    Parameters
    ----------
    array : Array
        Level of an image or a label; it must not be written meanwhile.
    budget_bytes : int
        Most bytes of decoded chunks to keep; with 0, every read decodes all it needs.
    fix : str
        How the layer can be made again, for messages.

    Notes
    -----
    Threads may share one; their reads are serialised.

    Examples
    --------
    >>> import tempfile, zarr
    >>> from segem.io.shards import create_sharded, write_block
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     group = zarr.create_group(folder, zarr_format=3)
    ...     create_sharded(group, "0", (1, 256, 512), np.uint8)
    ...     write_block(group["0"], Box.of_shape((1, 256, 512)), np.ones((1, 256, 512), np.uint8))
    ...     reader = CachedReader(group["0"], 2**20, "ingest it again")
    ...     left = reader.read(Box((0, 0, 0), (1, 256, 256)))
    ...     both = reader.read(Box((0, 0, 0), (1, 256, 512)))
    >>> both.shape, reader.decoded
    ((1, 256, 512), 2)
    """

    def __init__(self, array: Array, budget_bytes: int, fix: str) -> None:
        self.array = array
        self.budget_bytes = budget_bytes
        self.fix = fix
        self.decoded = 0
        """Number of decodes so far."""
        self._layout = Layout.of(array)
        # In order of last use, the oldest first.
        self._kept: OrderedDict[ZYX, NDArray[Any]] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of any box of the array.

        Raises
        ------
        WorkspaceError
            When a file is missing or does not decode.
        """
        voxels = np.empty(box.shape, self._layout.dtype)
        with self._lock:
            wanted = {}
            # Cached chunks are copied first, since decoding others could evict them.
            for piece in self._layout.pieces_of(box):
                chunk = self._kept.get(piece.chunk)
                if chunk is None:
                    wanted[piece.chunk] = piece
                else:
                    self._kept.move_to_end(piece.chunk)
                    voxels[piece.in_box] = chunk[piece.in_chunk]
            for index, chunk in read_chunks(self.array, self._layout, wanted, self.fix):
                # Pasted before it is kept: with a small budget it may be evicted at once.
                voxels[wanted[index].in_box] = chunk[wanted[index].in_chunk]
                self.decoded += 1
                self._keep(index, chunk)
        return voxels

    def _keep(self, index: ZYX, chunk: NDArray[Any]) -> None:
        self._kept[index] = chunk
        self._kept_bytes += chunk.nbytes
        while self._kept_bytes > self.budget_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.nbytes


def bytes_to_decode_once(array: Array, plan: Plan) -> int:
    """Return the budget of a `CachedReader` with which the blocks of a plan, in their order, decode no chunk twice.

    Parameters
    ----------
    array : Array
        The array that is read.
    plan : Plan
        The blocks that are read.

    Returns
    -------
    int
        Where a block reads the sections it writes, a row of blocks over the width of the volume; where it reads more,
        as many whole sections.
    """
    layout = Layout.of(array)
    block = plan.block((0, 0, 0)).write.shape
    counts = [ceil_div(n, b) for n, b in zip(plan.shape, block, strict=True)]
    reads = [plan.block((0, y, 0)).read for y in range(counts[1])] + [
        plan.block((0, 0, x)).read for x in range(counts[2])
    ]
    # A read box starts anywhere within a chunk, so it may touch one chunk more than its size suggests.
    height, width = (
        round_up(min(n, max(read.shape[axis] for read in reads) + layout.chunk[axis]), layout.chunk[axis])
        for axis, n in ((1, plan.shape[1]), (2, plan.shape[2]))
    )
    rows, columns = (round_up(n, c) for n, c in zip(plan.shape[1:], layout.chunk[1:], strict=True))
    # Chunks are one section thick, so along z nothing needs rounding.
    depth = min(plan.shape[0], block[0] + 2 * plan.tiling.halo.z)
    # All that is read between a block and the one below it: a row of blocks, and these two.
    band = height * (columns * (counts[1] > 1) + 2 * width * (max(counts[1:]) > 1))
    # With context along z, a block is needed again by the next block in depth, which comes after a whole layer.
    between = rows * columns + band if plan.tiling.halo.z and counts[0] > 1 else band
    return depth * between * layout.dtype.itemsize

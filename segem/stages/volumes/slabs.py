"""Parts of a source that are read at a time, and written as whole blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from segem.geometry import ZYX, Box, grid
from segem.io.readers import Stack
from segem.io.shards import Array, shard_of, write_block

SLAB_BYTES = 2**26
"""Most bytes of a source that are read at once, unless a single chunk of it or row of shards is larger."""


def count_sections(box: Box, shape: ZYX) -> float:
    """Return how many sections a box is, for progress.

    Examples
    --------
    >>> count_sections(Box((0, 0, 0), (1, 5, 8)), (3, 10, 8))
    0.5
    """
    return box.size / (shape[1] * shape[2])


def read_slabs(stack: Stack, block: ZYX) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Yield all of a stack, in boxes made of whole blocks, see `slab_shape`.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    for _, box in grid(stack.shape, slab_shape(stack.shape, stack.dtype.itemsize, block, stack.chunk)):
        yield box, stack.read(box)


def slab_shape(shape: ZYX, itemsize: int, block: ZYX, chunk: ZYX) -> ZYX:
    """Return how much of a source is read at a time: whole blocks, and whole chunks of it where memory allows.

    Parameters
    ----------
    shape : tuple of int
        Of the source, (z, y, x).
    itemsize : int
        Bytes of a voxel.
    block : tuple of int
        What is written at a time.
    chunk : tuple of int
        What is decoded at a time.

    Returns
    -------
    tuple of int
        Along (z, y, x).

    Examples
    --------
    Sections at a time, rows of a large section, and a column of sections where chunks are deep:

    >>> slab_shape((100, 1024, 1024), 1, (4, 1024, 1024), (1, 1024, 1024))
    (4, 1024, 1024)
    >>> slab_shape((100, 32768, 32768), 1, (1, 2048, 2048), (1, 64, 32768))
    (1, 2048, 32768)
    >>> slab_shape((100, 32768, 32768), 1, (1, 2048, 2048), (64, 64, 64))
    (16, 2048, 2048)
    """
    depth, height = (min(n, math.lcm(b, c)) for n, b, c in zip(shape[:2], block[:2], chunk[:2], strict=True))
    if depth * height * shape[2] * itemsize <= SLAB_BYTES:
        return depth, height, shape[2]
    if depth > block[0]:
        height, width = min(shape[1], block[1]), min(shape[2], block[2])
        fitting = SLAB_BYTES // (height * width * itemsize)
        return min(depth, max(block[0], fitting // block[0] * block[0])), height, width
    # A chunk as high as a section is decoded whole, so to read a part of it at a time would save nothing.
    return depth, height if chunk[1] >= shape[1] else min(shape[1], block[1]), shape[2]


def write_slab(array: Array, box: Box, slab: NDArray[Any]) -> None:
    """Write a slab of a layer, which is made of whole shards.

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    for _, part in grid(box.shape, shard_of(array)):
        start, stop = ([a + b for a, b in zip(box.start, end, strict=True)] for end in (part.start, part.stop))
        write_block(array, Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), slab[part.slices])


@contextmanager
def write_behind(array: Array) -> Iterator[Callable[[Box, NDArray[Any]], None]]:
    """Write slabs of a layer in a thread, each while the next one is read; all are written when the body is left.

    Yields
    ------
    callable
        Takes a box and its voxels, which must not be changed any more.

    Raises
    ------
    WorkspaceError
        When the disk refuses; by the callable, or on leaving.
    """
    with ThreadPoolExecutor(1, "write") as pool:
        before: list[Future[None]] = []

        def write(box: Box, slab: NDArray[Any]) -> None:
            while before:
                before.pop().result()
            before.append(pool.submit(write_slab, array, box, slab))
            # Two large slabs at once would take too much memory.
            if slab.nbytes > SLAB_BYTES:
                before.pop().result()

        yield write
        while before:
            before.pop().result()

"""Blocks as they lie on disk: read without ever taking a lost file for background, and digested."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segem.errors import StorageError, WorkspaceError
from segem.geometry import ZYX, Box, grid
from segem.io.chunks import Array, Layout, decode_chunks
from segem.io.files import disk_errors
from segem.io.shards import CHUNK, files_of, shape_of, shard_files, shard_key, shard_keys, shard_of, write_block

UNREADABLE = (ValueError, RuntimeError, OSError)
"""What reading may raise for a bad checksum, a bad shard index or a short file."""

_PIECE_VOXELS = 2**22


class Content(Protocol):
    """The voxels of a box: an array, or what fetches them from the disk where they are too many to be held."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along (z, y, x)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""

    def __getitem__(self, part: tuple[slice, slice, slice], /) -> NDArray[Any]:
        """Return some of them, (z, y, x)."""


@dataclass(frozen=True)
class StoredBox:
    """A box of a layer, read from the disk anew whenever a part of it is asked for.

    Parameters
    ----------
    box : Box
        Of the layer.
    dtype : dtype
        Of the layer.
    read : callable
        Returns the voxels of any box of the layer, as `read_block` does.
    """

    box: Box
    dtype: np.dtype[Any]
    read: Callable[[Box], NDArray[Any]]

    @property
    def shape(self) -> ZYX:
        """Extent along (z, y, x)."""
        return self.box.shape

    def __getitem__(self, part: tuple[slice, slice, slice], /) -> NDArray[Any]:
        """Return some voxels, (z, y, x); see `read_block`."""
        z, y, x = (range(a, b)[cut] for a, b, cut in zip(self.box.start, self.box.stop, part, strict=True))
        return self.read(Box((z.start, y.start, x.start), (z.stop, y.stop, x.stop)))


def pieces_of(content: Content) -> Iterator[NDArray[Any]]:
    """Yield the voxels of a box in the order of their bytes, some millions at a time: whole sections, or rows of one.

    Examples
    --------
    >>> [piece.shape for piece in pieces_of(np.zeros((9, 1024, 1024), np.uint8))]
    [(4, 1024, 1024), (4, 1024, 1024), (1, 1024, 1024)]
    """
    depth, height, width = content.shape
    sections = _PIECE_VOXELS // max(1, height * width)
    if sections:
        yield from (content[z : z + sections, :, :] for z in range(0, depth, sections))
        return
    # Whole rows of chunks where they fit, so that none is decoded twice.
    rows = max(1, _PIECE_VOXELS // width)
    rows -= rows % CHUNK[1] if rows > CHUNK[1] else 0
    for z in range(depth):
        yield from (content[z : z + 1, y : y + rows, :] for y in range(0, height, rows))


def read_block(array: Array, box: Box, fix: str) -> NDArray[Any]:
    """Return the voxels of any box of a layer.

    Parameters
    ----------
    array : Array
        Level of an image or a label.
    box : Box
        What to read; it need not lie on the shard grid.
    fix : str
        How to make the layer again, for the message.

    Returns
    -------
    (z, y, x) array
        Of the shape of `box`.

    Raises
    ------
    WorkspaceError
        When a file is missing, which zarr itself would read as zeros, or does not decode.
    """
    layout = Layout.of(array)
    voxels = np.empty(box.shape, layout.dtype)
    pieces = {piece.chunk: piece for piece in layout.pieces_of(box)}
    for index, chunk in read_chunks(array, layout, pieces, fix):
        voxels[pieces[index].in_box] = chunk[pieces[index].in_chunk]
    return voxels


def open_box(array: Array, box: Box, fix: str) -> StoredBox:
    """Return a box of a layer whose parts are read when they are asked for, as `read_block` reads them."""
    return StoredBox(box, Layout.of(array).dtype, lambda part: read_block(array, part, fix))


def read_chunks(array: Array, layout: Layout, chunks: Iterable[ZYX], fix: str) -> Iterator[tuple[ZYX, NDArray[Any]]]:
    """Yield chunks of a layer with their index, one file after the other.

    Raises
    ------
    WorkspaceError
        When a file is missing or does not decode.
    """
    # Grouped by shard, so that each file is opened once and its index is read once.
    by_shard: dict[ZYX, list[tuple[ZYX, ZYX]]] = {}
    for z, y, x in chunks:
        dz, dy, dx = layout.chunks_a_shard
        cell = (z % dz, y % dy, x % dx)
        by_shard.setdefault((z // dz, y // dy, x // dx), []).append(((z, y, x), cell))
    files = files_of(array)
    for shard, wanted in by_shard.items():
        key = shard_key(array, shard)
        try:
            with files.opened(key) as content:
                decoded = decode_chunks(content, [cell for _, cell in wanted], layout)
        except FileNotFoundError:
            # Never the fill value: zeros would pass for tissue without membrane.
            raise WorkspaceError("a block of the volume is missing", where=files.name(key), fix=fix) from None
        except PermissionError as error:
            # Nothing is lost: to make it again, as `fix` says, would be the wrong advice.
            with disk_errors(files.name(key)):
                raise error from None
        except UNREADABLE as error:
            raise WorkspaceError(
                "a block of the volume cannot be read", where=files.name(key), found=error, fix=fix
            ) from error
        yield from zip((index for index, _ in wanted), decoded, strict=True)


def voxel_digest(arrays: Iterable[NDArray[Any]]) -> str:
    """Return the sha256 of the bytes of several arrays, one after the other.

    Examples
    --------
    >>> voxel_digest([np.zeros(2, np.uint8)]) == voxel_digest([np.zeros(1, np.uint8), np.zeros(1, np.uint8)])
    True
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def block_digest(layers: Iterable[Content]) -> str:
    """Return the sha256 that a ledger keeps of a block; masks are hashed as bits, which takes an eighth of the time.

    Parameters
    ----------
    layers : iterable of (z, y, x) unsigned int
        The voxels of each layer.

    Returns
    -------
    str
        Differs whenever any voxel differs.

    Examples
    --------
    >>> block_digest([np.array([[[0, 1]]], np.uint8)]) == block_digest([np.array([[[0, 2]]], np.uint8)])
    False
    """
    digest = hashlib.sha256()
    for layer in layers:
        # Shape and packing are hashed too: packed bits are padded, and could equal the bytes of other voxels.
        bits = digest.copy()
        bits.update(f"{layer.shape} bits".encode())
        if _add_bits(bits, layer):
            digest = bits
            continue
        digest.update(f"{layer.shape} bytes".encode())
        for piece in pieces_of(layer):
            digest.update(np.ascontiguousarray(piece).data)
    return digest.hexdigest()


def _add_bits(digest: hashlib._Hash, layer: Content) -> bool:
    """Add a mask to a digest, eight voxels to a byte, and return whether it is one: 0 and 1 only."""
    left = np.empty(0, np.uint8)
    for piece in pieces_of(layer):
        if piece.size and piece.max() > 1:
            return False
        flat = piece.reshape(-1)
        if left.size:
            flat = np.concatenate([left, flat])
        whole = flat.size - flat.size % 8
        digest.update(np.packbits(flat[:whole]).data)
        left = flat[whole:]
    digest.update(np.packbits(left).data)
    return True


def layer_digest(array: Array, fix: str) -> str:
    """Return the sha256 of all voxels of a layer as they lie on disk, block by block.

    Raises
    ------
    WorkspaceError
        When a block is missing or does not decode.
    """
    blocks = (box for _, box in grid(shape_of(array), shard_of(array)))
    return voxel_digest(read_block(array, box, fix) for box in blocks)


def stored_digest(arrays: Iterable[Array], box: Box) -> str | None:
    """Return the `block_digest` of a box as it lies on disk; None where a file is missing or does not decode.

    Raises
    ------
    StorageError
        When a storage cannot be asked, which says nothing about the block.
    """
    try:
        return block_digest(open_box(array, box, "") for array in arrays)
    except StorageError:
        raise
    except WorkspaceError:
        return None


def shard_path(array: Array, box: Box) -> Path:
    """Return the file on disk that holds a block; the box must start on the shard grid."""
    return shard_files(array, box)[0]


def put_block(array: Array, box: Box, data: NDArray[Any]) -> bool:
    """Write whole shards unless they hold the same voxels already, and tell whether they were written.

    Parameters
    ----------
    array : Array
        Level of an image or a label.
    box : Box
        On the shard grid, as `write_block` requires.
    data : (z, y, x) array
        Of the shape of `box` and the type of `array`.

    Returns
    -------
    bool

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    try:
        written = np.array_equal(read_block(array, box, ""), data)
    except StorageError:
        raise
    except WorkspaceError:
        # Missing or damaged: either way it is written again.
        written = False
    if not written:
        write_block(array, box, data)
        return True
    # The process that wrote them may have been killed before it synced them.
    for key in shard_keys(array, box):
        files_of(array).settle(key)
    return False

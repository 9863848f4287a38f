"""From the shape of a volume to blocks and tiles, as data: no arrays, no disk.

A block is a unit of work and of writing: its write box is exactly one shard of the output. A tile is what a net sees at
once. Tiles lie on one lattice that starts at the corner of the volume and knows nothing of blocks, so a voxel's value
depends neither on how blocks are cut nor on who computes them::

      core                      crop: the net sees core + halo, cut at the image edge,
    ┌──────┬──────┐             and only the core is kept
    │  ┌╌╌╌┼╌╌╌┐  │
    │  ╎   │   ╎  │             gaussian, hann: windows overlap, and each voxel is
    ├──┼───┼───┼──┤             the weighted mean of the windows that see it
    │  ╎   │   ╎  │
    └──┴╌╌╌┴╌╌╌┴──┘
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Literal

from segem.config import Window
from segem.errors import ConfigError
from segem.geometry import ZYX, Box, Halo, ceil_div, grid, round_up

MAX_TILE_PX = 1472
"""Longest edge of what a tile reads, unless set otherwise; sections up to this size are computed whole."""


@dataclass(frozen=True)
class Tiling:
    """How tiles are laid over a volume.

    Parameters
    ----------
    mode : {"crop", "gaussian", "hann"}
        Keep only the core of each tile, or blend overlapping tiles by weights of that form.
    core_px : tuple of int, length 2
        Edge of a core (crop), or of a whole window (blended), along (y, x).
    halo : Halo
        Context around a core; where tiles are blended only its z part counts.
    stride_px : int
        Lattice on which a tile must start, so that poolings fall on the same pixels in every tile.
    step_px : tuple of int, length 2
        Distance between neighbouring tiles along (y, x); equal to `core_px` in crop mode.
    """

    mode: Literal["crop"] | Window
    core_px: tuple[int, int]
    halo: Halo
    stride_px: int
    step_px: tuple[int, int]

    def __post_init__(self) -> None:
        # Off the stride, the poolings of two tiles would fall on different pixels, and their values would differ.
        aligned = {"tile step": self.step_px}
        if self.mode == "crop":
            aligned["halo"] = (self.halo.y, self.halo.x)
            if self.step_px != self.core_px:
                raise ConfigError(
                    "cores must touch without overlap",
                    expected=self.core_px,
                    found=self.step_px,
                    fix="set the step to the core",
                )
        for what, values in aligned.items():
            if any(value % self.stride_px for value in values):
                raise ConfigError(
                    f"the {what} must be a multiple of the net's stride",
                    expected=f"multiples of {self.stride_px} px",
                    found=values,
                    fix="choose other tile_px, halo_px or overlap",
                )
        if any(not 0 < step <= core for step, core in zip(self.step_px, self.core_px, strict=True)):
            raise ConfigError(
                "tiles must leave no gap", expected=f"1 to {self.core_px} px", found=self.step_px, fix="lower it"
            )

    @property
    def window(self) -> Window | None:
        """The form of the weights that blend tiles; None where tiles are cropped."""
        return None if self.mode == "crop" else self.mode


@dataclass(frozen=True)
class Tile:
    """One evaluation of the net: it sees `read` and contributes to `write`, which lies inside."""

    read: Box
    write: Box


@dataclass(frozen=True)
class Block:
    """One unit of work: reads `read`, computes `tiles`, writes `write`."""

    index: ZYX
    write: Box
    read: Box
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that is to be computed for one volume.

    Parameters
    ----------
    shape : tuple of int, length 3
        Shape of the volume.
    write_block : tuple of int, length 3
        Shape of one shard of the output.
    tiling : Tiling
        How tiles are laid.

    Examples
    --------
    >>> tiling = Tiling("crop", (16, 16), Halo(0, 8, 8), 8, (16, 16))
    >>> [str(tile.read) for tile in Plan((1, 16, 32), (1, 16, 32), tiling).block((0, 0, 0)).tiles]
    ['[0:1, 0:16, 0:24]', '[0:1, 0:16, 8:32]']
    """

    shape: ZYX
    write_block: ZYX
    tiling: Tiling

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ConfigError(
                "an empty volume cannot be segmented", found=self.shape, fix="ingest a volume with voxels"
            )

    @property
    def count(self) -> int:
        """Number of blocks."""
        z, y, x = (ceil_div(n, b) for n, b in zip(self.shape, self.write_block, strict=True))
        return z * y * x

    def blocks(self) -> Iterator[Block]:
        """Yield every block; their write boxes cover each voxel exactly once."""
        for index, write in grid(self.shape, self.write_block):
            yield self._block(index, write)

    def blocks_by_rows(self) -> Iterator[Block]:
        """Yield the same blocks, each row of them through all sections before the next row.

        A net that sees neighbouring sections reads them again soon, while the cache still holds them.
        """
        sections, rows, columns = (range(ceil_div(n, b)) for n, b in zip(self.shape, self.write_block, strict=True))
        for y, z, x in product(rows, sections, columns):
            yield self.block((z, y, x))

    def block(self, index: ZYX) -> Block:
        """Return the block with the given index."""
        z, y, x = (i * b for i, b in zip(index, self.write_block, strict=True))
        dz, dy, dx = self.write_block
        return self._block(index, Box((z, y, x), (z + dz, y + dy, x + dx)).intersect(Box.of_shape(self.shape)))

    def windows(self, axis: Literal[1, 2]) -> list[tuple[int, int]]:
        """Return where the tiles of the whole lattice start and stop along y (1) or x (2), without halo."""
        size, core, step = self.shape[axis], self.tiling.core_px[axis - 1], self.tiling.step_px[axis - 1]
        # One tile at the origin, then one more for every step until the end is covered.
        count = 1 + max(0, ceil_div(size - core, step))
        return [(i * step, min(i * step + core, size)) for i in range(count)]

    @property
    def tiles_per_block(self) -> int:
        """Number of tiles that a block which is not cut at the edge of the volume needs at least."""
        return len(self.block((0, 0, 0)).tiles)

    @property
    def tiles_per_section(self) -> int:
        """Number of tiles that a whole section is cut into."""
        return len(self.windows(1)) * len(self.windows(2))

    def tile_extent(self, axis: Literal[1, 2]) -> int:
        """Return the longest edge of what any tile reads along y (1) or x (2)."""
        halo = 0 if self.tiling.window else self.tiling.halo.zyx[axis]
        return max(min(stop + halo, self.shape[axis]) - max(0, start - halo) for start, stop in self.windows(axis))

    def overhead(self) -> float:
        """Return how many voxels are computed for each voxel written; 1 means no halo was needed."""
        section = self.shape[1] * self.shape[2]
        # One section is enough: every section is tiled alike.
        first = [self._block(i, box) for i, box in grid((1, *self.shape[1:]), (1, *self.write_block[1:]))]
        read = sum(tile.read.shape[1] * tile.read.shape[2] for block in first for tile in block.tiles)
        return read / section

    def _block(self, index: ZYX, write: Box) -> Block:
        # A blended tile may reach beyond the write box, so what is read is the union of what tiles see.
        tiles = tuple(self._tiles(write))
        return Block(index, write, reduce(Box.union, (tile.read for tile in tiles)), tiles)

    def _tiles(self, write: Box) -> Iterator[Tile]:
        volume, tiling = Box.of_shape(self.shape), self.tiling
        # Blended windows overlap already and have no halo in the plane.
        halo = Halo(tiling.halo.z, 0, 0) if tiling.window else tiling.halo
        rows = _touching(self.windows(1), write.start[1], write.stop[1])
        columns = _touching(self.windows(2), write.start[2], write.stop[2])
        # Tiles of the volume's lattice, not of the block: one that crosses a border is computed for both blocks, alike.
        for z, (y0, y1), (x0, x1) in product(range(write.start[0], write.stop[0]), rows, columns):
            window = Box((z, y0, x0), (z + 1, y1, x1))
            yield Tile(window.grow(halo, volume), window.intersect(write))


def _touching(windows: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    return [(a, b) for a, b in windows if a < stop and start < b]


def crop_tiling(
    shape: ZYX,
    write_block: ZYX,
    halo: Halo,
    stride_px: int,
    tile_px: int | None = None,
    max_tile_px: int = MAX_TILE_PX,
) -> Tiling:
    """Lay cores side by side, each seen with its halo.

    Without `tile_px`, the cores are the largest that divide a write block evenly and are read within `max_tile_px`,
    because every pixel of halo is computed more than once.

    Parameters
    ----------
    shape, write_block : tuple of int, length 3
        Of the volume and of one shard.
    halo : Halo
        Context the net needs.
    stride_px : int
        Pooling lattice of the net.
    tile_px : int, optional
        Edge of a core, rounded up to the stride.
    max_tile_px : int
        Longest edge of a core with its halo, where the planner chooses.

    Returns
    -------
    Tiling

    Examples
    --------
    >>> crop_tiling((20, 2048, 2048), (1, 2048, 2048), Halo(0, 96, 96), 16).core_px
    (1024, 1024)
    """
    # Rounded up, since a larger halo is never wrong, and tiles stay on the lattice of the poolings.
    aligned = Halo(halo.z, round_up(halo.y, stride_px), round_up(halo.x, stride_px))
    y, x = (
        round_up(tile_px, stride_px) if tile_px else _even_core(n, b, reach, stride_px, max_tile_px)
        for n, b, reach in zip(shape[1:], write_block[1:], aligned.zyx[1:], strict=True)
    )
    return Tiling("crop", (y, x), aligned, stride_px, (y, x))


def blend_tiling(
    shape: ZYX, stride_px: int, tile_px: int, overlap: float, context_z: int = 0, window: Window = "gaussian"
) -> Tiling:
    """Lay windows that overlap their neighbours by a share `overlap` of their edge.

    Parameters
    ----------
    shape : tuple of int, length 3
        Of the volume; windows are never larger than a section needs.
    stride_px : int
        Pooling lattice of the net.
    tile_px : int
        Edge of a window, in pixels.
    overlap : float
        Share of the edge that neighbours both see, 0 <= overlap < 1.
    context_z : int
        Sections the net needs on either side.
    window : {"gaussian", "hann"}
        Form of the weights.

    Returns
    -------
    Tiling

    Examples
    --------
    >>> blend_tiling((1, 512, 512), 16, 256, 0.5).step_px
    (128, 128)
    """
    y, x = (min(round_up(tile_px, stride_px), round_up(n, stride_px)) for n in shape[1:])
    # Rounded down, so that neighbours overlap by at least what was asked for.
    step_y, step_x = (max(stride_px, int(edge * (1 - overlap)) // stride_px * stride_px) for edge in (y, x))
    return Tiling(window, (y, x), Halo(context_z, 0, 0), stride_px, (step_y, step_x))


def _even_core(size: int, block: int, halo_px: int, stride_px: int, max_tile_px: int) -> int:
    extent = min(block, size)
    # Fewest parts first: large cores waste least on halos.
    for parts in range(1, ceil_div(extent, stride_px) + 1):
        core = round_up(ceil_div(extent, parts), stride_px)
        # With several blocks along the axis, a core that straddles two of them would be computed twice.
        even = size <= block or block % core == 0
        # A tile at the edge of the volume has a halo on one side only, and one that holds it all has none.
        sides = min(2, ceil_div(size, core) - 1)
        if even and min(size, core + sides * halo_px) <= max_tile_px:
            return core
    return stride_px

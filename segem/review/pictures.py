"""Tiles of a volume as PNG: cut from its pyramid, so that a section of any size opens at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segem.errors import InputError
from segem.geometry import Box
from segem.io.blocks import read_block
from segem.io.multiscale import plan_levels
from segem.io.shards import Array, shape_of
from segem.io.volume import Volume

Amend = Callable[[int, Box, NDArray[np.uint8]], None]
"""Writes into a part of a section of a level what is to be shown instead."""

TILE_PX = 512
LARGEST_CROP_PX = 512


@dataclass(frozen=True)
class Pictures:
    """The image of a volume, grey level by grey level as browsers show it.

    Parameters
    ----------
    volume : Volume
        A source, or a result: its image is then the probability.
    version : str
        What changes when the voxels do.
    """

    volume: Volume
    version: str

    @cached_property
    def key(self) -> str:
        """What the pictures are called in an address: a digest, so that a browser may keep them for ever."""
        return hashlib.sha256(f"{self.volume.name} {self.version}".encode()).hexdigest()[:32]

    @cached_property
    def levels(self) -> list[tuple[Array, int]]:
        """The levels, finest first, each with the number of sections that one of its own stands for."""
        planned = plan_levels(self.volume.shape, self.volume.voxel_size)
        return [(array, level.factors[0]) for array, level in zip(self.volume.levels(), planned, strict=True)]

    @property
    def flat_levels(self) -> list[Array]:
        """The levels of as many sections as the finest one."""
        return [array for array, thickness in self.levels if thickness == 1]

    def tile(self, level: int, z: int, row: int, column: int, amend: Amend | None = None) -> bytes:
        """Return one tile of a level as PNG; `z` counts the sections of the volume.

        What `amend` writes is not known to a level of fewer sections.

        Raises
        ------
        InputError
            When there is no such tile.
        """
        if not 0 <= level < len(self.levels):
            raise no_such("tile")
        array, thickness = self.levels[level]
        _, height, width = shape_of(array)
        y, x = row * TILE_PX, column * TILE_PX
        if not (0 <= z < self.volume.shape[0] and 0 <= y < height and 0 <= x < width):
            raise no_such("tile")
        box = Box((z // thickness, y, x), (z // thickness + 1, min(y + TILE_PX, height), min(x + TILE_PX, width)))
        shown = self._shown(read_block(array, box, "see `segem verify`")[0])
        if amend is not None and thickness == 1:
            amend(level, box, shown)
        return encode_png(shown)

    def crop(self, z: int, y: int, x: int, size: int, amend: Amend | None = None) -> bytes:
        """Return a square of a section as PNG, black beyond the edges of the volume; see `tile`.

        Raises
        ------
        InputError
            When it is too large, or lies outside the volume.
        """
        whole = Box.of_shape(self.volume.shape)
        if not (0 <= z < whole.stop[0] and 1 <= size <= LARGEST_CROP_PX):
            raise no_such("crop")
        (_, top, left), (_, bottom, right) = whole.start, whole.stop
        y0, y1, x0, x1 = max(y, top), min(y + size, bottom), max(x, left), min(x + size, right)
        if y1 <= y0 or x1 <= x0:
            raise no_such("crop")
        square = np.zeros((size, size), np.uint8)
        box = Box((z, y0, x0), (z + 1, y1, x1))
        shown = self._shown(read_block(self.volume.raw, box, "see `segem verify`")[0])
        if amend is not None:
            amend(0, box, shown)
        square[y0 - y : y1 - y, x0 - x : x1 - x] = shown
        return encode_png(square)

    def _shown(self, voxels: NDArray[Any]) -> NDArray[np.uint8]:
        """Return 8 bits, from the 1st to the 99th percentile of the volume where it has more."""
        if voxels.dtype == np.uint8:
            return voxels
        found = self.volume.statistics
        low, high = found.percentiles["1"], found.percentiles["99"]
        if high <= low:
            low, high = found.minimum, max(found.maximum, found.minimum + 1)
        scaled = (voxels.astype(np.float32) - low) * (255 / (high - low))
        shown: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        return shown


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit picture as PNG, losslessly and fast rather than small."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def no_such(what: str) -> InputError:
    """Return the error of a page that asks for what there is not, or not for its person."""
    return InputError(f"no such {what}", fix="reload the page")

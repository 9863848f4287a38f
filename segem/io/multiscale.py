"""The levels of a volume and how OME-Zarr describes them."""

from __future__ import annotations

from dataclasses import dataclass

from yaozarrs import v05

from segem.geometry import ZYX, VoxelSize, ceil_div
from segem.io.shards import AXES

COARSEST_PX = 256
"""Longest edge of the coarsest level: one chunk, which a viewer loads at once."""


@dataclass(frozen=True)
class Level:
    """One level: its extent, and how many voxels of full resolution one of it stands for, both along (z, y, x)."""

    shape: ZYX
    factors: ZYX


def plan_levels(shape: ZYX, voxel_size: VoxelSize) -> list[Level]:
    """Return the levels of a volume, finest first.

    Examples
    --------
    >>> [level.shape for level in plan_levels((8, 600, 300), VoxelSize(50, 4, 4))]
    [(8, 600, 300), (8, 300, 150), (8, 150, 75)]
    """
    levels = [Level(shape, (1, 1, 1))]
    while max(levels[-1].shape[1:]) > COARSEST_PX:
        # A single section cannot shrink further; sections much thicker than pixels are not merged.
        steps = [2 if n > 1 else 1 for n in levels[-1].shape]
        if not voxel_size.near_isotropic:
            steps[0] = 1
        z, y, x = (ceil_div(n, step) for n, step in zip(levels[-1].shape, steps, strict=True))
        fz, fy, fx = (f * step for f, step in zip(levels[-1].factors, steps, strict=True))
        levels.append(Level((z, y, x), (fz, fy, fx)))
    return levels


def multiscale_of(levels: list[Level], voxel_size: VoxelSize) -> v05.Multiscale:
    """Return the levels of a volume as its metadata describe them."""
    return v05.Multiscale(
        axes=[v05.SpaceAxis(name=name, unit="nanometer") for name in AXES],
        datasets=[
            v05.Dataset(
                path=str(index),
                coordinateTransformations=[
                    v05.ScaleTransformation(scale=[f * s for f, s in zip(level.factors, voxel_size.zyx, strict=True)]),
                    # A coarse voxel is centred on the fine ones it stands for, not on the first of them.
                    v05.TranslationTransformation(
                        translation=[(f - 1) / 2 * s for f, s in zip(level.factors, voxel_size.zyx, strict=True)]
                    ),
                ],
            )
            for index, level in enumerate(levels)
        ],
    )

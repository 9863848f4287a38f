"""How much memory a sweep may take, and what tiles that allows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segem.config import ExecutionConfig
from segem.errors import ConfigError
from segem.geometry import round_up
from segem.learn.artefact import Artefact, load_net
from segem.learn.fold import folded
from segem.learn.memory import activation_bytes
from segem.learn.scale import AS_IS, Scale, at_scale, geometry_at
from segem.plan import Plan

DEFAULT_MEMORY = 3_000_000_000
"""Peak memory that tiles are planned for without --memory; the same on every machine, so that the bytes are too."""
RESIDENT = 700_000_000
"""What a process takes besides its tiles and weights: libraries, and blocks being read and written."""
WEIGHT_COPIES = 6
"""Most copies of the weights in memory at once: as loaded, folded, and rewritten and packed by the runtime."""
TILES_IN_FLIGHT = 2
"""Tiles that must fit at the same time; more are computed side by side where the memory allows it."""
_PROBE_PX = 512


@dataclass(frozen=True)
class Budget:
    """What the memory of one process allows.

    Parameters
    ----------
    memory : int
        Bytes the process may take at its peak.
    voxel_bytes : float
        Bytes a net holds for each pixel of a tile that it evaluates.
    tile_px : int
        Longest edge of a tile.
    resident : int
        Bytes it takes besides its tiles.
    elsewhere : bool
        Whether it runs on another machine, whose cores are not known here.
    """

    memory: int
    voxel_bytes: float
    tile_px: int
    resident: int
    elsewhere: bool = False

    @classmethod
    def of(cls, artefact: Artefact, execution: ExecutionConfig, scales: Sequence[Scale] = (AS_IS,)) -> Budget:
        """Return what one process may take; without a setting, tiles are planned for `DEFAULT_MEMORY`.

        Raises
        ------
        ConfigError
            When not even a small tile fits.
        """
        geometry = geometry_at(artefact.card, *scales)
        # Not smaller: a net may add a border of its own, which weighs more the smaller the tile.
        probe = round_up(_PROBE_PX, geometry.stride_px)
        # Folded, since that is the net that is evaluated. A runtime may compute several scales side by side, so that
        # each has its maps in memory.
        net = folded(load_net(artefact))
        nets = [at_scale(net, scale, geometry.context_sections) for scale in scales]
        shape = geometry.context_sections, probe, probe
        voxel_bytes = sum(activation_bytes(net, shape) for net in nets) / probe**2
        least = geometry.stride_px + 2 * (geometry.halo_px or 0)
        weights = WEIGHT_COPIES * sum(parameter.nbytes for net in nets for parameter in net.parameters())
        return cls.for_tiles(voxel_bytes, least, execution, artefact.card.name, weights)

    @classmethod
    def for_tiles(
        cls, voxel_bytes: float, least_px: int, execution: ExecutionConfig, where: str, weights: int = 0
    ) -> Budget:
        """Return the same for tiles that take `voxel_bytes` a pixel and have an edge of at least `least_px`.

        With `--memory`, room for the weights is set aside. Without it none is, so that the largest nets still get
        tiles.

        Raises
        ------
        ConfigError
            When not even such a tile fits.
        """
        memory = execution.memory
        resident = RESIDENT + (weights if memory else 0)
        free = (memory or DEFAULT_MEMORY) - resident
        # Tiles are squares of pixels; an integer root never rounds up beyond the memory.
        tile_px = math.isqrt(max(0, int(free / TILES_IN_FLIGHT / voxel_bytes)))
        if tile_px < least_px:
            raise ConfigError(
                "the memory allowed is too little for a tile",
                where=where,
                expected=f"{(resident + TILES_IN_FLIGHT * voxel_bytes * least_px**2) / 1e9:.1f} GB or more",
                found=f"{(memory or DEFAULT_MEMORY) / 1e9:.1f} GB",
                fix="raise --memory",
            )
        # The machine decides how many tiles are computed at once, never how large they are: that could change bytes.
        # Other machines may be smaller than this one.
        elsewhere = execution.cluster is not None
        share = 0 if elsewhere else half_of_the_machine() // execution.workers
        # Nor do other steps beside it, which take nothing from machines elsewhere.
        allowed = (memory or max(DEFAULT_MEMORY, share)) - (0 if elsewhere else execution.reserved)
        return cls(allowed, voxel_bytes, tile_px, resident, elsewhere)

    def require(self, plan: Plan) -> None:
        """Raise unless one tile of a plan fits; tiles of a size chosen by hand may not.

        Raises
        ------
        ConfigError
            Naming what would be needed.
        """
        needed = self.resident + plan.tile_extent(1) * plan.tile_extent(2) * self.voxel_bytes
        if needed > self.memory:
            raise ConfigError(
                "one tile does not fit the memory allowed",
                expected=f"{needed / 1e9:.1f} GB or more",
                found=f"{self.memory / 1e9:.1f} GB",
                fix="give a smaller --tile-px or --halo-px, or raise --memory",
            )

    def threads(self, plan: Plan) -> int:
        """Return how many tiles of a plan fit side by side, at least one and no more than there are cores here."""
        tile = plan.tile_extent(1) * plan.tile_extent(2) * self.voxel_bytes
        fit = max(1, int((self.memory - self.resident) / tile))
        return fit if self.elsewhere else min(len(os.sched_getaffinity(0)), fit)


def half_of_the_machine() -> int:
    """Return half of the memory, in bytes, that the machine has or that this process is allowed."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(memory, *allowed_memory()) // 2


def allowed_memory(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Yield every limit of memory that is set around this process, by a container or by SLURM, in bytes.

    Parameters
    ----------
    groups : Path
        Names the control groups of the process, one a line: ``0::/path`` in version 2, ``4:memory:/path`` in version 1.
    root : Path
        Where control groups are mounted.
    """
    with suppress(OSError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            top, name = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
            inner = top / path.strip("/")
            # A group may use no more than any group around it. Inside a container the outer ones are out of sight.
            for folder in (inner, *inner.parents):
                # The file is absent at the top, and says "max" where there is no limit.
                with suppress(OSError, ValueError):
                    yield int((folder / name).read_text())
                if folder == top:
                    break

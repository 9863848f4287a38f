"""The baseline of a run: the membrane that a method without labels finds, written as the label ``kmeans``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from segem.config import BaselineConfig
from segem.geometry import Box, Halo, grid
from segem.io.blocks import put_block, voxel_digest
from segem.io.layers import require_whole
from segem.io.replacing import require_same_request
from segem.io.run import recorded, result_volume, volume_lock
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.progress import track
from segem.stages.segmentation.unsupervised import Finder, finder_of, with_context

LABEL = "kmeans"
"""Of every method, so that a run looks the same whichever it was; its record says which."""


@dataclass(frozen=True)
class BaselineResult:
    """What was found in a volume.

    Parameters
    ----------
    membrane_fraction : float
        Share of the voxels that are membrane.
    dark, bright : float or None
        Mean intensity of the voxels of the membrane cluster and of the others, in grey levels; None for methods that
        form no clusters.
    threshold : float or None
        What is darker counts as membrane; None for methods that look at more than one voxel's intensity.
    digest : str
        sha256 of the mask, block by block.
    """

    membrane_fraction: float
    dark: float | None
    bright: float | None
    threshold: float | None
    digest: str


def baseline(
    volume: str,
    run: str,
    config: BaselineConfig,
    workspace: Workspace,
    *,
    replace: bool = False,
) -> BaselineResult:
    """Find the membrane of a whole volume without labels and write it as a mask.

    The volume is read block by block: K-means reads it for the histogram first, or a sample of it for the clusters of
    features, and every method then reads it once. Memory does not grow with it. A block of the mask that is on disk
    already is left as it is.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run.
    config : BaselineConfig
        The method and its settings.
    workspace : Workspace
        Where both live.
    replace : bool
        Also where the run holds a result of this volume that was made in another way, which is then lost.

    Returns
    -------
    BaselineResult

    Raises
    ------
    ConfigError
        When the run holds a result of this volume that was made in another way, and `replace` is false.
    SegemError
        When the volume is missing or damaged, the disk fails, or another process writes the same volume of the run.
    """
    source = Volume.open(workspace.volume(volume))
    with volume_lock(workspace, run, volume):
        if not replace:
            require_same_request(workspace, run, volume, "baseline", config)
        result = result_volume(workspace, run, volume)
        with recorded(workspace, run, source, "baseline", config) as facts:
            require_whole(source.raw, f"run `segem ingest` for {volume} with --again")
            passes = 2 if config.method == "kmeans" else 1
            with track(f"baseline {volume}", passes * Box.of_shape(source.shape).size) as advance:
                finder = finder_of(source, config, advance)
                found = _write(source, result, finder, advance)
            result.build_pyramid(LABEL)
            facts |= asdict(found)
    return found


def _write(source: Volume, result: Volume, finder: Finder, advance: Callable[[int], None]) -> BaselineResult:
    label = result.label(LABEL)
    membrane = 0

    def written() -> Iterator[NDArray[np.uint8]]:
        nonlocal membrane
        for _, box in grid(source.shape, result.write_block):
            mask = _mask(source, box, finder)
            put_block(label, box, mask)
            membrane += int(np.count_nonzero(mask))
            advance(box.size)
            yield mask

    digest = voxel_digest(written())
    fraction = membrane / Box.of_shape(source.shape).size
    return BaselineResult(fraction, finder.dark, finder.bright, finder.threshold, digest)


def _mask(source: Volume, box: Box, finder: Finder) -> NDArray[np.uint8]:
    """Return the mask of a block, section by section and tile by tile."""
    voxels, inner = with_context(source, box, finder.halo_px)
    whole, mask = Box.of_shape(voxels.shape), np.empty(box.shape, np.uint8)
    for _, tile in grid(box.shape, (1, finder.tile_px, finder.tile_px)):
        wanted = tile.relative_to((-inner.start[0], -inner.start[1], -inner.start[2]))
        seen = wanted.grow(Halo(0, finder.halo_px, finder.halo_px), whole)
        found = finder.find(voxels[seen.slices][0])
        mask[tile.slices] = found[wanted.relative_to(seen.start).slices[1:]]
    return mask

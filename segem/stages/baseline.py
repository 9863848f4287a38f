"""The baseline of a run: one K-means clustering of a volume's intensities, written as the label ``kmeans``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import BaselineConfig
from segem.geometry import Box, Halo, grid
from segem.io.blocks import put_block, read_block, voxel_digest
from segem.io.layers import require_whole
from segem.io.run import recorded, result_volume, volume_lock
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.kmeans import membrane_of, smoothed, smoothing_halo_px, two_means
from segem.kernels.normalize import histogram
from segem.progress import track

LABEL = "kmeans"


@dataclass(frozen=True)
class BaselineResult:
    """What K-means found in a volume.

    Parameters
    ----------
    membrane_fraction : float
        Share of the voxels in the darker cluster.
    dark, bright : float
        Centres of the clusters, in grey levels.
    threshold : float
        What is darker counts as membrane.
    digest : str
        sha256 of the mask, block by block.
    """

    membrane_fraction: float
    dark: float
    bright: float
    threshold: float
    digest: str


def baseline(
    volume: str, run: str, config: BaselineConfig, workspace: Workspace, *, progress: bool = True
) -> BaselineResult:
    """Cluster the intensities of a whole volume in two and write the darker cluster as membrane.

    The volume is read twice, block by block: for its histogram, then to label it. Memory does not grow with it. A block
    of the mask that is on disk already is left as it is.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run.
    config : BaselineConfig
        Smoothing before clustering.
    workspace : Workspace
        Where both live.
    progress : bool
        Whether to draw a progress bar.

    Returns
    -------
    BaselineResult

    Raises
    ------
    SegemError
        When the volume is missing or damaged, the disk fails, or another process writes the same volume of the run.
    """
    source = Volume.open(workspace.volume(volume))
    with volume_lock(workspace, run, volume):
        result = result_volume(workspace, run, volume)
        with recorded(workspace, run, source, "baseline", config) as facts:
            require_whole(source.raw, f"run `segem ingest` for {volume} with --again")
            total = 2 * Box.of_shape(source.shape).size
            with track(f"baseline {volume}", total, show=progress) as advance:
                found = _cluster(source, result, config.sigma_px, advance)
            result.build_pyramid(LABEL)
            facts |= asdict(found)
    return found


def _cluster(source: Volume, result: Volume, sigma_px: float, advance: Callable[[int], None]) -> BaselineResult:
    label = result.label(LABEL)
    boxes = [box for _, box in grid(source.shape, result.write_block)]
    counts = np.zeros(int(np.iinfo(source.dtype).max) + 1, np.int64)
    for box in boxes:
        counts += histogram(_intensities(source, box, sigma_px))
        advance(box.size)
    means = two_means(counts)
    membrane = 0

    def written() -> Iterator[NDArray[np.uint8]]:
        nonlocal membrane
        for box in boxes:
            mask = membrane_of(_intensities(source, box, sigma_px), means)
            put_block(label, box, mask)
            membrane += int(np.count_nonzero(mask))
            advance(box.size)
            yield mask

    digest = voxel_digest(written())
    fraction = membrane / Box.of_shape(source.shape).size
    return BaselineResult(fraction, means.dark, means.bright, means.threshold, digest)


def _intensities(source: Volume, box: Box, sigma_px: float) -> NDArray[Any]:
    """Return a block, smoothed as if the whole section had been."""
    reach_px = smoothing_halo_px(sigma_px)
    read = box.grow(Halo(0, reach_px, reach_px), Box.of_shape(source.shape))
    voxels = read_block(source.raw, read, f"run `segem ingest` for {source.name} with --again")
    return smoothed(voxels, sigma_px)[box.relative_to(read.start).slices]

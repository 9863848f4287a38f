"""What is judged, and what those who judge have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segem.config import load_manifest
from segem.geometry import around
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.normalize import zscore
from segem.learn.artefact import Artefact, list_models, load_artefact
from segem.stages.volumes.ingest import ingest


def ingested(manifest: Path, data_root: Path, work: Workspace) -> None:
    """Ingest the volumes of a manifest, once, before trainings that run side by side all want to."""
    for entry in load_manifest(manifest, data_root).volumes:
        ingest(entry.ingest_config(), work)


def tested(manifest: Path, data_root: Path, work: Workspace) -> Iterator[tuple[Volume, range]]:
    """Ingest the volumes of a manifest that have test sections, and yield each with these."""
    for entry in load_manifest(manifest, data_root).volumes:
        if entry.split is not None and entry.split.test is not None:
            volume = Volume.open(ingest(entry.ingest_config(), work).path)
            yield volume, range(entry.split.test.start, entry.split.test.stop)


def seen(volume: Volume, z: int, context: int) -> NDArray[np.float32]:
    """Return what a net sees of a section, (C, H, W) z-scores; beyond the ends of the volume, the last one repeats."""
    near = [min(max(z + dz, 0), volume.shape[0] - 1) for dz in around(context)]
    return zscore(np.stack([read_section(volume.raw, k) for k in near]), volume.statistics)


def rand_and_info(cells: SegmentationSums) -> tuple[float, float]:
    """Return V_rand and V_info at the best threshold of each, as the ISBI challenge takes them."""
    rand, information = cells.best("rand"), cells.best("information")
    return rand.value if rand else math.nan, information.value if information else math.nan


def trained(name: str, work: Workspace) -> Artefact | None:
    """Return the newest version of a model of a workspace; None where there is none."""
    return next((load_artefact(path) for known, path in list_models(work) if known == name), None)

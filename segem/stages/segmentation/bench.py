"""Measures how fast this machine segments, with every runtime that is installed."""

from __future__ import annotations

import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from segem.config import BenchConfig, ExecutionConfig, IngestConfig, SegmentConfig, SynthConfig, parse
from segem.errors import SegemError
from segem.geometry import ZYX, VoxelSize
from segem.io.volume import Volume, create_volume
from segem.io.workspace import Workspace
from segem.kernels.synth import draw_sections
from segem.learn.artefact import Artefact, find_model
from segem.learn.processor import find_byte_units
from segem.learn.speed import gemm_gflops
from segem.progress import track
from segem.stages.segmentation.budget import Budget
from segem.stages.segmentation.segment import make_plan, segment
from segem.stages.volumes.ingest import ingest

RUNTIMES = ("torch", "openvino", "openvino-int8")
VOXEL_NM = (50.0, 4.0, 4.0)


@dataclass(frozen=True)
class RuntimeSpeed:
    """How fast one runtime was; without figures where it is not available, with the reason."""

    runtime: str
    megapixels_per_second: float | None = None
    startup_seconds: float | None = None
    """What a run takes before the first block: the weights, and compiling them where the runtime does so."""
    expected_seconds: float | None = None
    """For the volume asked about."""
    unavailable: str = ""


@dataclass(frozen=True)
class BenchResult:
    """How fast a machine is.

    Parameters
    ----------
    model : str
        The model.
    cores : int
        Cores this process may use.
    size_px : int
        Edge of the synthetic sections.
    shape : tuple of int
        The volume whose time is expected.
    gemm_gflops : tuple of float, length 2
        Matrix multiplication before and after; a lower second figure means that other programs disturbed.
    runtimes : tuple of RuntimeSpeed
        One for each runtime.
    byte_units : tuple of str or None
        Instructions that multiply in 8 bits; None where it cannot be told whether there are any.
    """

    model: str
    cores: int
    size_px: int
    shape: ZYX
    gemm_gflops: tuple[float, float]
    runtimes: tuple[RuntimeSpeed, ...]
    byte_units: tuple[str, ...] | None


def bench(config: BenchConfig, workspace: Workspace) -> BenchResult:
    """Segment synthetic sections with each runtime, from volume to result on disk, in a temporary folder.

    Two volumes, one three times as deep as the other, separate the time to start from the time a section takes.

    Parameters
    ----------
    config : BenchConfig
        Model, size of a section, and the volume whose time is wanted.
    workspace : Workspace
        Where models are looked for; nothing is written to it.

    Returns
    -------
    BenchResult

    Raises
    ------
    SegemError
        When the model is missing or the temporary folder cannot be written.
    """
    artefact = find_model(config.model, workspace)
    cores = len(os.sched_getaffinity(0))
    # Every core evaluates a tile of its own, so fewer sections than cores would leave some idle.
    depths = (cores, 3 * cores)
    before = gemm_gflops(cores)
    with tempfile.TemporaryDirectory(prefix="segem-bench-") as folder:
        space = Workspace(Path(folder))
        volumes = [_ingested(space, config.size_px, depth) for depth in depths]
        effort = _effort(config.shape, volumes[-1], artefact, space)
        with track("bench", len(RUNTIMES) * sum(depths), "section") as advance:
            speeds = []
            for runtime in RUNTIMES:
                try:
                    seconds = []
                    for volume, depth in zip(volumes, depths, strict=True):
                        seconds.append(_seconds(volume, runtime, artefact, config, space))
                        advance(depth, runtime)
                except SegemError as error:
                    # torch is always there; when it fails, it is not the runtime that is missing.
                    if runtime == RUNTIMES[0]:
                        raise
                    speeds.append(RuntimeSpeed(runtime, unavailable=str(error)))
                    continue
                voxels = [depth * config.size_px**2 for depth in depths]
                speeds.append(_speed(runtime, voxels, seconds, effort * math.prod(config.shape)))
    return BenchResult(
        artefact.card.name,
        cores,
        config.size_px,
        config.shape,
        (before, gemm_gflops(cores)),
        tuple(speeds),
        find_byte_units(),
    )


def _ingested(space: Workspace, size_px: int, depth: int) -> Volume:
    """Return a volume in which one synthetic section repeats."""
    section = next(iter(draw_sections(SynthConfig(shape=(1, size_px, size_px)))))
    source = space.root / f"{depth}.tif"
    tifffile.imwrite(source, np.repeat(section.image[None], depth, axis=0), photometric="minisblack")
    made = ingest(IngestConfig(name=f"sections-{depth}", source=source, voxel_nm=VOXEL_NM), space)
    return Volume.open(made.path)


def _effort(shape: ZYX, measured: Volume, artefact: Artefact, space: Workspace) -> float:
    """Return how much more a voxel of the volume asked about costs than a measured one, because of halos."""
    wanted = create_volume(
        space.volume("wanted"), shape=shape, dtype=np.uint8, voxel_size=VoxelSize(*VOXEL_NM), labels={}, attributes={}
    )
    config = SegmentConfig(model=str(artefact.path))
    tile_px = Budget.of(artefact, ExecutionConfig()).tile_px
    overheads = [make_plan(config, artefact.card, volume, volume, tile_px).overhead() for volume in (wanted, measured)]
    return overheads[0] / overheads[1]


def _seconds(volume: Volume, runtime: str, artefact: Artefact, config: BenchConfig, space: Workspace) -> float:
    # Generated sections may be unlike the training data, so any disagreement of 8 bits is accepted: only speed counts.
    settings = parse(SegmentConfig, {"model": str(artefact.path), "runtime": runtime, "int8_tolerance": 1})
    started = time.perf_counter()
    segment(volume.name, runtime, settings, ExecutionConfig(device=config.device), space)
    return time.perf_counter() - started


def _speed(runtime: str, voxels: list[int], seconds: list[float], wanted: float) -> RuntimeSpeed:
    """Separate start-up time and rate.

    Examples
    --------
    >>> _speed("torch", [2_000_000, 6_000_000], [3.0, 5.0], 10_000_000)
    ... # doctest: +ELLIPSIS
    RuntimeSpeed(runtime='torch', megapixels_per_second=2.0, startup_seconds=2.0, expected_seconds=7.0, ...)
    """
    # On sections so small that the times are mostly noise, only the thicker volume is used.
    gained = seconds[1] - seconds[0] if seconds[1] > seconds[0] else seconds[1] * (1 - voxels[0] / voxels[1])
    rate = (voxels[1] - voxels[0]) / gained
    startup = max(0.0, seconds[1] - voxels[1] / rate)
    return RuntimeSpeed(runtime, rate / 1e6, startup, startup + wanted / rate)

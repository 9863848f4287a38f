"""Refines the probability of a run by a fully connected CRF, block by block, into a run of its own."""

from __future__ import annotations

import hashlib
import inspect
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import segem.geometry
import segem.kernels.crf
import segem.kernels.pictures
import segem.kernels.threshold
import segem.plan
from segem.config import ExecutionConfig, RefineConfig
from segem.errors import ConfigError, WorkspaceError
from segem.execute.run import execute
from segem.execute.work import BlockOutcome
from segem.geometry import Box, Halo
from segem.io.blocks import read_block
from segem.io.ledger import Ledger, LedgerRow, blocks_digest
from segem.io.replacing import require_same_request
from segem.io.run import fault_of, load_run, recorded, result_volume, source_digest, volume_lock
from segem.io.shards import Array
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.crf import bytes_per_pixel, halo_px, refine, spacing
from segem.kernels.pictures import grey
from segem.kernels.threshold import membrane_mask, stored_probability
from segem.plan import Block, Plan, Tile, crop_tiling
from segem.progress import track
from segem.records.run import StageRecord
from segem.stages.segmentation.budget import Budget
from segem.stages.segmentation.step import audit, intact, write_layers
from segem.stages.segmentation.verify import result_layers

KEPT_FACTS = ("trained_on", "int8")
"""What the report says of a model is true of its refined probability as well."""


@dataclass(frozen=True)
class RefineResult:
    """How a probability was refined."""

    path: Path
    volume: str
    of: str
    threshold: float
    blocks: int
    computed: int
    skipped: int
    overhead: float
    """Voxels computed for each voxel written."""


def refine_volume(
    volume: str,
    run: str,
    config: RefineConfig,
    execution: ExecutionConfig,
    workspace: Workspace,
    *,
    replace: bool = False,
) -> RefineResult:
    """Write the refined probability and mask of a volume into `run`, skipping every block that is finished already.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run that is made; it looks like a segmentation.
    config : RefineConfig
        The run whose probability is refined, and the CRF: all that decides the result.
    execution : ExecutionConfig
        Engine, workers, memory; the CRF computes on a processor, whatever the device.
    workspace : Workspace
        Where all live.
    replace : bool
        Also where the run holds a result of this volume that was made in another way, which is then lost.

    Returns
    -------
    RefineResult

    Raises
    ------
    ConfigError
        When the run holds a result of this volume that was made in another way, and `replace` is false.
    SegemError
        When the volume or its probability is missing or out of date, the disk fails, or another process writes the
        same volume.
    IncompleteError
        When a block failed or the audit found one missing or damaged; the message names it.
    """
    if config.of == run:
        raise ConfigError("a run cannot refine itself", found=run, fix="give the refined run another name")
    source = Volume.open(workspace.volume(volume))
    made = _finished_segmentation(volume, config.of, workspace)
    probability = Volume.open(workspace.result(config.of, volume))
    with volume_lock(workspace, run, volume):
        if not replace:
            require_same_request(workspace, run, volume, "segment", config)
        result = result_volume(workspace, run, volume)
        reach = config.halo_px if config.halo_px is not None else halo_px(config.crf)
        budget = Budget.for_tiles(bytes_per_pixel(config.crf), spacing(config.crf.sa_px) + 2 * reach, execution, run)
        plan = Plan(
            source.shape,
            result.write_block,
            crop_tiling(
                source.shape,
                result.write_block,
                Halo(0, reach, reach),
                spacing(config.crf.sa_px),
                config.tile_px,
                budget.tile_px,
            ),
        )
        budget.require(plan)
        facts = {
            "threshold": config.threshold,
            "tiling": asdict(plan.tiling),
            "core_px": plan.tiling.core_px,
            "overhead": round(plan.overhead(), 4),
            "blocks": plan.count,
            "code": refine_digest(),
            "memory": execution.memory,
            "refined_from": config.of,
            "probability": blocks_digest(workspace, config.of, volume),
        } | {key: made.facts[key] for key in KEPT_FACTS if key in made.facts}
        with recorded(workspace, run, source, "segment", config, facts=facts, model=made.model) as facts:
            work = RefineWork(
                source.path,
                probability.path,
                result.path,
                config,
                plan,
                threads=budget.threads(plan),
                token=uuid.uuid4().hex,
            )
            with (
                Ledger(workspace.ledger(run)) as ledger,
                track(f"refine {volume}", Box.of_shape(plan.shape).size) as advance,
            ):
                summary = execute(
                    plan, work, ledger, volume, execution, workspace.run(run), advance, tiles_at_once=work.threads
                )
                audit(summary, plan, ledger, volume, result)
            if blocks_digest(workspace, config.of, volume) != facts["probability"]:
                raise WorkspaceError(
                    "the probability was replaced while it was refined",
                    where=config.of,
                    fix="run the same command again",
                )
            result.build_pyramid()
            result.build_pyramid("membrane")
            facts |= {"computed": summary.computed, "skipped": summary.skipped}
    return RefineResult(
        result.path,
        volume,
        config.of,
        config.threshold,
        plan.count,
        summary.computed,
        summary.skipped,
        plan.overhead(),
    )


def _finished_segmentation(volume: str, run: str, workspace: Workspace) -> StageRecord:
    entry = load_run(workspace, run).volumes.get(volume)
    stage = entry.segment if entry is not None else None
    fault = fault_of(stage, "segmentation", source_digest(workspace, volume))
    if stage is None or fault is not None:
        raise WorkspaceError(
            "there is no whole probability to refine",
            where=f"{volume} of run {run}",
            found=fault,
            fix=f"run `segem segment {volume} --run {run}` to the end first",
        )
    return stage


@cache
def refine_digest() -> str:
    """Return the sha256 of the source code a voxel passes through; changed code makes other blocks."""
    kernels = (segem.kernels.crf, segem.kernels.pictures, segem.kernels.threshold)
    modules = (segem.geometry, segem.plan, *kernels, inspect.getmodule(refine_digest))
    return hashlib.sha256("".join(inspect.getsource(module) for module in modules if module).encode()).hexdigest()


@dataclass(frozen=True)
class LoadedBlock:
    """What a block is made of, and its row in the ledger where it is finished and intact."""

    block: Block
    identity: str
    image: NDArray[Any]
    probability: NDArray[np.uint8]
    finished: LedgerRow | None


@dataclass(frozen=True)
class RefineWork:
    """Refines one block; carries names only, and opens what they name once per process."""

    source: Path
    probability: Path
    result: Path
    config: RefineConfig
    plan: Plan
    threads: int
    """Tiles that the memory allows side by side."""
    token: str
    """Unique to one call, so that a process that lives on never takes volumes opened before for these."""

    def load(self, block: Block, known: LedgerRow | None) -> LoadedBlock:
        """Read the intensities and probabilities of a block, and find out whether it is finished already."""
        source, probability, layers = _open(self)
        image = read_block(source.raw, block.read, f"run `segem ingest` for {source.name} with --again")
        found = read_block(probability, block.read, f"run `segem verify {self.config.of} --repair`")
        identity = block_identity(self, block, image, found, source)
        return LoadedBlock(block, identity, image, found, intact(known, identity, layers, block))

    def compute(
        self, loaded: LoadedBlock, threads: int | None, on_voxels: Callable[[int], None]
    ) -> tuple[LoadedBlock, tuple[NDArray[np.uint8], ...]]:
        """Return the probability and the mask of a block; nothing for one that is finished."""
        block = loaded.block
        if loaded.finished is not None:
            on_voxels(block.write.size)
            return loaded, ()
        refined = np.empty(block.write.shape, np.uint8)

        def compute_tile(tile: Tile) -> None:
            refined[tile.write.relative_to(block.write.start).slices] = self._refined(loaded, tile)
            on_voxels(tile.write.size)

        for _ in _pool(min(threads or self.threads, self.threads)).map(compute_tile, block.tiles):
            pass
        return loaded, (refined, membrane_mask(refined, self.config.threshold))

    def store(self, computed: tuple[LoadedBlock, tuple[NDArray[np.uint8], ...]]) -> BlockOutcome:
        """Write a block durably."""
        loaded, written = computed
        if loaded.finished is not None:
            return BlockOutcome(loaded.block.index, loaded.finished, computed=False)
        return write_layers(loaded.block, loaded.identity, _open(self)[2], written)

    def _refined(self, loaded: LoadedBlock, tile: Tile) -> NDArray[np.uint8]:
        read = tile.read.relative_to(loaded.block.read.start).slices
        (image,), (probability,) = loaded.image[read], loaded.probability[read]
        if image.dtype != np.uint8:
            low, high = _window(_open(self)[0])
            image = grey(image, low, high)
        refined = stored_probability(refine(probability / np.float32(255), image, self.config.crf))
        return refined[None][tile.write.relative_to(tile.read.start).slices]


def block_identity(
    work: RefineWork, block: Block, image: NDArray[Any], probability: NDArray[np.uint8], source: Volume
) -> str:
    """Return the sha256 of everything that makes a block, as 64 hexadecimal digits."""
    made_of = {
        "crf": work.config.crf.model_dump(mode="json"),
        "threshold": work.config.threshold,
        "tiling": asdict(work.plan.tiling),
        "shape": work.plan.shape,
        "write": str(block.write),
        "code": refine_digest(),
        "dtype": str(image.dtype),
        "window": None if image.dtype == np.uint8 else _window(source),
    }
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    for voxels in (image, probability):
        digest.update(np.ascontiguousarray(voxels).data)
    return digest.hexdigest()


def _window(source: Volume) -> tuple[float, float]:
    """Return the intensities that become grey level 0 and 255 where a volume has more than 8 bits."""
    return source.statistics.percentiles["1"], source.statistics.percentiles["99"]


@lru_cache(maxsize=1)
def _open(work: RefineWork) -> tuple[Volume, Array, tuple[Array, ...]]:
    return Volume.open(work.source), Volume.open(work.probability).raw, result_layers(Volume.open(work.result))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process: one pool for all blocks, so that no more tiles are held than fit."""
    return ThreadPoolExecutor(threads, "refine")

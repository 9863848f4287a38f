"""Sweeps a model over one volume: plan, tiles, inference, stitching, audit."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Device, ExecutionConfig, RuntimeName, SegmentConfig
from segem.errors import ConfigError, ModelError
from segem.execute.run import execute
from segem.execute.work import BlockOutcome
from segem.geometry import Box, Halo
from segem.io.cache import CachedReader, bytes_to_decode_once
from segem.io.ledger import Ledger, LedgerRow
from segem.io.replacing import require_same_request
from segem.io.run import recorded, result_volume, volume_lock
from segem.io.shards import Array
from segem.io.volume import Volume
from segem.io.workspace import VOLUME_SUFFIX, Workspace
from segem.kernels.threshold import membrane_mask
from segem.learn.allocator import keep_activations
from segem.learn.artefact import Artefact, find_model, geometry_of, load_artefact, load_net, model_record
from segem.learn.engine import Engine, choose_device, compute_digest
from segem.learn.runtimes.choice import choose_runtime, runtime_identity
from segem.plan import MAX_TILE_PX, Block, Plan, Tiling, blend_tiling, crop_tiling
from segem.progress import tell, track
from segem.records.card import ModelCard
from segem.stages.segmentation.budget import Budget
from segem.stages.segmentation.quantize import Quantized, quantized
from segem.stages.segmentation.step import audit, intact, write_layers
from segem.stages.segmentation.verify import result_layers

BLENDED_TILE_PX = 512
MUCH_OVERHEAD = 6.0
"""Pixels computed for each one written, from which a tiling deserves a warning; blending by halves takes 4 or so."""
READ_CACHE_BYTES = 256 * 2**20
"""Most memory for decoded chunks that the blocks to come will read again."""


@dataclass(frozen=True)
class SegmentResult:
    """How a volume was segmented."""

    path: Path
    volume: str
    model: str
    threshold: float
    blocks: int
    computed: int
    skipped: int
    overhead: float
    """Voxels computed for each voxel written."""


def segment(
    volume: str,
    run: str,
    config: SegmentConfig,
    execution: ExecutionConfig,
    workspace: Workspace,
    *,
    replace: bool = False,
) -> SegmentResult:
    """Write the membrane probability and mask of a volume, skipping every block that is finished already.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run.
    config : SegmentConfig
        Model and stitching: all that decides the result.
    execution : ExecutionConfig
        Device, engine, workers: nothing that changes it.
    workspace : Workspace
        Where both live.
    replace : bool
        Also where the run holds a result of this volume that was made in another way, which is then lost.

    Returns
    -------
    SegmentResult

    Raises
    ------
    ConfigError
        When the run holds a result of this volume that was made in another way, and `replace` is false.
    SegemError
        When the volume or model is missing, the disk fails, or another process writes the same volume.
    IncompleteError
        When a block failed or the audit found one missing or damaged; the message names it.
    """
    keep_activations()
    source = Volume.open(workspace.volume(volume))
    artefact = find_model(config.model, workspace)
    model = model_record(artefact)
    with volume_lock(workspace, run, volume):
        if not replace:
            require_same_request(workspace, run, volume, "segment", config, model)
        result = result_volume(workspace, run, volume)
        budget = Budget.of(artefact, execution)
        plan = make_plan(config, artefact.card, source, result, budget.tile_px)
        budget.require(plan)
        cautions = list(cautions_of(plan, artefact.card))
        for caution in cautions:
            tell(f"warning: {volume}: {caution}")
        threshold = config.threshold or artefact.card.threshold
        device = choose_device(execution.device)
        runtime = choose_runtime(config.runtime, device)
        facts = {
            "threshold": threshold,
            "tiling": asdict(plan.tiling),
            "core_px": plan.tiling.core_px,
            "overhead": round(plan.overhead(), 4),
            "blocks": plan.count,
            "code": compute_digest(),
            "memory": execution.memory,
            # What 8 bits are known by is found out below; a run that is killed before has no block of them.
            "runtime": None if runtime == "openvino-int8" else runtime_identity(runtime, device),
            "warnings": cautions,
            "trained_on": [sections.model_dump(mode="json") for sections in artefact.card.trained_on],
        }
        with recorded(workspace, run, source, "segment", config, facts=facts, model=model) as facts:
            coarse: Quantized | None = None
            if runtime == "openvino-int8":
                folder = workspace.run(run) / ".int8" / volume
                coarse = quantized(artefact, source, threshold, config.int8_tolerance, folder)
                facts["int8"] = {"disagreement": round(coarse.disagreement, 6), "used": coarse.model is not None}
                runtime = runtime if coarse.model is not None else "openvino"
            work = SegmentWork(
                source.path,
                result.path,
                artefact.path,
                artefact.digest,
                execution.device,
                plan,
                threshold,
                uuid.uuid4().hex,
                runtime=runtime,
                quantized=coarse.model if coarse is not None else None,
                views=config.views,
                threads=budget.threads(plan),
            )
            facts["runtime"] = work.runtime_identity
            with (
                Ledger(workspace.ledger(run)) as ledger,
                track(f"segment {volume}", Box.of_shape(plan.shape).size) as advance,
            ):
                order = _reading_order(plan, source)
                try:
                    folder = workspace.run(run)
                    summary = execute(
                        plan, work, ledger, volume, execution, folder, advance, order, tiles_at_once=work.threads
                    )
                finally:
                    _release()
                audit(summary, plan, ledger, volume, result)
            result.build_pyramid()
            result.build_pyramid("membrane")
            facts |= {"computed": summary.computed, "skipped": summary.skipped}
    return SegmentResult(
        result.path,
        volume,
        artefact.card.name,
        threshold,
        plan.count,
        summary.computed,
        summary.skipped,
        plan.overhead(),
    )


def make_plan(
    config: SegmentConfig, card: ModelCard, source: Volume, result: Volume, max_tile_px: int = MAX_TILE_PX
) -> Plan:
    """Return what has to be computed: the model says which halo it needs, the result volume how it is written."""
    geometry = geometry_of(card)
    halo_px = config.halo_px if config.halo_px is not None else geometry.halo_px
    mode = config.stitch if config.stitch != "auto" else ("gaussian" if halo_px is None else "crop")
    reach = geometry.context_sections // 2
    tiling: Tiling
    if mode == "crop":
        if halo_px is None:
            raise ConfigError(
                "this model sees the whole section, so tiles cannot be cropped exactly",
                where=card.name,
                fix="use stitch: gaussian or hann, or give halo_px to accept an approximation",
            )
        tiling = crop_tiling(
            source.shape,
            result.write_block,
            Halo(reach, halo_px, halo_px),
            geometry.stride_px,
            config.tile_px,
            max_tile_px,
        )
    else:
        tile_px = config.tile_px or BLENDED_TILE_PX
        tiling = blend_tiling(source.shape, geometry.stride_px, tile_px, config.overlap, reach, mode)
    return Plan(source.shape, result.write_block, tiling)


def cautions_of(plan: Plan, card: ModelCard) -> Iterator[str]:
    """Yield what a user should know of a tiling that was chosen by hand."""
    needed, halo_px = geometry_of(card).halo_px, plan.tiling.halo.y
    if plan.tiling.mode == "crop" and plan.tiles_per_section > 1 and (needed is None or halo_px < needed):
        enough = "the whole section" if needed is None else f"{needed} px"
        yield f"inexact near the borders of tiles: the halo is {halo_px} px, and {card.name} needs {enough}"
    if plan.overhead() > MUCH_OVERHEAD:
        yield (
            f"each pixel is computed {plan.overhead():.1f} times, as tiles are small beside their overlap: give a "
            "larger --tile-px, a smaller --halo-px or --overlap, or none of them"
        )


@dataclass(frozen=True)
class LoadedBlock:
    """What a block is made of, and its row in the ledger where it is finished and intact."""

    block: Block
    identity: str
    voxels: NDArray[Any]
    finished: LedgerRow | None


@dataclass(frozen=True)
class SegmentWork:
    """Computes one block of a segmentation; carries names only, and opens what they name once per process."""

    source: Path
    result: Path
    artefact: Path
    model_digest: str
    device: Device
    plan: Plan
    threshold: float
    token: str
    """Unique to one call of `segment`, so that a process that lives on never takes an older net for this one."""
    runtime: RuntimeName = "torch"
    quantized: Path | None = None
    views: int = 1
    threads: int = 1
    """Tiles that the memory allows side by side."""

    @cached_property
    def runtime_identity(self) -> str:
        """What computes, as it goes into the identity of blocks."""
        return runtime_identity(self.runtime, choose_device(self.device), self.quantized)

    def load(self, block: Block, known: LedgerRow | None) -> LoadedBlock:
        """Read the intensities of a block, and find out whether it is finished already."""
        source, result, artefact = _open(self)
        voxels = _reader(self).read(block.read)
        identity = block_identity(self, block, voxels, source, artefact)
        return LoadedBlock(block, identity, voxels, intact(known, identity, result, block))

    def compute(
        self, loaded: LoadedBlock, threads: int | None, on_voxels: Callable[[int], None]
    ) -> tuple[LoadedBlock, tuple[NDArray[np.uint8], ...]]:
        """Return the probability and the mask of a block; nothing for one that is finished."""
        if loaded.finished is not None:
            on_voxels(loaded.block.write.size)
            return loaded, ()
        source = _open(self)[0]
        with _OPENING:
            engine = _engine(self, min(threads or self.threads, self.threads))
        probability = engine.predict_block(
            self.plan, loaded.block, loaded.voxels, source.statistics, on_voxels, stored=True
        )
        return loaded, (probability, membrane_mask(probability, self.threshold))

    def store(self, computed: tuple[LoadedBlock, tuple[NDArray[np.uint8], ...]]) -> BlockOutcome:
        """Write a block durably."""
        loaded, written = computed
        if loaded.finished is not None:
            return BlockOutcome(loaded.block.index, loaded.finished, computed=False)
        return write_layers(loaded.block, loaded.identity, _open(self)[1], written)


def block_identity(work: SegmentWork, block: Block, voxels: NDArray[Any], source: Volume, artefact: Artefact) -> str:
    """Return the sha256 of everything that makes a block, as 64 hexadecimal digits."""
    made_of = {
        "weights": artefact.digest,
        "statistics": source.statistics.to_dict(),
        "tiling": asdict(work.plan.tiling),
        "shape": work.plan.shape,
        "write": str(block.write),
        "threshold": work.threshold,
        "code": compute_digest(),
        "views": work.views,
        "runtime": work.runtime_identity,
        "dtype": str(voxels.dtype),
    }
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(voxels).data)
    return digest.hexdigest()


_ENGINES: dict[tuple[SegmentWork, int], Engine] = {}
_OPENING = Lock()
"""Several blocks are computed at a time; the first of them opens the engine for all."""


@lru_cache(maxsize=1)
def _open(work: SegmentWork) -> tuple[Volume, tuple[Array, ...], Artefact]:
    artefact = load_artefact(work.artefact)
    if artefact.digest != work.model_digest:
        raise ModelError("the model was replaced during the run", where=work.artefact, fix="run the same command again")
    return Volume.open(work.source), result_layers(Volume.open(work.result)), artefact


@lru_cache(maxsize=1)
def _reader(work: SegmentWork) -> CachedReader:
    raw, name = _open(work)[0].raw, work.source.name.removesuffix(VOLUME_SUFFIX)
    budget = min(bytes_to_decode_once(raw, work.plan), READ_CACHE_BYTES)
    return CachedReader(raw, budget, f"run `segem ingest` for {name} with --again")


def _reading_order(plan: Plan, source: Volume) -> Callable[[Iterator[Block]], Iterable[Block]]:
    """Return an order of blocks in which the cache serves most of what neighbouring blocks share."""
    if plan.tiling.halo.z and bytes_to_decode_once(source.raw, plan) > READ_CACHE_BYTES:
        return lambda _: plan.blocks_by_rows()
    return iter


def _engine(work: SegmentWork, threads: int) -> Engine:
    """Return the engine of this process, opened when it is first asked for."""
    if (work, threads) not in _ENGINES:
        _release()
        _ENGINES[work, threads] = _opened_engine(work, threads)
    return _ENGINES[work, threads]


def _release() -> None:
    """Give back what an earlier volume held: nets, threads, decoded chunks."""
    while _ENGINES:
        _ENGINES.popitem()[1].close()
    _reader.cache_clear()


def _opened_engine(work: SegmentWork, threads: int) -> Engine:
    artefact = _open(work)[2]
    context = geometry_of(artefact.card).context_sections
    net, device = load_net(artefact), choose_device(work.device)
    return Engine(net, device, context, threads, views=work.views, runtime=work.runtime, quantized=work.quantized)

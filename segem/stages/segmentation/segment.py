"""Runs a model over one volume: plan, tiles, inference, stitching, audit."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from segem.config import Device, ExecutionConfig, SegmentConfig
from segem.errors import ConfigError
from segem.execute.work import BlockEngine
from segem.geometry import Halo, VoxelSize
from segem.io.cache import bytes_to_decode_once
from segem.io.run import StepRequest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.allocator import keep_activations
from segem.learn.artefact import Artefact, find_model, model_record
from segem.learn.engine import choose_device
from segem.learn.processor import NO_BYTE_UNITS, find_byte_units
from segem.learn.runtimes.choice import choose_runtime
from segem.learn.scale import AS_IS, Scale, choose_scales, geometry_at
from segem.plan import MAX_TILE_PX, Block, Plan, Tiling, blend_tiling, crop_tiling
from segem.progress import tell
from segem.records.card import ModelCard
from segem.records.run import Int8Facts, SegmentFacts, StepRecord
from segem.stages.segmentation.arithmetic.segment import READ_CACHE_BYTES, SegmentArithmetic, release
from segem.stages.segmentation.budget import Budget
from segem.stages.segmentation.identity import code_digest, versions_of
from segem.stages.segmentation.quantize import quantized
from segem.stages.segmentation.recompute import check_places, find_check
from segem.stages.segmentation.step import BlockStep, Phase, run_step

BLENDED_TILE_PX = 512
MUCH_OVERHEAD = 6.0
"""Pixels computed for each one written above which a tiling deserves a warning; half overlap takes about 4."""
FAR_FACTOR = 1.5
"""How much larger or smaller pixels may be than those a model learned from before it deserves a warning."""

logger = logging.getLogger(__name__)


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
    like: StepRecord | None = None,
    engine: BlockEngine | None = None,
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
    replace, like, engine
        See `segem.stages.segmentation.step.run_step`.

    Returns
    -------
    SegmentResult

    Raises
    ------
    SegemError
        As `segem.stages.segmentation.step.run_step` does, and where the model is missing.
    """
    # First of all: heaps that threads have made by then would stay in use.
    keep_activations()
    artefact = find_model(config.model, workspace)

    def prepare(source: Volume, result: Volume) -> BlockStep[SegmentFacts]:
        before = find_check(volume, run, workspace)
        step = prepare_segmentation(source, result, artefact, config, execution, workspace.run(run))
        return dataclasses.replace(
            step, conclude=lambda facts, _: check_places(volume, run, facts, workspace, execution.device, before)
        )

    request = request_segmentation(volume, run, config, artefact)
    outcome = run_step(request, prepare, execution, workspace, replace=replace, like=like, engine=engine)
    facts = outcome.facts
    return SegmentResult(
        outcome.result.path,
        volume,
        artefact.card.name,
        facts.threshold,
        facts.blocks,
        facts.computed,
        facts.skipped,
        facts.overhead,
    )


def request_segmentation(volume: str, run: str, config: SegmentConfig, artefact: Artefact) -> StepRequest:
    """Return what a segmentation asks of a run."""
    return StepRequest("segment", run, volume, config, ("probability", "membrane"), model_record(artefact))


def prepare_segmentation(
    source: Volume, result: Volume, artefact: Artefact, config: SegmentConfig, execution: ExecutionConfig, folder: Path
) -> BlockStep[SegmentFacts]:
    """Return the step that writes probability and mask, ready to run; an 8-bit model is made below `folder`."""
    card, volume = artefact.card, source.name
    scales = choose_scales(source.voxel_size, card, config.resample)
    scale = scales[0]
    if scale != AS_IS:
        tell(f"{volume}: {card.name} sees {scale.net_px} pixels for every {scale.source_px}, of the size it learned at")
    if len(scales) > 1:
        work = sum((one.factor / scale.factor) ** 2 for one in scales)
        tell(f"{volume}: the mean of {len(scales)} pixel sizes, which is {work:.0f} times the work")
    budget = Budget.of(artefact, execution, scales)
    plan = make_plan(config, card, source, result, budget.tile_px, scales)
    # Tiles that the user chose may not fit even where those of the planner would.
    budget.require(plan)
    far = warn_of_pixel_size(source.voxel_size, card) if scale == AS_IS else ()
    cautions = (*far, *cautions_of(plan, card, scales))
    for caution in cautions:
        logger.warning("%s: %s", volume, caution)
    threshold, device = config.threshold or card.threshold, choose_device(execution.device)
    runtime, int8, code = choose_runtime(config.runtime, device), None, code_digest(SegmentArithmetic.__module__)
    model = None
    if runtime == "openvino-int8":
        if find_byte_units() == ():
            logger.warning("%s: %s", volume, NO_BYTE_UNITS)
        # Calibrated on this volume, and tried here: the outcome must be known before the first block.
        coarse = quantized(artefact, source, threshold, config.int8_tolerance, folder / ".int8" / volume, code, scales)
        model = coarse.model
        # Refused where it changes too much of the mask; the report says so.
        int8 = Int8Facts(disagreement=round(coarse.disagreement, 6), used=model is not None)
        runtime = runtime if model is not None else "openvino"
    arithmetic = SegmentArithmetic(
        source.path,
        artefact.path,
        artefact.digest,
        # As chosen here: with "auto" each worker would take what it has, and blocks of two kinds would mix.
        cast(Device, device.type),
        plan,
        threshold,
        # Not part of the identity of a block, see `SegmentArithmetic.token`.
        uuid.uuid4().hex,
        runtime=runtime,
        quantized=model,
        views=config.views,
        threads=budget.threads(plan),
        scales=scales,
    )
    facts = SegmentFacts(
        blocks=plan.count,
        overhead=round(plan.overhead(), 4),
        code=code,
        software=versions_of(SegmentArithmetic.__module__),
        memory=execution.memory,
        warnings=cautions,
        threshold=threshold,
        merge_below=card.merge_below,
        runtime=arithmetic.runtime_identity,
        resampled=scale.pair,
        sizes=tuple(one.pair for one in scales) if len(scales) > 1 else (),
        trained_on=card.trained_on,
        calibrated_on=card.calibration.fitted_on,
        held_out=card.scores,
        reference=card.reference,
        int8=int8,
    )
    phase = Phase(
        "blocks",
        plan,
        lambda _: arithmetic,
        ("probability", "membrane"),
        order=_reading_order(plan, source),
        tiles_at_once=arithmetic.threads,
    )
    return BlockStep((phase,), facts, release=release)


def make_plan(
    config: SegmentConfig,
    card: ModelCard,
    source: Volume,
    result: Volume,
    max_tile_px: int = MAX_TILE_PX,
    scales: Sequence[Scale] = (AS_IS,),
) -> Plan:
    """Return what has to be computed; the model, and the scales it sees, set the halo, the result volume the blocks."""
    geometry = geometry_at(card, *scales)
    halo_px = config.halo_px if config.halo_px is not None else geometry.halo_px
    mode = config.stitch if config.stitch != "auto" else ("gaussian" if halo_px is None else "crop")
    # A net without a finite halo sees the whole section, so no core is exact: its tiles are blended.
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


def cautions_of(plan: Plan, card: ModelCard, scales: Sequence[Scale] = (AS_IS,)) -> Iterator[str]:
    """Yield what a user should know of a tiling that was chosen by hand."""
    needed, halo_px = geometry_at(card, *scales).halo_px, plan.tiling.halo.y
    if plan.tiling.mode == "crop" and plan.tiles_per_section > 1 and (needed is None or halo_px < needed):
        enough = "the whole section" if needed is None else f"{needed} px"
        yield f"inexact near the borders of tiles: the halo is {halo_px} px, and {card.name} needs {enough}"
    if plan.overhead() > MUCH_OVERHEAD:
        yield (
            f"each pixel is computed {plan.overhead():.1f} times, as tiles are small beside their overlap: give a "
            "larger --tile-px, a smaller --halo-px or --overlap, or none of them"
        )


def warn_of_pixel_size(voxel: VoxelSize, card: ModelCard) -> Iterator[str]:
    """Yield a warning where membranes are wider or narrower, in pixels, than those a model has learned from."""
    if card.learned_at is None:
        return
    (smallest, largest), pixels = card.learned_at.pixel_nm, (voxel.y, voxel.x)
    if min(pixels) * FAR_FACTOR < smallest or max(pixels) > largest * FAR_FACTOR:
        learned = f"{smallest:g}" if smallest == largest else f"{smallest:g} to {largest:g}"
        yield (
            f"pixels of {voxel.y:g} x {voxel.x:g} nm, and {card.name} learned at {learned} nm, so it may miss "
            "membranes: scale the source to that, or use a model that learned at its pixel size"
        )


def _reading_order(plan: Plan, source: Volume) -> Callable[[Iterator[Block]], Iterable[Block]]:
    """Return an order of blocks in which the cache serves most of what neighbouring blocks share."""
    # Sections shared along z are read again only after a whole layer of blocks. If the cache cannot hold that much,
    # rows of blocks are followed through all sections instead.
    if plan.tiling.halo.z and bytes_to_decode_once(source.raw, plan) > READ_CACHE_BYTES:
        return lambda _: plan.blocks_by_rows()
    return iter

"""Refines the probability of a run by a fully connected CRF, block by block, into a run of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segem.config import ExecutionConfig, RefineConfig
from segem.errors import ConfigError, WorkspaceError
from segem.geometry import Halo
from segem.io.run import StepRequest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.crf import bytes_per_pixel, halo_px, spacing
from segem.plan import Plan, crop_tiling
from segem.records.run import CrfFacts, SegmentFacts, StepRecord
from segem.records.seams import Recomputed
from segem.stages.segmentation.arithmetic.crf import CrfArithmetic
from segem.stages.segmentation.budget import Budget
from segem.stages.segmentation.identity import code_digest, versions_of
from segem.stages.segmentation.probability import require_probability
from segem.stages.segmentation.step import BlockStep, Phase, run_step
from segem.stages.segmentation.verify import probability_digest


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
    like: StepRecord | None = None,
) -> RefineResult:
    """Write the refined probability and mask of a volume into `run`, skipping every block that is finished already.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run to write; its record reads like that of a segmentation.
    config : RefineConfig
        The run whose probability is refined, and the CRF: all that decides the result.
    execution : ExecutionConfig
        Engine, workers, memory; the CRF computes on a processor, whatever the device.
    workspace : Workspace
        Where all live.
    replace, like
        See `segem.stages.segmentation.step.run_step`.

    Returns
    -------
    RefineResult

    Raises
    ------
    SegemError
        As `segem.stages.segmentation.step.run_step` does, and where the probability is missing or out of date.
    """
    # It would overwrite the probability it reads.
    if config.of == run:
        raise ConfigError("a run cannot refine itself", found=run, fix="give the refined run another name")
    made, known = require_probability(volume, config.of, workspace, "refine")
    request = StepRequest("crf", run, volume, config, ("probability", "membrane"))

    def prepare(source: Volume, result: Volume) -> BlockStep[CrfFacts]:
        return _prepare(source, result, config, execution, made, known, workspace)

    outcome = run_step(request, prepare, execution, workspace, replace=replace, like=like)
    facts = outcome.facts
    return RefineResult(
        outcome.result.path,
        volume,
        config.of,
        facts.threshold,
        facts.blocks,
        facts.computed,
        facts.skipped,
        facts.overhead,
    )


def _prepare(
    source: Volume,
    result: Volume,
    config: RefineConfig,
    execution: ExecutionConfig,
    made: StepRecord,
    known: SegmentFacts | CrfFacts,
    workspace: Workspace,
) -> BlockStep[CrfFacts]:
    reach = config.halo_px if config.halo_px is not None else halo_px(config.crf)
    # Tiles start on the bilateral grid's lattice, so that all of them share the one of the whole section.
    lattice = spacing(config.crf.sa_px)
    budget = Budget.for_tiles(bytes_per_pixel(config.crf), lattice + 2 * reach, execution, source.name)
    halo = Halo(0, reach, reach)
    tiling = crop_tiling(source.shape, result.write_block, halo, lattice, config.tile_px, budget.tile_px)
    plan = Plan(source.shape, result.write_block, tiling)
    budget.require(plan)
    # From the ledger, a digest of digests: hashing the voxels again would mean reading all of them.
    probability = probability_digest(workspace, config.of, source.name)
    facts = CrfFacts(
        blocks=plan.count,
        overhead=round(plan.overhead(), 4),
        code=code_digest(CrfArithmetic.__module__),
        software=versions_of(CrfArithmetic.__module__),
        memory=execution.memory,
        threshold=config.threshold,
        # The threshold of the model, unless given: with 0.5, a model with a low threshold would lose its membrane.
        operating_point=config.operating_point or known.threshold,
        refined_from=config.of,
        probability=probability,
        # The report says the same of a model's refined probability as of the model.
        trained_on=known.trained_on,
        calibrated_on=known.calibrated_on,
        int8=known.int8,
        recomputed=_name_origin(known.recomputed, config.of),
    )
    arithmetic = CrfArithmetic(
        source,
        Volume.open(workspace.result(config.of, source.name)),
        config.of,
        config.crf,
        facts.operating_point,
        config.threshold,
        budget.threads(plan),
    )

    # The run that is refined is not locked while it is read; a change is noticed afterwards.
    def check_probability() -> None:
        if probability_digest(workspace, config.of, source.name) != probability:
            raise WorkspaceError(
                "the probability was replaced while it was refined",
                where=config.of,
                fix="run the same command again",
            )

    phase = Phase("blocks", plan, lambda _: arithmetic, ("probability", "membrane"), tiles_at_once=arithmetic.threads)
    return BlockStep(
        (phase,), facts, model=made.model, source_fraction=known.membrane_fraction, check_inputs=check_probability
    )


def _name_origin(recomputed: Recomputed | None, of: str) -> Recomputed | None:
    """Say of which run a probability was computed anew: the first where it was refined several times."""
    return recomputed and recomputed.model_copy(update={"of": recomputed.of or of})

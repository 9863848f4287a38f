"""Divides the probability of a run into cells, and closes its mask by their borders, beside what the run holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from segem.config import CellsConfig, ExecutionConfig
from segem.geometry import ZYX, Box, Halo, round_up
from segem.io.run import StepRequest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.plan import Plan, crop_tiling
from segem.records.run import CellsFacts, SegmentFacts, StepRecord
from segem.stages.segmentation.arithmetic.cells import LARGE_VOXELS, CellsArithmetic
from segem.stages.segmentation.identity import code_digest, versions_of
from segem.stages.segmentation.probability import require_probability
from segem.stages.segmentation.step import BlockStep, Phase, run_step
from segem.stages.segmentation.verify import probability_digest

CELLS, CLOSED = "cells", "membrane-closed"
LAYERS: dict[str, DTypeLike] = {CELLS: np.uint32, CLOSED: np.uint8}
"""What is written beside the probability, and its types."""


@dataclass(frozen=True)
class CellsResult:
    """How the probability of a run was divided."""

    path: Path
    volume: str
    merge_below: float
    blocks: int
    computed: int
    skipped: int
    membrane_fraction: float
    """Share of the tissue that is membrane in the closed mask."""


def find_cells_of_run(
    volume: str,
    run: str,
    config: CellsConfig,
    execution: ExecutionConfig,
    workspace: Workspace,
    *,
    replace: bool = False,
    like: StepRecord | None = None,
) -> CellsResult:
    """Write the cells and the closed mask of a volume into its run, skipping every block that is finished already.

    A section is divided as a whole, so nothing depends on how it is cut into blocks.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run that holds its probability, where the new layers are written too.
    config : CellsConfig
        All that decides the result.
    execution : ExecutionConfig
        Engine and workers.
    workspace : Workspace
        Where all live.
    replace, like
        See `segem.stages.segmentation.step.run_step`.

    Returns
    -------
    CellsResult

    Raises
    ------
    SegemError
        As `segem.stages.segmentation.step.run_step` does, and where the probability is missing or out of date.
    """
    request = StepRequest("cells", run, volume, config, (CELLS, CLOSED))

    def prepare(source: Volume, result: Volume) -> BlockStep[CellsFacts]:
        return _prepare(source, result, config, run, workspace)

    outcome = run_step(request, prepare, execution, workspace, replace=replace, like=like)
    facts = outcome.facts
    return CellsResult(
        outcome.result.path,
        volume,
        facts.merge_below,
        facts.blocks,
        facts.computed,
        facts.skipped,
        facts.membrane_fraction or 0.0,
    )


def _prepare(
    source: Volume, result: Volume, config: CellsConfig, run: str, workspace: Workspace
) -> BlockStep[CellsFacts]:
    # Looked at only now that the lock is held: nobody can replace the probability while it is divided.
    made, known = require_probability(source.name, run, workspace, "divide into cells")
    for label, dtype in LAYERS.items():
        if not result.has_label(label):
            result.add_label(label, dtype)
    plan = plan_sections(source.shape, result.write_block)
    own = known.merge_below if isinstance(known, SegmentFacts) else None
    facts = CellsFacts(
        blocks=plan.count,
        overhead=1.0,
        code=code_digest(CellsArithmetic.__module__),
        software=versions_of(CellsArithmetic.__module__),
        threshold=known.threshold,
        merge_below=config.merge_below or own or known.threshold,
        probability=probability_digest(workspace, run, source.name),
    )
    arithmetic = CellsArithmetic(source, result, run, config.sigma_px, facts.merge_below, facts.threshold)
    large = Box.of_shape(plan.write_block).size > LARGE_VOXELS
    phase = Phase("sections", plan, lambda _: arithmetic, (CELLS, CLOSED), one_at_a_time=large)
    return BlockStep((phase,), facts, model=made.model, source_fraction=known.membrane_fraction)


def plan_sections(shape: ZYX, shard: ZYX) -> Plan:
    """Return a plan whose blocks are whole sections: as many as a shard is deep.

    Examples
    --------
    >>> plan_sections((10, 3000, 3000), (1, 2048, 2048)).count
    10
    """
    depth, height, width = (round_up(n, edge) for n, edge in zip((shard[0], *shape[1:]), shard, strict=True))
    block = (depth, height, width)
    return Plan(shape, block, crop_tiling(shape, block, Halo(), 1, max_tile_px=max(height, width)))

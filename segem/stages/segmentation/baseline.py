"""The baseline of a run: the membrane that a method without labels finds, written as the label ``baseline``."""

from __future__ import annotations

from dataclasses import dataclass

from segem.config import BaselineConfig, ExecutionConfig
from segem.geometry import Halo
from segem.io.run import StepRequest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.feature_kmeans import FeatureClusters
from segem.kernels.kmeans import TwoMeans
from segem.plan import Plan, crop_tiling
from segem.records.run import BaselineFacts, StepRecord
from segem.stages.segmentation.arithmetic.baseline import (
    CountArithmetic,
    Found,
    MaskArithmetic,
    SampleArithmetic,
    clusters_of,
    means_of,
    tile_of,
)
from segem.stages.segmentation.identity import code_digest, versions_of
from segem.stages.segmentation.step import BlockStep, Phase, Values, run_step

DEFAULT = ExecutionConfig()


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
    blocks, computed, skipped : int
        Blocks of the mask, and how many of them were computed now or finished already.
    """

    membrane_fraction: float
    dark: float | None
    bright: float | None
    threshold: float | None
    blocks: int
    computed: int
    skipped: int


def baseline(
    volume: str,
    run: str,
    config: BaselineConfig,
    workspace: Workspace,
    execution: ExecutionConfig = DEFAULT,
    *,
    replace: bool = False,
    like: StepRecord | None = None,
) -> BaselineResult:
    """Find the membrane of a whole volume without labels and write it as a mask.

    K-means counts the intensities of every block first, and clusters of features draw a sample of tiles; every method
    then computes the mask block by block. Memory does not grow with the volume, and what is finished is skipped.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run.
    config : BaselineConfig
        The method and its settings.
    workspace : Workspace
        Where both live.
    execution : ExecutionConfig
        Engine and workers.
    replace, like
        See `segem.stages.segmentation.step.run_step`.

    Returns
    -------
    BaselineResult

    Raises
    ------
    SegemError
        As `segem.stages.segmentation.step.run_step` does.
    """
    outcome = run_step(
        request_baseline(volume, run, config),
        lambda source, result: _prepare(source, result, config),
        execution,
        workspace,
        replace=replace,
        like=like,
    )
    facts = outcome.facts
    return BaselineResult(
        facts.membrane_fraction or 0.0,
        facts.dark,
        facts.bright,
        facts.threshold,
        facts.blocks,
        facts.computed,
        facts.skipped,
    )


def request_baseline(volume: str, run: str, config: BaselineConfig) -> StepRequest:
    """Return what a baseline asks of a run."""
    return StepRequest("baseline", run, volume, config, ("baseline",))


def _prepare(source: Volume, result: Volume, config: BaselineConfig) -> BlockStep[BaselineFacts]:
    tile_px, halo_px = tile_of(config)
    halo = Halo(0, halo_px, halo_px)
    plan = Plan(source.shape, result.write_block, crop_tiling(source.shape, result.write_block, halo, 1, tile_px))
    facts = BaselineFacts(
        blocks=plan.count,
        overhead=round(plan.overhead(), 4),
        code=code_digest(MaskArithmetic.__module__),
        software=versions_of(MaskArithmetic.__module__),
        method=config.method,
    )
    mask = Phase(
        "blocks",
        plan,
        lambda values: MaskArithmetic(source, config, _found(values)),
        ("baseline",),
        # Some methods take a hundred bytes a pixel of a tile: few at a time bound the memory on any machine.
        tiles_at_once=1,
    )
    first: tuple[Phase, ...] = ()
    if config.method == "kmeans":
        counting = CountArithmetic(source, config.sigma_px)
        first = (Phase("count", plan, lambda _: counting, tiles_at_once=1),)
    elif config.method == "kmeans-features":
        # One block over the whole volume: drawing and clustering cannot be split.
        sampling = SampleArithmetic(source, config)
        whole = Plan(source.shape, source.shape, crop_tiling(source.shape, source.shape, Halo(), 1, max(source.shape)))
        first = (Phase("sample", whole, lambda _: sampling),)
    return BlockStep((*first, mask), facts, _conclude)


def _found(values: Values) -> Found:
    """Return what the first phase has found of the whole volume, if there is one."""
    if "count" in values:
        return means_of(values["count"])
    return clusters_of(values["sample"]) if "sample" in values else None


def _conclude(facts: BaselineFacts, values: Values) -> BaselineFacts:
    # Derived again from the ledger, so a resumed run reports the same as one that was never interrupted.
    found = _found(values)
    changes: dict[str, float] = {}
    if isinstance(found, TwoMeans | FeatureClusters):
        changes = {"dark": found.dark, "bright": found.bright}
    if isinstance(found, TwoMeans):
        changes["threshold"] = found.threshold
    return facts.model_copy(update=changes)

"""A segmentation by the tasks of an array job, which open no ports: each computes its blocks, one collects them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from segem.config import ExecutionConfig, SegmentConfig, parse
from segem.config.shard import Shard
from segem.errors import BlockError, ConfigError, IncompleteError, WorkspaceError
from segem.execute.run import execute
from segem.execute.work import BlockOutcome, BlockWork, Outcomes, Sweep
from segem.geometry import ZYX, ceil_div
from segem.io.files import locked, sweep_partials
from segem.io.ledger import LedgerRow, PhaseKey, read_ledger
from segem.io.receipts import Receipts, receipts_of, volumes_with_receipts
from segem.io.replacing import require_same_request
from segem.io.run import fault_of, load_run, result_volume, source_digest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.allocator import keep_activations
from segem.learn.artefact import Artefact, find_model, model_record
from segem.plan import Block, Plan
from segem.progress import track
from segem.records.receipt import ArrayRequest
from segem.records.run import StepRecord
from segem.stages.segmentation.arithmetic.segment import SegmentArithmetic
from segem.stages.segmentation.block_work import LoadedBlock, StepWork
from segem.stages.segmentation.identity import code_digest
from segem.stages.segmentation.segment import prepare_segmentation, request_segmentation, segment
from segem.stages.segmentation.verify import fault_of_block, plan_of


@dataclass(frozen=True)
class ShardResult:
    """What one task has done."""

    path: Path
    volume: str
    shard: str
    blocks: int
    """Blocks that are its part of the volume."""
    computed: int
    skipped: int


@dataclass(frozen=True)
class Collected:
    """What the tasks of an array have handed in of a volume."""

    volume: str
    blocks: int
    finished: int
    shards: int
    """Number of tasks among which the blocks are divided."""
    missing: tuple[int, ...]
    """Tasks that have not handed in all of their blocks."""


def segment_shard(
    volume: str, run: str, config: SegmentConfig, execution: ExecutionConfig, workspace: Workspace, shard: Shard
) -> ShardResult:
    """Compute one part of the blocks of a volume, and hand in a receipt for each; what is finished is skipped.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run.
    config : SegmentConfig
        Model and stitching; the same for every task.
    execution : ExecutionConfig
        Device and memory; the same for every task. Blocks run in a loop.
    workspace : Workspace
        Where both live, on a disk that all tasks and the coordinator see.
    shard : Shard
        Which part.

    Returns
    -------
    ShardResult

    Raises
    ------
    ConfigError
        When other tasks, or the run, were asked for something else.
    WorkspaceError
        When another task computes the same part.
    IncompleteError
        When a block failed; the message names it.
    """
    keep_activations()
    if config.runtime == "openvino-int8":
        raise ConfigError(
            "tasks of an array cannot make an 8-bit model of their own and agree on it",
            where="--runtime openvino-int8",
            fix="use --cluster, which makes one for all, or another runtime",
        )
    artefact = find_model(config.model, workspace)
    require_same_request(workspace, request_segmentation(volume, run, config, artefact))
    receipts, asked = receipts_of(workspace, run, volume), _asked(volume, config, execution, artefact, workspace)
    asked = asked.model_copy(update={"shards": shard.count})
    receipts.begin(asked)
    source, result = Volume.open(workspace.volume(volume)), _shared_result(workspace, run, volume)
    folder = workspace.run(run)
    with locked(folder / f".{volume}.{shard.index}-of-{shard.count}.lock"):
        step = prepare_segmentation(source, result, artefact, config, execution, folder)
        (phase,) = step.phases
        plan, arithmetic = phase.plan, phase.arithmetic({})
        inner = StepWork(arithmetic, plan, result, phase.layers, code_digest(type(arithmetic).__module__))

        def own(blocks: Iterator[Block]) -> Iterable[Block]:
            return (block for block in phase.order(blocks) if shard.owns(number_of(plan, block.index)))

        known = _finished(workspace, run, PhaseKey(volume, "segment", phase.name))
        for block in own(plan.blocks()):
            if row := receipts.row(block.index):
                known[block.index] = row
        sweep = Sweep(plan, HandedIn(inner, receipts, asked), known, folder, own, phase.tiles_at_once)
        own_voxels = sum(block.write.size for block in own(plan.blocks()))
        try:
            with track(f"segment {volume}, part {shard}", own_voxels) as advance:
                summary = execute(sweep, ExecutionConfig(), receipts.record, advance)
        finally:
            step.release()
    if summary.failed:
        index, reason = next(iter(summary.failed.items()))
        raise IncompleteError(
            f"{len(summary.failed)} blocks are not finished, the first is block {index}",
            where=f"{volume}, part {shard}",
            found=reason,
            fix="start the same task again; finished blocks are kept",
        )
    blocks = summary.computed + summary.skipped
    return ShardResult(result.path, volume, str(shard), blocks, summary.computed, summary.skipped)


def collect(run: str, workspace: Workspace) -> tuple[Collected, ...]:
    """Take what the tasks of an array have handed in into the ledger, and finish the volumes that are whole.

    Every block is read back and compared with the digest in its receipt. It may be called at any time and again.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.

    Returns
    -------
    tuple of Collected
        One for each volume that tasks work on.

    Raises
    ------
    WorkspaceError
        When no task has begun.
    ConfigError
        When the model, the code or the volume are no longer those of the tasks.
    """
    names = volumes_with_receipts(workspace, run)
    if not names:
        raise WorkspaceError(
            "no task of an array has begun",
            where=workspace.run(run),
            fix="start them with `segem segment VOLUME --run NAME --shard I/N`",
        )
    return tuple(_collect(run, name, workspace) for name in names)


def _collect(run: str, volume: str, workspace: Workspace) -> Collected:
    receipts = receipts_of(workspace, run, volume)
    asked = receipts.request()
    if asked is None:
        raise WorkspaceError(
            "nothing says what the tasks of an array have computed",
            where=receipts.folder,
            fix="remove this folder and start the array again",
        )
    config = parse(SegmentConfig, asked.config, where=run)
    execution = ExecutionConfig(device=asked.device, memory=asked.memory)
    receipts.require(_asked(volume, config, execution, find_model(config.model, workspace), workspace))
    taking = TakeReceipts(receipts, asked.shards, _find_whole(run, volume, asked, workspace))
    try:
        segment(volume, run, config, execution, workspace, engine=taking)
    except IncompleteError:
        # Of blocks that are missing; anything else that leaves a run incomplete is an error here too.
        if not taking.missing:
            raise
    else:
        receipts.clear()
        sweep_partials(workspace.result(run, volume))
    return Collected(volume, taking.blocks, taking.blocks - taking.lacking, asked.shards, tuple(sorted(taking.missing)))


def _find_whole(run: str, volume: str, asked: ArrayRequest, workspace: Workspace) -> StepRecord | None:
    """Return the step by which a run holds all that tasks compute, as after an earlier call; None where it does not."""
    entry = load_run(workspace, run).volumes.get(volume) if run in workspace.runs() else None
    step = entry.steps.get(asked.step) if entry is not None else None
    whole = fault_of(step, "segmentation", asked.source_digest) is None
    return step if whole and step is not None and step.facts.code == asked.code else None


def _asked(
    volume: str, config: SegmentConfig, execution: ExecutionConfig, artefact: Artefact, workspace: Workspace
) -> ArrayRequest:
    return ArrayRequest(
        step="segment",
        config=config.model_dump(mode="json"),
        model=model_record(artefact),
        device=execution.device,
        memory=execution.memory,
        code=code_digest(SegmentArithmetic.__module__),
        source_digest=source_digest(workspace, volume),
        shards=1,
    )


def _shared_result(workspace: Workspace, run: str, volume: str) -> Volume:
    """Open the result volume of a run; whichever task comes first makes it."""
    with locked(workspace.run(run) / f".{volume}.making.lock", wait=True):
        # Not by `result_volume` where it is there: that removes what other tasks are just writing.
        return Volume.open_if_whole(workspace.result(run, volume)) or result_volume(workspace, run, volume)


def _finished(workspace: Workspace, run: str, key: PhaseKey) -> dict[ZYX, LedgerRow]:
    """Return what the ledger of the run holds already, if there is one."""
    path = workspace.ledger(run)
    if not path.is_file():
        return {}
    with read_ledger(path) as ledger:
        return ledger.rows(key)


def number_of(plan: Plan, index: ZYX) -> int:
    """Return the number of a block, from 0 in the order of the plan.

    Examples
    --------
    >>> from segem.geometry import Halo
    >>> from segem.plan import crop_tiling
    >>> plan = Plan((16, 64, 96), (8, 32, 32), crop_tiling((16, 64, 96), (8, 32, 32), Halo(), 1))
    >>> [number_of(plan, block.index) for block in plan.blocks()] == list(range(plan.count))
    True
    """
    _, rows, columns = (ceil_div(n, b) for n, b in zip(plan.shape, plan.write_block, strict=True))
    return (index[0] * rows + index[1]) * columns + index[2]


@dataclass(frozen=True)
class HandedIn(BlockWork[LoadedBlock, Any]):
    """The work of a task: as ever, unless what it computes is no longer asked for."""

    inner: StepWork
    receipts: Receipts
    asked: ArrayRequest

    def load(self, block: Block, known: LedgerRow | None) -> LoadedBlock:
        """Read what the block needs."""
        return self.inner.load(block, known)

    def compute(self, loaded: LoadedBlock, threads: int | None, on_voxels: Callable[[int], None]) -> Any:
        """Compute it."""
        return self.inner.compute(loaded, threads, on_voxels)

    def store(self, computed: Any) -> BlockOutcome:
        """Write it, if the array is still that of the run."""
        self.receipts.require(self.asked)
        outcome = self.inner.store(computed)
        # Of one that was finished too: the coordinator cannot tell whether what else the ledger holds is still wanted.
        if not outcome.computed and self.receipts.row(outcome.index) != outcome.row:
            self.receipts.record({outcome.index: outcome.row})
        return outcome


class TakeReceipts:
    """The engine of the coordinator: computes nothing, and takes each block for finished that was handed in whole.

    Parameters
    ----------
    receipts : Receipts
        What was handed in.
    shards : int
        Number of tasks.
    whole : StepRecord, optional
        The step by which the run holds all blocks already. Where no task has made one of them anew, they count as they
        are; else the ledger may know them by other voxels, code or devices than those that are wanted now.
    """

    def __init__(self, receipts: Receipts, shards: int, whole: StepRecord | None) -> None:
        self._receipts, self._shards, self._whole = receipts, shards, whole
        self.blocks = self.lacking = 0
        self.missing: set[int] = set()
        """Tasks whose blocks are not all there."""

    def __call__(self, sweep: Sweep, _: ExecutionConfig, on_voxels: Callable[[int], None]) -> Outcomes:
        """Yield an outcome for each block, as engines do."""
        arrays = cast(StepWork, sweep.work).arrays
        handed_in = {block.index: self._receipts.row(block.index) for block in sweep.plan.blocks()}
        as_they_are = (
            self._whole is not None
            and plan_of(self._whole.phases[-1], sweep.plan.shape) == sweep.plan
            and all(row in (None, sweep.known.get(index)) for index, row in handed_in.items())
        )
        for block in sweep.plan.blocks():
            self.blocks += 1
            known = sweep.known.get(block.index)
            row = handed_in[block.index] or (known if as_they_are else None)
            fault = "no task has handed it in" if row is None else fault_of_block(row, arrays, block)
            if row is not None and fault is None:
                yield [(block.index, BlockOutcome(block.index, row, computed=row != known))]
            else:
                self.lacking += 1
                self.missing.add(number_of(sweep.plan, block.index) % self._shards)
                task = f"task {number_of(sweep.plan, block.index) % self._shards} of {self._shards}"
                yield [(block.index, BlockError(fault or "", where=f"block {block.index}", fix=f"start {task} again"))]
            on_voxels(block.write.size)

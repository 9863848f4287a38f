"""One contract for every step that works block by block: what a step must say, and what is then done for it.

A step says which blocks there are, what computes one of them, and what is known of it from the start. `run_step` takes
the lock, refuses what would replace another result, opens result volume, ledger and record, skips what is finished,
computes the rest on any engine, audits every block and builds the pyramids. So no step can forget any of it, and
`segem verify` and its `--repair` need to know nothing of the single steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic

from segem.config import ExecutionConfig
from segem.errors import ConfigError, IncompleteError
from segem.execute.run import execute
from segem.execute.work import BlockEngine, Summary, Sweep
from segem.geometry import ZYX, Box
from segem.io.layers import label_of, layers_of
from segem.io.ledger import Ledger, LedgerRow, PhaseKey
from segem.io.receipts import receipts_of, require_no_other_array
from segem.io.replacing import require_same_request
from segem.io.run import StepRequest, recorded, result_volume, volume_lock
from segem.io.storage_copy import kept
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.plan import Block, Plan
from segem.progress import track
from segem.records.run import F, ModelRecord, PhaseRecord, StepFacts, StepRecord, TilingRecord
from segem.stages.segmentation.arithmetic.block import Arithmetic
from segem.stages.segmentation.block_work import StepWork
from segem.stages.segmentation.identity import code_digest
from segem.stages.segmentation.verify import damage

Values = Mapping[str, tuple[bytes, ...]]
"""What the blocks of each finished phase have left in the ledger, by the name of the phase."""

LOST_MEMBRANE = 0.5
"""Share of its source's membrane below which a mask deserves a warning: a refinement moves borders, it removes none."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """One sweep of a step over the blocks of a volume."""

    name: str
    plan: Plan
    """Its blocks; one of them may be the whole volume."""
    arithmetic: Callable[[Values], Arithmetic]
    """Given what the phases before have found, returns what computes a block."""
    layers: tuple[str, ...] = ()
    """What it writes; a phase that writes nothing leaves a value for each block."""
    order: Callable[[Iterator[Block]], Iterable[Block]] = iter
    """The order in which blocks are started."""
    tiles_at_once: int | None = None
    """Tiles that the memory allows side by side; as many as there are cores when absent."""
    one_at_a_time: bool = False
    """Whether its blocks are so large that a process may hold no second one."""


@dataclass(frozen=True)
class BlockStep(Generic[F]):
    """A step of block work on one volume, ready to run."""

    phases: tuple[Phase, ...]
    facts: F
    """What is known from the start; the engine's counts are added."""
    conclude: Callable[[F, Values], F] = lambda facts, _: facts
    """Adds what the phases have found."""
    model: ModelRecord | None = None
    """The weights behind what is refined, where the request names none itself."""
    source_fraction: float | None = None
    """Share of membrane in the mask that this one is made from, where there is one."""
    check_inputs: Callable[[], None] = lambda: None
    """Raises where something else that the blocks are made of was replaced meanwhile."""
    release: Callable[[], None] = lambda: None
    """Gives back what this process holds for the step: nets, threads."""


@dataclass(frozen=True)
class StepOutcome(Generic[F]):
    """What a step leaves behind."""

    result: Volume
    facts: F


def run_step(
    request: StepRequest,
    prepare: Callable[[Volume, Volume], BlockStep[F]],
    execution: ExecutionConfig,
    workspace: Workspace,
    *,
    replace: bool = False,
    like: StepRecord | None = None,
    engine: BlockEngine | None = None,
) -> StepOutcome[F]:
    """Carry out a step of block work, skipping every block that is finished already.

    Parameters
    ----------
    request : StepRequest
        What is asked for, of which volume, into which run.
    prepare : callable
        Given the ingested volume and the result volume, returns the step; called while the lock on the result is held.
    execution : ExecutionConfig
        Engine, workers, memory: nothing that changes the result.
    workspace : Workspace
        Where all live.
    replace : bool
        Also where the run holds a result of this volume that was made in another way, which is then lost.
    like : StepRecord, optional
        How the result was made; refused unless every block would be made in the same way now.
    engine : callable, optional
        What finishes the blocks, instead of what `execution` asks for, while others may write them.

    Returns
    -------
    StepOutcome

    Raises
    ------
    ConfigError
        When the run holds a result of this volume that was made in another way, and `replace` is false.
    SegemError
        When something that is needed is missing, the disk fails, or another process writes the same volume.
    IncompleteError
        When a block failed or the audit found one missing or damaged; the message names it.
    """
    source = Volume.open(workspace.volume(request.volume))
    # From here on nobody else writes this result, so what is found on disk stays true until the end.
    path = workspace.result(request.run, request.volume)
    with volume_lock(workspace, request.run, request.volume), kept(workspace, path):
        if replace:
            receipts_of(workspace, request.run, request.volume).drop()
        elif like is None:
            require_same_request(workspace, request)
            require_no_other_array(workspace, request)
        result = (
            result_volume(workspace, request.run, request.volume)
            if engine is None
            # Where others write, nothing of theirs is removed as left over.
            else Volume.open(path)
        )
        step = prepare(source, result)
        # A repair: the blocks that are whole stay, so the others must be made exactly as they were.
        if like is not None:
            _require_same_making(request, step.facts, like)
        logger.info("%s: %s starts, blocks: %d", request.volume, request.step, step.facts.blocks)
        phases = tuple(_record_phase(phase) for phase in step.phases)
        with recorded(workspace, request, source, phases, step.facts, request.model or step.model) as state:
            try:
                counts, values = _sweep(request, step, result, execution, workspace, engine)
            # Nets and threads are given back even after an error: the process may go on to another volume.
            finally:
                step.release()
            step.check_inputs()
            # Only now: coarse levels are made of the blocks, all of which the audit has found on disk.
            for layer in request.layers:
                result.build_pyramid(label_of(layer))
            state.facts = _finished_facts(request, step, values, counts, source.outside_voxels)
        done = (request.volume, request.step, counts.computed, counts.skipped)
        logger.info("%s: %s done, blocks computed: %d, skipped: %d", *done)
    return StepOutcome(result, state.facts)


def _sweep(
    request: StepRequest,
    step: BlockStep[F],
    result: Volume,
    execution: ExecutionConfig,
    workspace: Workspace,
    engine: BlockEngine | None,
) -> tuple[Summary, Values]:
    """Run the phases one after the other; return the counts of the last one and what all have left in the ledger."""
    values: dict[str, tuple[bytes, ...]] = {}
    summary = Summary()
    voxels = sum(Box.of_shape(phase.plan.shape).size for phase in step.phases)
    with (
        Ledger(workspace.ledger(request.run)) as ledger,
        track(f"{request.step} {request.volume}", voxels) as advance,
    ):
        # In order: a phase is built from what the blocks of those before have left in the ledger.
        for phase in step.phases:
            key = PhaseKey(request.volume, request.step, phase.name)
            arithmetic = phase.arithmetic(values)
            work = StepWork(arithmetic, phase.plan, result, phase.layers, code_digest(type(arithmetic).__module__))
            sweep = Sweep(
                phase.plan,
                work,
                ledger.rows(key),
                scratch=workspace.run(request.run),
                order=phase.order,
                tiles_at_once=phase.tiles_at_once,
                one_at_a_time=phase.one_at_a_time,
                fence=f".{request.volume}.sweep",
            )
            summary = execute(sweep, execution, partial(ledger.record, key), advance, engine)
            # Read back, not kept from the sweep: the ledger alone says what is finished.
            rows = ledger.rows(key)
            _audit(summary, phase, rows, result, request.volume)
            # In the order of the plan, not of completion, so that nothing derived from them depends on the engine.
            values[phase.name] = tuple(rows[block.index].value for block in phase.plan.blocks())
    return summary, values


def _audit(summary: Summary, phase: Phase, rows: Mapping[ZYX, LedgerRow], result: Volume, volume: str) -> None:
    """Raise unless every block of a phase is in the ledger and on the disk."""
    plan = phase.plan
    # Blocks are counted, so that an engine that loses one without an error is found out.
    accounted = summary.computed + summary.skipped + len(summary.failed)
    if accounted != plan.count:
        raise IncompleteError(
            "blocks were lost", where=volume, expected=plan.count, found=accounted, fix="run the same command again"
        )
    # Not deep: blocks just written need not be read back; `segem verify` compares digests.
    faults = summary.failed or damage(plan, rows, layers_of(result, phase.layers), deep=False)
    if faults:
        index, reason = next(iter(faults.items()))
        raise IncompleteError(
            f"{len(faults)} of {plan.count} blocks are not finished, the first is block {index}",
            where=volume,
            found=reason,
            fix="run the same command again; finished blocks are kept",
        )


def _finished_facts(request: StepRequest, step: BlockStep[F], values: Values, counts: Summary, outside: int) -> F:
    """Return the facts of a step that is whole, and warn of what a user should look at; so many voxels are outside."""
    # The last phase writes the mask, and its blocks keep their counts of membrane voxels (see `count_membrane`).
    last = step.phases[-1]
    membrane = sum(int(value) for value in values[last.name])
    size = Box.of_shape(last.plan.shape).size
    fraction = membrane / (size - outside)
    cautions: tuple[str, ...] = tuple(cautions_of(fraction, step.source_fraction))
    for caution in cautions:
        logger.warning("%s: %s", request.volume, caution)
    known: F = step.conclude(step.facts, values)
    return known.model_copy(
        update={
            "computed": counts.computed,
            "skipped": counts.skipped,
            "membrane_fraction": fraction,
            "outside_fraction": outside / size,
            "warnings": (*known.warnings, *cautions),
        }
    )


def cautions_of(fraction: float, source_fraction: float | None = None) -> Iterator[str]:
    """Yield what is suspicious about the share of membrane in a mask.

    Parameters
    ----------
    fraction : float
        Share of the voxels that are membrane, 0 to 1.
    source_fraction : float, optional
        The same of the mask that this one is made from.

    Examples
    --------
    >>> list(cautions_of(0.0)), list(cautions_of(0.2))
    (['the mask holds no membrane at all'], [])
    >>> list(cautions_of(0.05, 0.2))
    ['the mask holds 5.0 % membrane, the mask it is made from 20.0 %: most of it is lost']
    """
    if fraction == 0:
        yield "the mask holds no membrane at all"
    elif fraction == 1:
        yield "the mask is membrane everywhere"
    elif source_fraction is not None and fraction < LOST_MEMBRANE * source_fraction:
        yield (
            f"the mask holds {fraction:.1%} membrane, the mask it is made from {source_fraction:.1%}: "
            "most of it is lost".replace("%", " %")
        )


def _require_same_making(request: StepRequest, facts: StepFacts, then: StepRecord) -> None:
    """Raise if a block computed now would be made in another way than those that are whole."""
    held = {key: getattr(then.facts, key, None) for key in facts.same_making}
    made = {key: getattr(facts, key) for key in facts.same_making}
    if request.model is not None:
        held = {"model": then.model.digest if then.model else None, **held}
        made = {"model": request.model.digest, **made}
    for key, value in made.items():
        if value != held[key]:
            again = "run the same command again" + (" with --replace" if key == "model" else "")
            raise ConfigError(
                f"the {key.replace('_', ' ')} of the run is no longer available, and blocks of two kinds must not be "
                "mixed",
                where=f"{request.run}/{request.volume}",
                expected=_told(held[key], value),
                found=_told(value, held[key]),
                fix=f"restore it, or {again} to compute every block again",
            )


def _told(fact: object, other: object) -> object:
    """Return a fact as an error message names it; of versions, only those that differ from the other fact."""
    if not (isinstance(fact, dict) and isinstance(other, dict)):
        return fact
    return ", ".join(
        f"{name} {fact.get(name, 'absent')}" for name in sorted({*fact, *other}) if fact.get(name) != other.get(name)
    )


def _record_phase(phase: Phase) -> PhaseRecord:
    tiling = phase.plan.tiling
    return PhaseRecord(
        name=phase.name,
        layers=phase.layers,
        write_block=phase.plan.write_block,
        tiling=TilingRecord(
            mode=tiling.mode,
            core_px=tiling.core_px,
            halo=tiling.halo.zyx,
            stride_px=tiling.stride_px,
            step_px=tiling.step_px,
        ),
    )

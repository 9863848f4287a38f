"""A run that is killed with SIGKILL, at any moment and again while it resumes, ends as if nothing had happened."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from segem.execute.work import BlockOutcome
from segem.io.blocks import block_digest
from segem.io.ledger import Ledger, LedgerRow, PhaseKey
from segem.io.workspace import Workspace
from segem.plan import Block
from segem.stages.segmentation.arithmetic.block import Computed
from segem.stages.segmentation.block_work import LoadedBlock, StepWork
from segem.stages.segmentation.repair import repair
from segem.stages.segmentation.verify import verify
from tests.faults import harness
from tests.faults.conftest import Undisturbed

DEEP = 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(harness.TIMES))
def test_killed_at_a_random_moment_and_killed_again_while_resuming(
    undisturbed_step: Undisturbed, tmp_path: Path, seed: int
) -> None:
    whole, rng = undisturbed_step, random.Random(seed)
    workspace = whole.copy(tmp_path / "workspace")
    kept = 0
    for _ in range(1 + seed % DEEP):
        harness.run_and_kill(whole.context, whole.job, workspace.root, harness.random_moment(rng, whole.seconds))
        assert kept <= harness.finished_blocks(workspace, whole.step), "a rerun forgets nothing"
        kept = harness.finished_blocks(workspace, whole.step)
        assert 0 <= harness.touched_blocks(workspace, whole.step) - kept <= harness.IN_FLIGHT + 1
    harness.run_to_the_end(whole.context, whole.job, workspace.root)
    # So no more than those that were on their way are ever computed twice.
    assert harness.last_counts(workspace, whole.step) == (harness.BLOCKS - kept, kept)
    assert harness.output_digest(workspace) == whole.digest
    assert verify("r", workspace) == []
    assert not list(workspace.root.rglob("*.partial"))


@pytest.mark.slow
def test_a_killed_run_is_finished_by_repair(undisturbed_step: Undisturbed, tmp_path: Path) -> None:
    whole = undisturbed_step
    for blocks in (16, 8, 4, 2, 1):
        workspace = whole.copy(tmp_path / str(blocks))
        harness.run_and_kill_at(whole.context, whole.job, workspace, blocks, whole.step)
        if harness.finished_blocks(workspace, whole.step) < harness.BLOCKS:
            break
    else:
        pytest.fail("no kill hit the run between its first and its last block")
    assert verify("r", workspace) != []
    assert repair("r", workspace, harness.QUIET).left == ()
    assert harness.output_digest(workspace) == whole.digest


@pytest.mark.slow
def test_a_careless_writer_is_caught_by_this_harness(undisturbed: Undisturbed, tmp_path: Path) -> None:
    rng = random.Random(0)
    # Not every kill falls between the record and the voxels; one that does is enough.
    for attempt in range(20):
        workspace = undisturbed.copy(tmp_path / str(attempt))
        harness.run_and_kill_at(undisturbed.context, segment_carelessly, workspace, rng.randrange(1, harness.BLOCKS))
        process = undisturbed.context.Process(target=segment_carelessly, args=(workspace.root,))
        process.start()
        process.join()
        if process.exitcode != 0 or harness.output_digest(workspace) != undisturbed.digest:
            return
    pytest.fail("no kill spoilt what a careless writer leaves")


def segment_carelessly(root: Path) -> None:
    """Segment as systems do that write the record first, the voxels in place, and trust the record."""
    workspace = Workspace(root)
    careful_load, careful_store = StepWork.load, StepWork.store

    def load(self: StepWork, block: Block, known: LedgerRow | None) -> LoadedBlock:
        return replace(careful_load(self, block, None), finished=known)

    def store(self: StepWork, computed: tuple[LoadedBlock, Computed]) -> BlockOutcome:
        loaded, found = computed
        if loaded.finished is None:
            row = LedgerRow(loaded.identity, block_digest(found.layers), found.value)
            with Ledger(workspace.ledger("r")) as ledger:
                ledger.record(PhaseKey("noise", "segment", "blocks"), {loaded.block.index: row})
            time.sleep(0.05)
        return careful_store(self, computed)

    setattrs: list[tuple[str, Callable[..., object]]] = [("load", load), ("store", store)]
    for name, careless in setattrs:
        setattr(StepWork, name, careless)
    harness.segment_noise(root)

"""A run that is killed with SIGKILL, at any moment and again while it resumes, ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile

from segem.config import IngestConfig
from segem.io.ledger import Ledger
from segem.io.workspace import Workspace
from segem.plan import Block
from segem.stages import segment as stage
from segem.stages.ingest import ingest
from segem.stages.verify import verify
from tests.faults import harness
from tests.integration.conftest import make_artefact

KILLS = int(os.environ.get("SEGEM_KILLS", "6"))
"""How many moments are tried; CI tries a few, `benchmarks/README.md` says how to try fifty."""
DEEP = 3
IN_FLIGHT = 2
"""Blocks that may be on disk and not yet in the ledger: one being written, one waiting to be recorded."""


class Undisturbed:
    """A workspace before any run, and what a run makes of it."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder / "workspace")
        self.workspace.prepare()
        make_artefact(self.workspace, seed=0)
        tifffile.imwrite(folder / "noise.tif", harness.noise(), photometric="minisblack")
        ingest(
            IngestConfig(name="noise", source=folder / "noise.tif", voxel_nm=(50, 4, 4)),
            self.workspace,
            progress=False,
        )
        self.context = harness.processes()
        reference = self.copy(folder / "reference")
        harness.run_to_the_end(self.context, harness.segment_noise, reference.root)
        self.digest = harness.output_digest(reference)
        again = self.copy(folder / "again")
        self.seconds = harness.run_to_the_end(self.context, harness.segment_noise, again.root)
        assert harness.output_digest(again) == self.digest

    def copy(self, root: Path) -> Workspace:
        shutil.copytree(self.workspace.root, root)
        return Workspace(root)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_a_random_moment_and_killed_again_while_resuming(
    undisturbed: Undisturbed, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    workspace = undisturbed.copy(tmp_path / "workspace")
    for _ in range(1 + seed % DEEP):
        harness.run_and_kill(
            undisturbed.context,
            harness.segment_noise,
            workspace.root,
            harness.random_moment(rng, undisturbed.seconds),
        )
        assert harness.touched_blocks(workspace) <= harness.finished_blocks(workspace) + IN_FLIGHT
    harness.run_to_the_end(undisturbed.context, harness.segment_noise, workspace.root)
    assert harness.output_digest(workspace) == undisturbed.digest
    assert verify("r", workspace, progress=False) == []
    assert not list(workspace.root.rglob("*.partial"))


@pytest.mark.slow
def test_a_careless_writer_is_caught_by_this_harness(undisturbed: Undisturbed, tmp_path: Path) -> None:
    rng = random.Random(0)
    spoilt = 0
    for attempt in range(max(4, KILLS)):
        workspace = undisturbed.copy(tmp_path / str(attempt))
        moment = harness.random_moment(rng, undisturbed.seconds)
        harness.run_and_kill(undisturbed.context, segment_carelessly, workspace.root, moment)
        process = undisturbed.context.Process(target=segment_carelessly, args=(workspace.root,))
        process.start()
        process.join()
        spoilt += process.exitcode != 0 or harness.output_digest(workspace) != undisturbed.digest
    assert spoilt > 0


def segment_carelessly(root: Path) -> None:
    """Segment as systems do that write the record first, the voxels in place, and trust the record."""
    workspace = Workspace(root)
    careful_load, careful_store = stage.SegmentWork.load, stage.SegmentWork.store

    def load(self: stage.SegmentWork, block: Block, known: object) -> object:
        loaded = careful_load(self, block, None)
        return stage.LoadedBlock(block, loaded.identity, loaded.voxels, known)  # type: ignore[arg-type]

    def store(self: stage.SegmentWork, computed: tuple) -> object:  # type: ignore[type-arg]
        loaded, written = computed
        if loaded.finished is None:
            row = stage.LedgerRow(loaded.identity, stage.voxel_digest(written))
            with Ledger(workspace.ledger("r")) as ledger:
                ledger.record("noise", loaded.block.index, row)
            time.sleep(0.05)
        return careful_store(self, computed)

    setattrs: list[tuple[str, Callable[..., object]]] = [("load", load), ("store", store)]
    for name, careless in setattrs:
        setattr(stage.SegmentWork, name, careless)
    harness.segment_noise(root)

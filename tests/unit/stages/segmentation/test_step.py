"""What every step of block work is given by the one contract, shown with a step of three lines."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segem.config import BaselineConfig, CrfConfig, ExecutionConfig, RefineConfig
from segem.errors import ConfigError, IncompleteError, WorkspaceError
from segem.geometry import Halo
from segem.io.ledger import Ledger, PhaseKey
from segem.io.run import StepRequest, load_run
from segem.io.shards import shard_files
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.plan import Block, Plan, crop_tiling
from segem.records.run import BaselineFacts
from segem.stages.segmentation import block_work, step
from segem.stages.segmentation.arithmetic.block import Computed, Voxels, count_membrane
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.step import BlockStep, Phase, StepOutcome, Values, run_step
from segem.stages.segmentation.verify import verify
from tests.fabricate import add_model, add_volume, new_workspace

LAST = ExecutionConfig()
SHAPE = (20, 64, 64)
BLOCKS = 3
"""Of 8, 8 and 4 sections."""


@dataclass(frozen=True)
class Brightest:
    """Finds the brightest voxel of a block."""

    source: Volume

    def read(self, block: Block) -> Voxels:
        return (np.asarray(self.source.raw[block.read.slices]),)

    def made_of(self, block: Block) -> Mapping[str, Any]:
        return {}

    def compute(self, block: Block, voxels: Voxels, threads: int | None, on_voxels: Callable[[int], None]) -> Computed:
        on_voxels(block.write.size)
        return Computed(value=str(voxels[0].max()).encode())


@dataclass(frozen=True)
class AtLeastHalf:
    """Calls membrane what is at least half as bright as the brightest voxel of the volume."""

    source: Volume
    brightest: int
    poisoned: bool = False

    def read(self, block: Block) -> Voxels:
        return (np.asarray(self.source.raw[block.read.slices]),)

    def made_of(self, block: Block) -> Mapping[str, Any]:
        return {"brightest": self.brightest}

    def compute(self, block: Block, voxels: Voxels, threads: int | None, on_voxels: Callable[[int], None]) -> Computed:
        if self.poisoned and block.index == (1, 0, 0):
            raise MemoryError("too much")
        mask = (voxels[0].astype(int) * 2 >= self.brightest).astype(np.uint8)
        on_voxels(block.write.size)
        return Computed((mask,), count_membrane(mask))


def halve(workspace: Workspace, *, poisoned: bool = False, engine: ExecutionConfig = LAST) -> StepOutcome:
    """Carry out a step of two phases: the second one needs what the first has found in every block."""

    def prepare(source: Volume, result: Volume) -> BlockStep:
        plan = Plan(source.shape, result.write_block, crop_tiling(source.shape, result.write_block, Halo(), 1))

        def find(values: Values) -> AtLeastHalf:
            return AtLeastHalf(source, max(int(value) for value in values["look"]), poisoned)

        phases = (Phase("look", plan, lambda _: Brightest(source)), Phase("blocks", plan, find, ("baseline",)))
        return BlockStep(phases, BaselineFacts(blocks=plan.count, overhead=1, code="", method="kmeans"))

    request = StepRequest("baseline", "r", "em", BaselineConfig(), ("baseline",))
    return run_step(request, prepare, engine, workspace)


# A worker imports this module to find the arithmetic, and must know its code as the fixture below does.
if multiprocessing.parent_process() is not None:
    vars(block_work)["code_digest"] = str


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    # The arithmetic of these steps lies outside of segem, where no block can be known by its code.
    for module in (step, block_work):
        monkeypatch.setattr(module, "code_digest", str)
    space = new_workspace(tmp_path / "w")
    image = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.uint8)
    image[19, 5, 5] = 200
    add_volume(space, "em", image).build_pyramid()
    return space


def mask_of(workspace: Workspace) -> np.ndarray:
    return np.asarray(Volume.open(workspace.result("r", "em")).label("baseline")[:])


def test_a_phase_sees_what_the_one_before_found_in_every_block(workspace: Workspace) -> None:
    facts = halve(workspace).facts
    # The brightest voxel lies in the last block, and decides about the first.
    image = np.asarray(Volume.open(workspace.volume("em")).raw[:])
    np.testing.assert_array_equal(mask_of(workspace), image >= 100)
    assert (facts.computed, facts.skipped) == (BLOCKS, 0)
    assert facts.membrane_fraction == (image >= 100).mean()
    assert halve(workspace).facts.skipped == BLOCKS
    assert verify("r", workspace) == []


@pytest.mark.slow
def test_processes_give_the_bytes_of_the_loop(workspace: Workspace) -> None:
    halve(workspace, engine=ExecutionConfig(engine="dask", workers=2))
    by_processes = mask_of(workspace)
    for file in shard_files(*whole_layer(workspace)):
        file.unlink()
    assert halve(workspace).facts.computed == BLOCKS
    np.testing.assert_array_equal(mask_of(workspace), by_processes)


def whole_layer(workspace: Workspace) -> tuple[Any, Any]:
    from segem.geometry import Box

    return Volume.open(workspace.result("r", "em")).label("baseline"), Box.of_shape(SHAPE)


def test_one_changed_voxel_concerns_its_block_in_one_phase_and_all_that_follows_from_it(workspace: Workspace) -> None:
    halve(workspace)
    image = np.asarray(Volume.open(workspace.volume("em")).raw[:]).copy()
    image[0, 0, 0] = 255 - 100
    add_volume(workspace, "em", image).build_pyramid()
    # 155 is not the brightest: one block of the mask is another.
    assert halve(workspace).facts.computed == 1
    image[0, 0, 0] = 255
    add_volume(workspace, "em", image).build_pyramid()
    assert halve(workspace).facts.computed == BLOCKS


def test_a_block_that_fails_keeps_the_others(workspace: Workspace) -> None:
    with pytest.raises(IncompleteError, match=r"1 of 3 blocks.*\(1, 0, 0\).*too much"):
        halve(workspace, poisoned=True)
    record = load_run(workspace, "r").volumes["em"].baseline
    assert record is not None
    assert record.state == "failed"
    assert [fault.step for fault in verify("r", workspace)] == ["baseline"]
    facts = halve(workspace).facts
    assert (facts.computed, facts.skipped) == (1, 2)


def test_a_lost_value_is_found_and_counted_again(workspace: Workspace) -> None:
    halve(workspace)
    with sqlite3.connect(workspace.ledger("r")) as db:
        db.execute("UPDATE blocks SET value = x'30' WHERE phase = 'look' AND z = 2")
    (fault,) = verify("r", workspace)
    assert fault.what == "baseline block (2, 0, 0): its value is not the one that was found"
    assert halve(workspace).facts.skipped == BLOCKS
    assert verify("r", workspace) == []


@pytest.mark.parametrize(("grey", "said"), [(9, "no membrane at all"), (None, None)])
def test_an_empty_mask_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, grey: int | None, said: str) -> None:
    space = new_workspace(tmp_path / "w")
    image = np.random.default_rng(0).integers(0, 200, (1, 40, 40)).astype(np.uint8)
    add_volume(space, "em", image if grey is None else np.full_like(image, grey))
    baseline("em", "r", BaselineConfig(), space)
    noted = load_run(space, "r").volumes["em"].baseline
    assert noted is not None
    found = [*noted.facts.warnings]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"em: {caution}" for caution in found
    ]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_a_refinement_that_loses_its_membrane_is_said(tmp_path: Path) -> None:
    space = new_workspace(tmp_path / "w")
    image = np.full((1, 64, 64), 200, np.uint8)
    image[:, :, 30:34] = 60
    add_volume(space, "em", image)
    # A net whose mask begins at .225 says .3 where it sees a line.
    add_model(space, "r", "em", np.where(image < 100, 77, 5).astype(np.uint8), threshold=0.225)
    crf = CrfConfig(w1=1, sa_px=8, sb_grey=10, w2=1)
    refine_volume("em", "kept", RefineConfig(of="r", crf=crf), LAST, space)
    refine_volume("em", "lost", RefineConfig(of="r", crf=crf, operating_point=0.5), LAST, space)
    kept, lost = (load_run(space, run).volumes["em"].membrane_facts for run in ("kept", "lost"))
    assert kept is not None
    assert lost is not None
    assert kept.membrane_fraction == pytest.approx(4 / 64)
    assert kept.warnings == ()
    assert lost.membrane_fraction == 0
    assert lost.warnings == ("the mask holds no membrane at all",)


def test_records_of_another_version_are_refused_with_a_way_out(workspace: Workspace) -> None:
    halve(workspace)
    record = workspace.run("r") / "run.json"
    values = json.loads(record.read_text())
    del values["schema_version"]
    record.write_text(json.dumps(values))
    with pytest.raises(WorkspaceError, match=r"another version of segem.*expected schema 2, found schema none.*--run"):
        halve(workspace)


def test_a_ledger_of_another_version_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("CREATE TABLE blocks (volume TEXT, z INTEGER)")
    with pytest.raises(WorkspaceError, match=r"another version of segem.*found version 1.*--run"):
        Ledger(tmp_path / "ledger.sqlite")
    with Ledger(tmp_path / "new.sqlite") as ledger:
        assert ledger.rows(PhaseKey("em", "baseline", "look")) == {}
    Ledger(tmp_path / "new.sqlite").__exit__()


def test_a_step_never_takes_over_what_another_one_has_made(workspace: Workspace) -> None:
    halve(workspace)
    with pytest.raises(ConfigError, match="a baseline made in another way"):
        baseline("em", "r", BaselineConfig(method="watershed"), workspace)

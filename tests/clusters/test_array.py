"""Tasks of an array job hand in receipts; one process collects them, and says what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from segem.config import ExecutionConfig, SegmentConfig
from segem.config.shard import Shard
from segem.errors import ConfigError, ModelError, WorkspaceError
from segem.geometry import ZYX, grid
from segem.io.ledger import LedgerRow
from segem.io.receipts import receipts_of
from segem.io.run import load_run
from segem.io.shards import shard_files
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.array import collect, segment_shard
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from tests.integration.conftest import make_artefact, make_volume
from tests.integration.test_cli import Shell, segem

__all__ = ["segem"]

CONFIG = SegmentConfig(model="tiny", runtime="torch")
CPU = ExecutionConfig(device="cpu")
TASKS, BLOCKS = 3, 5
TASK_OPTIONS = ("--model", "tiny", "--runtime", "torch", "--device", "cpu")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a volume of five blocks and what the loop makes of it."""
    folder = tmp_path_factory.mktemp("array")
    workspace = Workspace(folder / "workspace")
    workspace.prepare()
    make_artefact(workspace, seed=0)
    make_volume(workspace, folder / "source", (8 * BLOCKS, 32, 32))
    segment("noise", "loop", CONFIG, CPU, workspace)
    return workspace


@pytest.fixture
def space(pristine: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(pristine.root, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def run_task(space: Workspace, number: int, config: SegmentConfig = CONFIG) -> tuple[int, int]:
    done = segment_shard("noise", "r", config, CPU, space, Shard(number, TASKS))
    return done.computed, done.skipped


def layers(space: Workspace, run: str) -> list[np.ndarray]:
    result = Volume.open(space.result(run, "noise"))
    return [np.asarray(result.raw[...]), np.asarray(result.label("membrane")[...])]


def same_bytes(space: Workspace) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(layers(space, "r"), layers(space, "loop"), strict=True))


def test_tasks_make_what_the_loop_makes(space: Workspace) -> None:
    assert run_task(space, 0) == (2, 0)
    assert run_task(space, 2) == (1, 0)
    (collected,) = collect("r", space)
    assert (collected.finished, collected.blocks, collected.missing) == (3, BLOCKS, (1,))
    assert load_run(space, "r").volumes["noise"].steps["segment"].state == "failed"
    # What is finished is not computed again, neither from its receipt nor from the ledger.
    assert run_task(space, 0) == (0, 2)
    shutil.rmtree(space.receipts("r") / "noise" / "0")
    assert run_task(space, 0) == (0, 2)
    assert run_task(space, 1) == (2, 0)
    for _ in range(2):
        (collected,) = collect("r", space)
        assert (collected.finished, collected.missing) == (BLOCKS, ())
        assert same_bytes(space)
        assert verify("r", space) == []
    assert [path.name for path in (space.receipts("r") / "noise").iterdir()] == ["request.json"]


def test_the_loop_finishes_what_tasks_have_begun(space: Workspace) -> None:
    run_task(space, 1)
    collect("r", space)
    done = segment("noise", "r", CONFIG, CPU, space)
    assert (done.computed, done.skipped) == (3, 2)
    assert same_bytes(space)
    assert collect("r", space)[0].missing == ()


def test_a_block_damaged_after_it_was_handed_in_is_not_taken(space: Workspace) -> None:
    for number in range(TASKS):
        run_task(space, number)
    result = Volume.open(space.result("r", "noise"))
    boxes = [box for _, box in grid(result.shape, result.write_block)]
    # Of the first task, which has the first block and every third one from there.
    (file,) = shard_files(result.raw, boxes[3])
    file.write_bytes(file.read_bytes()[:-1])
    (collected,) = collect("r", space)
    assert (collected.finished, collected.missing) == (BLOCKS - 1, (0,))
    assert run_task(space, 0) == (1, 1)
    assert collect("r", space)[0].missing == ()
    assert same_bytes(space)


def test_blocks_of_another_image_are_not_taken_for_those_of_a_task_that_is_missing(
    space: Workspace, tmp_path: Path
) -> None:
    segment("noise", "r", CONFIG, CPU, space)
    # One voxel is another since, and with it the statistics of which every block is made.
    shutil.rmtree(space.volume("noise"))
    make_volume(space, tmp_path / "source", (8 * BLOCKS, 32, 32), change=8)
    run_task(space, 0)
    run_task(space, 2)
    assert collect("r", space)[0].missing == (1,)
    assert load_run(space, "r").volumes["noise"].steps["segment"].state == "failed"
    assert run_task(space, 1) == (2, 0)
    assert collect("r", space)[0].missing == ()
    segment("noise", "again", CONFIG, CPU, space)
    assert all(np.array_equal(a, b) for a, b in zip(layers(space, "r"), layers(space, "again"), strict=True))
    assert verify("r", space) == []


def test_a_damaged_receipt_counts_as_none(space: Workspace) -> None:
    run_task(space, 0)
    for file in (space.receipts("r") / "noise").glob("*/*.json"):
        file.write_text("")
    assert collect("r", space)[0].finished == 0
    assert run_task(space, 0) == (2, 0)


def test_tasks_of_two_kinds_are_refused(space: Workspace) -> None:
    run_task(space, 0)
    other = CONFIG.model_copy(update={"threshold": 0.25})
    with pytest.raises(ConfigError, match=r"the tasks of an array compute something else.*threshold 0.25"):
        run_task(space, 1, other)
    with pytest.raises(ConfigError, match=r"the tasks of an array compute this in another way.*threshold 0.25"):
        segment("noise", "r", other, CPU, space)
    # With --replace it is lost, and a task that still computes must not write.
    segment("noise", "r", other, CPU, space, replace=True)
    with pytest.raises(ConfigError, match="this run holds a segmentation made in another way"):
        run_task(space, 1)
    with pytest.raises(WorkspaceError, match="no task of an array has begun"):
        collect("r", space)


def test_a_task_stops_when_its_array_is_dropped(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts = receipts_of(space, "r", "noise")
    careful = type(receipts).record

    def record(self: object, rows: dict[ZYX, LedgerRow]) -> None:
        careful(receipts, rows)
        receipts.drop()

    monkeypatch.setattr(type(receipts), "record", record)
    with pytest.raises(WorkspaceError, match="no longer asked for"):
        segment_shard("noise", "r", CONFIG, ExecutionConfig(device="cpu"), space, Shard(0, 1))


def test_a_model_trained_again_is_not_mixed_in(space: Workspace) -> None:
    run_task(space, 0)
    shutil.rmtree(space.models / "tiny")
    make_artefact(space, seed=1)
    with pytest.raises(ConfigError, match="the tasks of an array compute something else"):
        collect("r", space)
    shutil.rmtree(space.models / "tiny")
    with pytest.raises(ModelError):
        collect("r", space)


def test_the_command_says_which_tasks_to_start_again(segem: Shell, pristine: Workspace) -> None:
    shutil.copytree(pristine.root, segem.workspace, dirs_exist_ok=True)
    task = ("segment", "noise", *TASK_OPTIONS, "--run", "r", "--shard")
    code, out, _ = segem(*task, f"1/{TASKS}")
    assert code == 0
    assert "computed: 2" in out
    assert segem("collect", "r", "--missing")[:2] == (0, "0,2\n")
    code, out, err = segem("collect", "r", "--json")
    assert code == 1
    assert json.loads(out)["volumes"][0]["missing"] == [0, 2]
    assert "3 blocks are missing; found tasks 0,2 of 3 have not handed in all of theirs. Fix: start these again" in err
    assert "sbatch --array=0,2" in err
    assert "noise: 2 of 5 blocks\n" in segem("collect", "r")[1]
    for number in (0, 2):
        segem(*task, f"{number}/{TASKS}")
    assert segem("collect", "r")[0] == 0
    assert segem("collect", "r", "--missing")[:2] == (0, "\n")
    assert segem("verify", "r")[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--shard", "3/3", "--run", "r"), "I/N, with I from 0 to N - 1"),
        (("--shard", "0", "--run", "r"), "I/N, with I from 0 to N - 1"),
        (("--shard", "0/3"), "no --run"),
        (("--shard", "0/3", "--run", "r", "--replace"), "--replace"),
        (("--shard", "0/3", "--run", "r", "--workers", "2"), "--engine dask or --cluster"),
        (("--shard", "0/3", "--run", "r", "--runtime", "openvino-int8"), "8-bit model of their own"),
    ],
)
def test_what_a_task_cannot_decide_is_refused(
    options: tuple[str, ...], said: str, segem: Shell, pristine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGEM_WORKSPACE", str(pristine.root))
    code, _, err = segem("segment", "noise", "--model", "tiny", *options)
    assert code != 0
    assert said in err
    assert pristine.runs() == ["loop"]

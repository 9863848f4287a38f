"""Cells of a run: written beside its probability, the same however the volume is cut, found out when outdated."""

from __future__ import annotations

import errno
import json
import shutil
import weakref

import numpy as np
import pytest
from PIL import Image

from segem.config import CellsConfig, ExecutionConfig
from segem.errors import ConfigError, SegemError, WorkspaceError
from segem.geometry import Box
from segem.io.blocks import shard_path
from segem.io.layers import layers_of
from segem.io.ledger import PhaseKey, read_ledger
from segem.io.run import enter_volumes, load_run, volume_lock
from segem.io.scratch import ScratchBox
from segem.io.shards import shard_files
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.cells import close_membrane, find_cells
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.records.intervals import Interval
from segem.stages.reporting.choice import choose_sections
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.read import read_report
from segem.stages.reporting.write import report
from segem.stages.segmentation import cells as stage
from segem.stages.segmentation.arithmetic import cells as arithmetic
from segem.stages.segmentation.cells import find_cells_of_run, plan_sections
from segem.stages.segmentation.export import export
from segem.stages.segmentation.repair import repair
from segem.stages.segmentation.verify import verify
from tests.fabricate import add_model, add_volume, enter_in_ledger, fill, guess, new_workspace, tissue
from tests.processes import wait_for

SHAPE = (3, 300, 60)
THRESHOLD = 0.6
CONFIG = CellsConfig(merge_below=0.5, sigma_px=1.0)
QUIET = ExecutionConfig()


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Return a workspace with a segmented volume of two shards a section, which has to be written whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segem.io.shards._SHARD_EDGE", 256)
        return segmented(tmp_path_factory.mktemp("cells") / "w")


@pytest.fixture
def workspace(before, tmp_path, monkeypatch):
    monkeypatch.setattr("segem.io.shards._SHARD_EDGE", 256)
    shutil.copytree(before.root, tmp_path / "w")
    return Workspace(tmp_path / "w")


def segmented(folder):
    space = new_workspace(folder)
    image, truth = tissue(SHAPE)
    source = add_volume(space, "em", image, truth)
    source.build_pyramid()
    source.build_pyramid("truth")
    add_model(space, "r", "em", guess(truth), threshold=THRESHOLD)
    enter_in_ledger(space)
    return space


def written(workspace):
    result = Volume.open(workspace.result("r", "em"))
    return [np.asarray(array[:]) for array in layers_of(result, ("cells", "membrane-closed"))]


def divide(workspace, config=CONFIG, **more):
    return find_cells_of_run("em", "r", config, QUIET, workspace, **more)


def replace_probability(workspace):
    result = Volume.open(workspace.result("r", "em"))
    fill(result.raw, guess(tissue(SHAPE)[1], seed=2), result)
    enter_in_ledger(workspace)


def test_every_section_is_divided_whole(workspace):
    result = Volume.open(workspace.result("r", "em"))
    kept = [np.asarray(array[:]) for array in layers_of(result, ("probability", "membrane"))]
    found = divide(workspace)
    assert (found.blocks, found.computed, found.skipped) == (1, 1, 0)
    cells, closed = written(workspace)
    for z, section in enumerate(kept[0]):
        expected = find_cells(section, 1.0, 0.5)
        np.testing.assert_array_equal(cells[z], expected)
        np.testing.assert_array_equal(closed[z], close_membrane(kept[1][z], expected))
    assert found.membrane_fraction == pytest.approx(closed.mean())
    for before, layer in zip(kept, layers_of(result, ("probability", "membrane")), strict=True):
        np.testing.assert_array_equal(before, layer[:])
    assert verify("r", workspace) == []


def test_a_coarse_level_holds_cells_and_no_means_of_their_numbers(workspace):
    divide(workspace)
    fine, coarse = (np.asarray(level[:]) for level in Volume.open(workspace.result("r", "em")).levels("cells")[:2])
    assert coarse.dtype == np.uint32
    assert set(np.unique(coarse)) <= set(np.unique(fine))


@pytest.mark.parametrize("cut", [{"_SHARD_EDGE": 2048}, {"_SHARD_VOXELS": 256 * 512}, {"_SHARD_EDGE": 512}])
def test_the_cut_into_blocks_changes_nothing(workspace, tmp_path, monkeypatch, cut):
    divide(workspace)
    for name, value in cut.items():
        monkeypatch.setattr(f"segem.io.shards.{name}", value)
    other = segmented(tmp_path / "other")
    divide(other)
    shards = [Volume.open(space.result("r", "em")).write_block for space in (workspace, other)]
    assert shards[0] != shards[1]
    for one, same in zip(written(workspace), written(other), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.fixture
def on_disk(monkeypatch):
    """Let every block stay on the disk, cut into small strips and pieces, and see that none is read whole."""
    monkeypatch.setattr(arithmetic, "LARGE_VOXELS", 0)
    monkeypatch.setattr(stage, "LARGE_VOXELS", 0)
    monkeypatch.setattr("segem.kernels.basins.STRIP_PX", 13 * SHAPE[2])
    monkeypatch.setattr("segem.io.blocks._PIECE_VOXELS", 256 * SHAPE[2])

    def refuse(*_):
        raise AssertionError("a block was read whole")

    monkeypatch.setattr(arithmetic, "read_block", refuse)


def hide(source, outside):
    source.add_label("outside", np.uint8)
    fill(source.label("outside"), outside, source)
    source.set_attributes(outside={"voxels": int(outside.sum())})


def rows_of(workspace):
    with read_ledger(workspace.ledger("r")) as ledger:
        return ledger.rows(PhaseKey("em", "cells", "sections"))


@pytest.mark.parametrize("where", [None, np.s_[:, 250:, :20]])
def test_blocks_that_stay_on_the_disk_are_the_same(workspace, tmp_path, request, where):
    # Where blocks end, a section may not fill the last byte of a mask, and the last strip may be lower than others.
    if where is not None:
        outside = np.zeros(SHAPE, np.uint8)
        outside[where] = 1
        source = Volume.open(workspace.volume("em"))
        hide(source, outside)
        source.build_pyramid("outside")
    found = divide(workspace)
    held, rows = written(workspace), rows_of(workspace)
    request.getfixturevalue("on_disk")
    assert divide(workspace).skipped == found.blocks
    assert verify("r", workspace) == []
    for file in shard_files(Volume.open(workspace.result("r", "em")).label("cells"), Box.of_shape(SHAPE)):
        file.unlink()
    again = divide(workspace)
    assert (again.computed, again.membrane_fraction) == (found.blocks, found.membrane_fraction)
    assert rows_of(workspace) == rows
    for one, same in zip(held, written(workspace), strict=True):
        np.testing.assert_array_equal(one, same)
    # Nothing is left where the work was kept.
    assert {path.name.split(".")[-1] for path in workspace.run("r").iterdir()} <= {"sqlite", "json", "zarr"}


@pytest.mark.usefixtures("on_disk")
def test_a_disk_that_is_too_full_to_work_on_is_named(workspace, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwritev", refuse)
    with pytest.raises(WorkspaceError, match="the disk is full"):
        divide(workspace)


@pytest.mark.usefixtures("on_disk")
def test_one_large_block_is_held_at_a_time(workspace, monkeypatch, tmp_path):
    monkeypatch.setattr("segem.io.shards._SHARD_VOXELS", 1)
    divide(workspace)
    other = segmented(tmp_path / "other")
    made = []

    def watched(*of):
        box = ScratchBox(*of)
        made.append(weakref.ref(box))
        # Cells and mask of a block, made one after the other. A thread lets go of those before a moment after it has
        # said that they are written.
        wait_for(lambda: sum(one() is not None for one in made) == 2 - len(made) % 2, 30)
        return box

    monkeypatch.setattr(arithmetic, "ScratchBox", watched)
    assert divide(other).blocks == SHAPE[0]
    assert len(made) == 2 * SHAPE[0]
    for one, same in zip(written(workspace), written(other), strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_plan_of_sections_covers_each_voxel_once():
    for shape, shard in (
        ((7, 300, 90), (2, 256, 256)),
        ((3, 5, 5), (3, 256, 256)),
        ((9, 5000, 2048), (1, 2048, 2048)),
    ):
        blocks = list(plan_sections(shape, shard).blocks())
        assert all(block.write.shape[1:] == shape[1:] and block.read == block.write for block in blocks)
        assert sum(block.write.size for block in blocks) == Box.of_shape(shape).size


def test_finished_blocks_are_skipped_and_other_settings_refused(workspace):
    divide(workspace)
    assert divide(workspace).skipped == 1
    other = CellsConfig(merge_below=0.6, sigma_px=1.0)
    with pytest.raises(ConfigError, match="holds a division into cells made in another way"):
        divide(workspace, other)
    assert divide(workspace, other, replace=True).computed == 1


def test_the_model_says_where_to_divide_unless_the_user_does(workspace):
    assert divide(workspace, CellsConfig()).merge_below == THRESHOLD
    add_model(workspace, "r", "em", None, threshold=THRESHOLD, facts={"merge_below": 0.45})
    assert divide(workspace, CellsConfig()).merge_below == 0.45
    assert divide(workspace, CellsConfig(merge_below=0.3), replace=True).merge_below == 0.3


def test_damage_is_named_and_mended(workspace):
    divide(workspace)
    before = written(workspace)
    result = Volume.open(workspace.result("r", "em"))
    # Not the first of the files that the block is written into.
    shard_files(result.label("membrane-closed"), Box.of_shape(SHAPE))[-1].unlink()
    assert [fault.what for fault in verify("r", workspace)] == ["cells block (0, 0, 0): its file is missing"]
    mended = repair("r", workspace, QUIET)
    assert (len(mended.repaired), mended.left) == (1, ())
    damaged = shard_path(result.label("cells"), Box.of_shape(SHAPE))
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    assert [fault.step for fault in verify("r", workspace)] == ["cells"]
    assert repair("r", workspace, QUIET).left == ()
    for one, same in zip(before, written(workspace), strict=True):
        np.testing.assert_array_equal(one, same)


def test_layers_that_are_gone_are_named_and_made_again(workspace):
    divide(workspace)
    before = written(workspace)
    labels = workspace.result("r", "em") / "labels" / "zarr.json"
    metadata = json.loads(labels.read_text())
    metadata["attributes"]["ome"]["labels"].remove("cells")
    labels.write_text(json.dumps(metadata))
    assert [fault.what for fault in verify("r", workspace)] == ["the layer cells is gone"]
    assert repair("r", workspace, QUIET).left == ()
    for one, same in zip(before, written(workspace), strict=True):
        np.testing.assert_array_equal(one, same)


def test_cells_of_a_probability_that_has_changed_are_found_out(workspace, tmp_path):
    divide(workspace)
    assert evaluate("r", workspace).volumes[0].scores.closed is not None
    replace_probability(workspace)
    (fault,) = verify("r", workspace)
    assert "out of date: the probability has changed since; run `segem cells em --of r` again" in fault.what
    (scored,) = evaluate("r", workspace).volumes
    assert scored.scores.closed is None
    assert scored.scores.model is not None
    assert any("no cells: the probability has changed" in warning for warning in scored.warnings)
    with pytest.raises(ConfigError, match="the probability has changed since"):
        export("r", "em", "cells", tmp_path / "cells.tif", workspace)
    divide(workspace)
    assert verify("r", workspace) == []
    assert evaluate("r", workspace).volumes[0].scores.closed is not None


def test_the_closed_mask_is_scored_beside_the_plain_one(workspace):
    (before,) = evaluate("r", workspace).volumes
    divide(workspace)
    (after,) = evaluate("r", workspace).volumes
    assert before.scores.closed is None
    assert after.scores.model == before.scores.model
    assert after.warnings == before.warnings
    truth = np.asarray(Volume.open(workspace.volume("em")).label("truth")[:])
    sums, confusion = SegmentationSums.nothing(), Confusion()
    for section, closed in zip(truth, written(workspace)[1], strict=True):
        sums += SegmentationSums.count(section, closed * 255)
        confusion += Confusion.count(section, closed)
    found = after.scores.closed
    assert (found.iou, found.v_rand) == (confusion.iou, sums.best("rand").value)
    assert found.v_info == sums.best("information").value != after.scores.model.v_info


def test_the_closed_mask_has_intervals_and_pictures_like_the_plain_one(tmp_path):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((6, 144, 144))
    add_volume(space, "em", image, truth, voxel_nm=(50, 16, 16))
    add_model(space, "r", "em", guess(truth), threshold=THRESHOLD)
    enter_in_ledger(space)
    divide(space)
    result = report("r", space)
    (volume,) = read_report(result.json.parent).volumes
    closed, plain = volume.closed_intervals, volume.intervals
    assert closed.keys() == plain.keys()
    for score, interval in closed.items():
        assert isinstance(interval, Interval)
        assert interval.low <= getattr(volume.scores.closed, score) <= interval.high
    assert closed["recall"] != plain["recall"], "lines were drawn"
    tp, fp, fn = np.sum(volume.blocks.closed, axis=0)
    assert tp / (tp + fp + fn) == volume.scores.closed.iou
    (row,) = (row for row in result.csv.read_text().splitlines() if row.startswith("em,all,closed,unet-em,iou,"))
    assert row.endswith(f"{closed['iou'].low:.6f},{closed['iou'].high:.6f}")
    names = {path.name.partition("-")[2] for path in (result.index.parent / "pictures").iterdir()}
    for z in choose_sections(volume):
        assert {
            f"{z:04d}-model.png",
            f"{z:04d}-errors.jpg",
            f"{z:04d}-closed.png",
            f"{z:04d}-closed-errors.jpg",
        } <= names
    page = result.index.read_text()
    assert page.count("Errors of the closed mask") >= len(choose_sections(volume))
    with Image.open(result.index.parent / "pictures" / f"em-{z:04d}-closed.png") as picture:
        drawn = np.asarray(picture) == 0
    assert np.array_equal(drawn, written(space)[1][z] != 0)


def test_a_campaign_that_resumes_leaves_cells_as_they_are(workspace):
    divide(workspace)
    enter_volumes(workspace, "r", ["em"])
    steps = load_run(workspace, "r").volumes["em"].steps
    assert {name: step.state for name, step in steps.items()} == {"segment": "waiting", "cells": "complete"}


def test_every_layer_is_exported(workspace, tmp_path):
    import tifffile

    with pytest.raises(ConfigError, match="segem cells em --of r"):
        export("r", "em", "cells", tmp_path / "cells.tif", workspace)
    divide(workspace)
    export("r", "em", "cells", tmp_path / "cells.tif", workspace)
    export("r", "em", "membrane-closed", tmp_path / "closed.tif", workspace)
    cells, closed = written(workspace)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "cells.tif"), cells)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "closed.tif"), closed * 255)


def test_what_is_outside_is_in_no_cell(tmp_path):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue(SHAPE)
    outside = np.zeros(SHAPE, np.uint8)
    outside[:, :, 40:] = 1
    source = add_volume(space, "em", image, truth)
    hide(source, outside)
    source.build_pyramid()
    source.build_pyramid("truth")
    source.build_pyramid("outside")
    add_model(space, "r", "em", np.where(outside == 1, np.uint8(0), guess(truth)))
    enter_in_ledger(space)
    divide(space)
    cells, _ = written(space)
    assert not cells[outside == 1].any()
    assert cells[outside == 0].all()


def test_what_cannot_be_divided(workspace):
    with pytest.raises(WorkspaceError, match="no such run"):
        find_cells_of_run("em", "gone", CONFIG, QUIET, workspace)
    add_model(workspace, "broken", "em", None, state="failed", reason="a disk was full")
    with pytest.raises(WorkspaceError, match="a disk was full"):
        find_cells_of_run("em", "broken", CONFIG, QUIET, workspace)
    with volume_lock(workspace, "r", "em"), pytest.raises(SegemError, match="another process"):
        divide(workspace)


def test_a_lost_probability_is_an_error_not_one_cell(workspace):
    result = Volume.open(workspace.result("r", "em"))
    next(path for path in (result.path / "0" / "c").rglob("*") if path.is_file()).unlink()
    with pytest.raises(SegemError, match="missing"):
        divide(workspace)
    assert load_run(workspace, "r").volumes["em"].cells.state == "failed"

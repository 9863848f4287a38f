from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr

from segem.config import BaselineConfig
from segem.errors import InputError, SegemError, WorkspaceError
from segem.geometry import VoxelSize, grid
from segem.io.run import load_run, volume_lock
from segem.io.volume import Volume, create_volume, write_block
from segem.io.workspace import Workspace
from segem.kernels.kmeans import fit_two_means, mark_membrane, smooth
from segem.kernels.normalize import IntensityStatistics, histogram
from segem.stages.segmentation.baseline import BaselineResult, baseline
from segem.stages.segmentation.verify import verify

RAW = BaselineConfig()


@pytest.fixture
def workspace(tmp_path):
    space = Workspace(tmp_path / "workspace")
    space.prepare()
    return space


def store(workspace, image, name="em"):
    volume = create_volume(
        workspace.volume(name),
        shape=image.shape,
        dtype=image.dtype,
        voxel_size=VoxelSize(50, 4, 4),
        labels={},
        attributes={"statistics": IntensityStatistics.from_histogram(histogram(image)).to_dict()},
    )
    for _, box in grid(image.shape, volume.write_block):
        write_block(volume.raw, box, np.ascontiguousarray(image[box.slices]))
    return volume


def label_of(workspace, run="r", name="em"):
    return np.asarray(Volume.open(workspace.result(run, name)).label("baseline")[:])


def test_one_clustering_worked_by_hand_for_all_sections(workspace):
    # Section 0 alone would be cut between 10 and 20; all sections together are cut between 20 and 100.
    image = np.array([[[10, 20], [20, 20]], [[100, 100], [100, 100]]], np.uint8)
    store(workspace, image)
    found = baseline("em", "r", RAW, workspace)
    assert found == BaselineResult(0.5, dark=17.5, bright=100.0, threshold=58.75, blocks=1, computed=1, skipped=0)
    np.testing.assert_array_equal(label_of(workspace), image < 58.75)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("sigma_px", [0.0, 2.0])
def test_blocks_give_what_the_whole_volume_gives(workspace, monkeypatch, dtype, sigma_px):
    monkeypatch.setattr("segem.io.shards._SHARD_EDGE", 256)
    image = np.random.default_rng(3).integers(0, 250, (3, 300, 530)).astype(dtype)
    volume = store(workspace, image)
    assert volume.write_block == (3, 256, 256)
    found = baseline("em", "r", BaselineConfig(sigma_px=sigma_px), workspace)
    whole = np.stack([smooth(section, sigma_px) for section in image])
    means = fit_two_means(histogram(whole))
    assert (found.dark, found.bright, found.threshold) == (means.dark, means.bright, means.threshold)
    np.testing.assert_array_equal(label_of(workspace), mark_membrane(whole, means))
    assert found.membrane_fraction == label_of(workspace).mean()


def test_a_constant_volume_has_no_membrane(workspace):
    store(workspace, np.full((2, 5, 6), 9, np.uint8))
    found = baseline("em", "r", RAW, workspace)
    assert (found.membrane_fraction, found.dark, found.bright, found.threshold) == (0.0, 9.0, 9.0, 9.0)
    assert not label_of(workspace).any()


def test_the_pyramid_keeps_thin_membrane(workspace):
    image = np.full((1, 400, 400), 200, np.uint8)
    image[0, 137] = 20
    store(workspace, image)
    baseline("em", "r", RAW, workspace)
    coarser = np.asarray(zarr.open_array(workspace.result("r", "em") / "labels" / "baseline" / "1", mode="r")[:])
    assert coarser.shape == (1, 200, 200)
    assert coarser[0, 68].all()
    assert coarser.sum() == 200


def test_the_run_remembers_what_was_found(workspace):
    store(workspace, np.array([[[0, 0, 90, 90]]], np.uint8))
    baseline("em", "r", RAW, workspace)
    record = load_run(workspace, "r").volumes["em"].baseline
    assert record.state == "complete"
    facts = record.facts
    assert (facts.membrane_fraction, facts.dark, facts.bright, facts.threshold) == (0.5, 0.0, 90.0, 45.0)
    assert (facts.method, facts.blocks, facts.computed, facts.skipped) == ("kmeans", 1, 1, 0)
    (fault,) = [f for f in verify("r", workspace) if f.part == "step"] or [None]
    assert fault is None
    assert record.config == RAW.model_dump(mode="json")


def test_a_second_time_gives_the_same(workspace):
    store(workspace, np.random.default_rng(0).integers(0, 256, (2, 20, 20)).astype(np.uint8))
    first = baseline("em", "r", RAW, workspace)
    before = label_of(workspace)
    again = baseline("em", "r", RAW, workspace)
    assert (again.computed, again.skipped) == (0, 1)
    assert replace(again, computed=1, skipped=0) == first
    np.testing.assert_array_equal(label_of(workspace), before)


def test_a_volume_that_was_never_ingested(workspace):
    with pytest.raises(InputError, match="segem ingest"):
        baseline("nowhere", "r", RAW, workspace)


def test_a_lost_block_is_an_error_not_darkness(workspace):
    volume = store(workspace, np.full((1, 20, 20), 200, np.uint8))
    next(path for path in (volume.path / "0" / "c").rglob("*") if path.is_file()).unlink()
    with pytest.raises(WorkspaceError, match="missing"):
        baseline("em", "r", RAW, workspace)
    record = load_run(workspace, "r").volumes["em"].baseline
    assert record.state == "failed"
    assert "missing" in record.reason


def test_a_flipped_bit_is_an_error(workspace):
    volume = store(workspace, np.random.default_rng(0).integers(0, 256, (1, 256, 256)).astype(np.uint8))
    shard = next(path for path in (volume.path / "0" / "c").rglob("*") if path.is_file())
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(WorkspaceError, match="cannot be read"):
        baseline("em", "r", RAW, workspace)


def test_a_volume_another_process_writes_is_left_alone(workspace):
    store(workspace, np.zeros((1, 4, 4), np.uint8))
    with volume_lock(workspace, "r", "em"), pytest.raises(SegemError, match="another process"):
        baseline("em", "r", RAW, workspace)

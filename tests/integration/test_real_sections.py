"""What the bundled model does on real sections, whole and in tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from segem.config import ExecutionConfig, IngestConfig, LabelSource, SegmentConfig
from segem.geometry import ZYX, Halo
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.kmeans import fit_two_means, mark_membrane
from segem.kernels.metrics.iou import Confusion
from segem.kernels.normalize import histogram
from segem.learn.artefact import find_model, geometry_of, load_net
from segem.learn.engine import Engine, choose_device
from segem.plan import Plan, blend_tiling, crop_tiling
from segem.stages.segmentation.segment import segment
from segem.stages.volumes.ingest import ingest


@pytest.fixture(scope="module")
def isbi(em_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    workspace = Workspace(tmp_path_factory.mktemp("real"))
    source = em_data / "isbi2012"
    labels = LabelSource(source=source / "train-labels.tif", membrane="zero")
    config = IngestConfig(name="isbi", source=source / "train-volume.tif", voxel_nm=(50, 4, 4), labels=labels)
    return Volume.open(ingest(config, workspace).path)


def predict(volume: Volume, plan: Plan, z: int) -> np.ndarray:
    artefact = find_model("unet-em")
    section = np.asarray(volume.raw[z : z + 1])
    out = np.empty(plan.shape, np.float32)
    # The section stands for its neighbours too, as at the end of a stack.
    with Engine(load_net(artefact), choose_device("cpu"), geometry_of(artefact.card).context_sections) as engine:
        for block in plan.blocks():
            voxels = section[block.read.slices]
            out[block.write.slices] = engine.predict_block(plan, block, voxels, volume.statistics)
    return out


# 489 x 505 is no multiple of the stride, and with 128 px the last row of cores is 105 px high.
@pytest.mark.parametrize("shape", [(1, 512, 512), (1, 489, 505)])
@pytest.mark.parametrize("tile_px", [128, 256])
def test_tiled_crop_output_equals_the_whole_section(isbi: Volume, tile_px: int, shape: ZYX) -> None:
    geometry = geometry_of(find_model("unet-em").card)
    assert geometry.halo_px is not None
    halo = Halo(0, geometry.halo_px, geometry.halo_px)
    whole = Plan(shape, shape, crop_tiling(shape, shape, halo, geometry.stride_px))
    tiled = Plan(shape, (1, 256, 256), crop_tiling(shape, (1, 256, 256), halo, geometry.stride_px, tile_px))
    assert whole.overhead() == 1 < tiled.overhead()
    # The rim is no exception: where the section ends, a tile is cut and not filled up.
    assert np.abs(predict(isbi, whole, 20) - predict(isbi, tiled, 20)).max() <= 1e-5


def test_blended_output_is_close_but_not_equal(isbi: Volume) -> None:
    shape, geometry = (1, 512, 512), geometry_of(find_model("unet-em").card)
    whole = Plan(shape, shape, crop_tiling(shape, shape, Halo(), geometry.stride_px, 512))
    blended = Plan(shape, shape, blend_tiling(shape, geometry.stride_px, 256, 0.5))
    difference = np.abs(predict(isbi, whole, 20) - predict(isbi, blended, 20))
    assert difference.max() > 1e-5
    assert difference.mean() < 0.02


@pytest.fixture(scope="module")
def vnc(em_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    workspace = Workspace(tmp_path_factory.mktemp("real"))
    labels = LabelSource(source=em_data / "vnc" / "stack1" / "membranes", membrane="nonzero")
    source = em_data / "vnc" / "stack1" / "raw"
    config = IngestConfig(name="stack1", source=source, voxel_nm=(50, 4.6, 4.6), labels=labels)
    return Volume.open(ingest(config, workspace).path)


@pytest.mark.parametrize(("name", "expected"), [("isbi", 0.406), ("vnc", 0.439)])
def test_kmeans_of_a_whole_stack_reaches_the_known_iou(
    request: pytest.FixtureRequest, name: str, expected: float
) -> None:
    volume: Volume = request.getfixturevalue(name)
    sections = [np.asarray(volume.raw[z]) for z in range(volume.shape[0])]
    truth = volume.label("truth")
    means = fit_two_means(np.sum([histogram(section) for section in sections], 0))
    total = sum(
        (Confusion.count(np.asarray(truth[z]), mark_membrane(s, means)) for z, s in enumerate(sections)), Confusion()
    )
    assert total.iou == pytest.approx(expected, abs=0.003)


def test_the_model_beats_kmeans_on_a_section_it_never_saw(isbi: Volume) -> None:
    shape, geometry = (1, 512, 512), geometry_of(find_model("unet-em").card)
    plan = Plan(shape, shape, crop_tiling(shape, shape, Halo(), geometry.stride_px, 512))
    threshold = find_model("unet-em").card.threshold
    truth = np.asarray(isbi.label("truth")[22])
    mask = (predict(isbi, plan, 22)[0] >= threshold).astype(np.uint8)
    assert Confusion.count(truth, mask).iou > 0.6


def test_the_open_model_knows_a_mouse_that_it_has_not_seen(em_data: Path, tmp_path: Path) -> None:
    """AC3 is another volume of the tissue that it learned from."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "ids").mkdir()
    for kind in ("raw", "ids"):
        for path in sorted((em_data / "snemi" / "ac3" / kind).iterdir())[3:6]:
            tifffile.imwrite(tmp_path / kind / path.name, tifffile.imread(path)[256:768, 256:768])
    labels = LabelSource(source=tmp_path / "ids", membrane="borders", border_nm=24, zero_means="membrane_with_border")
    workspace = Workspace(tmp_path / "w")
    ingest(IngestConfig(name="ac3", source=tmp_path / "raw", voxel_nm=(30, 6, 6), labels=labels), workspace)
    segment("ac3", "r", SegmentConfig(model="unet-em-open"), ExecutionConfig(device="cpu"), workspace)
    volume = Volume.open(workspace.volume("ac3"))
    image, truth = np.asarray(volume.raw[:]), np.asarray(volume.label("truth")[:])
    found = Confusion.count(truth, np.asarray(Volume.open(workspace.result("r", "ac3")).label("membrane")[:])).iou
    clustered = Confusion.count(truth, mark_membrane(image, fit_two_means(histogram(image)))).iou
    assert found > clustered + 0.2

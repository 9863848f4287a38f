"""What is no tissue takes no part in statistics, truth, masks and scores, and is the same however a source is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from segem.config import BaselineConfig, IngestConfig, LabelSource
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.iou import Confusion
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.verify import verify
from segem.stages.volumes import slabs
from segem.stages.volumes.ingest import IngestResult, ingest
from tests.fabricate import tissue

DEPTH, SIDE, EDGE = 3, 256, 512
PLACE = slice(100, 100 + SIDE)


def voxels(array: Any) -> NDArray[Any]:
    return np.asarray(array[:])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


@pytest.fixture(scope="module")
def cells() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image, truth = tissue((DEPTH, SIDE, SIDE))
    # Zero is what canvases are filled with; tissue of that value beside it would belong to it.
    return np.maximum(image, 1), truth


def stored(folder: Path, name: str, data: NDArray[Any]) -> Path:
    tifffile.imwrite(folder / name, data, photometric="minisblack")
    return folder / name


def run(workspace: Workspace, name: str, source: Path, labels: Path | None = None, **more: Any) -> IngestResult:
    labelled = None if labels is None else LabelSource(source=labels, membrane=1)
    config = IngestConfig(name=name, source=source, voxel_nm=(50, 4, 4), labels=labelled, **more)
    return ingest(config, workspace)


def on_canvas(data: NDArray[Any], value: int = 0) -> NDArray[Any]:
    canvas = np.full((DEPTH, EDGE, EDGE), value, data.dtype)
    canvas[:, PLACE, PLACE] = data
    return canvas


def padding() -> NDArray[np.bool_]:
    """Return what `on_canvas` leaves outside."""
    outside = np.ones((DEPTH, EDGE, EDGE), bool)
    outside[:, PLACE, PLACE] = False
    return outside


@pytest.mark.parametrize("value", [0, 255])
def test_a_canvas_is_known_by_its_tissue(tmp_path: Path, workspace: Workspace, cells, value: int) -> None:
    image, truth = np.minimum(cells[0], 254), cells[1]
    source = stored(tmp_path, "canvas.tif", on_canvas(image, value))
    result = run(workspace, "canvas", source, stored(tmp_path, "t.tif", on_canvas(truth)))
    volume, outside = Volume.open(result.path), padding()
    assert volume.outside is not None
    assert np.array_equal(voxels(volume.outside), outside)
    within = on_canvas(image)[~outside]
    assert volume.statistics.mean == pytest.approx(within.mean())
    assert volume.statistics.std == pytest.approx(within.std())
    share = outside.mean()
    facts = volume.attributes["outside"]
    assert facts["voxels"] == volume.outside_voxels == outside.sum()
    assert facts["fraction"] == pytest.approx(share)
    assert facts["sections"] == {str(z): pytest.approx(share) for z in range(DEPTH)}
    assert any(f"{share:.1%} of the volume".replace("%", " %") in warning for warning in result.warnings)
    # Nothing is known there, whatever the labels say, so neither training nor scores count it.
    labelled = voxels(volume.label("truth"))
    assert (labelled[outside] == 2).all()
    assert np.array_equal(labelled[~outside], on_canvas(truth)[~outside])
    assert volume.attributes["labels"]["known_fraction"] == pytest.approx(1 - share)
    assert volume.attributes["labels"]["membrane_fraction"] == pytest.approx(on_canvas(truth)[~outside].mean())
    # The voxels themselves are those of the source.
    assert np.array_equal(voxels(volume.raw), on_canvas(image, value))


@pytest.mark.parametrize("method", ["kmeans", "kmeans-features", "watershed"])
def test_no_membrane_is_found_outside(tmp_path: Path, workspace: Workspace, cells, method: str) -> None:
    image, truth = cells
    run(workspace, "clean", stored(tmp_path, "clean.tif", image))
    run(workspace, "canvas", stored(tmp_path, "canvas.tif", on_canvas(image)))
    config = BaselineConfig(method=method)
    found = {name: baseline(name, name, config, workspace) for name in ("clean", "canvas")}
    clean, canvas = (voxels(Volume.open(workspace.result(name, name)).label("baseline")) for name in found)
    outside = padding()
    assert not canvas[outside].any()
    ious = [Confusion.count(truth, mask).iou for mask in (clean, canvas[:, PLACE, PLACE])]
    if method == "kmeans":
        assert np.array_equal(canvas[:, PLACE, PLACE], clean)
    # The other methods look around, and an eighth of this small tissue lies within 8 px of its border.
    assert ious[1] > ious[0] - 0.04
    assert found["canvas"].membrane_fraction == pytest.approx(canvas.sum() / (~outside).sum())
    assert verify("canvas", workspace) == []


def test_a_black_section_is_no_tissue(tmp_path: Path, workspace: Workspace, cells) -> None:
    image, truth = cells[0].copy(), cells[1]
    image[1] = 0
    result = run(workspace, "v", stored(tmp_path, "a.tif", image), stored(tmp_path, "t.tif", truth))
    volume = Volume.open(result.path)
    assert volume.outside is not None
    assert voxels(volume.outside).mean(axis=(1, 2)).tolist() == [0, 1, 0]
    assert volume.statistics.mean == pytest.approx(image[[0, 2]].mean())
    assert volume.attributes["labels"]["unknown_sections"] == [1]
    # Said once, as a section of one intensity.
    assert len(result.warnings) == 1
    assert baseline("v", "r", BaselineConfig(), workspace).membrane_fraction > 0
    assert not voxels(Volume.open(workspace.result("r", "v")).label("baseline"))[1].any()


def test_tissue_alone_has_no_such_label(tmp_path: Path, workspace: Workspace, cells) -> None:
    volume = Volume.open(run(workspace, "v", stored(tmp_path, "a.tif", cells[0])).path)
    assert volume.labels() == []
    assert volume.outside is None
    assert "outside" not in volume.attributes
    assert volume.outside_voxels == 0


def test_hot_pixels_and_a_scale_bar_change_nothing_around_them(tmp_path: Path, workspace: Workspace, cells) -> None:
    image = cells[0].astype(np.uint16) + 1000
    struck = image.copy()
    hot = np.random.default_rng(0).random(image.shape) < 1e-3
    struck[hot] = 65535
    struck[:, 200:224, 40:200] = 65535
    for name, data in (("clean", image), ("struck", struck)):
        run(workspace, name, stored(tmp_path, f"{name}.tif", data))
        baseline(name, name, BaselineConfig(), workspace)
    clean, after = (Volume.open(workspace.volume(name)).statistics for name in ("clean", "struck"))
    assert after.mean == pytest.approx(clean.mean, abs=0.5)
    assert after.std == pytest.approx(clean.std, rel=0.01)
    masks = [voxels(Volume.open(workspace.result(name, name)).label("baseline")) for name in ("clean", "struck")]
    elsewhere = ~hot
    elsewhere[:, 197:227, 37:203] = False
    assert (masks[0] == masks[1])[elsewhere].mean() > 0.995


@pytest.mark.parametrize(
    ("dtype", "slab_bytes", "chunks"),
    [
        ("u1", 1, (1, 700, 300)),
        ("u1", 2**16, (2, 64, 64)),
        ("u2", 2**18, (4, 64, 64)),
        ("u2", 1, (3, 100, 300)),
        ("u1", 2**20, None),
    ],
)
def test_a_volume_does_not_depend_on_how_its_source_is_read(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, dtype: str, slab_bytes: int, chunks
) -> None:
    # Shards of 256 x 256, so that a section has several.
    monkeypatch.setattr("segem.io.shards._SHARD_EDGE", 256)
    monkeypatch.setattr("segem.io.shards._SHARD_VOXELS", 2 * 2**16)
    data = np.random.default_rng(0).integers(0, 200, (5, 700, 300)).astype(dtype)
    data[:3, 250:520, :140] = 255
    data[4] = 9
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=data, chunks=chunks)
        file.create_dataset("truth", data=(data > 100).astype(np.uint8))
    noted = []
    for name, limit in (("whole", 2**27), ("cut", slab_bytes)):
        monkeypatch.setattr(slabs, "SLAB_BYTES", limit)
        labels = LabelSource(source=tmp_path / "a.h5", dataset="truth", membrane=1)
        config = IngestConfig(name=name, source=tmp_path / "a.h5", dataset="raw", voxel_nm=(50, 4, 4), labels=labels)
        volume = Volume.open(ingest(config, workspace).path)
        assert volume.outside is not None
        assert np.array_equal(voxels(volume.raw), data)
        same = volume.attributes
        layers = {label: voxels(volume.label(label)) for label in volume.labels()}
        noted.append(({key: same[key] for key in same if key not in ("config_hash", "settings")}, layers))
    assert noted[0][0] == noted[1][0]
    assert noted[0][1].keys() == noted[1][1].keys() == {"truth", "outside"}
    for label, layer in noted[0][1].items():
        assert np.array_equal(layer, noted[1][1][label])


def strip_of_noise(image: NDArray[Any], value: int) -> NDArray[Any]:
    spoiled = image.copy()
    spoiled[..., :40] = np.random.default_rng(2).integers(value - 2, value + 3, spoiled[..., :40].shape)
    return spoiled


def test_padding_with_noise_is_outside(tmp_path: Path, workspace: Workspace, cells) -> None:
    image, truth = np.maximum(cells[0], 30), cells[1]
    image[1] = np.roll(image[1], 3)
    source = stored(tmp_path, "a.tif", strip_of_noise(image, 2))
    result = run(workspace, "v", source, stored(tmp_path, "t.tif", truth))
    volume = Volume.open(result.path)
    assert volume.outside is not None
    outside = voxels(volume.outside) != 0
    assert outside[..., :40].all()
    assert outside[..., 44:].sum() == 0
    assert volume.statistics.mean == pytest.approx(image[..., 42:].mean(), rel=0.02)
    assert any("no tissue" in warning for warning in result.warnings)
    baseline("v", "r", BaselineConfig(), workspace)
    assert not voxels(Volume.open(workspace.result("r", "v")).label("baseline"))[outside].any()


def test_a_strip_that_may_be_tissue_is_asked_about(tmp_path: Path, workspace: Workspace, cells) -> None:
    image = np.maximum(cells[0], 30)
    image[1] = strip_of_noise(image, int(np.median(image)))[1]
    result = run(workspace, "v", stored(tmp_path, "a.tif", image))
    volume = Volume.open(result.path)
    assert volume.outside is None
    (warning,) = (one for one in result.warnings if "flat along" in one)
    assert "1 of 3 sections" in warning
    assert "--box" in warning
    flags = [(flag["section"], flag["kind"]) for flag in volume.attributes["quality"]["flags"]]
    assert (1, "flat") in flags


def test_a_lost_section_with_noise_is_told(tmp_path: Path, workspace: Workspace, cells) -> None:
    image = cells[0].copy()
    image[2] = np.random.default_rng(2).integers(0, 5, image[2].shape)
    result = run(workspace, "v", stored(tmp_path, "a.tif", image))
    assert any("1 of 3 sections hold almost one intensity only" in warning for warning in result.warnings)


def test_a_flat_edge_is_found_however_the_source_is_read(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segem.io.shards._SHARD_EDGE", 256)
    monkeypatch.setattr("segem.io.shards._SHARD_VOXELS", 2 * 2**16)
    rng = np.random.default_rng(0)
    data = rng.integers(40, 200, (2, 604, 300)).astype(np.uint8)
    data[:, 540:] = rng.integers(0, 5, (2, 64, 300))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=data, chunks=(1, 100, 64))
    for name, limit in (("whole", 2**27), ("cut", 1)):
        monkeypatch.setattr(slabs, "SLAB_BYTES", limit)
        config = IngestConfig(name=name, source=tmp_path / "a.h5", dataset="raw", voxel_nm=(50, 4, 4))
        volume = Volume.open(ingest(config, workspace).path)
        assert volume.outside is not None
        assert np.array_equal(voxels(volume.outside) != 0, data < 5)

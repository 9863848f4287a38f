"""Intensities of every type become a volume, and their values can be restored from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from segem.config import BaselineConfig, IngestConfig
from segem.errors import ConfigError, InputError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.verify import verify
from segem.stages.volumes.ingest import IngestResult, ingest
from tests.fabricate import tissue

SHAPE = (2, 128, 160)


def voxels(array: Any) -> NDArray[Any]:
    return np.asarray(array[:])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


@pytest.fixture(scope="module")
def grey() -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = tissue(SHAPE)[0]
    return image


def run(workspace: Workspace, folder: Path, data: NDArray[Any], name: str = "v", **more: Any) -> IngestResult:
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["raw"] = data
    return ingest(IngestConfig(name=name, source=folder / f"{name}.h5", voxel_nm=(50, 4, 4), **more), workspace)


def restore(volume: Volume) -> NDArray[np.float64]:
    noted = volume.attributes.get("intensities", {"offset": 0, "scale": 1})
    return np.asarray(noted["offset"] + noted["scale"] * voxels(volume.raw).astype(np.float64))


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda grey: grey > 128, np.uint8),
        (lambda grey: (grey.astype(np.int16) - 128).astype(np.int8), np.uint8),
        (lambda grey: grey.astype(np.int16) * 100 - 9000, np.uint16),
        (lambda grey: grey.astype(np.uint32) + 10**6, np.uint8),
        (lambda grey: grey.astype(np.int64) * 200, np.uint16),
        (lambda grey: grey.astype(np.float16), np.uint8),
        (lambda grey: grey.astype(np.float64) * 10, np.uint16),
    ],
)
def test_types_whose_values_fit_are_exact(tmp_path: Path, workspace: Workspace, grey, change, dtype: type) -> None:
    data = change(grey)
    result = run(workspace, tmp_path, data)
    volume = Volume.open(result.path)
    assert volume.dtype == dtype
    assert np.array_equal(restore(volume), data.astype(np.float64))
    assert volume.attributes["intensities"]["source_dtype"] == str(data.dtype)
    # Of all these, the one of truth values alone looks like labels.
    assert ["two values" in warning for warning in result.warnings] == [True] * (data.dtype == bool)
    assert run(workspace, tmp_path, data).skipped is False, "the file was written anew"


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_fractions_give_the_same_mask(tmp_path: Path, workspace: Workspace, grey, kind: type) -> None:
    data = (grey / 255 * 0.01 - 5).astype(kind)
    run(workspace, tmp_path, grey, "grey")
    volume = Volume.open(run(workspace, tmp_path, data).path)
    scale = volume.attributes["intensities"]["scale"]
    assert np.abs(restore(volume) - data).max() <= scale
    assert 0 < scale < 1e-6
    for name in ("grey", "v"):
        baseline(name, name, BaselineConfig(), workspace)
    masks = [voxels(Volume.open(workspace.result(name, name)).label("baseline")) for name in ("grey", "v")]
    assert (masks[0] == masks[1]).mean() > 0.999


@pytest.mark.parametrize("read", ["<i2", ">i2"])
def test_numbers_that_wrapped_around_are_told(tmp_path: Path, workspace: Workspace, grey, read: str) -> None:
    data = (20_000 + 120 * grey.astype(np.uint16)).astype(f"{read[0]}u2")
    assert run(workspace, tmp_path, data).warnings == ()
    (warning,) = run(workspace, tmp_path, data.view(read), "wrapped").warnings
    assert warning.startswith("intensities of type int16 lie at both ends of its range, as if written as uint16")


def test_what_is_not_a_number_is_no_tissue(tmp_path: Path, workspace: Workspace, grey) -> None:
    data = grey.astype(np.float32) / 7
    data[0, 10:50, 20:90] = np.nan
    data[1, 3, 4] = np.inf
    lost = ~np.isfinite(data)
    result = run(workspace, tmp_path, data)
    volume = Volume.open(result.path)
    assert volume.outside is not None
    assert voxels(volume.outside)[lost].all()
    assert volume.outside_voxels < 1.3 * lost.sum()
    assert any(f"{lost.sum()} voxels are NaN or infinite" in warning for warning in result.warnings)
    assert np.abs(restore(volume) - data)[~lost].max() <= volume.attributes["intensities"]["scale"]
    baseline("v", "r", BaselineConfig(), workspace)
    assert not voxels(Volume.open(workspace.result("r", "v")).label("baseline"))[lost].any()
    assert verify("r", workspace) == []


def test_nothing_but_nan_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"v.h5: not one voxel is a number") as caught:
        run(workspace, tmp_path, np.full(SHAPE, np.nan, np.float32))
    assert "\n" not in str(caught.value)
    assert list((workspace.root / "volumes").iterdir()) == []


def test_a_type_that_is_no_intensity_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=np.ones(SHAPE, np.complex64))
    with pytest.raises(InputError, match=r"expected axes z, y, x of numbers, found .* complex64"):
        ingest(IngestConfig(name="v", source=tmp_path / "a.zarr", voxel_nm=(50, 4, 4)), workspace)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_window_bounds_what_is_computed(tmp_path: Path, workspace: Workspace, grey, dtype: type) -> None:
    volume = Volume.open(run(workspace, tmp_path, grey.astype(dtype), window=(60, 200)).path)
    assert np.array_equal(voxels(volume.raw), grey)
    clipped = grey.clip(60, 200)
    assert (volume.statistics.low, volume.statistics.high) == (60, 200)
    assert volume.statistics.mean == pytest.approx(clipped.mean())
    assert volume.statistics.std == pytest.approx(clipped.std())
    assert volume.attributes["settings"]["window"] == "60,200"
    with pytest.raises(ConfigError, match="window"):
        run(workspace, tmp_path, grey.astype(dtype), window=(50, 200))


def test_a_window_of_other_types_is_one_of_their_values(tmp_path: Path, workspace: Workspace, grey) -> None:
    data = grey.astype(np.float32) / 255
    data[0, 0, 0] = 1e9
    result = run(workspace, tmp_path, data, window=(0.2, 0.8))
    volume = Volume.open(result.path)
    assert result.warnings == ()
    assert volume.attributes["intensities"]["clipped"] == [pytest.approx(0.2), pytest.approx(0.8)]
    assert np.allclose(restore(volume), data.clip(0.2, 0.8), atol=1e-4)
    assert volume.statistics.mean == pytest.approx(voxels(volume.raw).mean())
    shifted = grey.astype(np.int16) - 100
    volume = Volume.open(run(workspace, tmp_path, shifted, "shifted", window=(-50, 50)).path)
    assert np.array_equal(restore(volume), shifted)
    offset = volume.attributes["intensities"]["offset"]
    assert (volume.statistics.low + offset, volume.statistics.high + offset) == (-50, 50)


@pytest.mark.parametrize("window", [(5, 5), (9, 1), (0, float("inf")), (float("nan"), 1)])
def test_a_window_is_two_numbers_in_order(window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the lower one first"):
        IngestConfig(name="v", source=Path("a"), voxel_nm=(1, 1, 1), window=window)


def test_a_window_that_leaves_little_of_the_tissue_is_doubted_or_refused(
    tmp_path: Path, workspace: Workspace, grey
) -> None:
    narrow = run(workspace, tmp_path, grey, window=(125, 130))
    assert any(
        "% of the tissue lies beyond the window and is clipped to it: check --window" in w for w in narrow.warnings
    )
    for window in ((300, 400), (0.2, 0.8)):
        with pytest.raises(InputError, match="almost nothing of the tissue lies within the window"):
            run(workspace, tmp_path, grey, f"w{window[0]}", window=window)

"""Labels that cover a part of an image are placed by what they say of their place, and the rest is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from segem.config import IngestConfig, LabelSource
from segem.errors import InputError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.truth import UNKNOWN
from segem.stages.volumes.ingest import IngestResult, ingest

RAW = np.random.default_rng(0).integers(1, 256, (6, 40, 60), np.uint8)
IDS = np.random.default_rng(1).integers(0, 3, (3, 20, 30)).astype(np.uint64)
VOXEL = (40.0, 4.0, 4.0)


def write(path: Path, ids: np.ndarray, offset: Any = None, raw_offset: Any = None) -> Path:
    with h5py.File(path, "w") as file:
        file["raw"], file["ids"] = RAW, ids
        if offset is not None:
            file["ids"].attrs["offset"] = offset
        if raw_offset is not None:
            file["raw"].attrs["offset"] = raw_offset
    return path


def run(path: Path, **more: Any) -> IngestResult:
    labels = LabelSource(source=path, dataset="ids", membrane="zero")
    config = IngestConfig(**{"name": "v", "source": path, "dataset": "raw", "voxel_nm": VOXEL, "labels": labels} | more)
    return ingest(config, Workspace(path.parent / "w"))


def truth_of(result: IngestResult) -> np.ndarray:
    return np.asarray(Volume.open(result.path).label("truth")[:])


def test_labels_with_an_offset_cover_a_part(tmp_path: Path) -> None:
    result = run(write(tmp_path / "a.h5", IDS, offset=[80.0, 40.0, 20.0]))
    expected = np.full(RAW.shape, UNKNOWN, np.uint8)
    expected[2:5, 10:30, 5:35] = IDS == 0
    assert np.array_equal(truth_of(result), expected)
    facts = Volume.open(result.path).attributes["labels"]
    assert facts["known_fraction"] == pytest.approx(IDS.size / RAW.size)
    assert facts["unknown_sections"] == [0, 1, 5]
    assert facts["membrane_fraction"] == pytest.approx((IDS == 0).mean())
    assert any("the labels cover 12.5% of the image" in warning for warning in result.warnings)


def test_the_place_counts_from_that_of_the_image(tmp_path: Path) -> None:
    result = run(write(tmp_path / "a.h5", IDS, offset=[1080, 540, 220], raw_offset=[1000, 500, 200]))
    assert np.array_equal(truth_of(result)[2:5, 10:30, 5:35], IDS == 0)


def test_a_box_cuts_the_image_and_the_labels_alike(tmp_path: Path) -> None:
    result = run(write(tmp_path / "a.h5", IDS, offset=[80.0, 40.0, 20.0]), box="3:,20:,10:50")
    expected = np.full((3, 20, 40), UNKNOWN, np.uint8)
    expected[:2, :10, :25] = IDS[1:, 10:, 5:] == 0
    assert np.array_equal(truth_of(result), expected)
    assert Volume.open(result.path).attributes["labels"]["unknown_sections"] == [2]


def test_labels_without_a_place_have_the_shape_of_the_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the labels do not fit the image"):
        run(write(tmp_path / "a.h5", IDS))
    whole = np.resize(IDS, RAW.shape)
    for offset in (None, [0, 0, 0]):
        result = run(write(tmp_path / "b.h5", whole, offset=offset))
        assert np.array_equal(truth_of(result), whole == 0)
        assert "known_fraction" not in Volume.open(result.path).attributes["labels"]


@pytest.mark.parametrize("offset", [[40, 0, 0], [0, 0, -4], [0, 160, 0]])
def test_labels_of_the_shape_of_the_image_that_lie_elsewhere_are_refused(tmp_path: Path, offset: Any) -> None:
    with pytest.raises(InputError, match="the labels do not fit where their offset places them"):
        run(write(tmp_path / "a.h5", np.resize(IDS, RAW.shape), offset=offset))


def test_labels_of_another_voxel_size_are_not_placed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", IDS, offset=[80, 40, 20])
    with h5py.File(path, "a") as file:
        file["ids"].attrs["resolution"] = [40, 8, 8]
    with pytest.raises(InputError, match="another size than the image; expected 40, 4, 4 nm"):
        run(path)


def test_labels_between_voxels_or_outside_of_the_box_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"between the voxels of the image; .* at 80, 42, 20 nm or voxel 2, 10.5, 5"):
        run(write(tmp_path / "a.h5", IDS, offset=[80, 42, 20]))
    with pytest.raises(InputError, match="outside of what is read"):
        run(write(tmp_path / "b.h5", IDS, offset=[80, 40, 20]), box=":2,:,:")

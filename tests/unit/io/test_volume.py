"""Volumes are valid OME-Zarr 0.5, open only when whole, and say what is missing."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models
import pytest
import yaozarrs
import zarr

from segem.errors import InputError, WorkspaceError
from segem.geometry import ZYX, VoxelSize, grid
from segem.io.shards import shard_of
from segem.io.volume import Volume, create_volume, write_block
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics
from segem.kernels.pyramid import Reduction, shrink

SERIAL = VoxelSize(50.0, 4.0, 4.5)


def volume_at(path: Path, shape: ZYX = (3, 300, 600), voxel_size: VoxelSize = SERIAL, **labels: type) -> Volume:
    return create_volume(
        path, shape=shape, dtype=np.uint8, voxel_size=voxel_size, labels=labels, attributes={"source": "hand"}
    )


def fill(array: zarr.Array, data: np.ndarray) -> None:
    for _, box in grid(data.shape, shard_of(array)):
        write_block(array, box, data[box.slices])


def levels_of(path: Path) -> list[dict]:
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 300, 600), (2, 1025, 40)])
@pytest.mark.parametrize("voxel_size", [SERIAL, VoxelSize(8.0, 8.0, 8.0)])
@pytest.mark.parametrize("labels", [{}, {"membrane": np.uint8, "cells": np.uint32}])
def test_two_validators_accept_it(tmp_path: Path, shape: ZYX, voxel_size: VoxelSize, labels: dict) -> None:
    path = tmp_path / "v.ome.zarr"
    volume_at(path, shape, voxel_size, **labels)
    yaozarrs.validate_zarr_store(str(path))
    group = ome_zarr_models.open_ome_zarr(zarr.open_group(str(path), mode="r"))
    assert isinstance(group, ome_zarr_models.v05.Image)
    if labels:
        yaozarrs.validate_zarr_store(str(path / "labels"))
        for name in labels:
            yaozarrs.validate_zarr_store(str(path / "labels" / name))
            label = ome_zarr_models.open_ome_zarr(zarr.open_group(str(path / "labels" / name), mode="r"))
            assert isinstance(label, ome_zarr_models.v05.ImageLabel)
            assert label.attributes.ome.image_label.source.image == "../../"


def test_what_is_made_can_be_opened(tmp_path: Path) -> None:
    volume_at(tmp_path / "v.ome.zarr", truth=np.uint8)
    volume = Volume.open(tmp_path / "v.ome.zarr")
    assert (volume.name, volume.shape, volume.dtype) == ("v", (3, 300, 600), np.uint8)
    assert volume.voxel_size == SERIAL
    assert volume.write_block == (3, 512, 768)
    assert volume.labels() == ["truth"]
    assert volume.has_label("truth")
    assert not volume.has_label("baseline")
    assert volume.attributes == {"source": "hand"}
    assert volume.label("truth").shape == volume.shape
    assert not volume.raw[...].any()


def test_coarse_levels_are_in_the_middle_of_what_they_stand_for(tmp_path: Path) -> None:
    volume_at(tmp_path / "v", (3, 300, 600))
    transforms = [
        [t.get("scale") or t["translation"] for t in d["coordinateTransformations"]] for d in levels_of(tmp_path / "v")
    ]
    assert transforms == [
        [[50.0, 4.0, 4.5], [0.0, 0.0, 0.0]],
        [[50.0, 8.0, 9.0], [0.0, 2.0, 2.25]],
        [[50.0, 16.0, 18.0], [0.0, 6.0, 6.75]],
    ]
    axes = json.loads((tmp_path / "v" / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["axes"]
    assert [(axis["name"], axis["unit"]) for axis in axes] == [(name, "nanometer") for name in "zyx"]


@pytest.mark.parametrize(
    ("voxel_size", "shapes"),
    [
        (SERIAL, [(5, 300, 600), (5, 150, 300), (5, 75, 150)]),
        (VoxelSize(6.0, 4.0, 4.0), [(5, 300, 600), (3, 150, 300), (2, 75, 150)]),
    ],
)
def test_z_shrinks_only_when_it_is_as_fine(tmp_path: Path, voxel_size: VoxelSize, shapes: list[ZYX]) -> None:
    volume_at(tmp_path / "v", (5, 300, 600), voxel_size)
    assert [zarr.open_array(str(tmp_path / "v" / d["path"])).shape for d in levels_of(tmp_path / "v")] == shapes


@pytest.mark.parametrize("voxel_size", [SERIAL, VoxelSize(4.0, 4.0, 4.0)])
def test_the_pyramid_equals_one_made_in_memory(tmp_path: Path, voxel_size: VoxelSize) -> None:
    shape = (5, 2100, 301)
    volume = volume_at(tmp_path / "v", shape, voxel_size, truth=np.uint8, cells=np.uint32)
    rng = np.random.default_rng(0)
    data = {
        None: rng.integers(0, 256, shape, np.uint8),
        "truth": (rng.random(shape) < 0.01).astype(np.uint8),
        "cells": rng.integers(0, 2**32, shape, np.uint32),
    }
    factors = (2, 2, 2) if voxel_size.near_isotropic else (1, 2, 2)
    reductions: tuple[Reduction, ...] = ("mean", "max", "nearest")
    for (label, fine), how in zip(data.items(), reductions, strict=True):
        fill(volume.raw if label is None else volume.label(label), fine)
        volume.build_pyramid(label)
        folder = tmp_path / "v" if label is None else tmp_path / "v" / "labels" / label
        for level in levels_of(folder)[1:]:
            fine = shrink(fine, factors, how)
            assert np.array_equal(zarr.open_array(str(folder / level["path"]))[...], fine)
            if fine.shape[0] == 1:
                factors = (1, 2, 2)
        factors = (2, 2, 2) if voxel_size.near_isotropic else (1, 2, 2)


def test_a_pyramid_over_a_damaged_chunk_is_refused(tmp_path: Path) -> None:
    volume = volume_at(tmp_path / "v")
    fill(volume.raw, np.ones(volume.shape, np.uint8))
    file = tmp_path / "v" / "0" / "c" / "0" / "0" / "0"
    whole = bytearray(file.read_bytes())
    whole[5] ^= 1
    file.write_bytes(whole)
    with pytest.raises(WorkspaceError, match=r"0/c/0/0/0: a block of the volume cannot be read; .*checksum of a chunk"):
        volume.build_pyramid()


def test_a_volume_travels_as_a_path(tmp_path: Path) -> None:
    volume = volume_at(tmp_path / "v")
    fill(volume.raw, np.full(volume.shape, 7, np.uint8))
    sent = pickle.dumps(volume)
    assert len(sent) < 1000
    assert pickle.loads(sent).raw[2, 299, 599] == 7


def test_attributes_are_merged(tmp_path: Path) -> None:
    volume = volume_at(tmp_path / "v")
    volume.set_attributes(sections=3, source="again")
    assert Volume.open(tmp_path / "v").attributes == {"source": "again", "sections": 3}
    yaozarrs.validate_zarr_store(str(tmp_path / "v"))


def test_statistics_come_from_the_attributes(tmp_path: Path) -> None:
    volume = volume_at(tmp_path / "v")
    with pytest.raises(WorkspaceError, match="no intensity statistics"):
        volume.statistics  # noqa: B018
    statistics = IntensityStatistics(1.5, 2.5, 0, 9, {"1": 0.0, "50": 1.0, "99": 9.0})
    volume.set_attributes(statistics={**statistics.to_dict(), "constant_sections": [2]})
    assert volume.statistics == statistics


def test_statistics_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = volume_at(tmp_path / "v")
    first = IntensityStatistics(1.5, 2.5, 0, 9, {"1": 0.0, "50": 1.0, "99": 9.0})
    volume.set_attributes(statistics=first.to_dict())
    assert volume.statistics == first
    with monkeypatch.context() as patch:
        patch.setattr("segem.io.volume.read_attributes", lambda _: pytest.fail("read again"))
        assert volume.statistics == first
    other = IntensityStatistics(3.5, 2.5, 0, 9, {"1": 0.0, "50": 1.0, "99": 9.0})
    volume.set_attributes(statistics=other.to_dict())
    assert volume.statistics == other


def test_a_disk_that_fails_while_a_pyramid_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    volume = volume_at(tmp_path / "v")
    fill(volume.raw, np.ones((3, 300, 600), np.uint8))
    monkeypatch.setattr("os.pread", broken)
    with pytest.raises(WorkspaceError, match="Input/output error"):
        volume.build_pyramid()


def test_making_a_volume_again_replaces_it(tmp_path: Path) -> None:
    fill(volume_at(tmp_path / "v").raw, np.ones((3, 300, 600), np.uint8))
    assert volume_at(tmp_path / "v", (2, 10, 10)).raw.shape == (2, 10, 10)
    assert not Volume.open(tmp_path / "v").raw[...].any()
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_a_missing_volume_names_the_command(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(InputError, match="Fix: make it with: segem ingest SOURCE --name isbi --voxel-nm Z,Y,X"):
        Volume.open(workspace.volume("isbi"))
    with pytest.raises(InputError, match="Fix: make it with: segem segment isbi --run first"):
        Volume.open(workspace.result("first", "isbi"))


def test_a_missing_label_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no label baseline; found truth"):
        volume_at(tmp_path / "v", truth=np.uint8).label("baseline")
    with pytest.raises(InputError, match="found no labels"):
        volume_at(tmp_path / "w").label("baseline")


def test_an_unfinished_volume_is_not_opened(tmp_path: Path) -> None:
    partial = tmp_path / ".v.ome.zarr.0123456789abcdef0123456789abcdef.partial"
    volume_at(partial)
    with pytest.raises(WorkspaceError, match="never finished"):
        Volume.open(partial)


def break_json(path: Path) -> None:
    (path / "zarr.json").write_text('{"zarr_format": 3, ')


def drop_json(path: Path) -> None:
    (path / "zarr.json").unlink()


def drop_level(path: Path) -> None:
    (path / "1" / "zarr.json").unlink()


def drop_label_level(path: Path) -> None:
    (path / "labels" / "truth" / "0" / "zarr.json").unlink()


def drop_ome(path: Path) -> None:
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {"ome": {}}}')


def not_a_mapping(path: Path) -> None:
    (path / "zarr.json").write_text("[]")


def swap_axes(path: Path) -> None:
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"name": "z"', '"name": "c"'))


def unknown_codec(path: Path) -> None:
    text = (path / "0" / "zarr.json").read_text()
    (path / "0" / "zarr.json").write_text(text.replace("crc32c", "crc99"))


@pytest.mark.parametrize(
    "damage",
    [break_json, drop_json, drop_level, drop_label_level, drop_ome, not_a_mapping, swap_axes, unknown_codec],
)
def test_a_damaged_volume_is_one_clear_error(tmp_path: Path, damage) -> None:
    volume_at(tmp_path / "v", truth=np.uint8)
    damage(tmp_path / "v")
    with pytest.raises(WorkspaceError, match=r"not a whole OME-Zarr 0\.5 volume") as caught:
        Volume.open(tmp_path / "v")
    assert str(tmp_path / "v") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segem.io.volume_metadata.create_sharded", full)
    with pytest.raises(WorkspaceError, match="No space left on device"):
        volume_at(tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", [{}, {"truth": np.uint8}])
def test_a_label_comes_to_those_that_are_there(tmp_path: Path, held: dict[str, Any]) -> None:
    volume_at(tmp_path / "v", **held).add_label("cells", np.uint32)
    volume = Volume.open(tmp_path / "v")
    assert volume.labels() == [*held, "cells"]
    assert volume.label("cells").dtype == np.uint32
    yaozarrs.validate_zarr_store(str(tmp_path / "v"))

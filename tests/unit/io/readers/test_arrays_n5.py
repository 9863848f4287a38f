"""N5 and Neuroglancer's precomputed volumes, written by tensorstore."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from segem.geometry import Box
from segem.io.readers import fingerprint_files
from segem.io.readers.reader import StatedVoxelSize
from tests.unit.io.readers.sources import opened, read, refused

DATA = np.random.default_rng(0).integers(1, 256, (5, 20, 30), np.uint8)


def write_n5(path: Path, data: np.ndarray, dataset: str = "", **attributes: Any) -> Path:
    """Write (z, y, x) voxels as N5 has them: x first."""
    folder = path / dataset
    store = tensorstore.open(
        {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": f"{folder}/"},
            "metadata": {
                "compression": {"type": "gzip"},
                "dataType": str(data.dtype),
                "dimensions": data.T.shape,
                "blockSize": [16, 8, 2][: data.ndim] + [1] * (data.ndim - 3),
            },
        },
        create=True,
    ).result()
    store.write(data.T).result()
    add_attributes(folder, **attributes)
    if not (path / "attributes.json").is_file():
        add_attributes(path, n5="4.0.0")
    return path


def add_attributes(folder: Path, **attributes: Any) -> None:
    file = folder / "attributes.json"
    folder.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(known | attributes))


def write_precomputed(path: Path, data: np.ndarray, *, sharded: bool = False, **scale: Any) -> Path:
    sharding = {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": 1,
        "hash": "identity",
        "minishard_bits": 1,
        "shard_bits": 1,
    }
    store = tensorstore.open(
        {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "multiscale_metadata": {"data_type": str(data.dtype), "num_channels": 1, "type": "image"},
            "scale_metadata": {
                "resolution": [4.5, 4, 40],
                "size": data.T.shape,
                "encoding": "raw",
                "chunk_size": [16, 8, 2],
                **({"sharding": sharding} if sharded else {}),
                **scale,
            },
        },
        create=True,
    ).result()
    store[tensorstore.d[:].translate_to[0]][..., 0].write(data.T).result()
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", "float32"])
def test_a_container_with_one_dataset(tmp_path: Path, dtype: str) -> None:
    path = write_n5(tmp_path / "a.n5", DATA.astype(dtype), "volumes/raw")
    found = read(path)
    assert np.array_equal(found, DATA)
    assert found.dtype == dtype
    with opened(path) as stack:
        assert (stack.shape, stack.chunk) == ((5, 20, 30), (2, 8, 16))
        assert stack.axes_from == "the order of N5"
        assert stack.label_of(2) == f"{path}/volumes/raw[2]"
        assert np.array_equal(stack.within(Box((1, 3, 5), (4, 9, 28))).section(1), DATA[2, 3:9, 5:28])


def test_several_datasets_are_asked_for(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, "raw")
    write_n5(path, DATA.astype(np.uint64), "labels")
    assert (
        "which dataset is meant?; expected one dataset, or its name, found stacks: labels (30, 20, 5) uint64"
        in refused(path)
    )
    assert np.array_equal(read(path, dataset="labels"), DATA)
    assert np.array_equal(read(path / "raw"), DATA)
    assert "no dataset of N5 here" in refused(path, dataset="gone")
    assert "leads out of the source" in refused(path, dataset="../b")


def test_the_finest_array_of_a_pyramid(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, "em/s0")
    write_n5(path, DATA[:, ::2, ::2], "em/s1", downsamplingFactors=[2, 2, 1])
    add_attributes(path / "em", multiScale=True, resolution=[4.5, 4, 40], offset=[1, 2, 3])
    for chosen in ({}, {"dataset": "em"}, {"dataset": "em/s0"}):
        assert np.array_equal(read(path, **chosen), DATA)
        with opened(path, **chosen) as stack:
            assert stack.found.voxel == StatedVoxelSize(40.0, 4.0, 4.5, "its metadata")
    with opened(path, dataset="em/s1") as stack:
        assert stack.found.voxel == StatedVoxelSize(40.0, 8.0, 9.0, "its metadata")


def test_attributes_of_size_and_place(tmp_path: Path) -> None:
    pixel = {"dimensions": [0.0045, 0.004, 0.04], "unit": "um"}
    path = write_n5(tmp_path / "a.n5", DATA, "raw", pixelResolution=pixel, offset=[9, 8, 80])
    with opened(path) as stack:
        voxel = stack.found.voxel
        assert voxel is not None
        assert (voxel.z_nm, voxel.y_nm, voxel.x_nm) == pytest.approx((40, 4, 4.5))
        assert stack.found.offset_nm == (80.0, 8.0, 9.0)
    path = write_n5(tmp_path / "b.n5", DATA, "raw", resolution=[4, 4, 50], units=["px", "px", "px"])
    with opened(path) as stack:
        assert stack.found.voxel is None


def test_named_axes_and_more_than_three(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA.T, axes=["z", "y", "x"])
    assert np.array_equal(read(path), DATA)
    path = write_n5(tmp_path / "b.n5", np.stack([DATA, 255 - DATA]))
    assert "it cannot be known which axis is which; found axes x: 30, y: 20, z: 5, ?: 2" in refused(path)
    assert np.array_equal(read(path, axes="xyzc", channel=1), 255 - DATA)


def test_blocks_that_were_never_written(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, "raw")
    (path / "raw" / "1" / "0" / "2").unlink()
    told = refused(path)
    assert "raw: 1 of 18 chunks are missing; found the first missing one is 1/0/2" in told
    with opened(path, unwritten="fill") as stack:
        found = stack.read(Box.of_shape(stack.shape))
        (warning,) = stack.warnings
    assert "1 of 18 chunks (5.6%) were never written, and are taken for their fill value 0" in warning
    expected = DATA.copy()
    expected[4:, :8, 16:] = 0
    assert np.array_equal(found, expected)


def test_dimensions_without_end(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, "raw")
    add_attributes(path / "raw", dimensions=[30, 20, 2**50])
    assert f"{2 * 3 * 2**49 - 18} of {2 * 3 * 2**49} chunks are missing" in refused(path)
    add_attributes(path / "raw", dimensions=[2**40, 2**40, 5])
    assert "Fix: " in refused(path)
    add_attributes(path / "raw", dimensions=[30, 20, 5], blockSize=[2**20, 2**20, 2**10])
    assert "exceeds maximum chunk size" in refused(path)


def test_a_damaged_block(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, "raw")
    block = path / "raw" / "0" / "0" / "0"
    block.write_bytes(block.read_bytes()[:20])
    assert "the file is damaged" in refused(path)


def test_links_out_of_a_container(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, "raw")
    block = path / "raw" / "0" / "0" / "0"
    block.rename(tmp_path / "secret")
    block.symlink_to(tmp_path / "secret")
    assert f"{block}: a link leads out of the source" in refused(path)


def test_a_precomputed_volume(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "a", DATA, voxel_offset=[100, 200, 10])
    assert np.array_equal(read(path), DATA)
    with opened(path) as stack:
        assert stack.chunk == (2, 8, 16)
        assert stack.found.voxel == StatedVoxelSize(40.0, 4.0, 4.5, "its metadata")
        assert stack.found.offset_nm == (400.0, 800.0, 450.0)
    key = json.loads((path / "info").read_text())["scales"][0]["key"]
    assert np.array_equal(read(path, dataset=key), DATA)
    assert f"no scale named 8_8_40; found scales: {key}" in refused(path, dataset="8_8_40")


def test_chunks_of_a_precomputed_volume_that_were_never_written(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "a", DATA, voxel_offset=[100, 200, 10])
    (lost,) = path.glob("*/116-130_200-208_14-15")
    lost.unlink()
    assert "1 of 18 chunks are missing; found the first missing one is 116-130_200-208_14-15" in refused(path)
    expected = DATA.copy()
    expected[4:, :8, 16:] = 0
    assert np.array_equal(read(path, unwritten="fill"), expected)


def test_a_sharded_precomputed_volume_tells_of_missing_chunks_when_they_are_read(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "a", DATA, sharded=True)
    assert np.array_equal(read(path), DATA)
    shards = sorted(path.glob("*/*.shard"))
    shards[0].unlink()
    assert "chunks are missing" in refused(path)
    with opened(path, unwritten="fill") as stack:
        found = stack.read(Box.of_shape(stack.shape))
        (warning,) = stack.warnings
    assert "of 18 chunks" in warning
    assert 0 < np.count_nonzero(found) < found.size
    assert np.array_equal(found[found != 0], DATA[found != 0])


def test_what_is_no_volume(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "a", DATA)
    info = json.loads((path / "info").read_text())
    (path / "info").write_text(json.dumps({"@type": "neuroglancer_skeletons"}))
    assert "not a volume of Neuroglancer" in refused(path)
    (scale,) = info["scales"]
    bad: list[Any] = [[], [{}], "none", [{**scale, "size": [1, 2]}], [{**scale, "resolution": "x"}]]
    for scales in bad:
        (path / "info").write_text(json.dumps({**info, "scales": scales}))
        assert "the file is damaged" in refused(path)
    (path / "info").write_text("{")
    assert "the file is damaged" in refused(path)


def test_chunks_packed_for_a_web_server(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "a", DATA)
    for chunk in path.glob("*/*_*_*"):
        chunk.with_name(f"{chunk.name}.gz").write_bytes(gzip.compress(chunk.read_bytes()))
        chunk.unlink()
    assert "files that end in .gz" in refused(path)


def test_the_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, "raw")
    before = fingerprint_files(path)
    assert fingerprint_files(path) == before
    write_n5(path, DATA, "other")
    assert fingerprint_files(path) != before


def test_without_tensorstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, "raw")
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    assert "tensorstore, which is not installed. Fix: pip install segem[n5]" in refused(path)


def test_sizes_follow_the_axes_that_the_user_names(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", DATA, resolution=[4, 4.5, 50], units=["nm"] * 3)
    with opened(path) as stack:
        assert stack.found.voxel == StatedVoxelSize(50.0, 4.5, 4.0, "its metadata")
    with opened(path, axes="zyx") as stack:
        assert stack.shape == DATA.T.shape
        assert stack.found.voxel == StatedVoxelSize(4.0, 4.5, 50.0, "its metadata")

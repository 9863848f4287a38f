"""Arrays inside HDF5 files and zarr folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest
import zarr

from segem.config import Selection
from segem.errors import InputError
from segem.geometry import Box, VoxelSize
from segem.io.readers import list_source_files, open_stack
from segem.io.volume import create_volume, write_block

DATA = np.random.default_rng(0).integers(0, 65536, (5, 20, 30)).astype(np.uint16)


def read(path: Path, dataset: str | None = None) -> np.ndarray:
    with open_stack(path, Selection(dataset=dataset)) as stack:
        found = np.stack([stack.section(z) for z in range(stack.shape[0])])
        assert (found.shape, found.dtype) == (stack.shape, stack.dtype)
    return found


def refused(path: Path, dataset: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(path, dataset)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", data=DATA, chunks=(3, 20, 30), compression="gzip")
        file["volumes/table"] = np.zeros(7)
    return tmp_path / "a.h5"


def test_the_only_stack_of_a_file(hdf5: Path) -> None:
    assert np.array_equal(read(hdf5), DATA)
    assert np.array_equal(read(hdf5, "/volumes/raw"), DATA)


def test_which_of_several(hdf5: Path) -> None:
    with h5py.File(hdf5, "a") as file:
        file["volumes/labels"] = DATA.astype(">u2")
        file["one"] = DATA[0]
    told = refused(hdf5)
    assert (
        "found stacks: one (20, 30) uint16, volumes/labels (5, 20, 30) uint16, volumes/raw (5, 20, 30) uint16" in told
    )
    assert "Fix: name it by --dataset (for labels --labels" in told
    assert np.array_equal(read(hdf5, "volumes/labels"), DATA)
    assert np.array_equal(read(hdf5, "one"), DATA[:1])
    assert "no stack named volumes/table in the file" in refused(hdf5, "volumes/table")
    assert "no stack named gone in the file" in refused(hdf5, "gone")


def test_nothing_outside_the_file_is_read(tmp_path: Path, hdf5: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(DATA.tobytes())
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("a.h5", "volumes/raw")
        layout = h5py.VirtualLayout((5, 20, 30), np.uint16)
        layout[:] = h5py.VirtualSource("a.h5", "volumes/raw", (5, 20, 30))
        file.create_virtual_dataset("virtual", layout)
        external = [(str(tmp_path / "secret.bin"), 0, DATA.nbytes)]
        file.create_dataset("external", DATA.shape, np.uint16, external=external)
    assert "no stack named linked" in refused(tmp_path / "b.h5", "linked")
    for name in ("virtual", "external"):
        assert "lie in other files" in refused(tmp_path / "b.h5", name)


def test_damaged_hdf5(tmp_path: Path, hdf5: Path) -> None:
    whole = hdf5.read_bytes()
    for content in (whole[: len(whole) // 2], b"text" * 99, b""):
        hdf5.write_bytes(content)
        assert "Fix: copy" in refused(hdf5)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        data = file.create_dataset("raw", data=DATA, chunks=(1, 20, 30), compression="gzip", fletcher32=True)
        at = data.id.get_chunk_info(2).byte_offset + 9
    flipped = bytearray((tmp_path / "c.h5").read_bytes())
    flipped[at] ^= 1
    (tmp_path / "c.h5").write_bytes(flipped)
    assert "c.h5:/raw[2]: the file is damaged" in refused(tmp_path / "c.h5")


def test_hdf5_chunks_that_were_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (4, 20, 30), np.uint8, chunks=(1, 20, 30))[0] = 1
        file.create_dataset("none", (4, 20, 30), np.uint8)
    told = refused(tmp_path / "a.h5", "raw")
    assert f"{tmp_path}/a.h5:/raw: 3 of 4 chunks are missing; found the first missing one is at (1, 0, 0)" in told
    assert "Fix: copy the source again; if they were never written on purpose, accept their fill value by --unw" in told
    assert "none: 1 of 1 chunks are missing" in refused(tmp_path / "a.h5", "none")


def test_an_empty_or_implausible_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("none", (0, 20, 30), np.uint8)
        file.create_dataset("huge", (2, 2**20, 2**20), np.uint8, chunks=(1, 256, 256))
    assert "a section without voxels" in refused(tmp_path / "a.h5", "none")
    assert "implausible" in refused(tmp_path / "a.h5", "huge")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_arrays(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=zarr_format)
    group.create_array("raw", data=DATA[None, None], chunks=(1, 1, 1, 20, 20))
    zarr.create_array(str(tmp_path / "b"), data=DATA, zarr_format=zarr_format)
    assert np.array_equal(read(tmp_path / "a.zarr", "raw"), DATA)
    assert np.array_equal(read(tmp_path / "b"), DATA)
    assert np.array_equal(read(tmp_path / "a.zarr"), DATA)
    group.create_array("other", data=DATA)
    assert "found stacks: other (5, 20, 30) uint16, raw (1, 1, 5, 20, 30) uint16" in refused(tmp_path / "a.zarr")
    assert "Fix: " in refused(tmp_path / "a.zarr", "gone")
    assert "Fix: " in refused(tmp_path / "a.zarr", "../b")
    assert len(list_source_files(tmp_path / "b")) >= 2


def test_the_full_resolution_of_an_ome_zarr(tmp_path: Path) -> None:
    volume = create_volume(
        tmp_path / "v.ome.zarr",
        shape=(5, 20, 30),
        dtype=np.uint16,
        voxel_size=VoxelSize(50, 4, 4),
        labels={},
        attributes={},
    )
    assert f"{volume.path}/0: 5 of 5 chunks are missing; found the first missing one is c/0/0/0" in refused(volume.path)
    write_block(volume.raw, Box.of_shape(DATA.shape), DATA)
    assert np.array_equal(read(volume.path), DATA)
    file = volume.path / "0" / "c" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    assert "the file is damaged" in refused(volume.path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_that_was_copied_by_half(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    zarr.create_array(str(tmp_path / "a"), data=DATA[None], chunks=(1, 2, 20, 20), zarr_format=zarr_format)
    assert np.array_equal(read(tmp_path / "a"), DATA)
    for name in ("0.1.0.1", "0.2.0.0") if zarr_format == 2 else ("c/0/1/0/1", "c/0/2/0/0"):
        (tmp_path / "a" / name).unlink()
    (tmp_path / "a" / ".DS_Store").touch()
    first = "0.1.0.1" if zarr_format == 2 else "c/0/1/0/1"
    told = refused(tmp_path / "a")
    assert f"{tmp_path}/a: 2 of 6 chunks are missing; found the first missing one is {first}. Fix: copy" in told


def test_a_shard_that_is_missing_is_noticed_even_where_edge_shards_hold_fewer_chunks(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), data=DATA, chunks=(1, 20, 30), shards=(4, 20, 30))
    assert np.array_equal(read(tmp_path / "a"), DATA)
    (tmp_path / "a" / "c" / "1" / "0" / "0").unlink()
    assert "1 of 5 chunks are missing; found the first missing one is c/1/0/0" in refused(tmp_path / "a")


def test_metadata_that_promise_chunks_without_end(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), shape=(2**50, 20, 30), dtype=np.uint8, chunks=(1, 20, 30))
    assert f"{2**50} of {2**50} chunks are missing" in refused(tmp_path / "a")


def test_what_is_no_stack_in_a_zarr(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "two"), data=np.ones((2, 5, 20, 30), np.uint8))
    assert "it cannot be known which axis is which; found axes ?: 2, ?: 5, ?: 20, ?: 30" in refused(tmp_path / "two")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    assert "the file is damaged" in refused(tmp_path / "broken.zarr")
    zarr.create_array(str(tmp_path / "huge"), shape=(2**20,) * 3, dtype=np.uint8, chunks=(1, 256, 256))
    assert "implausible" in refused(tmp_path / "huge")


def test_links_out_of_a_zarr(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), data=DATA, chunks=(1, 20, 30))
    secret = tmp_path / "secret"
    chunk = tmp_path / "a" / "c" / "1" / "0" / "0"
    os.rename(chunk, secret)
    chunk.symlink_to(secret)
    assert f"{chunk}: a link leads out of the source" in refused(tmp_path / "a")

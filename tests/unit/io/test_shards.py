"""One block is one file: whole, checked, durable, and refused when it is not aligned."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from segem.errors import WorkspaceError
from segem.geometry import ZYX, Box, grid
from segem.io import shards
from segem.io.shards import CHUNK, Array, create_sharded, shard_shape, write_block

axes = st.tuples(st.integers(1, 40), st.integers(1, 9000), st.integers(1, 9000))


def array_at(folder: Path, shape: ZYX, dtype: type[np.unsignedinteger] = np.uint8) -> Array:
    group = zarr.create_group(str(folder), zarr_format=3)
    create_sharded(group, "0", shape, dtype)
    return zarr.open_array(str(folder / "0"), mode="r+", zarr_format=3)


def noise(shape: ZYX) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@given(axes)
def test_a_shard_holds_whole_chunks_of_limited_size(shape: ZYX) -> None:
    shard = shard_shape(shape)
    assert all(s % c == 0 for s, c in zip(shard, CHUNK, strict=True))
    assert 1 <= shard[0] <= min(8, shape[0])
    assert np.prod(shard) <= 2**22
    assert all(s == 2048 or s - 256 < n <= s for s, n in zip(shard[1:], shape[1:], strict=True))


@pytest.mark.parametrize(
    ("shape", "shard"),
    [
        ((24, 512, 512), (8, 512, 512)),
        ((10, 1024, 1024), (4, 1024, 1024)),
        ((200, 8192, 8192), (1, 2048, 2048)),
        ((3, 100, 300), (3, 256, 512)),
        ((1, 1, 1), (1, 256, 256)),
    ],
)
def test_shards_by_hand(shape: ZYX, shard: ZYX) -> None:
    assert shard_shape(shape) == shard


def test_every_block_is_one_file(tmp_path: Path) -> None:
    array, data = array_at(tmp_path, (9, 300, 2100)), noise((9, 300, 2100))
    blocks = [box for _, box in grid((9, 300, 2100), shard_shape((9, 300, 2100)))]
    for count, box in enumerate(blocks, 1):
        write_block(array, box, data[box.slices])
        assert len([path for path in (tmp_path / "0" / "c").rglob("*") if path.is_file()]) == count
    assert np.array_equal(array[...], data)
    assert array.metadata.dimension_names == ("z", "y", "x")


def test_a_block_of_zeros_is_written_too(tmp_path: Path) -> None:
    array = array_at(tmp_path, (2, 30, 30))
    write_block(array, Box.of_shape((2, 30, 30)), np.zeros((2, 30, 30), np.uint8))
    assert (tmp_path / "0" / "c" / "0" / "0" / "0").stat().st_size > 0


def test_several_whole_shards_at_once(tmp_path: Path) -> None:
    array, data = array_at(tmp_path, (9, 40, 40)), noise((9, 40, 40))
    write_block(array, Box.of_shape((9, 40, 40)), data)
    assert np.array_equal(array[...], data)


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 0, 0), (3, 300, 2048)),
        Box((1, 0, 0), (4, 300, 2048)),
        Box((0, 0, 1), (4, 300, 2048)),
        Box((0, 0, 0), (4, 299, 2048)),
        Box((0, 0, 0), (4, 300, 2047)),
        Box((0, 0, 0), (12, 300, 2048)),
        Box((8, 0, 2048), (9, 300, 2304)),
        Box((0, 0, 0), (0, 0, 0)),
    ],
)
def test_unaligned_blocks_are_refused(tmp_path: Path, box: Box) -> None:
    array = array_at(tmp_path, (9, 300, 2100))
    assert array.shards == (4, 512, 2048)
    with pytest.raises(WorkspaceError, match="unaligned write"):
        write_block(array, box, np.zeros(box.shape, np.uint8))
    assert not (tmp_path / "0" / "c").exists()


@given(st.tuples(*(st.tuples(st.integers(0, 20), st.integers(0, 20)) for _ in range(3))))
def test_only_whole_shards_are_aligned(ranges: tuple[tuple[int, int], ...]) -> None:
    shape, shard = (17, 20, 18), (4, 5, 6)
    box = Box(*zip(*map(sorted, ranges), strict=True))
    cut = [
        cell
        for _, cell in grid(shape, shard)
        if cell.intersect(box).size and not box.contains(cell) and Box.of_shape(shape).contains(box)
    ]
    if box.size and Box.of_shape(shape).contains(box):
        assert shards._aligned(box, shard, shape) == (not cut)


@pytest.mark.parametrize("data", [np.zeros((2, 30, 29), np.uint8), np.zeros((2, 30, 30), np.uint16)])
def test_data_that_do_not_fit_are_refused(tmp_path: Path, data: np.ndarray) -> None:
    array = array_at(tmp_path, (2, 30, 30))
    with pytest.raises(WorkspaceError, match=r"expected \(2, 30, 30\) uint8"):
        write_block(array, Box.of_shape((2, 30, 30)), data)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    array, data = array_at(tmp_path, (2, 60, 50)), noise((2, 60, 50)) // 9
    write_block(array, Box.of_shape((2, 60, 50)), data)
    file = tmp_path / "0" / "c" / "0" / "0" / "0"
    whole = file.read_bytes()
    rng = np.random.default_rng(1)
    ends = [*range(12), *range(len(whole) - 40, len(whole))]
    for at in [*ends, *rng.choice(len(whole), 150, replace=False).tolist()]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        with pytest.raises((ValueError, RuntimeError)):
            array[...]
    file.write_bytes(whole)
    assert np.array_equal(array[...], data)


@pytest.mark.parametrize("torn", [b"", b"torn", None])
def test_a_damaged_block_can_be_written_again(tmp_path: Path, torn: bytes | None) -> None:
    shape = (2, 60, 50)  # smaller than its shard, where zarr would first read what is there
    array, data = array_at(tmp_path, shape), noise(shape)
    write_block(array, Box.of_shape(shape), data)
    file = tmp_path / "0" / "c" / "0" / "0" / "0"
    file.write_bytes(file.read_bytes()[:100] if torn is None else torn)
    write_block(array, Box.of_shape(shape), data)
    assert np.array_equal(array[...], data)


def test_a_block_is_durable_with_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = array_at(tmp_path, (2, 30, 30))
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).relative_to(tmp_path).as_posix())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_block(array, Box.of_shape((2, 30, 30)), np.ones((2, 30, 30), np.uint8))
    assert synced[:3] == ["0", "0/c", "0/c/0"]
    assert re.fullmatch(r"0/c/0/0/\.0\.[0-9a-f]{32}\.partial", synced[3])
    assert synced[4:] == ["0/c/0/0"]
    synced.clear()
    write_block(array, Box.of_shape((2, 30, 30)), np.ones((2, 30, 30), np.uint8))
    assert len(synced) == 2  # the names on the way are durable by now
    shutil.rmtree(tmp_path / "0" / "c")
    synced.clear()
    write_block(array, Box.of_shape((2, 30, 30)), np.ones((2, 30, 30), np.uint8))
    assert synced[:3] == ["0", "0/c", "0/c/0"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = array_at(tmp_path, (2, 30, 30))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(WorkspaceError, match=r"No space left on device .* free some space"):
        write_block(array, Box.of_shape((2, 30, 30)), np.ones((2, 30, 30), np.uint8))
    assert not [path for path in (tmp_path / "0" / "c").rglob("*") if path.is_file()]

"""Shard files are those of the Zarr v3 sharding codec: zarr-python reads them, and what it writes is read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from segem.errors import WorkspaceError
from segem.geometry import ZYX, Box, grid
from segem.io import chunks
from segem.io.blocks import read_block
from segem.io.chunks import Array, Layout, decode_chunks, encode_shard
from segem.io.shard_files import FolderShards
from segem.io.shards import create_sharded, shard_files, shard_of, write_block

DTYPES = (np.uint8, np.uint16, np.uint32)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 18), st.integers(1, 26))


def small_array(folder: Path, shape: ZYX, dtype: type, by_bit: bool = False, **options) -> Array:
    """Return an array of segem's codecs with shards and chunks so small that there are several."""
    blosc = BloscCodec(typesize=np.dtype(dtype).itemsize, cname="zstd", clevel=3, shuffle="bitshuffle")
    zarr.create_array(
        str(folder),
        shape=shape,
        dtype=dtype,
        **{
            "chunks": (1, 4, 4),
            "shards": (2, 8, 12),
            "compressors": (blosc if by_bit else ZstdCodec(level=3), Crc32cCodec()),
            "fill_value": 0,
            **options,
        },
    )
    return zarr.open_array(str(folder), mode="r+", zarr_format=3)


def random(shape: ZYX, dtype: type, seed: int = 0) -> np.ndarray:
    data = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    data[0] //= 64
    return data


def box_within(shape: ZYX, draw: st.DataObject) -> Box:
    edges = [sorted(draw.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return Box(*zip(*edges, strict=True))


@settings(deadline=None, max_examples=40)
@given(shapes, st.sampled_from(DTYPES), st.booleans(), st.data())
def test_zarr_reads_what_is_written_and_it_is_read_back(
    shape: ZYX, dtype: type, by_bit: bool, draw: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        array, data = small_array(Path(folder) / "a", shape, dtype, by_bit), random(shape, dtype)
        for _, box in grid(shape, shard_of(array)):
            write_block(array, box, data[box.slices])
        assert np.array_equal(array[...], data)
        box = box_within(shape, draw)
        voxels = read_block(array, box, "")
        assert voxels.dtype == dtype
        assert np.array_equal(voxels, data[box.slices])


@settings(deadline=None, max_examples=40)
@given(shapes, st.sampled_from(DTYPES), st.booleans(), st.booleans(), st.data())
def test_what_zarr_writes_is_read(
    shape: ZYX, dtype: type, by_bit: bool, write_empty: bool, draw: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        array, data = small_array(Path(folder) / "a", shape, dtype, by_bit), random(shape, dtype)
        data[:, 3:9] = 0
        data[0, 0, 0] = 1
        array.with_config({"write_empty_chunks": write_empty})[...] = data
        box = box_within(shape, draw)
        # Of an empty box nothing is read.
        if box.size == 0 or all(file.is_file() for file in shard_files(array, box)):
            assert np.array_equal(read_block(array, box, ""), data[box.slices])
        else:
            with pytest.raises(WorkspaceError, match="a block of the volume is missing"):
                read_block(array, box, "")


def test_a_shard_by_hand() -> None:
    layout = Layout((1, 4, 8), (1, 4, 4), np.dtype("<u2"), 3)
    content = b"".join(encode_shard(np.arange(3, dtype=np.uint16).reshape(1, 1, 3), layout))
    first, absent = np.frombuffer(content[-36:-4], "<u8").reshape(2, 2)
    assert first.tolist() == [0, len(content) - 36]
    assert absent.tolist() == [2**64 - 1] * 2  # lies outside of the data


def test_the_bytes_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout((2, 32, 32), (1, 4, 4), np.dtype(np.uint8), 3)
    data, contents, affinity = random((2, 32, 32), np.uint8), [], os.sched_getaffinity
    for cores in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        chunks._pool.cache_clear()
        contents.append(encode_shard(data, layout))
    assert contents[0] == contents[1]
    assert (chunks._pool() is None) == (len(os.sched_getaffinity(0)) == 1)
    monkeypatch.setattr(os, "sched_getaffinity", affinity)
    chunks._pool.cache_clear()


def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout((1, 32, 32), (1, 4, 4), np.dtype(np.uint8), 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    chunks._pool.cache_clear()
    data = random((1, 32, 32), np.uint8)
    content = encode_shard(data, layout)
    child = os.fork()
    if not child:
        os._exit(encode_shard(data, layout) != content)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    chunks._pool.cache_clear()


def decoded(file: Path, cells: list[ZYX], layout: Layout) -> list[np.ndarray]:
    with FolderShards(file.parent).opened(file.name) as content:
        return decode_chunks(content, cells, layout)


@pytest.mark.parametrize("by_bit", [False, True])
def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path, by_bit: bool) -> None:
    layout = Layout((1, 8, 8), (1, 4, 4), np.dtype(np.uint8), 3, by_bit)
    cells, file = [(0, y, x) for y in (0, 1) for x in (0, 1)], tmp_path / "0"
    whole = b"".join(encode_shard(random((1, 8, 8), np.uint8), layout))
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        for content in (bytes(damaged), whole[:at]):
            file.write_bytes(content)
            with pytest.raises(ValueError, match=r"checksum|too short"):
                decoded(file, cells, layout)
    file.write_bytes(whole)
    assert len(decoded(file, cells, layout)) == 4


def sealed(index: np.ndarray) -> bytes:
    return index.tobytes() + chunks._crc32c(index.tobytes())


@pytest.mark.parametrize(
    ("start", "length"), [(0, 5000), (2**63, 100), (0, 0), (0, 3), (2**64 - 1, 40), (10**6, 2**64 - 2)]
)
def test_an_index_that_points_nowhere_is_refused(tmp_path: Path, start: int, length: int) -> None:
    layout = Layout((1, 4, 4), (1, 4, 4), np.dtype(np.uint8), 3)
    (tmp_path / "0").write_bytes(b"x" * 50 + sealed(np.array([[start, length]], "<u8")))
    with pytest.raises(ValueError, match=r"too short|checksum"):
        decoded(tmp_path / "0", [(0, 0, 0)], layout)


@pytest.mark.parametrize("by_bit", [False, True])
@pytest.mark.parametrize("size", [15, 17, 10**6])
def test_a_chunk_of_another_size_is_refused(tmp_path: Path, size: int, by_bit: bool) -> None:
    layout = Layout((1, 4, 4), (1, 4, 4), np.dtype(np.uint8), 3, by_bit)
    data = (imagecodecs.blosc_encode if by_bit else imagecodecs.zstd_encode)(bytes(size))
    sound = data + chunks._crc32c(data)
    (tmp_path / "0").write_bytes(sound + sealed(np.array([[0, len(sound)]], "<u8")))
    with pytest.raises(ValueError, match="a chunk"):
        decoded(tmp_path / "0", [(0, 0, 0)], layout)


@pytest.mark.parametrize("what", ["missing", "cut", "folder"])
def test_damage_names_the_file_and_the_fix(tmp_path: Path, what: str) -> None:
    group = zarr.create_group(str(tmp_path), zarr_format=3)
    create_sharded(group, "0", (2, 300, 300), np.uint8)
    array = zarr.open_array(str(tmp_path / "0"), mode="r+", zarr_format=3)
    write_block(array, Box.of_shape((2, 300, 300)), np.zeros((2, 300, 300), np.uint8))
    (file,) = shard_files(array, Box.of_shape((2, 300, 300)))
    whole = file.read_bytes()
    file.unlink()
    if what == "cut":
        file.write_bytes(whole[:200])
    elif what == "folder":
        file.mkdir()
    with pytest.raises(WorkspaceError) as caught:
        read_block(array, Box((0, 5, 5), (1, 6, 6)), "do it again")
    assert caught.value.where == str(file)
    assert caught.value.fix == "do it again"
    assert caught.value.what == f"a block of the volume {'is missing' if what == 'missing' else 'cannot be read'}"


@pytest.mark.parametrize(
    "options",
    [
        {"shards": None},
        {"fill_value": 1},
        {"compressors": (ZstdCodec(level=3),)},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, options: dict) -> None:
    array = small_array(tmp_path / "a", (2, 8, 12), np.uint16, **options)
    box = Box.of_shape((2, 8, 12))
    with pytest.raises(WorkspaceError, match="an array that segem did not make"):
        read_block(array, box, "")
    with pytest.raises(WorkspaceError, match="an array that segem did not make"):
        write_block(array, box, np.zeros(box.shape, np.uint16))

"""A sweep decodes each chunk about once, within its budget, and reads what `read_block` reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from segem.errors import WorkspaceError
from segem.geometry import ZYX, Box, Halo
from segem.io import cache
from segem.io.blocks import read_block
from segem.io.cache import CachedReader, bytes_to_decode_once
from segem.io.chunks import Array, Layout
from segem.io.shards import CHUNK, create_sharded, shard_files, shard_shape, write_block
from segem.plan import Plan, blend_tiling, crop_tiling

MB = 2**20


def array_at(folder: Path, shape: ZYX, dtype: type = np.uint8) -> Array:
    group = zarr.create_group(str(folder), zarr_format=3)
    create_sharded(group, "0", shape, dtype)
    return zarr.open_array(str(folder / "0"), mode="r+", zarr_format=3)


def sweep(shape: ZYX, *, reach: int, halo_px: int, tile_px: int | None = None) -> Plan:
    return Plan(
        shape, shard_shape(shape), crop_tiling(shape, shard_shape(shape), Halo(reach, halo_px, halo_px), 16, tile_px)
    )


@pytest.fixture
def nothing_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every chunk decode to zeros, so that large arrays need no files."""

    def zeros(array: Array, layout: Layout, chunks: list[ZYX], fix: str) -> Iterator[tuple[ZYX, np.ndarray]]:
        chunk = np.broadcast_to(layout.dtype.type(0), layout.chunk)
        yield from ((index, chunk) for index in chunks)

    monkeypatch.setattr(cache, "read_chunks", zeros)


def decodes(array: Array, plan: Plan, budget: int) -> float:
    """Return how often each chunk is decoded on average."""
    reader = CachedReader(array, budget, "")
    for block in plan.blocks():
        reader.read(block.read)
        assert reader._kept_bytes <= budget
    chunks = np.prod([-(-n // c) for n, c in zip(plan.shape, CHUNK, strict=True)])
    return reader.decoded / chunks


@pytest.mark.usefixtures("nothing_on_disk")
@pytest.mark.parametrize(
    ("shape", "reach", "without", "budget"),
    [
        ((6, 2048, 2048), 0, 1.0, 0),
        ((6, 2048, 2048), 1, 2.67, 12 * MB),
        ((6, 2048, 2048), 2, 4.0, 20 * MB),
        ((2, 4096, 4096), 0, 1.26, 30 * MB),
        ((5, 4096, 4096), 1, 3.29, 120 * MB),
        ((3, 8192, 6144), 0, 1.36, 40 * MB),
        ((4, 8192, 6144), 1, 3.4, 260 * MB),
        ((1, 20000, 20000), 0, 1.49, 75 * MB),
        ((20, 1024, 1024), 1, 1.4, 20 * MB),
        ((40, 300, 500), 3, 1.6, 12 * MB),
    ],
)
def test_a_sweep_decodes_each_chunk_once(tmp_path: Path, shape: ZYX, reach: int, without: float, budget: int) -> None:
    array, plan = array_at(tmp_path, shape), sweep(shape, reach=reach, halo_px=96)
    needed = bytes_to_decode_once(array, plan)
    assert needed <= budget
    assert decodes(array, plan, needed) == 1
    assert decodes(array, plan, 0) == pytest.approx(without, rel=0.02)


@pytest.mark.usefixtures("nothing_on_disk")
@pytest.mark.parametrize("reach", [0, 1])
def test_blended_windows_decode_each_chunk_once(tmp_path: Path, reach: int) -> None:
    shape = (3, 4200, 4000)
    array = array_at(tmp_path, shape, np.uint16)
    plan = Plan(shape, shard_shape(shape), blend_tiling(shape, 16, 512, 0.25, context_z=reach))
    assert decodes(array, plan, bytes_to_decode_once(array, plan)) == 1
    assert decodes(array, plan, 0) > 1.2


@pytest.mark.usefixtures("nothing_on_disk")
def test_a_large_stack_in_little_memory_goes_row_by_row(tmp_path: Path) -> None:
    """Three whole sections do not fit, but a row of blocks does: it is taken through all sections before the next."""
    shape = (6, 8192, 20000)
    array, plan = array_at(tmp_path, shape), sweep(shape, reach=1, halo_px=96)
    reader = CachedReader(array, 192 * MB, "")
    z, y, x = (-(-n // b) for n, b in zip(shape, plan.write_block, strict=True))
    for row, section, column in product(range(y), range(z), range(x)):
        reader.read(plan.block((section, row, column)).read)
    assert reader.decoded / (6 * 32 * 79) <= 1 + 2 * 3 / 32


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_it_reads_what_read_block_reads(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    shape = (3, 300, 600)
    array, data = stored(tmp_path_factory, shape)
    reader = CachedReader(array, draw.draw(st.sampled_from([0, 70_000, 300_000, 10**9])), "")
    for _ in range(4):
        edges = [sorted(draw.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
        box = Box(*zip(*edges, strict=True))
        voxels = reader.read(box)
        assert np.array_equal(voxels, data[box.slices])
        voxels[...] = 0  # what is handed out is not what is kept


def stored(factory: pytest.TempPathFactory, shape: ZYX, made: list = []) -> tuple[Array, np.ndarray]:  # noqa: B006
    if not made:
        array = array_at(factory.mktemp("array"), shape)
        data = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        write_block(array, Box.of_shape(shape), data)
        made += [array, data]
    return made[0], made[1]


def test_a_lost_file_is_named_as_by_read_block(tmp_path: Path) -> None:
    array = array_at(tmp_path, (1, 60, 60))
    (file,) = shard_files(array, Box.of_shape((1, 60, 60)))
    for read in (CachedReader(array, MB, "do it").read, lambda box: read_block(array, box, "do it")):
        with pytest.raises(WorkspaceError, match=r"a block of the volume is missing\. Fix: do it") as caught:
            read(Box.of_shape((1, 60, 60)))
        assert caught.value.where == str(file)

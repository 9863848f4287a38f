"""Whatever its axes, type, byte order and chunks: what a format's own library wrote is what is read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from segem.config import Selection
from segem.geometry import Box
from segem.io.readers import open_stack

Made = tuple[Path, Selection]
"""What was written, and what a user must say of it."""

TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


def write_tiff(folder: Path, array: NDArray[Any], axes: str, chunks: tuple[int, ...]) -> Made:
    """OME-TIFF: all but y and x are planes, in the order that the axes have."""
    tile = (16, 16) if chunks[-1] % 2 else None
    # tifffile takes y and x as the last axes of a page only.
    array, axes = by_planes(array, axes)
    options: dict[str, Any] = {"byteorder": ">" if array.dtype.byteorder == ">" else "<", "tile": tile}
    tifffile.imwrite(
        folder / "a.ome.tif", array, ome=True, photometric="minisblack", metadata={"axes": axes.upper()}, **options
    )
    return folder / "a.ome.tif", Selection()


def write_hdf5(folder: Path, array: NDArray[Any], axes: str, chunks: tuple[int, ...]) -> Made:
    """HDF5 says nothing of its axes."""
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", data=array, chunks=chunks, compression="gzip" if sum(chunks) % 2 else None)
    return folder / "a.h5", Selection(axes=axes)


def write_zarr(folder: Path, array: NDArray[Any], axes: str, chunks: tuple[int, ...]) -> Made:
    """OME-Zarr 0.4 or 0.5, with names for its axes."""
    version = 2 + sum(chunks) % 2
    group = zarr.create_group(str(folder / "a.zarr"), zarr_format=3 if version == 3 else 2)
    # All chunks on disk, also those that hold the fill value alone.
    made = group.create_array(
        "0", shape=array.shape, dtype=array.dtype, chunks=chunks, config={"write_empty_chunks": True}
    )
    made[...] = array
    scale: dict[str, Any] = {"type": "scale", "scale": [1.0] * len(axes)}
    named = [{"name": axis, "type": {"t": "time", "c": "channel"}.get(axis, "space")} for axis in axes]
    multiscales: list[Any] = [{"axes": named, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}]
    if version == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    else:
        group.attrs["multiscales"] = [multiscales[0] | {"version": "0.4"}]
    return folder / "a.zarr", Selection()


WRITERS: tuple[Callable[[Path, NDArray[Any], str, tuple[int, ...]], Made], ...] = (write_tiff, write_hdf5, write_zarr)


def by_planes(array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    order = "".join(sorted(axes, key=lambda axis: {"y": 1, "x": 2}.get(axis, 0)))
    return np.ascontiguousarray(array.transpose([axes.index(axis) for axis in order])), order


@given(data=st.data())
def test_what_was_written_is_read(data: st.DataObject) -> None:
    axes = "".join(data.draw(st.permutations(data.draw(st.sampled_from(["yx", "zyx", "czyx", "tczyx"])))))
    sizes = {"t": 1, "c": data.draw(st.integers(1, 3)), "z": data.draw(st.integers(1, 4))}
    # No side is short enough to be taken for channels.
    sizes |= {"y": data.draw(st.integers(5, 40)), "x": data.draw(st.integers(5, 40))}
    shape = tuple(sizes[axis] for axis in axes)
    dtype = np.dtype(data.draw(st.sampled_from(TYPES))).newbyteorder(data.draw(st.sampled_from("<>")))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    array = random.integers(0, 100, shape).astype(dtype)
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    channel = data.draw(st.integers(0, sizes["c"] - 1)) if "c" in axes else None
    expected = array.transpose([axes.index(axis) for axis in "tczyx" if axis in axes])
    expected = expected.reshape((-1, *expected.shape[-2:])) if channel is None else expected
    if channel is not None:
        expected = expected[0, channel] if "t" in axes else expected[channel]
    with tempfile.TemporaryDirectory() as folder:
        write = data.draw(st.sampled_from(WRITERS))
        path, chosen = write(Path(folder), array, axes, chunks)
        with open_stack(path, chosen.model_copy(update={"channel": channel})) as stack:
            assert stack.shape == expected.shape
            assert stack.dtype == dtype.newbyteorder("=")
            assert np.array_equal(stack.read(Box.of_shape(stack.shape)), expected)
            start = [data.draw(st.integers(0, n - 1)) for n in stack.shape]
            stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, stack.shape, strict=True)]
            box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
            assert np.array_equal(stack.read(box), expected[box.slices])

"""Malformed arrays: one line that says so, or the right voxels; no foreign error, nor memory as they declare it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers import open_stack

DATA = np.random.default_rng(0).integers(1, 256, (4, 16, 16), np.uint8)
BOUNDED = 64 * 2**20


def read(path: Path) -> Any:
    """Read a source as ingest does, in bounded memory."""
    tracemalloc.start()
    found: Any
    try:
        with open_stack(path, Selection()) as stack:
            assert stack.shape[0] < 2**20
            found = np.stack([stack.section(z) for z in range(stack.shape[0])])
    except InputError as error:
        found = error
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < BOUNDED
    assert "\n" not in str(found) or isinstance(found, np.ndarray)
    assert "Fix: " in str(found) or isinstance(found, np.ndarray)
    return found


def write_zarr(path: Path, zarr_format: Any = 3, **how: Any) -> Path:
    zarr.create_array(str(path), data=DATA, zarr_format=zarr_format, **({"chunks": (2, 16, 16)} | how))
    return path


def change(file: Path, key: str, value: Any) -> None:
    """Change a value of a file of JSON; dots lead into mappings and lists."""
    values = json.loads(file.read_text())
    place, *_rest = [int(part) if part.isdigit() else part for part in key.split(".")], None
    here = values
    for part in place[:-1]:
        here = here[part]
    if value is KeyError:
        del here[place[-1]]
    else:
        here[place[-1]] = value
    file.write_text(json.dumps(values))


GRID = "chunk_grid.configuration.chunk_shape"
ZARR3 = [
    ("shape", [2**50, 16, 16]),
    ("shape", [2**50, 2**50, 2**50]),
    ("shape", [4, 16]),
    ("shape", [0, 16, 16]),
    ("shape", [-4, 16, 16]),
    ("shape", [4.5, 16, 16]),
    ("shape", ["4", 16, 16]),
    ("shape", []),
    ("shape", [5, 16, 16]),
    ("shape", None),
    ("shape", [1] * 40),
    (GRID, [0, 16, 16]),
    (GRID, [-1, 16, 16]),
    (GRID, [2, 16]),
    (GRID, [2**30, 2**30, 16]),
    (GRID, [2**62, 16, 16]),
    ("data_type", "complex64"),
    ("data_type", "uint999"),
    ("data_type", "r8"),
    ("codecs", []),
    ("codecs", [{"name": "bytes"}, {"name": "no-such-codec"}]),
    ("codecs", KeyError),
    ("fill_value", "seven"),
    ("fill_value", None),
    ("node_type", "thing"),
    ("zarr_format", 9),
    ("chunk_key_encoding", {"name": "other"}),
    ("dimension_names", ["z", "y"]),
    ("dimension_names", ["y", "y", "y"]),
    ("attributes", "none"),
]


@pytest.mark.parametrize(("key", "value"), ZARR3)
def test_metadata_of_zarr_3(tmp_path: Path, key: str, value: Any) -> None:
    path = write_zarr(tmp_path / "a")
    change(path / "zarr.json", key, value)
    found = read(path)
    assert isinstance(found, InputError) or np.array_equal(found, DATA)


ZARR2 = [
    ("shape", [2**50, 16, 16]),
    ("shape", [4, 16, 16, 1]),
    ("chunks", [2**40, 16, 16]),
    ("chunks", [0, 16, 16]),
    ("chunks", "none"),
    ("dtype", "|O"),
    ("dtype", "|S9"),
    ("dtype", "<u2"),
    ("dtype", [["a", "|u1"], ["b", "|u1"]]),
    ("dtype", "what"),
    ("compressor", {"id": "no-such-codec"}),
    ("compressor", "gzip"),
    ("filters", [{"id": "pickle", "protocol": 4}]),
    ("filters", "none"),
    ("order", "Q"),
    ("order", "F"),
    ("fill_value", {}),
    ("zarr_format", 3),
    ("dimension_separator", "+"),
]


@pytest.mark.parametrize(("key", "value"), ZARR2)
def test_metadata_of_zarr_2(tmp_path: Path, key: str, value: Any) -> None:
    path = write_zarr(tmp_path / "a", 2)
    change(path / ".zarray", key, value)
    found = read(path)
    # Voxels in another order are a permutation nobody can notice; everything else is refused or right.
    assert isinstance(found, InputError) or np.array_equal(found, DATA) or (key, value) == ("order", "F")


def test_the_wrong_type_of_a_chunk_is_noticed(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a", 2)
    change(path / ".zarray", "dtype", "<u4")
    assert isinstance(read(path), InputError)


@pytest.mark.parametrize("chunk", [b"", b"x", b"\0" * 9999, b"\x28\xb5\x2f\xfd" + b"\xff" * 20])
def test_chunks_of_zarr_that_are_none(tmp_path: Path, chunk: bytes) -> None:
    for path in (write_zarr(tmp_path / "a"), write_zarr(tmp_path / "b", shards=(4, 16, 16))):
        file = next(file for file in sorted((path / "c").rglob("*")) if file.is_file())
        file.write_bytes(chunk)
        assert isinstance(read(path), InputError)


def test_the_index_of_a_shard_that_points_nowhere(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a", shards=(4, 16, 16))
    file = path / "c" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[-36:-28] = (2**40).to_bytes(8, "little")
    file.write_bytes(content)
    assert isinstance(read(path), InputError)


OME = [
    ("multiscales", []),
    ("multiscales", [{}]),
    ("multiscales", "none"),
    ("multiscales", {"0": 1}),
    ("multiscales.0.datasets", []),
    ("multiscales.0.datasets", [{"path": "gone"}]),
    ("multiscales.0.datasets", [{"path": "../b"}]),
    ("multiscales.0.datasets", [{"path": ""}]),
    ("multiscales.0.datasets", [{"path": 0}]),
    ("multiscales.0.axes", "zyx"),
    ("multiscales.0.axes", [{"name": "y"}, {"name": "x"}]),
    ("multiscales.0.axes", [{"name": "y"}] * 3),
    ("multiscales.0.axes", [{}, {}, {}]),
    ("multiscales.0.axes", [1, 2, 3]),
    ("multiscales.0.datasets.0.coordinateTransformations", [{"type": "scale", "scale": ["a", "b", "c"]}]),
    ("multiscales.0.datasets.0.coordinateTransformations", [{"type": "scale", "path": "elsewhere"}]),
    ("multiscales.0.datasets.0.coordinateTransformations", [{}]),
    ("multiscales.0.datasets.0.coordinateTransformations", "none"),
    ("multiscales.0.datasets.0.coordinateTransformations", [{"type": "scale", "scale": [0, -1, 1e999]}]),
    ("multiscales.0.coordinateTransformations", 7),
]


@pytest.mark.parametrize(("key", "value"), OME)
def test_ome_metadata(tmp_path: Path, key: str, value: Any) -> None:
    write_zarr(tmp_path / "b")
    group = zarr.create_group(str(tmp_path / "a"))
    group.create_array("0", data=DATA, chunks=(2, 16, 16))
    axes = [{"name": name, "unit": "nanometer"} for name in "zyx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    change(tmp_path / "a" / "zarr.json", f"attributes.ome.{key}", value)
    found = read(tmp_path / "a")
    assert isinstance(found, InputError) or np.array_equal(found, DATA)


def header(shape: str = "(4, 16, 16)", dtype: str = "'|u1'", order: str = "False", more: str = "") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, {more}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


NUMPY = [
    header("(2**50, 16, 16)"),
    header("(1125899906842624, 16, 16)"),
    header("(1125899906842624, 1125899906842624, 1125899906842624)"),
    header("(-4, 16, 16)"),
    header("(0, 16, 16)"),
    header("(4, 16)"),
    header("()"),
    header("(4.0, 16, 16)"),
    header("'all'"),
    header("(True, 32, 32)"),
    header("(" + "1, " * 70 + ")"),
    header(dtype="'|O'"),
    header(dtype="'|u9'"),
    header(dtype="[('a', '|u1')]"),
    header(dtype="__import__('os')"),
    header(dtype="'|V1'"),
    header(order="7"),
    header(more="'other': 1"),
    b"\x93NUMPY\x07\x00" + header()[8:],
    b"\x93NUMPY\x01\x00\xff\xff{",
    b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    b"\x93NUMPY",
    b"\x93NUMPX" + header()[6:],
    b"text" * 99,
]


@pytest.mark.parametrize("start", NUMPY)
def test_headers_of_numpy(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(start + DATA.tobytes())
    assert isinstance(read(tmp_path / "a.npy"), InputError)


def test_the_header_that_the_others_spoil(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(header() + DATA.tobytes())
    assert np.array_equal(read(tmp_path / "a.npy"), DATA)


def test_archives_of_numpy(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.npz"
    np.savez_compressed(path, raw=DATA)
    whole = path.read_bytes()
    for content in (whole[:100], whole[:-30], b"PK" + whole[2:50], whole.replace(DATA.tobytes()[:1], b"")):
        path.write_bytes(content)
        assert isinstance(read(path), InputError)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../out.npy", header() + DATA.tobytes())
    assert np.array_equal(read(path), DATA)
    assert not (tmp_path.parent / "out.npy").exists()
    with zipfile.ZipFile(path, "w") as archive:
        pass
    assert isinstance(read(path), InputError)


def huge(file: Any) -> None:
    file.create_dataset("raw", (2**50, 16, 16), np.uint8, chunks=(1, 16, 16))


def wide(file: Any) -> None:
    file.create_dataset("raw", (4, 2**40, 2**40), np.uint8, chunks=(1, 16, 16))


def lump(file: Any) -> None:
    # The largest chunk that HDF5 allows.
    file.create_dataset("raw", (4, 2**16, 2**16), np.uint8, chunks=(1, 2**16, 2**16 - 1), compression="gzip")


def bomb(file: Any) -> None:
    made = file.create_dataset("raw", (4, 2**13, 2**14), np.uint8, chunks=(1, 2**13, 2**14), compression="gzip")
    made.id.write_direct_chunk((0, 0, 0), b"x")


def tags(text: str) -> Callable[[Any], None]:
    def add(file: Any) -> None:
        file["raw"] = DATA
        file["raw"].attrs["axistags"] = text

    return add


def attributes(**values: Any) -> Callable[[Any], None]:
    def add(file: Any) -> None:
        file["raw"] = DATA
        file["raw"].attrs.update(values)

    return add


def compound(file: Any) -> None:
    file["raw"] = np.zeros((4, 16, 16), [("a", "u1"), ("b", "u1")])


def text(file: Any) -> None:
    file.create_dataset("raw", (4, 16, 16), h5py.string_dtype())


def references(file: Any) -> None:
    file.create_dataset("raw", (4, 16, 16), h5py.ref_dtype)


def empty(file: Any) -> None:
    file.create_dataset("raw", data=h5py.Empty("u1"))


def no_voxels(file: Any) -> None:
    file.create_dataset("raw", (4, 0, 16), np.uint8)


def damaged_chunk(file: Any) -> None:
    made = file.create_dataset("raw", DATA.shape, np.uint8, chunks=(1, 16, 16), compression="gzip")
    for z in range(4):
        made.id.write_direct_chunk((z, 0, 0), b"not gzip")


def loop(file: Any) -> None:
    file["raw"] = DATA
    file["self"] = file["/"]
    file["soft"] = h5py.SoftLink("/soft")


HDF5 = [
    huge,
    wide,
    lump,
    bomb,
    tags("{"),
    tags('{"axes": [{"key": "x"}]}'),
    tags('{"axes": 7}'),
    tags('{"axes": [{"key": "x"}, {"key": "x"}, {"key": "x"}]}'),
    attributes(resolution="fine"),
    attributes(resolution=np.nan, offset=[np.inf] * 3),
    attributes(resolution=[1, 2], offset=[1, 2, 3, 4]),
    attributes(resolution=[4, 4, 4], units=["nm", "nm"]),
    attributes(MATLAB_class=np.bytes_("uint8"), MATLAB_empty=1),
    compound,
    text,
    references,
    empty,
    no_voxels,
    damaged_chunk,
    loop,
]


@pytest.mark.parametrize("write", HDF5)
def test_hdf5(tmp_path: Path, write: Callable[[Any], None]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    found = read(tmp_path / "a.h5")
    assert isinstance(found, InputError) or np.array_equal(found, DATA)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_of_hdf5_that_was_cut(tmp_path: Path, share: float) -> None:
    whole = tmp_path / "whole"
    if not whole.is_file():
        with h5py.File(whole, "w") as file:
            file.create_dataset("raw", data=DATA, chunks=(1, 16, 16), compression="gzip")
    content = whole.read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: int(share * len(content))])
    assert isinstance(read(tmp_path / "a.h5"), InputError)


@settings(deadline=None)
@given(chunk=st.integers(0, 3), at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_checked_chunk_of_hdf5(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, at: float, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("raw", data=DATA, chunks=(1, 16, 16), compression="gzip", fletcher32=True)
        info = made.id.get_chunk_info(chunk)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + int(at * info.size)] ^= 1 << bit
    path.write_bytes(content)
    assert isinstance(read(path), InputError)

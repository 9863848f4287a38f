"""HDF5 as CREMI, ilastik, MATLAB, Fiji and BigDataViewer write it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from segem.io.readers.reader import StatedVoxelSize
from tests.unit.io.readers.sources import opened, read, refused

DATA = np.random.default_rng(0).integers(1, 256, (5, 20, 30), np.uint8)


def write(path: Path, /, **datasets: np.ndarray) -> Path:
    with h5py.File(path, "a") as file:
        for name, data in datasets.items():
            file[name.replace("__", "/")] = data
    return path


@pytest.mark.parametrize("shape", [(1, 5, 20, 30), (5, 20, 30, 1), (1, 5, 1, 20, 30, 1), (5, 20, 30)])
def test_axes_of_length_one_do_not_matter(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert np.array_equal(read(write(tmp_path / "a.h5", raw=DATA.reshape(shape))), DATA)


def test_one_section_and_colours(tmp_path: Path) -> None:
    assert np.array_equal(read(write(tmp_path / "a.h5", raw=DATA[0])), DATA[:1])
    colours = np.stack([DATA[0], 255 - DATA[0], DATA[1]], -1)
    path = write(tmp_path / "b.h5", raw=colours)
    assert "the last axis may be 3 channels or 3 columns" in refused(path)
    assert np.array_equal(read(path, axes="yxc", channel=1)[0], 255 - DATA[0])


def test_which_dataset_is_asked_with_shapes_and_types(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", raw=DATA, labels=DATA.astype(np.uint64))
    told = refused(path)
    assert "which dataset is meant?; expected one dataset, or its name, found stacks: " in told
    assert "labels (5, 20, 30) uint64, raw (5, 20, 30) uint8. Fix: name it by --dataset" in told
    assert np.array_equal(read(path, dataset="raw"), DATA)
    for number in range(12):
        write(path, **{f"more{number}": DATA})
    assert "and 4 more" in refused(path)


@pytest.mark.parametrize(("name", "taken"), [("volumes__raw", True), ("exported_data", True), ("copy_of_raw", False)])
def test_the_only_stack_beside_tables_is_taken_under_a_usual_name(tmp_path: Path, name: str, taken: bool) -> None:
    path = write(tmp_path / "a.h5", **{name: DATA}, annotations__locations=np.zeros((9, 3)), ids=np.zeros(9))
    if taken:
        assert np.array_equal(read(path), DATA)
    else:
        assert "which dataset is meant?" in refused(path)


def test_a_file_without_a_stack(tmp_path: Path) -> None:
    assert "no dataset that is a stack of sections; found stacks: none" in refused(
        write(tmp_path / "a.h5", ids=np.zeros(9))
    )


def test_the_attributes_of_cremi(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", volumes__raw=DATA, volumes__labels__ids=DATA[1:3, 5:15, 5:15])
    with h5py.File(path, "a") as file:
        file["volumes/raw"].attrs["resolution"] = [40.0, 4.0, 4.5]
        file["volumes/labels/ids"].attrs["resolution"] = [40, 4, 4]
        file["volumes/labels/ids"].attrs["offset"] = [40.0, 20.0, 22.5]
    with opened(path, dataset="volumes/raw") as stack:
        assert stack.found.voxel == StatedVoxelSize(40.0, 4.0, 4.5, "its attribute resolution")
        assert stack.found.offset_nm is None
    with opened(path, dataset="volumes/labels/ids") as stack:
        assert stack.found.offset_nm == (40.0, 20.0, 22.5)


def test_other_attributes_of_the_voxel_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", fiji=DATA, units=DATA, odd=DATA, turned=DATA.T)
    with h5py.File(path, "a") as file:
        file["fiji"].attrs["element_size_um"] = [0.04, 0.004, 0.0045]
        file["units"].attrs.update({"resolution": [0.04, 0.004, 0.0045], "units": ["um", "um", "um"]})
        file["odd"].attrs["resolution"] = "fine"
        file["turned"].attrs["resolution"] = [4.5, 4, 40]
    for name in ("fiji", "units"):
        with opened(path, dataset=name) as stack:
            voxel = stack.found.voxel
            assert voxel is not None
            assert (voxel.z_nm, voxel.y_nm, voxel.x_nm) == pytest.approx((40, 4, 4.5))
    with opened(path, dataset="odd") as stack:
        assert stack.found.voxel is None
    with opened(path, dataset="turned", axes="xyz") as stack:
        voxel = stack.found.voxel
        assert voxel is not None
        assert (voxel.z_nm, voxel.y_nm, voxel.x_nm) == (40, 4, 4.5)


def test_the_axistags_of_ilastik(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", exported_data=DATA.transpose(2, 0, 1)[None, ..., None])
    tags = {"axes": [{"key": key, "typeFlags": 2, "resolution": 0, "description": ""} for key in "txzyc"]}
    with h5py.File(path, "a") as file:
        file["exported_data"].attrs["axistags"] = json.dumps(tags)
    with opened(path) as stack:
        assert stack.axes_from == "the axistags of ilastik"
    assert np.array_equal(read(path), DATA)


def test_the_labels_of_dimensions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", raw=DATA.transpose(2, 1, 0))
    with h5py.File(path, "a") as file:
        for axis, letter in enumerate("xyz"):
            file["raw"].dims[axis].label = letter
    assert np.array_equal(read(path), DATA)


def matlab(path: Path, data: np.ndarray, kind: str, name: str = "image") -> Path:
    """Write as MATLAB does: its first axis is the last of the file."""
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=data.T).attrs["MATLAB_class"] = np.bytes_(kind)
    return path


def test_matlab(tmp_path: Path) -> None:
    # As imread and cat(3, ...) give it: rows, columns, sections.
    rows_columns_sections = DATA.transpose(1, 2, 0)
    assert np.array_equal(read(matlab(tmp_path / "a.mat", rows_columns_sections, "uint8")), DATA)
    assert np.array_equal(read(matlab(tmp_path / "b.mat", DATA[0], "uint8")), DATA[:1])
    for kind in ("uint16", "int16", "int32", "uint64", "double", "single"):
        data = rows_columns_sections.astype({"double": "f8", "single": "f4"}.get(kind, kind))
        found = read(matlab(tmp_path / f"{kind}.mat", data, kind))
        assert np.array_equal(found, DATA)
        assert found.dtype == data.dtype


def test_what_matlab_calls_logical_is_read_as_bool(tmp_path: Path) -> None:
    mask = (DATA > 99).astype(np.uint8)
    found = read(matlab(tmp_path / "a.mat", mask.transpose(1, 2, 0), "logical"))
    assert found.dtype == bool
    assert np.array_equal(found, mask == 1)


def test_text_and_cells_of_matlab_are_no_stacks(tmp_path: Path) -> None:
    path = matlab(tmp_path / "a.mat", DATA.transpose(1, 2, 0), "uint8")
    matlab(path, np.full((1, 9), 65, np.uint16), "char", "title")
    matlab(path, DATA[0], "uint8", "#refs#/a")
    assert np.array_equal(read(path), DATA)


def test_more_axes_of_matlab_are_asked_for_where_they_cannot_be_known(tmp_path: Path) -> None:
    path = matlab(tmp_path / "a.mat", DATA.transpose(1, 2, 0)[:, :, None], "uint8")
    assert np.array_equal(read(path), DATA)
    channels = np.stack([DATA, 255 - DATA]).transpose(2, 3, 0, 1)
    path = matlab(tmp_path / "b.mat", channels, "uint8")
    assert "it cannot be known which axis is which" in refused(path)
    assert np.array_equal(read(path, axes="zcxy", channel=1), 255 - DATA)


def test_matlab_before_version_7_3(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128))
    assert "a MATLAB file of before version 7.3, which is no HDF5. Fix: save it again" in refused(tmp_path / "a.mat")


def test_big_data_viewer(tmp_path: Path) -> None:
    wide = DATA.astype(np.uint16) * 257
    path = write(
        tmp_path / "a.h5",
        t00000__s00__0__cells=wide.view(np.int16),
        t00000__s00__1__cells=wide[:, ::2, ::2].view(np.int16),
        s00__resolutions=np.ones((2, 3)),
        s00__subdivisions=np.ones((2, 3), np.int32),
    )
    found = read(path)
    assert found.dtype == np.uint16
    assert np.array_equal(found, wide)
    write(path, t00000__s01__0__cells=wide.view(np.int16))
    assert "which dataset is meant?" in refused(path)
    assert np.array_equal(read(path, dataset="t00000/s01/0/cells"), wide)


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((1, 20, 30))
        # Optional, so that it can be written without it.
        created.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple(DATA.shape)
        h5py.h5d.create(file.id, b"raw", h5py.h5t.STD_U8LE, space, created)
        file["raw"][:] = DATA
    told = refused(tmp_path / "a.h5")
    assert "packed by a filter that is not installed here; found " in told
    assert "(filter 32015 of HDF5). Fix: repack the file" in told


@pytest.mark.parametrize("compression", ["lzf", "gzip"])
def test_filters_that_are_installed(tmp_path: Path, compression: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=DATA, chunks=(2, 8, 8), compression=compression, shuffle=True)
    assert np.array_equal(read(tmp_path / "a.h5"), DATA)
    with opened(tmp_path / "a.h5") as stack:
        assert stack.chunk == (2, 8, 8)


def test_unwritten_chunks_are_taken_for_the_fill_value_where_that_is_wanted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (4, 20, 30), np.uint8, chunks=(1, 20, 30), fillvalue=9)[2] = DATA[0]
        file.create_dataset("none", (4, 20, 30), np.uint8)
    assert "raw: 3 of 4 chunks are missing" in refused(tmp_path / "a.h5", dataset="raw")
    with opened(tmp_path / "a.h5", dataset="raw", unwritten="fill") as stack:
        assert np.array_equal(stack.section(2), DATA[0])
        assert (stack.section(1) == 9).all()
        (told,) = stack.warnings
    assert told.endswith("3 of 4 chunks (75.0%) were never written, and are taken for their fill value 9")
    assert (read(tmp_path / "a.h5", dataset="none", unwritten="fill") == 0).all()


def test_a_real_file_packed_by_lzf(em_data: Path) -> None:
    path = em_data / "formats" / "train-gt.lzf.h5"
    if not path.is_file():
        pytest.skip("the file is not there")
    with h5py.File(path) as file:
        stored = {name: item[()] for name, item in file.items()}
    (name,) = stored
    assert np.array_equal(read(path), stored[name])

"""Exports: every format holds the voxels and the voxel size, and our own readers find them there."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import ome_zarr_models
import pytest
import tifffile
import zarr
from PIL import Image

from segem.errors import ConfigError, WorkspaceError
from segem.geometry import Box, VoxelSize
from segem.io import writers
from segem.io.readers import open_stack
from segem.io.volume import Volume
from segem.io.writers import Layer, find_writer

SHAPE = (5, 30, 40)
NAMES = ["a.tif", "a.TIFF", "a.ome.tif", "a.h5", "a.hdf5", "a.zarr", "sections", "my.sections/all"]


def voxels(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, np.dtype(dtype), endpoint=True)


def layer_of(data: np.ndarray, size: tuple[float, float, float] = (50, 4.6, 4)) -> Layer:
    depth, height, width = data.shape
    return Layer("raw", (depth, height, width), data.dtype, VoxelSize(*size), lambda box: data[box.slices])


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_again(tmp_path: Path, name: str, dtype: str) -> None:
    out, data = tmp_path / name, voxels(dtype)
    find_writer(out)(out, layer_of(data))
    with open_stack(out) as stack:
        found = stack.read(Box.of_shape(stack.shape))
        stated = stack.found.voxel
    assert found.dtype == data.dtype
    assert np.array_equal(found, data)
    if stated is not None:
        for size, wanted in zip((stated.z_nm, stated.y_nm, stated.x_nm), (50, 4.6, 4), strict=True):
            assert size is None or size == pytest.approx(wanted, rel=1e-6)
    assert [path.name for path in tmp_path.glob(".*")] == [], "nothing unfinished is left"


def test_imagej_finds_all_three_sizes(tmp_path: Path) -> None:
    writers.write_tiff(tmp_path / "a.tif", layer_of(voxels("u1")))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_imagej
        noted = tiff.imagej_metadata
        assert noted is not None
        assert (noted["unit"], noted["spacing"], noted["slices"], noted["images"]) == ("nm", 50, 5, 5)
        assert tiff.series[0].axes == "ZYX"
        for page in tiff.pages:
            (xn, xd), (yn, yd) = page.tags["XResolution"].value, page.tags["YResolution"].value
            assert (xd / xn, yd / yn) == pytest.approx((4, 4.6), rel=1e-9)
            assert page.tags["ResolutionUnit"].value == 1, "the unit of the description, not centimetres"


def test_ome_has_all_three_sizes(tmp_path: Path) -> None:
    writers.write_ome_tiff(tmp_path / "a.ome.tif", layer_of(voxels("u2")))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert tiff.is_ome
        assert tiff.ome_metadata is not None
        for wanted in ('PhysicalSizeX="4"', 'PhysicalSizeY="4.6"', 'PhysicalSizeZ="50"', 'PhysicalSizeZUnit="nm"'):
            assert wanted in tiff.ome_metadata
        assert (tiff.series[0].axes, tiff.series[0].shape) == ("ZYX", SHAPE)
        assert np.array_equal(tiff.asarray(), voxels("u2"))


def test_hdf5_has_the_size_in_nanometres_and_micrometres(tmp_path: Path) -> None:
    writers.write_hdf5(tmp_path / "a.h5", layer_of(voxels("u1")))
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["raw"]
        assert file["raw"].attrs["resolution"].tolist() == [50, 4.6, 4]
        assert file["raw"].attrs["element_size_um"] == pytest.approx([0.05, 0.0046, 0.004])
        assert [dimension.label for dimension in file["raw"].dims] == ["z", "y", "x"]


def test_ome_zarr_is_valid_and_has_the_size(tmp_path: Path) -> None:
    writers.write_ome_zarr(tmp_path / "a.zarr", layer_of(voxels("u1", (9, 300, 270))))
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    ome_zarr_models.open_ome_zarr(group)
    attributes: dict[str, Any] = dict(group.attrs)
    first, second = attributes["ome"]["multiscales"][0]["datasets"]
    assert first["coordinateTransformations"][0] == {"type": "scale", "scale": [50, 4.6, 4]}
    assert second["coordinateTransformations"][0]["scale"] == [50, 9.2, 8]
    assert group["1"].shape == (9, 150, 135)


def test_sections_are_numbered(tmp_path: Path) -> None:
    writers.write_png_series(tmp_path / "s", layer_of(voxels("u2", (12, 3, 4))))
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [f"{z:04d}.png" for z in range(12)]


@pytest.mark.parametrize(("pixel", "stated"), [(4.6, True), (0.5, True), (1000, True), (0.002, False)])
def test_sections_say_how_large_their_pixels_are(tmp_path: Path, pixel: float, stated: bool) -> None:
    writers.write_png_series(tmp_path / "s", layer_of(voxels("u1", (2, 3, 4)), (50, pixel / 2, pixel)))
    with Image.open(tmp_path / "s" / "0001.png") as image:
        assert ("dpi" in image.info) == stated
        if stated:
            x, y = image.info["dpi"]
            assert (2.54e7 / x, 2.54e7 / y) == pytest.approx((pixel, pixel / 2), rel=1e-3)


def test_one_section_may_be_one_png(tmp_path: Path) -> None:
    data = voxels("u1", (1, 7, 8))
    writers.write_png(tmp_path / "a.png", layer_of(data))
    with open_stack(tmp_path / "a.png") as stack:
        assert np.array_equal(stack.section(0), data[0])
    with pytest.raises(ConfigError, match=r"a PNG holds one section; found 5 sections.*without an ending"):
        writers.write_png(tmp_path / "b.png", layer_of(voxels("u1")))
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("name", ["cells.tif", "cells.ome.tif", "cells.h5", "cells.zarr"])
def test_numbers_of_cells_stay_what_they_are(tmp_path: Path, name: str) -> None:
    # Two cells, whose numbers have a third one's between them.
    cells = np.full((1, 600, 600), 100_001, np.uint32)
    cells[:, :, 299:] = 100_003
    out = tmp_path / name
    find_writer(out)(out, layer_of(cells))
    with open_stack(out) as stack:
        assert np.array_equal(stack.section(0), cells[0])
    if name == "cells.zarr":
        for level in Volume.open(out).levels():
            assert np.unique(np.asarray(level[...])).tolist() == [100_001, 100_003]


@pytest.mark.parametrize(("name", "depth"), [("sections", 2), ("section.png", 1)])
def test_a_png_is_not_asked_to_hold_numbers_of_cells(tmp_path: Path, name: str, depth: int) -> None:
    with pytest.raises(ConfigError, match=r"a PNG cannot hold the numbers of \w+; .*write a TIFF"):
        find_writer(tmp_path / name)(tmp_path / name, layer_of(np.zeros((depth, 9, 9), np.uint32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.mrc", "m.nii.gz", "m.jpg", "m.tif.bak", "m.n5"])
def test_other_endings_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no such format to write; expected a name in \.ome\.tif, .*found \.\w+"):
        find_writer(Path(name))


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.h5", "a.zarr", "sections"])
def test_what_fails_half_way_leaves_nothing(tmp_path: Path, name: str) -> None:
    def read(box: Box) -> np.ndarray:
        if box.stop[0] > 2:
            raise WorkspaceError("a block of the volume is missing")
        return voxels("u1")[box.slices]

    with pytest.raises(WorkspaceError, match="a block of the volume is missing"):
        find_writer(tmp_path / name)(tmp_path / name, Layer("raw", SHAPE, np.dtype("u1"), VoxelSize(50, 4, 4), read))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_never_replaces_a_file(tmp_path: Path) -> None:
    for name in ("a.zarr", "sections"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(ConfigError, match="a file has its name"):
            find_writer(tmp_path / name)(tmp_path / name, layer_of(voxels("u1")))
        assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize("size", [(0.05, 0.002, 0.002), (4000, 4000, 4000), (1e-7, 1e-7, 1e-7), (1e6, 1e6, 1e6)])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.h5", "a.zarr"])
def test_sizes_that_somebody_insisted_on_are_written(
    tmp_path: Path, name: str, size: tuple[float, float, float]
) -> None:
    out = tmp_path / name
    find_writer(out)(out, layer_of(voxels("u1"), size))
    if name == "a.tif":
        with tifffile.TiffFile(out) as tiff:
            numerator, denominator = tiff.pages[0].tags["XResolution"].value
            assert denominator / numerator == pytest.approx(size[2], rel=1e-3)


def test_a_size_that_tiff_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TIFF cannot hold this voxel size"):
        writers.write_tiff(tmp_path / "a.tif", layer_of(voxels("u1"), (1, 1e-12, 1e-12)))


def test_a_large_stack_becomes_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_CLASSIC_BYTES", 1000)
    for name in ("a.tif", "a.ome.tif"):
        find_writer(tmp_path / name)(tmp_path / name, layer_of(voxels("u1")))
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert tiff.is_bigtiff
            assert np.array_equal(tiff.asarray(), voxels("u1"))


@pytest.mark.parametrize("name", ["a.tif", "a.h5", "a.zarr", "sections"])
def test_memory_does_not_grow_with_the_number_of_sections(tmp_path: Path, name: str) -> None:
    section = voxels("u1", (1, 256, 256))

    def peak(depth: int) -> int:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}{name}"
        layer = Layer(
            "raw", (depth, 256, 256), np.dtype("u1"), VoxelSize(50, 4, 4), lambda box: section.repeat(box.shape[0], 0)
        )
        tracemalloc.start()
        find_writer(out)(out, layer)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(8)  # what is loaded and cached once
    assert peak(128) < peak(8) + 3_000_000, "128 sections are 8 MB"

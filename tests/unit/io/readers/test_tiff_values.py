"""TIFF: voxels are what was written, of every type; and what the file states of their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segem.config import LabelSource
from segem.geometry import Box
from segem.io.readers import open_stack
from segem.io.readers.reader import StatedVoxelSize
from tests.unit.io.readers.test_tiff_axes import ome
from tests.unit.io.readers.tiffs import Voxels, read, read_box, refused, sections, written

TYPES = ["?", "u1", "u2", "u4", "i1", "i2", "i4", "u8", "i8", "f2", "f4", "f8"]


def of_type(dtype: str) -> Voxels:
    values = np.array([[[0, 1, 2, 3], [250, 100, 7, 5]], [[9, 8, 7, 6], [1, 0, 1, 0]]])
    if dtype == "?":
        return values > 5
    if dtype[0] == "f":
        return (values / 8 - 3).astype(dtype)
    return (values - (128 if dtype[0] == "i" else 0)).astype(dtype)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_is_read_as_it_is(tmp_path: Path, dtype: str, byteorder: str, compression: str | None) -> None:
    data = of_type(dtype)
    path = written(tmp_path / "a.tif", data, byteorder=byteorder, compression=compression)
    found = read(path)
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, data)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4"])
@pytest.mark.parametrize("how", [{"compression": "zlib"}, {"compression": "lzw", "tile": (16, 16)}])
def test_predicted_values(tmp_path: Path, how: dict[str, Any], dtype: str, byteorder: str) -> None:
    data = of_type(dtype)
    path = written(tmp_path / "a.tif", data, byteorder=byteorder, predictor=True, **how)
    assert np.array_equal(read(path), data)
    assert np.array_equal(read_box(path, Box((1, 1, 2), (2, 2, 4))), data[1:, 1:, 2:])


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    assert "a kind of TIFF that cannot be read" in refused(written(tmp_path / "a.tif", np.ones((2, 4, 4), "c8")))


def test_twelve_bits_in_two_bytes(tmp_path: Path) -> None:
    # 0xABC, 0x123 and 0x456, 0x789 packed, one row after the other.
    path = written(tmp_path / "a.tif", np.zeros((2, 3), np.uint8), metadata=None)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].dataoffsets[0]
        tags = {code: tiff.pages[0].tags[code].valueoffset for code in (256, 258)}
    packed = bytearray(content)
    packed[at : at + 6] = bytes.fromhex("ABC123456789")
    for code, value in ((256, 2), (258, 12)):
        packed[tags[code] : tags[code] + 2] = value.to_bytes(2, "little")
    path.write_bytes(packed)
    assert read(path).tolist() == [[[0xABC, 0x123], [0x456, 0x789]]]


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_white_as_zero_is_inverted(tmp_path: Path, dtype: str) -> None:
    data = np.array([[[0, 1], [1, 0]]], dtype)
    found = read(written(tmp_path / "a.tif", data, photometric="miniswhite"))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, ~data)


@pytest.mark.parametrize(("dtype", "most"), [("u1", 255), ("?", 1)])
def test_labels_whose_values_are_inverted_are_told(tmp_path: Path, dtype: str, most: int) -> None:
    """Fiji marks masks so where it shows them by an inverting LUT, and says 255 of a voxel that it shows black."""
    data = np.array([[[0, 1], [1, 0]]], dtype)
    path = written(tmp_path / "a.tif", data, photometric="miniswhite", metadata=None, software="ImageJ")
    said = f"{path}: white is its smallest value (in Fiji an inverting LUT): {most} is read as 0, and 0 as {most}"
    with open_stack(path, LabelSource(source=path, membrane=most)) as stack:
        assert stack.warnings == (said,)
        assert np.array_equal(stack.section(0), ~data[0])
    with open_stack(path) as stack:
        assert stack.warnings == ()


def test_white_as_zero_of_numbers_without_a_largest_is_said(tmp_path: Path) -> None:
    data = np.array([[[0, 1], [1, 0]]], np.float32)
    path = written(tmp_path / "a.tif", data, photometric="miniswhite")
    assert np.array_equal(read(path), data)
    with open_stack(path) as stack:
        assert "are not inverted" in stack.warnings[0]


@pytest.mark.parametrize("how", [{}, {"metadata": None}, {"software": "lab script"}, {"compression": "zlib"}])
def test_truth_written_by_tifffile_is_not_inverted(tmp_path: Path, how: dict[str, Any]) -> None:
    """tifffile marks booleans as white-is-zero, and gives back what it was given; so must a reader."""
    truth = sections(2) > 100
    tifffile.imwrite(tmp_path / "a.tif", truth, **how)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages[0].photometric == 0
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), truth)
    assert np.array_equal(read(tmp_path / "a.tif"), truth)


def test_one_bit_of_a_scanner_keeps_its_white(tmp_path: Path) -> None:
    scanned = sections(2) > 100
    tifffile.imwrite(tmp_path / "a.tif", scanned, metadata=None, software="scanner 1.0")
    assert np.array_equal(read(tmp_path / "a.tif"), ~scanned)


@pytest.mark.parametrize("bilevel", [True, False])
def test_one_bit_in_strips_of_any_height(tmp_path: Path, bilevel: bool) -> None:
    data = sections(2) > 100
    path = written(tmp_path / "a.tif", data, rowsperstrip=5 if bilevel else 64)
    assert np.array_equal(read(path), data)
    with open_stack(path) as stack:
        assert stack.chunk == (1, 1, 67)
        assert np.array_equal(stack.read(Box((1, 3, 5), (2, 12, 30))), data[1:, 3:12, 5:30])


def stated(path: Path) -> StatedVoxelSize | None:
    with open_stack(path) as stack:
        return stack.found.voxel


def test_voxel_size_of_ome(tmp_path: Path) -> None:
    how: dict[str, Any] = {"ome": True, "resolution": (72, 72), "resolutionunit": "inch"}
    sizes = {"PhysicalSizeX": 0.004, "PhysicalSizeY": 5, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 500}
    path = written(tmp_path / "a.tif", sections(), metadata={"axes": "ZYX", "PhysicalSizeZUnit": "Å"} | sizes, **how)
    assert stated(path) == StatedVoxelSize(50.0, 5.0, 4.0, "its OME metadata")
    path = written(
        tmp_path / "b.tif", sections(), metadata={"axes": "ZYX", "PhysicalSizeXUnit": "pixel"} | sizes, **how
    )
    found = stated(path)
    assert found is not None
    assert found.x_nm is None


@pytest.mark.parametrize(
    ("unit", "resolution", "spacing", "expected"),
    [
        ("nm", 0.25, 50, (50, 4, 4)),
        ("micron", 250, 0.05, (50, 4, 4)),
        ("um", 250, 0.05, (50, 4, 4)),
        ("\\u00B5m", 250, 0.05, (50, 4, 4)),
        ("mm", 250_000, 5e-5, (50, 4, 4)),
        ("cm", 2_500_000, 5e-6, (50, 4, 4)),
        ("pixel", 1, 1, None),
        ("inch", 72, 1, None),
        (None, 250, 0.05, None),
    ],
)
def test_voxel_size_of_imagej(
    tmp_path: Path, unit: str | None, resolution: float, spacing: float, expected: tuple[float, ...] | None
) -> None:
    metadata = {"axes": "ZYX", "spacing": spacing} | ({"unit": unit} if unit else {})
    path = written(tmp_path / "a.tif", sections(), imagej=True, resolution=(resolution,) * 2, metadata=metadata)
    found = stated(path)
    assert (found and (found.z_nm, found.y_nm, found.x_nm)) == expected
    assert found is None or found.origin == "ImageJ's description"


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((2_500_000, 2_000_000), "centimeter", (None, 5.0, 4.0)),
        ((6_350_000, 6_350_000), "inch", (None, 4.0, 4.0)),
        ((2_500_000, 2_500_000), "none", None),
        *(((dpi, dpi), "inch", None) for dpi in (1, 72, 96, 150, 300, 600)),
        ((28.35, 28.35), "centimeter", None),
    ],
)
def test_voxel_size_of_resolution_tags(
    tmp_path: Path, resolution: tuple[float, float], unit: str, expected: tuple[float | None, ...] | None
) -> None:
    path = written(tmp_path / "a.tif", sections(), resolution=resolution, resolutionunit=unit)
    found = stated(path)
    assert (found and (found.z_nm, found.y_nm, found.x_nm)) == expected


def test_nothing_stated(tmp_path: Path) -> None:
    assert stated(written(tmp_path / "a.tif", sections())) is None
    text = ome({"Z": 8, "X": 67, "Y": 64})
    assert stated(written(tmp_path / "b.tif", sections(), description=text, metadata=None)) is None


ZEISS = "\r\nDP_SOMETHING\r\nSomething = Off\r\nAP_WD\r\nWD = 4.1 mm\r\n{}\r\n"
FEI = "[User]\r\nDate=01/01/2026\r\n[Scan]\r\nPixelWidth=4e-009\r\nPixelHeight=5e-009\r\nDwelltime=1e-006\r\n"


@pytest.mark.parametrize(
    ("code", "header", "expected"),
    [
        (34118, ZEISS.format("AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 5.825 nm"), (None, 5.825, 5.825)),
        (34118, ZEISS.format("AP_PIXEL_SIZE\r\nPixel Size = 20.5 pm"), (None, 0.0205, 0.0205)),
        (34118, ZEISS.format("AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 1.5 parsecs"), None),
        (34118, ZEISS.format(""), None),
        (34682, FEI, (None, 5.0, 4.0)),
        (34680, FEI, (None, 5.0, 4.0)),
        (34682, FEI.replace("Scan", "Beam"), None),
    ],
)
def test_voxel_size_of_microscopes(
    tmp_path: Path, code: int, header: str, expected: tuple[float | None, ...] | None
) -> None:
    text = header.encode()
    extra = [(code, 2, len(text) + 1, text + b"\0", True)]
    path = written(tmp_path / "a.tif", sections(1), extratags=extra, metadata=None)
    assert np.array_equal(read(path), sections(1))
    found = stated(path)
    assert (found and (found.z_nm, found.y_nm, found.x_nm)) == expected
    assert found is None or found.origin.startswith("the header of the")


def test_files_of_microscopes_and_of_imagej(em_data: Path) -> None:
    paths = sorted((em_data / "formats").glob("*.tif"))
    if not paths:
        pytest.skip("no TIFF among the formats of the real EM data")
    for path in paths:
        found, expected = read(path), tifffile.imread(path)
        assert np.array_equal(found.reshape(expected.shape), expected)
        size = stated(path)
        assert size is not None
        assert size.x_nm == size.y_nm
        assert size.origin != "its resolution tags"

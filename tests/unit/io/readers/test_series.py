"""Folders of sections and single PNG files."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segem.errors import InputError
from segem.io.readers import list_source_files, open_stack
from segem.io.readers.series import natural_key


def section(value: int, shape: tuple[int, int] = (20, 30), dtype: str = "u1") -> np.ndarray:
    return np.full(shape, value, dtype) + (np.arange(shape[1]) % 3).astype(dtype)


def png(path: Path, data: np.ndarray, **how) -> Path:
    Image.fromarray(data).save(path, **how)
    return path


def tiff(path: Path, data: np.ndarray, **how) -> Path:
    tifffile.imwrite(path, data, **({"photometric": "minisblack"} | how))
    return path


def read(path: Path) -> np.ndarray:
    with open_stack(path) as stack:
        found = np.stack([stack.section(z) for z in range(stack.shape[0])])
        assert (found.shape, found.dtype) == (stack.shape, stack.dtype)
    return found


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("write", "suffix"), [(png, ".png"), (tiff, ".tif"), (tiff, ".TIFF")])
def test_two_comes_before_ten(tmp_path: Path, write, suffix: str) -> None:
    for number in (10, 2, 1):
        write(tmp_path / f"slice{number}{suffix}", section(number))
    (tmp_path / ".DS_Store").write_bytes(b"hidden")
    (tmp_path / "old").mkdir()
    assert read(tmp_path)[:, 0, 0].tolist() == [1, 2, 10]
    assert [path.name for path in list_source_files(tmp_path)] == [f"slice{n}{suffix}" for n in (1, 2, 10)]


@given(st.lists(st.integers(0, 10**6), min_size=2, unique=True))
def test_natural_order_is_the_order_of_numbers(numbers: list[int]) -> None:
    names = [Path(f"z_{n}.png") for n in numbers]
    assert sorted(names, key=natural_key) == [Path(f"z_{n}.png") for n in sorted(numbers)]


def test_big_endian_sections_are_native(tmp_path: Path) -> None:
    for z in range(2):
        tiff(tmp_path / f"{z}.tif", section(1000 + z, dtype="u2"), byteorder=">")
    found = read(tmp_path)
    assert found.dtype == np.dtype("=u2")
    assert found[:, 0, 0].tolist() == [1000, 1001]


@pytest.mark.parametrize(
    ("data", "dtype"),
    [(section(7), "u1"), (section(7, dtype="u2") * 300, "u2"), (section(7) % 2 == 0, "?")],
)
def test_png_types(tmp_path: Path, data: np.ndarray, dtype: str) -> None:
    found = read(png(tmp_path / "a.png", data))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found[0], data)


def paletted(path: Path, indices: np.ndarray, palette: list[int], **how) -> Path:
    image = Image.fromarray(indices, mode=None).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(palette)
    image.save(path, **how)
    return path


@pytest.mark.parametrize("bits", [8, 1])
def test_a_grey_palette_is_looked_up(tmp_path: Path, bits: int) -> None:
    indices = (section(0) % 2).astype(np.uint8)
    found = read(paletted(tmp_path / "a.png", indices, [255] * 3 + [10] * 3, bits=bits))
    assert found.dtype == np.uint8
    assert np.array_equal(found[0], np.where(indices == 0, 255, 10))


def test_a_coloured_palette_gives_indices(tmp_path: Path) -> None:
    indices = section(0)
    found = read(paletted(tmp_path / "a.png", indices, [0, 0, 0, 255, 0, 0, 0, 255, 0]))
    assert np.array_equal(found[0], indices)


def test_the_size_of_a_section_is_not_limited_as_for_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    png(tmp_path / "a.png", section(1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "a.png")
    assert read(tmp_path / "a.png").shape == (1, 20, 30)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_is_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 5)).save(tmp_path / "a.png")
    assert f"not a grey image; expected one grey channel, found mode {mode}" in refused(tmp_path / "a.png")


def test_any_flipped_bit_of_a_png_is_noticed(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8))
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[at] ^= 16
        path.write_bytes(flipped)
        refused(path)


@given(st.floats(0, 0.999))
def test_a_truncated_png_is_refused(tmp_path_factory, kept: float) -> None:
    path = png(tmp_path_factory.mktemp("cut") / "a.png", section(3))
    os.truncate(path, int(path.stat().st_size * kept))
    refused(path)


def test_a_png_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert "the declared size of a section is implausible" in refused(tmp_path / "a.png")


def test_mixed_extensions_are_named(tmp_path: Path) -> None:
    for z in range(2):
        tiff(tmp_path / f"{z}.tif", section(z))
    png(tmp_path / "3.png", section(3))
    (tmp_path / "README").touch()
    message = refused(tmp_path)
    assert "expected one extension, found 2 .tif and 1 .png and 1 without extension" in message


def test_folders_without_sections(tmp_path: Path) -> None:
    assert "no sections in the folder" in refused(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "labels").mkdir()
    assert "found only folders: labels, raw. Fix: give the folder that holds" in refused(tmp_path)
    (tmp_path / "a.jpg").touch()
    assert "unknown kind of section; expected .tif, .tiff, .png, found .jpg" in refused(tmp_path)


def test_a_folder_among_the_sections(tmp_path: Path) -> None:
    tiff(tmp_path / "1.tif", section(1))
    (tmp_path / "2.tif").mkdir()
    assert "2.tif: not a regular file; found a folder" in refused(tmp_path)


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (section(2, (20, 31)), "different shape in one stack; expected (20, 30) as in"),
        (section(2, dtype="u2"), "different type in one stack; expected uint8 as in"),
        (np.zeros((20, 30, 3), np.uint8), "not a grey image"),
        (np.stack([section(2)] * 2), "a file of several pages in a folder of sections; expected 1 page, found 2 pages"),
    ],
)
def test_a_section_unlike_the_first(tmp_path: Path, odd: np.ndarray, told: str) -> None:
    for z in range(3):
        tiff(tmp_path / f"{z}.tif", section(z))
    tiff(tmp_path / "1.tif", odd, photometric="rgb" if odd.shape[-1] == 3 else "minisblack")
    message = refused(tmp_path)
    assert told in message
    assert f"{tmp_path / '1.tif'}" in message
    assert "different" not in told or str(tmp_path / "0.tif") in message


def test_a_section_that_changes_while_it_is_read(tmp_path: Path) -> None:
    for z in range(2):
        png(tmp_path / f"{z}.png", section(z))
    with open_stack(tmp_path) as stack:
        png(tmp_path / "1.png", section(1, (9, 9)))
        with pytest.raises(InputError, match=r"1\.png: sections of different shape"):
            stack.section(1)
        (tmp_path / "1.png").unlink()
        with pytest.raises(InputError, match=r"1\.png: no such file"):
            stack.section(1)


def test_a_dangling_link_among_the_sections(tmp_path: Path) -> None:
    tiff(tmp_path / "1.tif", section(1))
    (tmp_path / "2.tif").symlink_to(tmp_path / "gone.tif")
    assert "found a link to nothing" in refused(tmp_path)


@pytest.mark.parametrize(
    ("numbers", "gaps"), [([1, 2, 3, 5, 6], ["3.tif and 5.tif"]), ([10, 20, 30], []), ([0, 1, 2], []), ([1, 9], [])]
)
def test_a_missing_number_is_a_warning(tmp_path: Path, numbers: list[int], gaps: list[str]) -> None:
    for number in numbers:
        tiff(tmp_path / f"{number}.tif", section(number))
    with open_stack(tmp_path) as stack:
        assert len(stack.warnings) == len(gaps)
        assert all(gap in warning for gap, warning in zip(gaps, stack.warnings, strict=True))


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.np"])
def test_unknown_kinds_of_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    told = refused(tmp_path / name)
    assert "unknown kind of file; expected zarr, .tif, .tiff" in told
    assert all(known in told for known in (".png", ".h5", ".npy", "a folder of sections"))


@pytest.mark.parametrize("name", ["gone", "gone.tif", "gone.h5", "gone.ome.zarr", "a.tif/b.tif", "x" * 300, "a\0b"])
def test_sources_that_are_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tif").touch()
    for look in (open_stack, list_source_files):
        with pytest.raises(InputError, match=r"no such file or folder|cannot be opened"):
            look(tmp_path / name)

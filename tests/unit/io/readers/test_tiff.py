"""TIFF: what is read is what was written, and damage is never mistaken for data."""

from __future__ import annotations

import logging
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers import open_stack
from tests.unit.io.readers.tiffs import attempt, patched, read, refused, sections, written

COMPRESSIONS = [None, "zlib", "lzw", "zstd", "jpeg", "lzma", "packbits"]
LOSSLESS = [c for c in COMPRESSIONS if c != "jpeg"]


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", LOSSLESS)
def test_values_and_order_survive(tmp_path: Path, dtype: str, byteorder: str, compression: str | None) -> None:
    data = sections(dtype=dtype)
    path = written(tmp_path / "a.tif", data, byteorder=byteorder, compression=compression)
    found = read(path)
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    assert np.array_equal(found, data)


@pytest.mark.parametrize(
    "how",
    [
        {"bigtiff": True},
        {"metadata": None},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"rowsperstrip": 7},
        {"tile": (16, 16)},
        {"predictor": True, "compression": "zlib"},
        {"description": "a µ in the description".encode(), "metadata": None},
    ],
)
def test_every_layout_is_read(tmp_path: Path, how: dict) -> None:
    assert np.array_equal(read(written(tmp_path / "ä stack.tif", sections(), **how)), sections())


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".TIF"])
def test_one_page_is_one_section(tmp_path: Path, suffix: str) -> None:
    assert read(written(tmp_path / f"a{suffix}", sections(1)[0])).shape == (1, 64, 67)


def test_pages_written_one_by_one(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for section in sections():
            writer.write(section, photometric="minisblack")
    assert np.array_equal(read(tmp_path / "a.tif"), sections())


def test_one_bit_is_bool(tmp_path: Path) -> None:
    data = sections(2) > 100
    found = read(written(tmp_path / "a.tif", data))
    assert found.dtype == bool
    assert np.array_equal(found, data)


def test_a_grey_palette_is_looked_up(tmp_path: Path) -> None:
    ramp = np.arange(255, -1, -1, dtype=np.uint16) * 257
    path = written(tmp_path / "a.tif", sections(), photometric="palette", colormap=np.stack([ramp] * 3))
    assert np.array_equal(read(path), 255 - sections())


def test_a_coloured_palette_gives_indices(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    path = written(tmp_path / "a.tif", sections(), photometric="palette", colormap=colours)
    assert np.array_equal(read(path), sections())


def test_pages_by_which_a_value_has_two_colours_are_refused(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    grey = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    for name, other in (("same", colours), ("turned", colours[:, ::-1]), ("grey", grey)):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as writer:
            for section, colormap in zip(sections(2), (colours, other), strict=True):
                writer.write(section, photometric="palette", colormap=colormap, metadata=None)
    assert np.array_equal(read(tmp_path / "same.tif"), sections(2))
    first = f"the colour {tuple((colours[:, 0] >> 8).tolist())} for 0 as in {tmp_path}"
    assert f"{first}/turned.tif page 1 (z=0), found the colour" in refused(tmp_path / "turned.tif")
    assert f"{first}/grey.tif page 1 (z=0), found no colour" in refused(tmp_path / "grey.tif")
    (folder := tmp_path / "series").mkdir()
    for z, colormap in enumerate((colours, colours[:, ::-1])):
        written(folder / f"{z}.tif", sections(1), photometric="palette", colormap=colormap)
    with pytest.raises(InputError, match="a value stands for different colours"):
        open_stack(folder)


def packed(path: Path, data: np.ndarray, promised: int) -> Path:
    written(path, data[0], description=f"ImageJ=1.54f\nimages={promised}\nslices={promised}\n", metadata=None)
    with path.open("ab") as file:
        file.write(data[1:].tobytes())
    return path


def test_a_large_imagej_stack_of_one_page(tmp_path: Path) -> None:
    assert np.array_equal(read(packed(tmp_path / "a.tif", sections(), 8)), sections())


def test_a_large_imagej_stack_cut_short(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tif", sections(), 8)
    os.truncate(path, path.stat().st_size - 1)
    assert "found 1 pages, while its metadata promise 8" in refused(path)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kept", [0.02, 0.2, 0.5, 0.9])
def test_truncated_stacks_are_refused(tmp_path: Path, compression: str | None, kept: float) -> None:
    path = written(tmp_path / "a.tif", sections(), compression=compression)
    os.truncate(path, int(path.stat().st_size * kept))
    refused(path)


@pytest.mark.parametrize(
    "how",
    [
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"metadata": None, "compression": "zlib"},
    ],
)
@given(st.data())
def test_no_truncation_passes_for_another_stack(tmp_path_factory, how: dict, data) -> None:
    path = written(tmp_path_factory.mktemp("cut") / "a.tif", sections(3, side=20), **how)
    os.truncate(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    found = attempt(path)
    # Some layouts end in text, which nobody misses.
    assert found is None or np.array_equal(found, sections(3, side=20))


@given(
    st.sampled_from(COMPRESSIONS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_any_changed_bytes_give_one_error_or_sections(tmp_path_factory, compression, changes) -> None:
    path = written(tmp_path_factory.mktemp("fuzz") / "a.tif", sections(3, side=20), compression=compression)
    content = bytearray(path.read_bytes())
    for at, flip in changes:
        content[at % len(content)] ^= flip
    path.write_bytes(content)
    attempt(path)


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
def test_damaged_compressed_data_are_refused(tmp_path: Path, compression: str) -> None:
    path = written(tmp_path / "a.tif", sections(2), compression=compression)
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[1].dataoffsets[0] + 1
    content = bytearray(path.read_bytes())
    content[at : at + 40] = bytes(40)
    path.write_bytes(content)
    assert "page 2 (z=1)" in refused(path)


@pytest.mark.parametrize(
    ("tag", "value", "told"),
    [
        ("StripOffsets", 10**6, "it is truncated"),
        ("StripByteCounts", 10**6, "it is truncated"),
        ("StripByteCounts", 0, "bytes"),
        ("StripByteCounts", 100, "100 of 4288 bytes"),
        ("ImageWidth", 0, ""),
        ("ImageLength", 60, "page 2 (z=1): sections of different shape in one stack; expected (64, 67) as in"),
        ("ImageLength", 2**31, ""),
        ("BitsPerSample", 0, ""),
        ("BitsPerSample", 128, ""),
        ("BitsPerSample", 16, "page 2"),
        ("Compression", 9999, ""),
        ("SamplesPerPixel", 3, "not a grey image"),
        ("PhotometricInterpretation", 2, "photometric RGB"),
    ],
)
def test_a_page_that_cannot_be_true(tmp_path: Path, tag: str, value: int, told: str) -> None:
    path = written(tmp_path / "a.tif", sections(3), metadata=None)
    assert told in refused(patched(path, tag, value, page=1))


def test_pages_of_another_kind_among_grey_ones(tmp_path: Path) -> None:
    for name, odd, told in [
        ("shape", np.zeros((30, 30), np.uint8), r"different shape in one stack; expected (64, 67) as in"),
        ("dtype", np.zeros((64, 67), np.uint16), "different type in one stack; expected uint8 as in"),
        ("rgb", np.zeros((64, 67, 3), np.uint8), "not a grey image; expected one grey channel, found 3 channels"),
    ]:
        path = tmp_path / f"{name}.tif"
        with tifffile.TiffWriter(path) as writer:
            for page in (sections()[0], sections()[1], odd):
                writer.write(page, photometric="rgb" if page.ndim == 3 else "minisblack")
        message = refused(path)
        assert "page 3 (z=2)" in message
        assert told in message
        assert name == "rgb" or "page 1 (z=0)" in message


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.54f\nimages=9\nslices=9\n",
        "ImageJ=1.54f\nimages=7\nslices=7\n",
        '{"shape": [9, 64, 67]}',
        '<OME xmlns="x"><Image><Pixels SizeX="67" SizeY="64" SizeZ="9" SizeC="1" SizeT="1"/></Image></OME>',
    ],
)
def test_promises_that_are_not_kept(tmp_path: Path, description: str) -> None:
    path = written(tmp_path / "a.tif", sections(), description=description, metadata=None)
    # tifffile repeats the description on no other page.
    assert "found 8 pages, while its metadata promise" in refused(path)


@pytest.mark.parametrize(
    "description", ["ImageJ=1.54f\nimages=-\nslices=-\n", '{"shape": ', '{"shape": null}', "<OME", "images=9"]
)
def test_nonsense_in_the_description(tmp_path: Path, description: str) -> None:
    path = written(tmp_path / "a.tif", sections(), description=description, metadata=None)
    found = attempt(path)
    assert found is None or np.array_equal(found, sections())


def test_a_page_that_points_back(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", sections(3), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[2].offset
        entries = len(tiff.pages[2].tags)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, last + 2 + 12 * entries, first)
    path.write_bytes(content)
    assert "points back" in refused(path)


def test_many_pages_that_share_one_strip(tmp_path: Path) -> None:
    entries = [
        (256, 4, 64),
        (257, 4, 64),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, 64),
        (279, 4, 4096),
    ]
    tags = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in entries)
    size, start = 2 + len(tags) + 4, 8 + 4096
    count = 100_000
    directories = b"".join(
        struct.pack("<H", len(entries)) + tags + struct.pack("<I", start + size * (k + 1) if k + 1 < count else 0)
        for k in range(count)
    )
    path = tmp_path / "a.tif"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, start) + bytes(4096) + directories)
    started = time.process_time()
    assert "share their voxels" in refused(path)
    assert time.process_time() - started < 5


def test_bombs_are_refused_before_they_unpack(tmp_path: Path) -> None:
    zeros = written(tmp_path / "zstd.tif", np.zeros((1, 9000, 9000), np.uint8), compression="zstd")
    assert zeros.stat().st_size < 20_000
    assert "the declared size of a section is implausible" in refused(zeros)
    small = written(tmp_path / "b.tif", sections(2), metadata=None, compression="zlib")
    patched(patched(small, "ImageWidth", 65535), "ImageLength", 65535)
    refused(small)


def test_files_that_are_no_tiff(tmp_path: Path) -> None:
    contents = {
        "empty": b"",
        "two": b"II",
        "header": b"II*\0",
        "no-ifd": b"II*\0\0\0\0\0",
        "past": struct.pack("<2sHI", b"II", 42, 10**9),
        "text": b"z,y,x\n1,2,3\n" * 20,
        "html": b"<!DOCTYPE html><html></html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(99),
        "tags": struct.pack("<2sHIH", b"II", 42, 8, 65535) + bytes(99),
        "big": struct.pack("<2sHHHQ", b"II", 43, 9, 0, 16) + bytes(99),
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.tif").write_bytes(content)
        message = refused(tmp_path / f"{name}.tif")
        assert ("the file is empty" in message) == (name == "empty")


def test_things_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "fifo.tif")
    (tmp_path / "dangling.tif").symlink_to(tmp_path / "gone.tif")
    assert "not a regular file; found a folder" in refused(tmp_path / "folder.tif")
    assert "found a device, pipe or socket" in refused(tmp_path / "fifo.tif")
    assert "found a link to nothing" in refused(tmp_path / "dangling.tif")
    assert "no such file or folder" in refused(tmp_path / "missing.tif")


def test_damage_is_not_printed_and_the_log_is_left_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("tifffile")
    before = (logger.level, logger.propagate, list(logger.handlers))
    path = written(tmp_path / "a.tif", sections(), compression="zlib")
    os.truncate(path, path.stat().st_size // 2)
    refused(path)
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_damage_is_noticed_when_logging_is_off(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", sections(), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        fifth = tiff.pages[4].offset
    os.truncate(path, fifth)
    logging.disable(logging.CRITICAL)
    try:
        refused(path)
    finally:
        logging.disable(logging.NOTSET)


def test_a_section_that_is_not_there(tmp_path: Path) -> None:
    with open_stack(written(tmp_path / "a.tif", sections())) as stack:
        for z in (-1, 8):
            with pytest.raises(InputError, match=r"no such voxels; expected a box within"):
                stack.section(z)


def test_a_dataset_of_a_tiff(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave the dataset out"):
        open_stack(written(tmp_path / "a.tif", sections()), Selection(dataset="raw"))

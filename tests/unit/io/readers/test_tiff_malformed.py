"""Malformed TIFF: one error in words or the right voxels, within a second, and never a silent mistake."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.unit.io.readers.test_tiff_parts import overwrite
from tests.unit.io.readers.tiffs import Voxels, attempt, patched, renamed_tag, sections, written

COMPRESSIONS = ["lzw", "zlib", "zstd", "jpeg", "packbits"]
MUTATIONS = int(os.environ.get("SEGEM_MUTATIONS", "25"))
SIDE = 40
STRIPS, COUNTS = 273, 279

Damage = Callable[[Path], object]


def plain(path: Path, **how: Any) -> Path:
    return written(path, sections(3, side=SIDE), **({"rowsperstrip": 8, "metadata": None} | how))


def truncated(at: float) -> Damage:
    def damage(path: Path) -> None:
        plain(path)
        os.truncate(path, int(at) if at >= 1 else int(path.stat().st_size * at))

    return damage


def tag(name: str, value: object, page: int = 1, **how: Any) -> Damage:
    return lambda path: patched(plain(path, **how), name, value, page)


def without(code: int, **how: Any) -> Damage:
    return lambda path: renamed_tag(plain(path, **how), code, page=1)


def entry(code: int, field: int, form: str, value: int, **how: Any) -> Damage:
    """Change a field of the entry of a tag: 2 its type, 4 its count, 8 its value."""

    def damage(path: Path) -> None:
        with tifffile.TiffFile(plain(path, **how)) as tiff:
            at = tiff.pages[1].tags[code].offset
        content = bytearray(path.read_bytes())
        struct.pack_into(form, content, at + field, value)
        path.write_bytes(content)

    return damage


def next_page(page: int, to: Callable[[list[int], int], int], **how: Any) -> Damage:
    def damage(path: Path) -> None:
        with tifffile.TiffFile(plain(path, **how)) as tiff:
            offsets = [one.offset for one in tiff.pages]
            entries = len(tiff.pages[page].tags)
        content = bytearray(path.read_bytes())
        struct.pack_into("<I", content, offsets[page] + 2 + 12 * entries, to(offsets, len(content)))
        path.write_bytes(content)

    return damage


def garbage(compression: str, content: bytes) -> Damage:
    return lambda path: overwrite(plain(path, compression=compression), 2, content, start=0.3, page=1)


def described(text: str) -> Damage:
    return lambda path: plain(path, description=text)


def shared_strips(path: Path) -> None:
    with tifffile.TiffFile(plain(path)) as tiff:
        first = tiff.pages[1].dataoffsets[0]
        count = len(tiff.pages[1].dataoffsets)
    patched(path, "StripOffsets", [first] * count, page=1)


def overlapping_strips(path: Path) -> None:
    with tifffile.TiffFile(plain(path)) as tiff:
        offsets = list(tiff.pages[1].dataoffsets)
    patched(path, "StripOffsets", [offsets[0], *(at - 9 for at in offsets[1:])], page=1)


def shared_pages(path: Path) -> None:
    with tifffile.TiffFile(plain(path)) as tiff:
        offsets = tiff.pages[0].dataoffsets
    patched(path, "StripOffsets", list(offsets), page=2)


def jpeg_of_another_size(path: Path) -> None:
    with tifffile.TiffFile(plain(path, compression="jpeg")) as tiff:
        at, length = tiff.pages[1].dataoffsets[0], tiff.pages[1].databytecounts[0]
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0", at, at + length)
    struct.pack_into(">HH", content, frame + 5, 60_000, 60_000)
    path.write_bytes(content)


def endless_zstd(path: Path) -> None:
    written(path, np.zeros((1, 9000, 9000), np.uint8), compression="zstd", metadata=None)


NOISE = np.random.default_rng(7).bytes(4096)

MALFORMED: dict[str, Damage] = {
    "cut in the header": truncated(6),
    "cut behind the header": truncated(8),
    "cut in the first directory": truncated(60),
    "cut in the tables of strips": truncated(190),
    "cut in the first section": truncated(0.3),
    "cut in the last section": truncated(0.8),
    "cut by a few bytes": truncated(0.98),
    "a page that points to itself": next_page(1, lambda offsets, _: offsets[1]),
    "a page that points back": next_page(2, lambda offsets, _: offsets[0]),
    "a page beyond the file": next_page(1, lambda _, size: size + 100),
    "a page in the middle of voxels": next_page(1, lambda offsets, _: offsets[1] + 311),
    "a page that ends the stack too early": next_page(0, lambda offsets, _: offsets[2], metadata={}),
    "width 0": tag("ImageWidth", 0),
    "width 2**31": tag("ImageWidth", 2**31),
    "width one too many": tag("ImageWidth", SIDE + 4),
    "length 0": tag("ImageLength", 0),
    "length 2**31": tag("ImageLength", 2**31),
    "length half": tag("ImageLength", SIDE // 2),
    "0 bits": tag("BitsPerSample", 0),
    "4 bits": tag("BitsPerSample", 4),
    "16 bits": tag("BitsPerSample", 16),
    "128 bits": tag("BitsPerSample", 128),
    "unknown compression": tag("Compression", 9999),
    "compression that is not there": tag("Compression", 8),
    "JPEG that is not there": tag("Compression", 7),
    "unknown photometric": tag("PhotometricInterpretation", 32845),
    "3 samples": tag("SamplesPerPixel", 3),
    "65535 samples": tag("SamplesPerPixel", 65535),
    "0 rows a strip": tag("RowsPerStrip", 0),
    "4 rows a strip": tag("RowsPerStrip", 4),
    "wrong predictor": tag("Predictor", 3, compression="zlib", predictor=True),
    "unknown predictor": tag("Predictor", 99, compression="zlib", predictor=True),
    "tiles of no width": tag("TileWidth", 0, tile=(16, 16)),
    "tiles of 2**30": tag("TileLength", 2**30, tile=(16, 16)),
    "no strips": without(STRIPS),
    "no width": without(256),
    "no bits": without(258),
    "a tag of unknown type": entry(STRIPS, 2, "<H", 99),
    "a tag of endless values": entry(STRIPS, 4, "<I", 2**31),
    "a tag with too few values": entry(STRIPS, 4, "<I", 2),
    "values beyond the file": entry(STRIPS, 8, "<I", 2**31),
    "lengths beyond the file": entry(COUNTS, 8, "<I", 2**31),
    "strips that share their voxels": shared_strips,
    "strips that overlap": overlapping_strips,
    "pages that share their voxels": shared_pages,
    "a JPEG of another size": jpeg_of_another_size,
    "zeros without end": endless_zstd,
    "an ImageJ stack of nothing": described("ImageJ=1.54f\nimages=0\nslices=-1\nchannels=99999999999\n"),
    "a shape too deep to parse": described('{"shape": ' + "[" * 100_000),
    "a shape of negative extent": described('{"shape": [-3, 40, 43]}'),
    "OME metadata cut short": described("<OME><Image><Pixels"),
    **{f"{name} in {c}": garbage(c, b) for c in COMPRESSIONS for name, b in {"noise": NOISE, "zeros": b"\0"}.items()},
}

# What nobody can know: zstd and PackBits hold no checksum, so of their voxels only the count is sure.
UNKNOWABLE = {"noise in zstd", "zeros in zstd", "noise in packbits", "zeros in packbits"}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_gives_an_error_or_the_right_voxels(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tif"
    MALFORMED[name](path)
    started = time.process_time()
    found = attempt(path)
    assert time.process_time() - started < 1
    if found is None:
        return
    assert found.shape == (3, SIDE, SIDE + 3)
    assert name in UNKNOWABLE or np.array_equal(found, sections(3, side=SIDE))


def mutated(content: bytes, rng: np.random.Generator, strips: list[tuple[int, int]]) -> tuple[bytes, bool]:
    """Change a few bytes, and return whether only voxels are concerned."""
    data = bytearray(content)
    within = bool(rng.integers(2))
    places = (
        [int(rng.integers(at, at + n)) for at, n in rng.permutation(strips)[:2]]
        if within
        else rng.integers(0, len(data), rng.integers(1, 5)).tolist()
    )
    for at in places:
        data[at] = int(rng.integers(256))
    if rng.random() < 0.1:
        del data[int(rng.integers(len(data))) :]
        within = False
    return bytes(data), within


@pytest.fixture(scope="module", params=COMPRESSIONS)
def compressed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, Voxels]:
    path = written(tmp_path_factory.mktemp("mutated") / "a.tif", sections(2, side=24), compression=request.param)
    return request.param, path.read_bytes(), tifffile.imread(path)


def test_mutated_files_give_an_error_or_sections(tmp_path: Path, compressed: tuple[str, bytes, Voxels]) -> None:
    compression, content, right = compressed
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with tifffile.TiffFile(path) as tiff:
        strips = [(page.dataoffsets[0], page.databytecounts[0]) for page in tiff.pages]
    for seed in range(MUTATIONS):
        data, within = mutated(content, np.random.default_rng(seed), strips)
        path.write_bytes(data)
        started = time.process_time()
        found = attempt(path)
        assert time.process_time() - started < 1, seed
        # Deflate holds a checksum, so there nothing wrong passes.
        if found is not None and within and compression == "zlib":
            assert np.array_equal(found, right), seed

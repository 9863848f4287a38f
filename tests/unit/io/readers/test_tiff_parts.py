"""TIFF: a part is read from the strips and tiles that meet it, and what was never written is said."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from segem.config import LabelSource, Selection
from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import open_stack
from segem.io.readers.tiff.segments import Segments
from tests.unit.io.readers.tiffs import Voxels, patched, read, read_box, refused, renamed_tag, sections, written

LAYOUTS: list[dict[str, Any]] = [
    {},
    {"rowsperstrip": 7},
    {"rowsperstrip": 7, "compression": "lzw", "predictor": True},
    {"compression": "zstd"},
    {"tile": (16, 32)},
    {"tile": (16, 32), "compression": "zlib"},
    {"photometric": "miniswhite"},
    {"byteorder": ">", "rowsperstrip": 5},
]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Voxels]]:
    """Return files of every layout, and what they hold."""
    folder, found = tmp_path_factory.mktemp("layouts"), []
    for number, how in enumerate(LAYOUTS):
        for dtype in ("u1", "u2"):
            whole = sections(3, dtype)
            path = written(folder / f"{number}{dtype}.tif", whole, **how)
            found.append((path, ~whole if how.get("photometric") == "miniswhite" else whole))
    return found


@given(data=st.data())
def test_a_part_is_a_part_of_the_whole(layouts: list[tuple[Path, Voxels]], data: st.DataObject) -> None:
    path, whole = data.draw(st.sampled_from(layouts))
    sides = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in whole.shape]
    box = Box(*(tuple(side[k] for side in sides) for k in (0, 1)))  # type: ignore[arg-type]
    assert np.array_equal(read_box(path, box), whole[tuple(slice(*side) for side in sides)])


@pytest.mark.parametrize(
    ("how", "chunk", "decoded"),
    [
        ({"compression": "zlib", "rowsperstrip": 8}, (1, 8, 67), 2),
        ({"compression": "zlib", "tile": (16, 16)}, (1, 16, 16), 2),
        ({"tile": (16, 16)}, (1, 16, 16), 2),
        ({"compression": "zlib"}, (1, 64, 67), 1),
    ],
)
def test_only_what_meets_the_part_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], chunk: tuple[int, ...], decoded: int
) -> None:
    seen = []
    decode = Segments._decoded

    def watch(self: Segments, number: int, rows: int) -> Voxels | None:
        seen.append(number)
        return decode(self, number, rows)

    monkeypatch.setattr(Segments, "_decoded", watch)
    path = written(tmp_path / "a.tif", sections(3), **how)
    with open_stack(path) as stack:
        assert stack.chunk == chunk
        # Rows 15 to 17 meet two strips of 8, or two tiles of 16.
        found = stack.read(Box((1, 15, 3), (2, 17, 5)))
    assert np.array_equal(found, sections(3)[1:2, 15:17, 3:5])
    assert len(seen) == decoded


@pytest.mark.parametrize("how", [{}, {"rowsperstrip": 64, "compression": "zlib"}, {"tile": (256, 256)}])
def test_a_large_section_is_read_in_bands_and_columns(tmp_path: Path, how: dict[str, Any]) -> None:
    side = 8192
    data = np.arange(side, dtype=np.uint8)[:, None] + np.arange(side, dtype=np.uint8)[None]
    path = written(tmp_path / "a.tif", data, **how)
    with open_stack(path) as stack:
        tracemalloc.start()
        for y in (0, 3000, side - 256):
            band = stack.read(Box((0, y, 0), (1, y + 256, side)))
            assert np.array_equal(band[0], data[y : y + 256])
        column = stack.read(Box((0, 0, 5000), (1, side, 5128)))
        assert np.array_equal(column[0], data[:, 5000:5128])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # The section is 64 MiB, a band 2, and a column of it is read 16 MiB of rows at a time.
    assert peak < 40 * 2**20


def test_rows_of_a_packed_imagej_stack(tmp_path: Path) -> None:
    data = sections(8, "u2")
    path = written(tmp_path / "a.tif", data[0], description="ImageJ=1.54f\nimages=8\nslices=8\n", metadata=None)
    with path.open("ab") as file:
        file.write(data[1:].tobytes())
    assert np.array_equal(read_box(path, Box((3, 10, 20), (6, 12, 30))), data[3:6, 10:12, 20:30])
    with open_stack(path) as stack:
        assert stack.label_of(5) == f"{path} page 6 (z=5)"


@pytest.mark.parametrize("how", [{}, {"rowsperstrip": 7}, {"byteorder": ">"}])
def test_strips_of_which_no_length_is_given(tmp_path: Path, how: dict[str, Any]) -> None:
    path = written(tmp_path / "a.tif", sections(2, "u2"), metadata=None, **how)
    for page in (0, 1):
        renamed_tag(path, 279, page=page)
    assert np.array_equal(read(path), sections(2, "u2"))


def test_compressed_strips_of_which_no_length_is_given(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", sections(1), metadata=None, compression="zlib")
    assert "without their lengths" in refused(renamed_tag(path, 279))


def without_tiles(path: Path, numbers: list[int], page: int = 0) -> Path:
    """Take tiles out of a file, as programs do that never wrote them: no offset, no length."""
    with tifffile.TiffFile(path) as tiff:
        order = tiff.byteorder
        tags = [tiff.pages[page].tags[code] for code in (324, 325)]
    content = bytearray(path.read_bytes())
    for tag in tags:
        form = {3: "H", 4: "I", 16: "Q"}[int(tag.dtype)]
        for number in numbers:
            struct.pack_into(order + form, content, tag.valueoffset + number * struct.calcsize(form), 0)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiles_that_were_never_written(tmp_path: Path, compression: str | None) -> None:
    path = written(tmp_path / "a.tif", sections(2), tile=(32, 32), compression=compression)
    without_tiles(path, [1, 5], page=1)
    assert "2 of 12 strips or tiles are missing; found the first missing one is in" in refused(path)
    expected = sections(2)
    expected[1, :32, 32:64] = 0
    expected[1, 32:, 64:] = 0
    assert np.array_equal(read(path, unwritten="fill"), expected)
    with open_stack(path, Selection(unwritten="fill")) as stack:
        assert "2 of 12 strips or tiles were never written, and are taken for their fill value 0" in stack.warnings[0]
        assert np.array_equal(stack.read(Box((1, 0, 30), (2, 40, 70 - 3))), expected[1:, :40, 30:67])


def test_a_section_that_was_never_written(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", sections(2), metadata=None)
    patched(patched(path, "StripOffsets", 0, page=1), "StripByteCounts", 0, page=1)
    assert "1 of 2 strips or tiles are missing" in refused(path)
    assert np.array_equal(read(path, unwritten="fill"), [sections(2)[0], np.zeros((64, 67))])


def test_a_tile_with_an_offset_and_no_length_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", sections(1), tile=(32, 32), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        counts = list(tiff.pages[0].databytecounts)
    counts[2] = 0
    assert "bytes" in refused(patched(path, "TileByteCounts", counts), unwritten="fill")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiles_that_are_alike_may_be_one(tmp_path: Path, compression: str | None) -> None:
    data = np.tile(sections(1)[0, :16, :16], (12, 12))[None]
    path = written(tmp_path / "a.tif", data, tile=(16, 16), compression=compression, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        first, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    patched(patched(path, "TileOffsets", [first] * 144), "TileByteCounts", [count] * 144)
    assert np.array_equal(read(path), data)
    os.truncate(path, first + count)
    assert path.stat().st_size < 144 * count
    assert np.array_equal(read(path), data)


def test_a_tile_much_larger_than_its_section(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", sections(1), tile=(64, 80), metadata=None, compression="zlib")
    patched(patched(path, "TileWidth", 60_000), "TileLength", 60_000)
    assert "the declared size of a section is implausible" in refused(path)


def overwrite(path: Path, segment: int, content: bytes, start: float = 0.5, stop: float = 1, page: int = 0) -> Path:
    """Overwrite a part of a strip or tile."""
    with tifffile.TiffFile(path) as tiff:
        at, length = tiff.pages[page].dataoffsets[segment], tiff.pages[page].databytecounts[segment]
    first, last = int(length * start), int(length * stop)
    data = bytearray(path.read_bytes())
    data[at + first : at + last] = (content * (length // len(content) + 1))[: last - first]
    path.write_bytes(data)
    return path


GARBAGE = {"noise": np.random.default_rng(5).bytes(1 << 14), "zeros": b"\0", "ones": b"\xff", "text": b"lorem ipsum "}


def smooth(count: int = 2, side: int = 128) -> Voxels:
    """Return sections that compress, as tissue does: blobs and some noise."""
    rng = np.random.default_rng(3)
    z, y, x = np.mgrid[:count, :side, : side + 3]
    waves = 100 + 60 * np.sin(y / 9 + z) * np.cos(x / 7) + rng.normal(0, 6, z.shape)
    return waves.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("part", [(0.5, 1), (0.3, 0.5), (0.6, 0.7)])
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("compression", ["lzw", "jpeg", "zlib"])
def test_strips_overwritten_with_garbage_are_damaged(
    tmp_path: Path, compression: str, garbage: str, part: tuple[float, float]
) -> None:
    path = written(tmp_path / "a.tif", smooth(), compression=compression)
    overwrite(path, 0, GARBAGE[garbage], *part, page=1)
    assert "page 2 (z=1)" in refused(path)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("compression", ["lzw", "jpeg"])
def test_tiles_overwritten_with_garbage_are_damaged(tmp_path: Path, compression: str, garbage: str) -> None:
    path = written(tmp_path / "a.tif", smooth(), compression=compression, tile=(64, 64))
    overwrite(path, 2, GARBAGE[garbage])
    assert "page 1 (z=0)" in refused(path)


@pytest.mark.parametrize("level", [50, 90, 100])
def test_jpeg_that_is_whole_is_read(tmp_path: Path, level: int) -> None:
    path = written(tmp_path / "a.tif", smooth(), compression="jpeg", compressionargs={"level": level}, tile=(64, 64))
    assert np.array_equal(read(path), tifffile.imread(path))
    assert np.abs(read(path).astype(int) - smooth()).max() < 40
    for chosen, told in (
        (Selection(), "which loses detail"),
        (LabelSource(source=path, membrane=1), "labels stored as JPEG"),
    ):
        with open_stack(path, chosen) as stack:
            assert told in stack.warnings[0]


def test_jpeg_with_restarts_and_shared_tables(tmp_path: Path) -> None:
    """Restarts in their order are no damage, and tables may lie in a tag of their own."""
    import io

    from PIL import Image

    data = smooth()[0, :, :128]
    encoded = io.BytesIO()
    Image.fromarray(data).save(encoded, "JPEG", quality=95, restart_marker_rows=1)
    stream = encoded.getvalue()
    assert b"\xff\xd0" in stream
    scan = stream.index(b"\xff\xc0")
    apart = stream.index(b"\xff\xdb")
    tables = b"\xff\xd8" + stream[apart:scan] + b"\xff\xd9"
    short = b"\xff\xd8" + stream[scan:]
    for name, content, extra in [("a", stream, []), ("b", short, [(347, 7, len(tables), tables, True)])]:
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(
            path,
            iter([content]),
            shape=data.shape,
            dtype="u1",
            photometric="minisblack",
            compression="jpeg",
            rowsperstrip=128,
            extratags=extra,
            metadata=None,
        )
        assert np.abs(read(path)[0].astype(int) - data).max() < 20
    at = path.read_bytes().index(b"\xff\xd3")
    broken = bytearray(path.read_bytes())
    broken[at + 1] = 0xD5
    path.write_bytes(broken)
    assert "restarts out of order" in refused(path)


def test_an_lzw_strip_without_the_code_that_ends_it(tmp_path: Path) -> None:
    import imagecodecs

    data = np.array([[1, 2, 3, 4, 5, 6, 7, 8]], np.uint8)
    path = written(tmp_path / "a.tif", data, compression="lzw", metadata=None)
    encoded = imagecodecs.lzw_encode(data.tobytes())
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].dataoffsets[0]
    # 9 codes of 9 bits, and the end in the bits after them: zeros there are one more pixel.
    assert len(encoded) == 12
    content = bytearray(path.read_bytes())
    content[at + 10] &= 0x80
    content[at + 11] = 0
    path.write_bytes(content)
    assert np.array_equal(read(path)[0], data)


def test_a_strip_of_which_a_last_row_is_written_in_full(tmp_path: Path) -> None:
    """Some writers fill up the last strip; what lies below the section does not count."""
    data = sections(1)[0]
    path = written(tmp_path / "a.tif", data, rowsperstrip=16, compression="lzw", metadata=None)
    cut = data[:50]
    patched(path, "ImageLength", 50)
    assert np.array_equal(read(path)[0], cut)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits"])
def test_a_strip_that_goes_on_below_its_section(tmp_path: Path, compression: str) -> None:
    """Cut to length, it would pass for half a section, or for garbage that never ends."""
    path = written(tmp_path / "a.tif", sections(1), compression=compression, metadata=None)
    patched(path, "ImageLength", 32)
    assert "page 1 (z=0)" in refused(path)


def test_an_error_while_reading_a_part_says_the_section(tmp_path: Path) -> None:
    path = overwrite(written(tmp_path / "a.tif", smooth(), compression="lzw", rowsperstrip=16), 3, b"\0", page=1)
    with open_stack(path) as stack:
        assert np.array_equal(stack.read(Box((1, 0, 0), (2, 40, 30))), smooth()[1:2, :40, :30])
        with pytest.raises(InputError, match=r"page 2 \(z=1\)"):
            stack.read(Box((1, 40, 0), (2, 60, 30)))

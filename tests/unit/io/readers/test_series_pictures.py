"""PNG and JPEG files: the right pixels, or a refusal."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segem.config import LabelSource
from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import open_stack

SHAPE = (20, 30)


def section(value: int, dtype: str = "u1") -> np.ndarray:
    return np.full(SHAPE, value, dtype) + (np.arange(SHAPE[1]) % 3).astype(dtype)


def noise(dtype: str = "u1", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def blobs(shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    y, x = np.indices(shape)
    return (127 + 60 * np.sin(y / 7) + 60 * np.cos(x / 5)).astype(np.uint8)


def save(path: Path, data: np.ndarray, **how) -> Path:
    Image.fromarray(data).save(path, **how)
    return path


def read(path: Path) -> np.ndarray:
    with open_stack(path) as stack:
        whole = stack.read(Box.of_shape(stack.shape))
        assert (whole.shape, whole.dtype) == (stack.shape, stack.dtype)
        assert np.array_equal(stack.read(Box((0, 1, 2), (1, 3, 5))), whole[:, 1:3, 2:5])
    return whole[0]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught, open_stack(path) as stack:
        stack.section(0)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def header(height: int = 20, width: int = 30, depth: int = 8, kind: int = 0, *, last: bytes = b"\0\0\0") -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBB", width, height, depth, kind) + last)


def pixels(data: np.ndarray) -> bytes:
    rows = data.astype(data.dtype.newbyteorder(">")).reshape(data.shape[0], -1).view(np.uint8)
    return chunk(b"IDAT", zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes()))


END = chunk(b"IEND", b"")


# PNG


@pytest.mark.parametrize(
    ("data", "dtype"),
    [(section(7), "u1"), (section(7, "u2") * 300, "u2"), (section(7) % 2 == 0, "?"), (noise("u2"), "u2")],
)
def test_png_types(tmp_path: Path, data: np.ndarray, dtype: str) -> None:
    found = read(save(tmp_path / "a.png", data))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, data)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_span_the_range_as_a_viewer_shows_them(tmp_path: Path, bits: int) -> None:
    levels = np.arange(2**bits, dtype=np.uint8)
    packed = np.packbits(np.unpackbits(levels[:, None], axis=1)[:, 8 - bits :].ravel())
    data = png_of(header(1, levels.size, bits), chunk(b"IDAT", zlib.compress(b"\0" + packed.tobytes())), END)
    (tmp_path / "a.png").write_bytes(data)
    with open_stack(tmp_path / "a.png") as stack:
        assert stack.section(0)[0].tolist() == (levels.astype(int) * 255 // (2**bits - 1)).tolist()


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize(("channels", "kind"), [(3, 2), (2, 4), (4, 6)])
def test_grey_stored_as_opaque_colour(tmp_path: Path, dtype: str, channels: int, kind: int) -> None:
    grey = noise(dtype)
    data = np.repeat(grey[..., None], channels, axis=2)
    if channels in (2, 4):
        data[..., -1] = np.iinfo(dtype).max
    path = tmp_path / "a.png"
    path.write_bytes(png_of(header(depth=8 * grey.itemsize, kind=kind), pixels(data), END))
    found = read(path)
    assert (found.dtype, found.shape) == (grey.dtype, SHAPE)
    assert np.array_equal(found, grey)
    # One pixel with a colour, or one that is not opaque.
    data[3, 5, -1] ^= 1
    path.write_bytes(png_of(header(depth=8 * grey.itemsize, kind=kind), pixels(data), END))
    assert "not a grey image; expected one grey channel, found" in refused(path)


def test_colour_is_refused(tmp_path: Path) -> None:
    assert "colour: red, green and blue differ" in refused(save(tmp_path / "a.png", noise(shape=(*SHAPE, 3))))
    assert "transparent pixels" in refused(save(tmp_path / "b.png", np.zeros((*SHAPE, 4), np.uint8)))


def test_coloured_labels_are_not_to_be_made_grey(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(shape=(*SHAPE, 3)))
    assert "Fix: convert it to 8 or 16 bit grey" in refused(path)
    with open_stack(path, LabelSource(source=path, membrane=1)) as stack, pytest.raises(InputError) as caught:
        stack.section(0)
    assert str(caught.value).endswith("Fix: save the number of the class or cell of each pixel in place of its colour")


def paletted(path: Path, indices: np.ndarray, palette: list[int], **how) -> Path:
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(palette)
    image.save(path, **how)
    return path


@pytest.mark.parametrize("bits", [8, 1])
def test_a_grey_palette_is_looked_up(tmp_path: Path, bits: int) -> None:
    indices = (section(0) % 2).astype(np.uint8)
    found = read(paletted(tmp_path / "a.png", indices, [255] * 3 + [10] * 3, bits=bits))
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.where(indices == 0, 255, 10))


def test_a_coloured_palette_gives_indices(tmp_path: Path) -> None:
    palette = [0, 0, 0, 255, 0, 0, 0, 255, 0]
    assert np.array_equal(read(paletted(tmp_path / "a.png", section(0), palette)), section(0))
    found = read(paletted(tmp_path / "b.png", section(0), palette, transparency=0))
    assert np.array_equal(found, section(0))


BLACK, RED, GREEN, WHITE = [0] * 3, [255, 0, 0], [0, 255, 0], [255] * 3


def test_a_palette_that_leaves_out_its_last_entries_is_the_same_palette(tmp_path: Path) -> None:
    whole = BLACK + RED + GREEN
    indices = [section(0) % 2, section(0), section(0) % 2]
    for z, (one, palette) in enumerate(zip(indices, (BLACK + RED, whole, BLACK + RED), strict=True)):
        paletted(tmp_path / f"{z}.png", one, palette)
    with open_stack(tmp_path) as stack:
        assert np.array_equal(stack.read(Box.of_shape(stack.shape)), indices)
        # Another file by now.
        paletted(tmp_path / "2.png", indices[2], RED + BLACK)
        with pytest.raises(InputError, match="a value stands for different colours"):
            stack.section(2)


@pytest.mark.parametrize(
    ("palette", "found"),
    [
        (RED + BLACK, "the colour (0, 0, 0) for 0 as in {}/0.png, found the colour (255, 0, 0)"),
        (BLACK + GREEN + RED, "the colour (0, 255, 0) for 1 as in {}/1.png, found the colour (255, 0, 0)"),
        (BLACK + WHITE, "the colour (0, 0, 0) for 0 as in {}/0.png, found no colour"),
        (None, "the colour (0, 0, 0) for 0 as in {}/0.png, found no colour"),
    ],
)
def test_palettes_by_which_a_value_has_two_meanings_are_refused(tmp_path: Path, palette, found: str) -> None:
    paletted(tmp_path / "0.png", section(0) % 2, BLACK + RED)
    if palette is None:
        save(tmp_path / "1.png", section(0) % 2)
    else:
        paletted(tmp_path / "1.png", section(0) % 2, palette)
    message = refused(tmp_path)
    assert "a value stands for different colours, since sections have palettes of their own" in message
    assert found.format(tmp_path) in message


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize(("orientation", "order"), [(6, "<"), (3, ">")])
def test_a_section_that_a_viewer_turns_is_told(tmp_path: Path, suffix: str, orientation: int, order: str) -> None:
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, 1)
    turned, upright = (start + struct.pack(f"{order}HHIHHI", 274, 3, 1, one, 0, 0) for one in (orientation, 1))
    for name, exif in (("turned", turned), ("upright", upright), ("cut", turned[:18])):
        # Pillow takes it with the name that it has in JPEG files.
        path = save(tmp_path / f"{name}{suffix}", blobs(), exif=b"Exif\0\0" + exif)
        assert read(path).shape == blobs().shape
        with open_stack(path) as stack:
            told = [warning for warning in stack.warnings if "orientation tag" in warning]
        asks = f"{path}: its orientation tag asks for turned sections; they are read as they are stored"
        assert told == ([asks] if name == "turned" else [])


def test_interlaced_png(tmp_path: Path) -> None:
    # The seven passes of Adam7, each a small image.
    data = noise()
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = [b"\0" + row.tobytes() for y, dy, x, dx in passes for row in data[y::dy, x::dx] if row.size]
    body = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    (tmp_path / "a.png").write_bytes(png_of(header(last=b"\0\0\1"), body, END))
    assert np.array_equal(read(tmp_path / "a.png"), data)


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(section(value)) for value in (1, 5, 9)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"an animated PNG \(APNG\).* found 3 frames"):
        open_stack(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("per_metre", "unit", "stated"),
    [
        ((250_000_000, 200_000_000), 1, (5.0, 4.0)),
        ((100_000, 100_000), 1, (10_000.0, 10_000.0)),
        ((2835, 2835), 1, None),  # 72 dpi
        ((3780, 3780), 1, None),  # 96 dpi
        ((11811, 11811), 1, None),  # 300 dpi
        ((47244, 47244), 1, None),  # 1200 dpi
        ((250_000_000, 200_000_000), 0, None),  # an aspect ratio
        ((0, 250_000_000), 1, None),
    ],
)
def test_the_pixel_size_is_stated_where_it_is_none_of_a_screen(tmp_path: Path, per_metre, unit: int, stated) -> None:
    size = chunk(b"pHYs", struct.pack(">IIB", *per_metre, unit))
    (tmp_path / "a.png").write_bytes(png_of(header(), size, pixels(noise()), END))
    with open_stack(tmp_path / "a.png") as stack:
        voxel = stack.found.voxel
    assert (None if voxel is None else (voxel.y_nm, voxel.x_nm)) == (None if stated is None else pytest.approx(stated))
    assert voxel is None or (voxel.z_nm is None and "pHYs" in voxel.origin)


def test_a_pixel_size_that_differs_between_files_is_none(tmp_path: Path) -> None:
    for z, per_metre in enumerate((250_000_000, 250_000_000, 125_000_000)):
        size = chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))
        (tmp_path / f"{z}.png").write_bytes(png_of(header(), size, pixels(noise()), END))
    with open_stack(tmp_path) as stack:
        assert stack.found.voxel is None
        assert "the files state different voxel sizes" in stack.warnings[0]
    (tmp_path / "2.png").unlink()
    with open_stack(tmp_path) as stack:
        assert stack.found.voxel is not None
        assert stack.found.voxel.x_nm == pytest.approx(4)
        assert stack.warnings == ()


def test_the_size_of_a_section_is_not_limited_as_for_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", section(1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "a.png")
    assert read(tmp_path / "a.png").shape == SHAPE


def test_any_flipped_bit_of_a_png_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise())
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[at] ^= 16
        path.write_bytes(flipped)
        refused(path)


@given(st.floats(0, 0.999))
def test_a_truncated_png_is_refused(tmp_path_factory, kept: float) -> None:
    path = save(tmp_path_factory.mktemp("cut") / "a.png", section(3))
    os.truncate(path, int(path.stat().st_size * kept))
    refused(path)


BODY = pixels(noise())
MALFORMED_PNG = {
    "no signature": b"PNG\r\n\x1a\n" + header() + BODY + END,
    "a signature alone": png_of(),
    "a text file": b"not an image\n" * 9,
    "a JPEG file": b"\xff\xd8\xff\xe0" + bytes(99),
    "no header": png_of(BODY, END),
    "a short header": png_of(chunk(b"IHDR", bytes(5)), BODY, END),
    "no pixels": png_of(header(), END),
    "no end": png_of(header(), BODY),
    "height 0": png_of(header(height=0), BODY, END),
    "width 0": png_of(header(width=0), BODY, END),
    "3 bits": png_of(header(depth=3), BODY, END),
    "16 bits and a palette": png_of(header(depth=16, kind=3), BODY, END),
    "colour type 5": png_of(header(kind=5), BODY, END),
    "an unknown compression": png_of(header(last=b"\7\0\0"), BODY, END),
    "an unknown filter": png_of(header(last=b"\0\7\0"), BODY, END),
    "no palette": png_of(header(kind=3), BODY, END),
    "an index beyond a grey palette": png_of(header(kind=3), chunk(b"PLTE", bytes([9, 9, 9, 7, 7, 7])), BODY, END),
    "half of the rows": png_of(header(height=40), BODY, END),
    "more rows than declared": png_of(header(height=10), BODY, END),
    "rows that are longer": png_of(header(width=60), BODY, END),
    "pixels that are no zlib": png_of(header(), chunk(b"IDAT", b"garbage" * 40), END),
    "zlib that fails its checksum": png_of(header(), chunk(b"IDAT", BODY[8:-8] + b"\0\0\0\0"), END),
    "zlib that is cut off": png_of(header(), chunk(b"IDAT", BODY[8:-44]), END),
    "an unknown filter in a row": png_of(header(), chunk(b"IDAT", zlib.compress(b"\x09" * 31 * 20)), END),
    "a length beyond the file": png_of(header(), struct.pack(">I", 2**31 - 1) + BODY[4:], END),
    "an unknown chunk that must be understood": png_of(header(), chunk(b"ABCD", b"1"), BODY, END),
    "a wrong checksum": png_of(header()[:-1] + b"\0", BODY, END),
    "an animation without a number": png_of(header(), chunk(b"acTL", b""), BODY, END),
    "a gigabyte in a kilobyte": png_of(header(100_000, 100_000), chunk(b"IDAT", zlib.compress(bytes(99))), END),
}
AS_MEANT = {"more rows than declared", "an unknown chunk that must be understood"}
"""Odd, but all of the declared pixels are there."""


@pytest.mark.parametrize("kind", MALFORMED_PNG)
def test_malformed_png(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(MALFORMED_PNG[kind])
    if kind in AS_MEANT:
        found = read(path)
        assert np.array_equal(found, noise()[: found.shape[0]])
    else:
        refused(path)


# JPEG


def decoded(path: Path) -> np.ndarray:
    """Return what another decoder makes of it."""
    return np.asarray(Image.open(path).convert("L"))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"quality": 100, "optimize": True}])
def test_jpeg_of_grey(tmp_path: Path, suffix: str, how: dict[str, object]) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(blobs()).save(path, "JPEG", **how)
    found = read(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, decoded(path))
    assert np.abs(found.astype(int) - blobs()).max() < 20


@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_of_grey_stored_as_colour(tmp_path: Path, subsampling: int) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(blobs()).convert("RGB").save(path, subsampling=subsampling)
    assert np.array_equal(read(path), decoded(path))


def test_jpeg_of_colour_is_refused(tmp_path: Path) -> None:
    coloured = np.stack([blobs(), blobs()[::-1], blobs()], axis=2)
    assert "colour: red, green and blue differ" in refused(save(tmp_path / "a.jpg", coloured))
    Image.fromarray(coloured).convert("CMYK").save(tmp_path / "b.jpg")
    assert "not a grey image; expected one grey channel, found 4 channels" in refused(tmp_path / "b.jpg")


def test_jpeg_is_told_to_be_lossy_and_for_labels_more_so(tmp_path: Path) -> None:
    for z in range(3):
        save(tmp_path / f"{z}.jpg", blobs())
    with open_stack(tmp_path) as stack:
        assert len(stack.warnings) == 1
        assert stack.warnings[0].startswith("stored as JPEG, which loses detail")
    with open_stack(tmp_path, LabelSource(source=tmp_path, membrane="zero")) as stack:
        assert len(stack.warnings) == 1
        assert stack.warnings[0].startswith("labels stored as JPEG: many pixels have other values than were painted")


@given(st.floats(0, 0.999))
def test_a_truncated_jpeg_is_refused(tmp_path_factory, kept: float) -> None:
    path = save(tmp_path_factory.mktemp("cut") / "a.jpg", blobs())
    os.truncate(path, int(path.stat().st_size * kept))
    refused(path)


def jpeg(data: np.ndarray, **how) -> bytes:
    file = io.BytesIO()
    Image.fromarray(data).save(file, "JPEG", **how)
    return file.getvalue()


GOOD = jpeg(blobs())
SCAN = GOOD.index(b"\xff\xda") + 10
FRAME = GOOD.index(b"\xff\xc0")
HALF = (SCAN + len(GOOD)) // 2


def patched(data: bytes, at: int, by: bytes) -> bytes:
    return data[:at] + by + data[at + len(by) :]


MALFORMED_JPEG = {
    "empty but for a signature": b"\xff\xd8",
    "a text file": b"not an image\n" * 9,
    "a PNG file": png_of(header(), BODY, END),
    "no signature": GOOD[2:],
    "no frame": GOOD[:FRAME],
    "a cut frame": GOOD[: FRAME + 5],
    "no scan": GOOD[: SCAN - 10],
    "half of the scan": GOOD[:HALF],
    "no end": GOOD[:-2],
    "half of the scan, and an end": GOOD[:HALF] + b"\xff\xd9",
    "a scan overwritten by zeros": patched(GOOD, HALF, bytes(len(GOOD) - HALF - 2)),
    "a scan overwritten by ones": patched(GOOD, HALF, b"\xff" * (len(GOOD) - HALF - 2)),
    "a scan overwritten by noise": patched(GOOD, HALF, noise(shape=(1, len(GOOD) - HALF - 2)).tobytes()),
    "a scan from which 100 bytes are lost": GOOD[:HALF] + GOOD[HALF + 100 :],
    "more rows than there are": patched(GOOD, FRAME + 5, struct.pack(">H", 128)),
    "fewer rows than there are": patched(GOOD, FRAME + 5, struct.pack(">H", 32)),
    "height 0": patched(GOOD, FRAME + 5, struct.pack(">H", 0)),
    "width 0": patched(GOOD, FRAME + 7, struct.pack(">H", 0)),
    "a gigabyte in a kilobyte": patched(GOOD, FRAME + 5, struct.pack(">HH", 65500, 65500)),
    "12 bits": patched(GOOD, FRAME + 4, b"\x0c"),
    "2 channels": patched(GOOD, FRAME + 9, b"\x02"),
    "no quantization table": GOOD.replace(b"\xff\xdb", b"\xff\xfe", 1),
    "a segment of no length": GOOD[:2] + b"\xff\xfe\0\0" + GOOD[2:],
    "a segment beyond the file": GOOD[:2] + b"\xff\xfe\xff\xff" + GOOD[2:],
    "an unknown frame": patched(GOOD, FRAME, b"\xff\xcf"),
    "JPEG 2000": imagecodecs.jpeg2k_encode(blobs()),
}


@pytest.mark.parametrize("kind", MALFORMED_JPEG)
def test_malformed_jpeg(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(MALFORMED_JPEG[kind])
    refused(path)


def test_jpeg_without_tables_has_those_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(GOOD)
    (tmp_path / "b.jpg").write_bytes(GOOD.replace(b"\xff\xc4", b"\xff\xfe"))
    assert np.array_equal(read(tmp_path / "b.jpg"), read(tmp_path / "a.jpg"))


@pytest.mark.parametrize("at", range(0, 600, 37))
def test_a_changed_byte_of_a_jpeg_is_noticed_or_does_no_harm(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(patched(GOOD, at, bytes([GOOD[at] ^ 0x55])))
    try:
        with open_stack(path) as stack:
            found = stack.section(0)
    except InputError:
        return
    assert found.dtype == np.uint8


def png(data: np.ndarray) -> bytes:
    return png_of(header(*data.shape), pixels(data), END)


@pytest.mark.parametrize("encode", [png, jpeg])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, encode: Callable[[np.ndarray], bytes]) -> None:
    path = tmp_path / ("a.png" if encode is png else "a.jpg")
    path.write_bytes(encode(noise()))
    with open_stack(path) as stack:
        path.write_bytes(encode(blobs()))
        with pytest.raises(InputError, match="different shape"):
            stack.section(0)
        path.write_bytes(b"")
        with pytest.raises(InputError, match="the file is damaged"):
            stack.section(0)
        path.unlink()
        with pytest.raises(InputError, match="the file cannot be read"):
            stack.section(0)


def test_real_sections(em_data: Path) -> None:
    folder = em_data / "fibsem" / "raw"
    with open_stack(folder) as stack:
        assert stack.shape == (60, 250, 250)
        assert stack.numbers == tuple(range(2600, 2660))
        assert stack.warnings == ()
        assert np.array_equal(stack.section(59), np.asarray(Image.open(folder / "iso.2659.png")))

"""DM3 and DM4: voxels and voxel size as DigitalMicrograph has them, and damage in words."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import open_stack
from segem.io.readers.reader import StatedVoxelSize

SHAPE = (3, 10, 14)
KINDS = {"i2": (1, 2), "f4": (2, 6), "u1": (6, 10), "i4": (7, 3), "u2": (10, 4), "f8": (12, 7)}
"""By type: what an image says of it, and what its array does."""


def number(value: int) -> tuple[int, bytes]:
    return 3, struct.pack("<i", value)


def array(kind: int, content: bytes, itemsize: int) -> tuple[tuple[int, ...], bytes]:
    return (20, kind, len(content) // itemsize), content


def text(words: str) -> tuple[tuple[int, ...], bytes]:
    return array(4, words.encode("utf-16-le"), 2)


def real(value: float) -> tuple[int, bytes]:
    return 6, struct.pack("<f", value)


def group(tags: dict[str, Any] | list[Any], version: int) -> bytes:
    """Return the bytes of a group; tags of a list have no names."""
    wide = ">q" if version == 4 else ">i"
    named = list(tags.items()) if isinstance(tags, dict) else [("", tag) for tag in tags]
    parts = [b"\1\0", struct.pack(wide, len(named))]
    for name, tag in named:
        if isinstance(tag, (dict, list)):
            kind, content = 20, group(tag, version)
        else:
            info, data = tag
            info = info if isinstance(info, tuple) else (info,)
            content = b"%%%%" + b"".join(struct.pack(wide, n) for n in (len(info), *info)) + data
            kind = 21
        length = struct.pack(">q", len(content)) if version == 4 else b""
        parts.append(struct.pack(">BH", kind, len(name)) + name.encode("latin-1") + length + content)
    return b"".join(parts)


def image_of(data: np.ndarray, units: tuple[str, ...] = ("nm", "nm", ""), scales: tuple[float, ...] = (4, 4, 1)) -> Any:
    said, kind = KINDS[data.dtype.str[1:]]
    calibrated = [{"Origin": real(0), "Scale": real(s), "Units": text(u)} for u, s in zip(units, scales, strict=True)]
    return {
        "ImageData": {
            "Calibrations": {"Dimension": calibrated[: data.ndim]},
            "Data": array(kind, data.astype(data.dtype.newbyteorder("<")).tobytes(), data.itemsize),
            "DataType": number(said),
            "Dimensions": [number(n) for n in data.shape[::-1]],
            "PixelDepth": number(data.itemsize),
        }
    }


THUMBNAIL = {
    "ImageData": {
        "Data": array(3, bytes(4 * 16), 4),
        "DataType": number(23),
        "Dimensions": [number(4), number(4)],
    }
}


def written(path: Path, *images: Any, thumbnail: bool = True) -> Path:
    version = int(path.suffix[-1])
    tags = {
        # A structure and an array of structures, as every file has.
        "ApplicationBounds": ((15, 0, 4, 0, 3, 0, 3, 0, 3, 0, 3), bytes(16)),
        "CLUT": ((20, 15, 0, 3, 0, 2, 0, 2, 0, 2, 5), bytes(30)),
        "ImageList": [*([THUMBNAIL] if thumbnail else []), *images],
        "Thumbnails": [{"ImageIndex": number(0)}] if thumbnail else [],
    }
    content = group(tags, version)
    head = struct.pack(">iqi" if version == 4 else ">iii", version, len(content), 1)
    path.write_bytes(head + content + bytes(8))
    return path


def voxels(dtype: str = "u2", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


def read(path: Path) -> tuple[np.ndarray, StatedVoxelSize | None]:
    with open_stack(path) as stack:
        return stack.read(Box.of_shape(stack.shape)), stack.found.voxel


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "Fix: " in line
    return line


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("ending", [".dm3", ".dm4"])
@pytest.mark.parametrize("thumbnail", [True, False])
def test_voxels_are_those_that_were_written(tmp_path: Path, dtype: str, ending: str, thumbnail: bool) -> None:
    data = voxels(dtype)
    found, _ = read(written(tmp_path / f"a{ending}", image_of(data), thumbnail=thumbnail))
    assert np.array_equal(found, data)
    assert found.dtype == np.dtype(dtype)


def test_one_image_is_one_section(tmp_path: Path) -> None:
    data = voxels(shape=SHAPE[1:])
    path = written(tmp_path / "a.dm4", image_of(data))
    assert np.array_equal(read(path)[0], data[None])
    with open_stack(path) as stack:
        assert stack.label_of(0) == str(path)
        assert np.array_equal(stack.read(Box((0, 2, 3), (1, 8, 5)))[0], data[2:8, 3:5])


@pytest.mark.parametrize(
    ("units", "scales", "size"),
    [
        (("nm", "nm", "nm"), (4.6, 4.6, 50), (50, 4.6, 4.6)),
        (("nm", "nm", ""), (4, 5, 1), (None, 5, 4)),
        (("µm", "\u03bcm", "um"), (0.004, 0.004, 0.05), (50, 4, 4)),
        (("\u00c5", "A", "s"), (40, 40, 1), (None, 4, 4)),
        (("nm\0", " nm", "slices"), (-4, 4, 1), (None, 4, 4)),
    ],
)
def test_the_size_is_in_the_unit_of_each_axis(
    tmp_path: Path, units: tuple[str, ...], scales: tuple[float, ...], size: tuple[float | None, ...]
) -> None:
    stated = read(written(tmp_path / "a.dm3", image_of(voxels(), units, scales)))[1]
    assert stated is not None
    for found, wanted in zip((stated.z_nm, stated.y_nm, stated.x_nm), size, strict=True):
        assert found == (wanted if wanted is None else pytest.approx(wanted, rel=1e-6))


def test_an_image_that_was_never_calibrated_states_nothing(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.dm4", image_of(voxels(), ("", "", ""), (1, 1, 1))))[1] is None
    bare = image_of(voxels())
    del bare["ImageData"]["Calibrations"]
    assert read(written(tmp_path / "b.dm4", bare))[1] is None


def test_a_folder_of_sections_is_a_stack(tmp_path: Path) -> None:
    data = voxels()
    for z, section in enumerate(data):
        written(tmp_path / f"s{z}.dm4", image_of(section))
    assert np.array_equal(read(tmp_path)[0], data)


def without(name: str) -> Any:
    image = image_of(voxels())
    del image["ImageData"][name]
    return image


def changed(name: str, value: Any) -> Any:
    image = image_of(voxels())
    image["ImageData"][name] = value
    return image


IMAGES: dict[str, tuple[Any, str]] = {
    "colours": (changed("DataType", number(23)), "not a grey image"),
    "complex numbers": (changed("DataType", number(3)), "no intensities"),
    "no type": (without("DataType"), "no intensities"),
    "no voxels": (without("Data"), "0 bytes for an image"),
    "no extents": (without("Dimensions"), "extents ()"),
    "a spectrum": (changed("Dimensions", [number(420)]), "extents (420,)"),
    "an extent of 0": (changed("Dimensions", [number(0), number(10)]), "extents (0, 10)"),
    "a negative extent": (changed("Dimensions", [number(-14), number(-10)]), "extents (-14, -10)"),
    "more voxels than stored": (changed("Dimensions", [number(14), number(10), number(4)]), "840 bytes for an image"),
    "a huge extent": (changed("Dimensions", [number(2**31 - 1)] * 3), "840 bytes for an image"),
    "a spectrum image": (image_of(voxels(), ("nm", "nm", "eV"), (4, 4, 1)), "an axis in eV"),
    "a diffraction pattern": (image_of(voxels(), ("1/nm", "1/nm", ""), (4, 4, 1)), "an axis in 1/nm"),
    "a number for voxels": (changed("Data", number(3)), "0 bytes for an image"),
}


@pytest.mark.parametrize(("image", "said"), IMAGES.values(), ids=IMAGES)
def test_what_is_no_image_of_tissue_is_refused_in_words(tmp_path: Path, image: Any, said: str) -> None:
    assert said in refused(written(tmp_path / "a.dm4", image))


def test_several_images_are_refused(tmp_path: Path) -> None:
    assert "2 images" in refused(written(tmp_path / "a.dm4", image_of(voxels()), image_of(voxels())))
    assert "no image in the file" in refused(written(tmp_path / "b.dm4", thumbnail=False))


def at(offset: int, content: bytes) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:offset] + content + whole[offset + len(content) :]


def deep(count: int) -> bytes:
    content = (b"\1\0" + struct.pack(">iBH", 1, 20, 1) + b"a") * count + group({}, 3)
    return struct.pack(">iii", 3, len(content), 1) + content


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "empty"),
    "four bytes": (lambda whole: whole[:4], "damaged"),
    "a header alone": (lambda whole: whole[:12], "truncated"),
    "half": (lambda whole: whole[: len(whole) // 2], "truncated"),
    "the last tags are missing": (lambda whole: whole[:-40], "truncated"),
    "another version": (at(0, struct.pack(">i", 5)), "version 5"),
    "a byte order of its own": (at(8, struct.pack(">i", 7)), "byte order 7"),
    "a negative length": (at(4, struct.pack(">i", -1)), "a length of -1"),
    "a huge length": (at(4, struct.pack(">i", 2**31 - 1)), "truncated"),
    "more tags than there are": (at(14, struct.pack(">i", 2**31 - 1)), "damaged"),
    "a tag of another kind": (at(18, b"\x63"), "a tag of kind 99"),
    "a name beyond the end": (at(19, b"\xff\xff"), "bytes at byte"),
    "no mark": (at(38, b"####"), "where a value begins"),
    "a value of a huge description": (at(42, struct.pack(">i", 2**31 - 1)), "bytes at byte"),
    "a value of an unknown type": (at(46, struct.pack(">i", 99)), "type 99"),
    "thousands of groups deep": (lambda _: deep(5000), "groups of tags"),
    "zeros": (lambda _: bytes(4000), "version 0"),
    "noise": (lambda _: np.random.default_rng(0).bytes(4000), "version"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_refused_in_words(tmp_path: Path, damage: Callable[[bytes], bytes], said: str) -> None:
    path = written(tmp_path / "a.dm3", image_of(voxels()))
    path.write_bytes(damage(path.read_bytes()))
    assert said in refused(path)


@given(st.data())
def test_any_changed_byte_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(tmp_path_factory.mktemp("dm") / "a.dm4", image_of(voxels(shape=(2, 3, 4))))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read(path)
    except InputError as error:
        assert "Fix: " in str(error)  # noqa: PT017


def test_files_of_microscopes(em_data: Path) -> None:
    folder = em_data / "formats"
    found, stated = read(folder / "dmTest_float32_nonSquare_diffPixelSize.dm4")
    assert np.array_equal(found, np.broadcast_to(np.arange(128, dtype=np.float32), (1, 64, 128)))
    assert stated is not None
    assert (stated.z_nm, stated.y_nm, stated.x_nm) == (None, pytest.approx(0.2), pytest.approx(1))
    found, stated = read(folder / "test_dm_image_um_unit.dm3")
    assert (found.shape, found.dtype, found.min(), found.max()) == ((1, 68, 68), np.int32, 2866, 3774)
    assert stated is not None
    assert (stated.y_nm, stated.x_nm) == pytest.approx((168.6747, 168.6747)), "they are in micrometres in the file"
    found, stated = read(folder / "test-9.dm3")
    assert np.array_equal(found, np.arange(1, 9, dtype=np.int8).reshape(2, 2, 2))
    assert stated is None

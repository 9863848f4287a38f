"""MRC: voxels, axes and voxel size as they were written, and damage in words."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import open_stack
from segem.io.readers.mrc import are_signed
from segem.io.readers.reader import StatedVoxelSize
from segem.io.readers.voxel_size import settle_voxel_size

SHAPE = (3, 20, 30)
SIZE_OF = {"nx": 0, "ny": 4, "nz": 8, "mode": 12, "mx": 28, "mz": 36, "cellx": 40, "mapc": 64, "mapr": 68, "maps": 72}
SIZE_OF |= {"dmin": 76, "dmax": 80, "ispg": 88, "nsymbt": 92, "imod": 152, "flags": 156, "machst": 212}


def voxels(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 100 + 20).astype(dtype)


def written(path: Path, data: np.ndarray, size: tuple[float, ...] | float = (40, 40, 500), volume: bool = True) -> Path:
    """Write a file by mrcfile; the size is in Angstrom along (x, y, z)."""
    with mrcfile.new(path) as file:
        file.set_data(data)
        if volume and data.ndim == 3:
            file.set_volume()
        else:
            file.set_image_stack() if data.ndim == 3 else None
        file.voxel_size = size
    return path


def patched(path: Path, *changes: tuple[str, str, float]) -> Path:
    content = bytearray(path.read_bytes())
    for field, kind, value in changes:
        struct.pack_into(kind, content, SIZE_OF[field], value)
    path.write_bytes(content)
    return path


def read(path: Path) -> tuple[np.ndarray, StatedVoxelSize | None]:
    with open_stack(path) as stack:
        whole = stack.read(Box.of_shape(stack.shape))
        assert whole.dtype == stack.dtype
        assert np.array_equal(whole, np.stack([stack.section(z) for z in range(stack.shape[0])]))
        return whole, stack.found.voxel


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "Fix: " in line
    return line


def sizes(stated: StatedVoxelSize | None) -> tuple[float | None, ...] | None:
    return None if stated is None else (stated.z_nm, stated.y_nm, stated.x_nm)


@pytest.mark.parametrize("dtype", ["i2", "u2", "f4", "f2", ">i2", ">u2", ">f4"])
@pytest.mark.parametrize("ending", [".mrc", ".rec", ".map", ".st"])
def test_voxels_and_their_size_are_those_that_were_written(tmp_path: Path, dtype: str, ending: str) -> None:
    path = written(tmp_path / f"a{ending}", voxels(dtype))
    found, stated = read(path)
    assert np.array_equal(found, voxels(dtype))
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert sizes(stated) == pytest.approx((50, 4, 4))
    assert settle_voxel_size(None, stated, trusted=False, where=path).size.zyx == pytest.approx((50, 4, 4))


def test_a_stack_of_images_says_nothing_of_z(tmp_path: Path) -> None:
    found, stated = read(written(tmp_path / "a.mrc", voxels("u2"), volume=False))
    assert found.shape == SHAPE
    assert stated is not None
    assert stated.z_nm is None
    assert (stated.y_nm, stated.x_nm) == pytest.approx((4, 4))


def test_one_image_is_one_section(tmp_path: Path) -> None:
    found, _ = read(written(tmp_path / "a.mrc", voxels("u2", SHAPE[1:])))
    assert np.array_equal(found[0], voxels("u2", SHAPE[1:]))


@pytest.mark.parametrize("size", [0, 1])
def test_a_size_that_programs_write_where_they_know_none_states_nothing(tmp_path: Path, size: float) -> None:
    assert read(written(tmp_path / "a.mrc", voxels("u2"), size))[1] is None


def test_an_extended_header_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(voxels("f4"))
        file.set_extended_header(np.full(3000, b"\x7f", "V1"))
    assert np.array_equal(read(path)[0], voxels("f4"))


def test_a_part_is_read_alone(tmp_path: Path) -> None:
    data = voxels("f4")
    with open_stack(written(tmp_path / "a.mrc", data)) as stack:
        assert np.array_equal(stack.read(Box((1, 3, 5), (3, 9, 8))), data[1:3, 3:9, 5:8])


@given(st.permutations([1, 2, 3]))
def test_axes_are_those_of_the_header(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    data = voxels("f4")
    path = written(tmp_path_factory.mktemp("mrc") / "a.mrc", data, (10, 20, 30))
    mapc, mapr, maps = order
    patched(path, ("mapc", "<i", mapc), ("mapr", "<i", mapr), ("maps", "<i", maps))
    # What the sections, rows and columns of the file are, by the numbers of their axes (x is 1).
    at = [(maps, mapr, mapc).index(axis) for axis in (3, 2, 1)]
    found, stated = read(path)
    assert np.array_equal(found, data.transpose(at))
    assert stated is not None


def test_the_size_is_along_the_named_axes(tmp_path: Path) -> None:
    """The cell and its intervals are along x, y and z, whatever order the voxels have in the file."""
    path = written(tmp_path / "a.mrc", voxels("f4"), (10, 20, 30))
    patched(path, ("mapc", "<i", 3), ("maps", "<i", 1))
    assert sizes(read(path)[1]) == pytest.approx((3, 2, 1))


# Tissue in the middle of the range of bytes: as unsigned ones, and as signed ones with 128 taken off.
TISSUE = np.clip(np.random.default_rng(1).normal(130, 30, SHAPE), 0, 255).astype(np.uint8)


def as_bytes(path: Path, data: np.ndarray, *changes: tuple[str, str, float]) -> Path:
    """Write a file of mode 0 whose smallest and largest value are unknown."""
    return patched(written(path, data.view(np.int8)), ("dmin", "<f", 0), ("dmax", "<f", -1), *changes)


def test_bytes_are_what_imod_says(tmp_path: Path) -> None:
    imod = ("imod", "<i", 1146047817)
    unsigned = as_bytes(tmp_path / "u.mrc", TISSUE, imod, ("flags", "<i", 0))
    assert np.array_equal(read(unsigned)[0], TISSUE)
    signed = as_bytes(tmp_path / "s.mrc", (TISSUE - np.uint8(128)), imod, ("flags", "<i", 1))
    found, _ = read(signed)
    assert np.array_equal(found, TISSUE), "IMOD adds 128 to what it stores as signed bytes"
    assert found.dtype == np.uint8
    assert "4 bits" in refused(as_bytes(tmp_path / "h.mrc", TISSUE, imod, ("flags", "<i", 16)))


def test_bytes_are_what_the_least_and_largest_value_say(tmp_path: Path) -> None:
    assert np.array_equal(read(as_bytes(tmp_path / "u.mrc", TISSUE, ("dmin", "<f", 3), ("dmax", "<f", 255)))[0], TISSUE)
    signed = (TISSUE.astype(int) - 128).astype(np.int8)
    found, _ = read(as_bytes(tmp_path / "s.mrc", signed, ("dmin", "<f", -100), ("dmax", "<f", 90)))
    assert found.dtype == np.int8
    assert np.array_equal(found, signed)


def test_bytes_that_nobody_explains_are_told_by_their_histogram_with_a_warning(tmp_path: Path) -> None:
    signed = (TISSUE.astype(int) - 128).astype(np.int8)
    for data, said in ((TISSUE, "taken as 0 to 255"), (signed, "taken as -128 to 127")):
        path = as_bytes(tmp_path / f"{data.dtype}.mrc", data)
        with open_stack(path) as stack:
            assert said in stack.warnings[0]
        assert np.array_equal(read(path)[0], data)


@given(st.integers(40, 215), st.floats(5, 30), st.integers(0, 99), st.booleans())
def test_no_two_greys_change_places_however_bytes_are_stored(
    centre: int, spread: float, seed: int, signed: bool
) -> None:
    greys = np.clip(np.random.default_rng(seed).normal(centre, spread, 4000), 0, 255).astype(np.uint8)
    stored = greys - np.uint8(128) if signed else greys
    taken = (stored.view(np.int8) if are_signed(stored) else stored).astype(int)
    # All are taken as they were, or all are moved by the same amount, where they lie on one side of the middle.
    assert len(set((taken - greys).tolist())) == 1


def test_bytes_that_are_the_same_either_way_need_no_warning(tmp_path: Path) -> None:
    dark = TISSUE // 2
    with open_stack(as_bytes(tmp_path / "a.mrc", dark, ("dmin", "<f", 0), ("dmax", "<f", 127))) as stack:
        assert stack.warnings == ()
        assert np.array_equal(stack.read(Box.of_shape(stack.shape)), dark)


def test_labels_are_unsigned(tmp_path: Path) -> None:
    for value in (1, 255):
        labels = (np.random.default_rng(0).random(SHAPE) < 0.2).astype(np.uint8) * np.uint8(value)
        assert np.array_equal(read(as_bytes(tmp_path / f"{value}.mrc", labels))[0], labels)


def test_a_file_without_a_stamp_is_read_in_the_order_that_fits(tmp_path: Path) -> None:
    for order in "<>":
        path = written(tmp_path / f"{ord(order)}.mrc", voxels(f"{order}i2"))
        patched(path, ("machst", ">I", 0))
        assert np.array_equal(read(path)[0], voxels("i2"))
    # Both orders give extents that a stack may have; only one gives those of this file.
    path = written(tmp_path / "b.mrc", voxels("i1", (256, 256, 256)))
    patched(path, ("machst", ">I", 0))
    assert read(path)[0].shape == (256, 256, 256)


def test_a_stamp_of_the_wrong_order_is_seen_through(tmp_path: Path) -> None:
    path = patched(written(tmp_path / "a.mrc", voxels("<i2")), ("machst", ">I", 0x11110000))
    assert np.array_equal(read(path)[0], voxels("i2"))


def cut(count: int) -> Callable[[Path], Path]:
    def change(path: Path) -> Path:
        path.write_bytes(path.read_bytes()[:count])
        return path

    return change


def put(*changes: tuple[str, str, float]) -> Callable[[Path], Path]:
    return lambda path: patched(path, *changes)


def filled(content: bytes) -> Callable[[Path], Path]:
    def change(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return change


DAMAGE = {
    "empty": (cut(0), "empty"),
    "half a header": (cut(500), "fewer than the header"),
    "a header alone": (cut(1024), "truncated"),
    "the last byte is missing": (cut(1024 + 2 * 3 * 20 * 30 - 1), "truncated"),
    "half of the voxels": (cut(1024 + 1800), "truncated"),
    "nx of 0": (put(("nx", "<i", 0)), "no header"),
    "a negative nz": (put(("nz", "<i", -3)), "no header"),
    "a huge nx": (put(("nx", "<i", 2**31 - 1)), "no header"),
    "more sections than there are": (put(("nz", "<i", 4)), "truncated"),
    "a million sections": (put(("nz", "<i", 2**20)), "truncated"),
    "an unknown mode": (put(("mode", "<i", 7)), "mode 7, which is not known"),
    "a mode of another file": (put(("mode", "<i", 77777)), "no header"),
    "complex numbers": (put(("mode", "<i", 4)), "complex"),
    "complex whole numbers": (put(("mode", "<i", 3)), "complex"),
    "4 bits": (put(("mode", "<i", 101)), "4 bits"),
    "colours": (put(("mode", "<i", 16)), "not a grey image"),
    "axes twice": (put(("mapc", "<i", 2)), "axes (3, 2, 2)"),
    "axes out of range": (put(("maps", "<i", 9)), "axes (9, 2, 1)"),
    "a negative extended header": (put(("nsymbt", "<i", -4)), "extended header"),
    "a huge extended header": (put(("nsymbt", "<i", 2**31 - 1)), "extended header"),
    "an extended header that pushes voxels out": (put(("nsymbt", "<i", 100)), "truncated"),
    "several volumes": (put(("ispg", "<i", 401), ("mz", "<i", 1)), "several volumes"),
    "zeros": (filled(bytes(5000)), "no header"),
    "noise": (filled(np.random.default_rng(0).bytes(5000)), "no header"),
    "a text": (filled(b"map of the city, with all its streets\n" * 100), "no header"),
    "a TIFF": (filled(b"II*\0\x08\0\0\0" + bytes(3000)), "no header"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_refused_in_words(tmp_path: Path, damage: Callable[[Path], Path], said: str) -> None:
    assert said in refused(damage(written(tmp_path / "a.mrc", voxels("i2"))))


@given(st.integers(0, 223), st.integers(0, 255))
def test_any_changed_byte_of_the_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    path = written(tmp_path_factory.mktemp("mrc") / "a.mrc", voxels("i2"))
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    try:
        read(path)
    except InputError as error:
        assert "Fix: " in str(error)  # noqa: PT017


def test_what_follows_the_voxels_is_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mrc", voxels("u2"))
    path.write_bytes(path.read_bytes() + bytes(7))
    with open_stack(path) as stack:
        assert stack.warnings == ("a.mrc: 7 bytes after the last section are ignored",)


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mrc", voxels("u2"))
    with open_stack(path) as stack:
        cut(1500)(path)
        with pytest.raises(InputError, match="fewer voxels"):
            stack.section(2)


def test_files_of_other_programs(em_data: Path) -> None:
    folder = em_data / "formats"
    for name, shape in (("ncempy_temp.mrc", (3, 128, 128)), ("20241021_00405_final.mrc", (1, 4, 8))):
        found, _ = read(folder / name)
        with warnings.catch_warnings(action="ignore"), mrcfile.open(folder / name, permissive=True) as file:
            assert np.array_equal(found, np.asarray(file.data).reshape(shape))
    found, stated = read(folder / "EMD-3001.map")
    with mrcfile.open(folder / "EMD-3001.map") as file:
        # Its columns are z, its rows x and its sections y.
        assert np.array_equal(found, file.data.transpose(2, 0, 1))
        size = file.voxel_size
    assert sizes(stated) == pytest.approx((float(size.z) / 10, float(size.y) / 10, float(size.x) / 10))
    assert read(folder / "20241021_00405_final.mrc")[1] is None, "a negative size is none"

"""Folders with one section a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segem.config import Selection
from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import list_source_files, open_stack
from segem.io.readers.png import PngReader
from tests.unit.io.readers.test_tiff_sets import SECTIONS, write_set


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
    for number in (10, 2, 6):
        write(tmp_path / f"slice{number}{suffix}", section(number))
    assert read(tmp_path)[:, 0, 0].tolist() == [2, 6, 10]
    assert [path.name for path in list_source_files(tmp_path)] == [f"slice{n}{suffix}" for n in (2, 6, 10)]
    with open_stack(tmp_path) as stack:
        assert (stack.numbers, stack.filled, stack.masked, stack.warnings) == ((2, 6, 10), (), (), ())


def test_the_number_that_runs_need_not_be_the_last(tmp_path: Path) -> None:
    for number in (2, 1, -1, 0):
        tiff(tmp_path / f"z{number}_20240101-12000{abs(number)}_c0.tif", section(100 + number))
    assert read(tmp_path)[:, 0, 0].tolist() == [99, 100, 101, 102]


def test_names_that_leave_the_order_in_doubt_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        tiff(tmp_path / f"raw_{number}.tif", section(number))
        tiff(tmp_path / f"mask_{number}.tif", section(number))
    assert "the names do not say which section is which" in refused(tmp_path)


def test_depths_are_numbers_too(tmp_path: Path) -> None:
    for number in range(9):
        tiff(tmp_path / f"z{number / 8}.tif", section(number))
    with open_stack(tmp_path) as stack:
        assert stack.numbers == tuple(number / 8 for number in range(9))
        assert stack.section(4)[0, 0] == 4


def test_big_endian_sections_are_native(tmp_path: Path) -> None:
    for z in range(2):
        tiff(tmp_path / f"{z}.tif", section(1000 + z, dtype="u2"), byteorder=">")
    found = read(tmp_path)
    assert found.dtype == np.dtype("=u2")
    assert found[:, 0, 0].tolist() == [1000, 1001]


def test_mixed_extensions_are_named(tmp_path: Path) -> None:
    for z in range(2):
        tiff(tmp_path / f"{z}.tif", section(z))
    png(tmp_path / "3.png", section(3))
    (tmp_path / "README").touch()
    message = refused(tmp_path)
    assert "expected one kind, found 2 .tif and 1 .png and 1 without extension" in message


def test_folders_without_sections(tmp_path: Path) -> None:
    assert "no sections in the folder" in refused(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "labels").mkdir()
    assert "found only labels, raw. Fix: give the folder that holds" in refused(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert "found only labels, notes.txt, raw" in refused(tmp_path)
    (tmp_path / "a.bmp").touch()
    assert "unknown kind of section; expected .tif, .tiff, .png, .jpg, .jpeg, .mrc, " in refused(tmp_path)


def test_tif_and_tiff_are_one_kind(tmp_path: Path) -> None:
    for z, suffix in enumerate((".tif", ".tiff", ".TIF")):
        tiff(tmp_path / f"{z}{suffix}", section(z))
    assert read(tmp_path)[:, 0, 0].tolist() == [0, 1, 2]


def test_what_goes_with_images_is_left_out_and_named(tmp_path: Path) -> None:
    for z in range(2):
        png(tmp_path / f"{z}.png", section(z))
    for name in (".DS_Store", "._0.png", "Thumbs.db", "notes.txt", "0.xml", "a.csv", "a.json"):
        (tmp_path / name).write_bytes(b"other")
    (tmp_path / "old").mkdir()
    assert read(tmp_path)[:, 0, 0].tolist() == [0, 1]
    with open_stack(tmp_path) as stack:
        assert stack.warnings == (
            f"{tmp_path}: left out, since they are no sections: .DS_Store, ._0.png, 0.xml, Thumbs.db, a.csv and 3 more",
        )


@pytest.mark.parametrize("name", ["2.png.part", "2", "2.bmp", "2.mrc", "2.h5"])
def test_a_file_of_another_kind_is_no_side_file(tmp_path: Path, name: str) -> None:
    for z in range(2):
        png(tmp_path / f"{z}.png", section(z))
    (tmp_path / name).touch()
    assert "files of different kinds" in refused(tmp_path)


def test_an_empty_file_among_the_sections(tmp_path: Path) -> None:
    tiff(tmp_path / "1.tif", section(1))
    (tmp_path / "2.tif").touch()
    assert "2.tif: the file is empty" in refused(tmp_path)


def test_links_stay_in_the_folder(tmp_path: Path) -> None:
    folder, other = tmp_path / "stack", tmp_path / "other"
    for place in (folder, other):
        place.mkdir()
    (folder / "store").mkdir()
    tiff(folder / "store" / "a.tif", section(1))
    tiff(folder / "2.tif", section(2))
    (folder / "1.tif").symlink_to(Path("store") / "a.tif")
    (tmp_path / "link").symlink_to(folder)
    assert read(tmp_path / "link")[:, 0, 0].tolist() == [1, 2]
    (folder / "3.tif").symlink_to(tiff(other / "b.tif", section(3)))
    told = refused(folder)
    assert "3.tif: a link that leads out of the folder; found" in told
    assert f"give the folder {other} where" in told
    assert "cp -rL" in told
    (folder / "3.tif").unlink()
    (folder / "3.tif").symlink_to("3.tif")
    assert "3.tif: cannot be opened" in refused(folder)


def test_masks_of_1_bit_beside_8_bits(tmp_path: Path) -> None:
    png(tmp_path / "1.png", np.zeros((20, 30), bool))
    png(tmp_path / "2.png", section(7))
    png(tmp_path / "3.png", section(0) > 0)
    found = read(tmp_path)
    assert found.dtype == np.uint8
    assert np.array_equal(found[0], np.zeros((20, 30)))
    assert np.array_equal(found[1], section(7))
    assert np.array_equal(found[2], (section(0) > 0) * 255)
    with open_stack(tmp_path) as stack:
        assert stack.warnings == (
            f"{tmp_path}: 2 of 3 sections have 1 bit and the others 8: they are read as 0 and 255",
        )
    png(tmp_path / "4.png", section(7, dtype="u2"))
    assert "different type in one stack; expected bool as in" in refused(tmp_path)


def test_a_stack_of_1_bit_stays_one(tmp_path: Path) -> None:
    for z in range(2):
        png(tmp_path / f"{z}.png", section(z) > 1)
    assert read(tmp_path).dtype == bool


def test_a_folder_among_the_sections(tmp_path: Path) -> None:
    tiff(tmp_path / "1.tif", section(1))
    (tmp_path / "2.tif").mkdir()
    assert "2.tif: not a regular file; found a folder" in refused(tmp_path)


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (section(2, (20, 31)), "different shape in one stack; expected (20, 30) as in"),
        (section(2, dtype="u2"), "different type in one stack; expected uint8 as in"),
        (np.eye(20, 30, dtype=np.uint8)[..., None] * np.array([9, 0, 0], np.uint8), "1.tif"),
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


@pytest.mark.parametrize("write", [png, tiff])
@pytest.mark.parametrize(
    ("other", "told"),
    [
        (section(1, (9, 9)), "1.*: sections of different shape in one stack"),
        (section(1, dtype="u2"), "1.*: sections of different type in one stack"),
        (section(1) > 1, "1.*: sections of different type in one stack"),
    ],
)
def test_a_section_that_changes_while_it_is_read(tmp_path: Path, write, other: np.ndarray, told: str) -> None:
    suffix = {png: ".png", tiff: ".tif"}[write]
    for z in range(3):
        write(tmp_path / f"{z}{suffix}", section(z))
    with open_stack(tmp_path) as stack:
        write(tmp_path / f"1{suffix}", other)
        for box in (Box((1, 0, 0), (2, 5, 5)), Box.of_shape(stack.shape)):
            with pytest.raises(InputError, match=told):
                stack.read(box)
        (tmp_path / f"1{suffix}").unlink()
        with pytest.raises(InputError, match=r"1\..*: no such file"):
            stack.section(1)


def test_a_section_that_gets_another_page_while_it_is_read(tmp_path: Path) -> None:
    for z in range(2):
        tiff(tmp_path / f"{z}.tif", section(z))
    with open_stack(tmp_path) as stack:
        tiff(tmp_path / "1.tif", np.stack([section(1)] * 2))
        with pytest.raises(InputError, match="a file of several pages"):
            stack.section(1)


def test_opening_decodes_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for z in range(3):
        png(tmp_path / f"{z}.png", section(z))
    monkeypatch.setattr(PngReader, "decode", lambda *_: pytest.fail("decoded"))
    with open_stack(tmp_path) as stack:
        assert stack.shape == (3, 20, 30)
        assert stack.chunk == (1, 20, 30)


def test_a_dangling_link_among_the_sections(tmp_path: Path) -> None:
    tiff(tmp_path / "1.tif", section(1))
    (tmp_path / "2.tif").symlink_to(tmp_path / "gone.tif")
    assert "found a link to nothing" in refused(tmp_path)


@pytest.mark.parametrize("numbers", [[10, 20, 30], [0, 1, 2], [1, 9]])
def test_numbers_without_gaps(tmp_path: Path, numbers: list[int]) -> None:
    for number in numbers:
        tiff(tmp_path / f"{number}.tif", section(number))
    with open_stack(tmp_path) as stack:
        assert (stack.numbers, stack.warnings) == (tuple(numbers), ())


def series_with_gaps(folder: Path) -> Path:
    for number in (1, 2, 4, 7):
        tiff(folder / f"s{number}_c0.tif", section(number))
    return folder


def test_missing_sections_are_refused_and_named(tmp_path: Path) -> None:
    message = refused(series_with_gaps(tmp_path))
    assert "3 sections are missing; expected a file for every number, found 4 files, and none for 3, 5 to 6" in message
    assert "--missing" in message


@pytest.mark.parametrize(
    ("policy", "values", "told"),
    [
        ("copy", [1, 2, 2, 4, 4, 4, 7], "no files for sections 3, 5 to 6: filled by the section before"),
        ("black", [1, 2, 0, 4, 0, 0, 7], "no files for sections 3, 5 to 6: filled by black"),
        ("mask", [1, 2, 0, 4, 0, 0, 7], "filled by black that no score counts"),
    ],
)
def test_what_stands_in_for_missing_sections(tmp_path: Path, policy, values: list[int], told: str) -> None:
    with open_stack(series_with_gaps(tmp_path), Selection(missing=policy)) as stack:
        sections = np.stack([stack.section(z) for z in range(7)])
        assert sections[:, 0, 0].tolist() == values
        black = np.array(values) == 0
        assert not sections[black].any()
        assert np.array_equal(stack.read(Box((1, 2, 3), (6, 9, 8))), sections[1:6, 2:9, 3:8])
        assert stack.numbers == (1, 2, 3, 4, 5, 6, 7)
        assert stack.filled == (2, 4, 5)
        assert stack.masked == (stack.filled if policy == "mask" else ())
        assert told in stack.warnings[0]
        assert stack.label_of(2) == f"{tmp_path} z=2, which is missing there"
        assert stack.label_of(3) == str(tmp_path / "s4_c0.tif")
        part = stack.within(Box((3, 0, 0), (6, 20, 30)))
        assert (part.numbers, part.filled) == ((4, 5, 6), (1, 2))
        assert part.masked == ((1, 2) if policy == "mask" else ())


def test_far_too_many_missing_sections_are_no_gap(tmp_path: Path) -> None:
    for number in (1, 2, 3, 10**7):
        tiff(tmp_path / f"{number}.tif", section(1))
    with pytest.raises(InputError, match="leave in the folder what belongs together"):
        open_stack(tmp_path, Selection(missing="black"))


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


def test_a_channel_of_coloured_sections(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    for z, data in enumerate(colours):
        tiff(tmp_path / f"{z}.tif", data, photometric="rgb")
    assert "3 channels" in refused(tmp_path)
    with open_stack(tmp_path, Selection(channel=1)) as stack:
        assert np.array_equal(stack.read(Box.of_shape((3, 20, 30))), colours[..., 1])
        assert np.array_equal(stack.read(Box((1, 2, 3), (3, 9, 8))), colours[1:3, 2:9, 3:8, 1])


def test_a_folder_of_files_that_ome_metadata_tie_together(tmp_path: Path) -> None:
    write_set(tmp_path)
    assert np.array_equal(read(tmp_path), SECTIONS)
    (tmp_path / "notes.txt").touch()
    assert np.array_equal(read(tmp_path), SECTIONS)

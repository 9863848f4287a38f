"""TIFF: every axis is found by its name, and nothing that is no section becomes one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers import open_stack
from tests.unit.io.readers.tiffs import Voxels, read, refused, sections, written

# 2 channels of 3 sections; no two planes are alike.
HYPERSTACK = np.arange(3 * 2 * 5 * 7, dtype=np.uint8).reshape(3, 2, 5, 7)


def write_pages(path: Path, pages: Voxels, description: str) -> Path:
    return written(path, pages, description=description, metadata=None)


def ome(
    sizes: dict[str, int], order: str = "XYZCT", data: str = "<TiffData/>", pixels: str = "", uuid: str = ""
) -> str:
    full = {"X": 7, "Y": 5, "Z": 1, "C": 1, "T": 1} | sizes
    attributes = " ".join(f'Size{axis}="{n}"' for axis, n in full.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
        f'{uuid and f" UUID={chr(34)}{uuid}{chr(34)}"}><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="{order}" Type="uint8" {attributes} {pixels}>{data}</Pixels></Image></OME>'
    )


def test_two_planes_of_which_nobody_says_more_are_two_sections(tmp_path: Path) -> None:
    section = sections(1)[0]
    tifffile.imwrite(tmp_path / "a.tif", np.stack([section, 255 - section]))
    assert np.array_equal(read(tmp_path / "a.tif"), [section, 255 - section])


def test_four_axes_without_names_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", HYPERSTACK)
    assert "say it by --axes, as in zcyx" in refused(path)
    assert np.array_equal(read(path, axes="zcyx", channel=1), HYPERSTACK[:, 1])
    assert np.array_equal(read(path, axes="czyx", channel=1), HYPERSTACK[1])


@pytest.mark.parametrize("how", [{}, {"imagej": True}, {"ome": True}])
def test_a_channel_is_asked_for_where_axes_are_named(tmp_path: Path, how: dict[str, Any]) -> None:
    path = written(tmp_path / "a.tif", HYPERSTACK, metadata={"axes": "ZCYX"}, **how)
    assert "2 channels, and a stack has one intensity a voxel" in refused(path)
    assert "name one by --channel 0 to 1" in refused(path)
    for channel in (0, 1):
        assert np.array_equal(read(path, channel=channel), HYPERSTACK[:, channel])


@pytest.mark.parametrize("axes", ["ZYX", "YXZ", "XZY", "IYX", "QYX"])
def test_axes_in_any_order(tmp_path: Path, axes: str) -> None:
    path = written(tmp_path / "a.tif", HYPERSTACK[:, 0], metadata={"axes": axes})
    letters = axes.translate(str.maketrans("IQ", "ZZ"))
    expected = HYPERSTACK[:, 0].transpose([letters.index(axis) for axis in "ZYX"])
    assert np.array_equal(read(path), expected)


def test_imagej_stacks_lie_channel_by_channel(tmp_path: Path) -> None:
    text = "ImageJ=1.54f\nimages=6\nchannels=2\nslices=3\nhyperstack=true\nmode=composite\n"
    path = write_pages(tmp_path / "a.tif", HYPERSTACK.reshape(6, 5, 7), text)
    assert np.array_equal(read(path, channel=0), HYPERSTACK[:, 0])
    assert np.array_equal(read(path, channel=1), HYPERSTACK[:, 1])
    with open_stack(path, Selection(channel=1)) as stack:
        assert stack.label_of(2) == f"{path} page 6 (z=2)"
        assert stack.axes_from == "ImageJ's description"


@pytest.mark.parametrize("program", ["ImageJ=1.54f", "SCIFIO=0.42.0\naxes=X,Y,Channel,Z\nlengths=7,5,2,3"])
def test_the_order_that_a_description_names(tmp_path: Path, program: str) -> None:
    text = f"{program}\nimages=6\nchannels=2\nslices=3\norder=zct\n"
    path = write_pages(tmp_path / "a.tif", HYPERSTACK.swapaxes(0, 1).reshape(6, 5, 7), text)
    assert np.array_equal(read(path, channel=1), HYPERSTACK[:, 1])


def test_imagej_channels_of_one_slice(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", HYPERSTACK[:, 0], "ImageJ=1.54f\nimages=3\nchannels=3\n")
    message = refused(path)
    assert "name one by --channel 0 to 2; if they are sections, say so by --axes zyx" in message
    assert np.array_equal(read(path, axes="zyx"), HYPERSTACK[:, 0])
    assert np.array_equal(read(path, channel=2), HYPERSTACK[2:, 0])


def test_frames_of_one_slice(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", HYPERSTACK[:, 0], "ImageJ=1.54f\nimages=3\nframes=3\n")
    message = refused(path)
    assert "several time points" in message
    assert "if they are sections, say so by --axes zyx" in message
    assert np.array_equal(read(path, axes="zyx"), HYPERSTACK[:, 0])


def test_frames_of_many_slices_are_never_sections(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", HYPERSTACK.reshape(6, 5, 7), "ImageJ=1.54f\nimages=6\nslices=2\nframes=3\n")
    assert "several time points; found axes t: 3, z: 2, y: 5, x: 7. Fix: export one of them" in refused(path)


@pytest.mark.parametrize("order", ["XYZCT", "XYZTC", "XYCZT", "XYCTZ", "XYTCZ", "XYTZC"])
def test_dimension_order_of_ome(tmp_path: Path, order: str) -> None:
    slowest_first = [axis for axis in reversed(order) if axis in "ZC"]
    pages = HYPERSTACK.transpose(["ZC".index(axis) for axis in slowest_first] + [2, 3]).reshape(6, 5, 7)
    path = write_pages(tmp_path / "a.ome.tif", pages, ome({"Z": 3, "C": 2}, order))
    for channel in (0, 1):
        assert np.array_equal(read(path, channel=channel), HYPERSTACK[:, channel])


def test_shuffled_planes_of_ome(tmp_path: Path) -> None:
    places = np.random.default_rng(1).permutation(6)
    pages = np.empty((6, 5, 7), np.uint8)
    elements = ""
    for (z, c), page in zip(itertools.product(range(3), range(2)), places, strict=True):
        pages[page] = HYPERSTACK[z, c]
        elements += f'<TiffData IFD="{page}" FirstZ="{z}" FirstC="{c}" PlaneCount="1"/>'
    path = write_pages(tmp_path / "a.ome.tif", pages, ome({"Z": 3, "C": 2}, data=elements))
    assert np.array_equal(read(path, channel=1), HYPERSTACK[:, 1])
    with open_stack(path, Selection(channel=1)) as stack:
        assert stack.label_of(0) == f"{path} page {places[1] + 1} (z=0)"


def test_planes_of_ome_in_runs(tmp_path: Path) -> None:
    # Planes 2 to 5 lie first, then 0 and 1.
    data = '<TiffData IFD="4" FirstZ="0" PlaneCount="2"/><TiffData IFD="0" FirstZ="2" PlaneCount="4"/>'
    pages = sections(6)[:, :5, :7]
    path = write_pages(tmp_path / "a.ome.tif", pages, ome({"Z": 6}, data=data))
    assert np.array_equal(read(path), pages[[4, 5, 0, 1, 2, 3]])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ('<TiffData IFD="0" PlaneCount="2"/>', "3 pages, while its metadata promise 4"),
        ('<TiffData IFD="0" PlaneCount="4"/>', "3 pages, while its metadata promise 4"),
        ('<TiffData IFD="0" FirstZ="9"/>', "a plane at"),
        ('<TiffData IFD="0"/><TiffData IFD="1"/>', "one plane two places"),
        ('<TiffData IFD="x"/>', "IFD 'x'"),
    ],
)
def test_ome_metadata_that_cannot_be_true(tmp_path: Path, data: str, told: str) -> None:
    path = write_pages(tmp_path / "a.ome.tif", sections(3)[:, :5, :7], ome({"Z": 4}, data=data))
    assert told in refused(path)


def test_ome_metadata_of_another_size(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.ome.tif", sections(3)[:, :5, :7], ome({"Z": 3, "X": 8}))
    assert "pages of (5, 7), while its OME metadata promise (5, 8)" in refused(path)


def test_several_images_of_ome(tmp_path: Path) -> None:
    text = ome({"Z": 3}).replace("</Image>", '</Image><Image ID="Image:1"><Pixels/></Image>')
    assert "2 images in one set of OME metadata" in refused(write_pages(tmp_path / "a.ome.tif", HYPERSTACK[:, 0], text))


def test_entities_in_ome_metadata_are_not_unpacked(tmp_path: Path) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><OME>&b;</OME>'
    assert "declarations of their own" in refused(write_pages(tmp_path / "a.ome.tif", HYPERSTACK[:, 0], bomb))


def test_more_planes_than_any_file_holds_are_not_counted_out(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.ome.tif", HYPERSTACK[:, 0], ome({"Z": 10**9, "C": 10**9}))
    assert "1000000000000000000 planes" in refused(path)


def test_tifffile_takes_the_sections_of_ome_for_channels(tmp_path: Path) -> None:
    """What its default writes says channel, so that is asked; --axes says what they are."""
    path = written(tmp_path / "a.ome.tif", HYPERSTACK[:, 0])
    assert "if they are sections, say so by --axes zyx" in refused(path)
    assert np.array_equal(read(path, axes="zyx"), HYPERSTACK[:, 0])


def test_angles_at_each_time_are_no_time(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ome.tif", HYPERSTACK[:, 0], metadata={"axes": "QYX"})
    assert np.array_equal(read(path), HYPERSTACK[:, 0])


def colours(*channels: Voxels) -> Voxels:
    return np.stack(channels, -1)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colours_that_are_all_alike_are_grey(tmp_path: Path, planar: bool, compression: str | None) -> None:
    grey = sections(3)
    data = colours(grey, grey, grey)
    how: dict[str, Any] = {"photometric": "rgb", "compression": compression}
    if planar:
        data, how = np.moveaxis(data, -1, 1), how | {"planarconfig": "separate"}
    path = written(tmp_path / "a.tif", data, **how)
    assert np.array_equal(read(path), grey)
    assert np.array_equal(read(path, axes="zyx"), grey)
    assert np.array_equal(read(path, channel=2), grey)


def test_opaque_grey_is_grey(tmp_path: Path) -> None:
    grey = sections(2)
    full = np.full_like(grey, 255)
    path = written(tmp_path / "a.tif", colours(grey, grey, grey, full), photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read(path), grey)
    path = written(tmp_path / "b.tif", colours(grey, full), planarconfig="contig", extrasamples=["unassalpha"])
    assert np.array_equal(read(path), grey)
    half = colours(grey, grey, grey, full // 2)
    path = written(tmp_path / "c.tif", half, photometric="rgb", extrasamples=["unassalpha"])
    assert "4 channels" in refused(path)


def test_colour_is_a_choice_of_channel(tmp_path: Path) -> None:
    data = sections(6).reshape(2, 3, 64, 67)
    contiguous = written(tmp_path / "a.tif", np.moveaxis(data, 1, -1), photometric="rgb")
    planar = written(tmp_path / "b.tif", data, photometric="rgb", planarconfig="separate")
    one = written(tmp_path / "c.tif", np.moveaxis(data[0], 0, -1), photometric="rgb")
    for path in (contiguous, planar, one):
        assert "3 channels, and a stack has one intensity a voxel" in refused(path)
        assert np.array_equal(read(path, channel=1)[0], data[0, 1])
        assert "average" not in refused(path)


def test_a_section_in_colour_behind_grey_ones(tmp_path: Path) -> None:
    data = colours(*[sections(3)] * 3)
    data[2, 10, 10, 1] ^= 1
    path = written(tmp_path / "a.tif", data, photometric="rgb")
    with open_stack(path) as stack:
        assert np.array_equal(stack.section(1), data[1, ..., 0])
        with pytest.raises(InputError, match=r"page 3 \(z=2\): colours in a stack that begins grey.*--channel 0 to 2"):
            stack.section(2)


def test_three_sections_that_tifffile_takes_for_colours(tmp_path: Path) -> None:
    data = sections(3)
    with pytest.warns(DeprecationWarning, match="stored as RGB"):
        tifffile.imwrite(tmp_path / "a.tif", data)
    message = refused(tmp_path / "a.tif")
    assert "found axes c: 3, y: 64, x: 67" in message
    assert "if they are sections, say so by --axes zyx" in message
    assert np.array_equal(read(tmp_path / "a.tif", axes="zyx"), data)
    with pytest.warns(DeprecationWarning, match="stored as RGB"):
        tifffile.imwrite(tmp_path / "b.tif", data, metadata={"axes": "ZYX"})
    assert np.array_equal(read(tmp_path / "b.tif"), data)


def test_a_page_of_many_sections(tmp_path: Path) -> None:
    data = sections(32)
    path = written(tmp_path / "a.tif", data, volumetric=True, tile=(16, 32, 32), metadata=None)
    assert np.array_equal(read(path), data)


def test_smaller_copies_among_the_pages_are_left_out(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for section in sections():
            writer.write(section, photometric="minisblack", metadata=None)
            writer.write(section[::4, ::4], photometric="minisblack", metadata=None, subfiletype=1)
    assert np.array_equal(read(tmp_path / "a.tif"), sections())
    with open_stack(tmp_path / "a.tif") as stack:
        assert len(stack.warnings) == 1
        assert "8 smaller copies or masks" in stack.warnings[0]


def test_several_arrays_in_one_file(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(2):
            writer.write(HYPERSTACK[0], photometric="minisblack", metadata={"axes": "CYX"})
    assert "2 images in one file" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("promised", [8, 3, 5])
def test_a_description_that_is_on_every_page_is_of_another_stack(tmp_path: Path, promised: int) -> None:
    text = f"ImageJ=1.54f\nimages={promised}\nslices={promised}\n"
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for section in sections(5):
            writer.write(section, photometric="minisblack", description=text, metadata=None)
    assert np.array_equal(read(tmp_path / "a.tif"), sections(5))
    with open_stack(tmp_path / "a.tif") as stack:
        assert len(stack.warnings) == (promised != 5)


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}])
def test_a_page_that_was_taken_out_of_a_stack(tmp_path: Path, how: dict[str, Any]) -> None:
    """Its description is still that of the stack, but nothing was cut off."""
    text = "ImageJ=1.54f\nimages=9\nslices=9\n"
    path = written(tmp_path / "a.tif", sections(1), description=text, metadata=None, **how)
    assert np.array_equal(read(path), sections(1))
    with open_stack(path) as stack:
        assert "its description tells of 9 sections, and it has 1" in stack.warnings[0]
    if not how:
        with path.open("ab") as file:
            file.write(b"a piece of the next section")
        assert "1 pages, while its metadata promise 9" in refused(path)


def test_colours_of_ome(tmp_path: Path) -> None:
    data = np.stack([sections(3), 255 - sections(3), sections(3)], -1)
    path = written(tmp_path / "a.ome.tif", data, photometric="rgb", metadata={"axes": "ZYXS"})
    assert "3 channels" in refused(path)
    assert np.array_equal(read(path, channel=1), data[..., 1])
    grey = np.stack([sections(3)] * 3, -1)
    path = written(tmp_path / "b.ome.tif", grey, photometric="rgb", metadata={"axes": "ZYXS"})
    assert np.array_equal(read(path), sections(3))


@pytest.mark.parametrize(
    ("code", "kind", "values"),
    [(33629, "I", tuple(range(12))), (34412, "B", bytes(512))],
    ids=["MetaMorph", "Zeiss LSM"],
)
def test_stacks_of_which_the_pages_do_not_tell_all(tmp_path: Path, code: int, kind: str, values: Any) -> None:
    extra = [(33628, "I", 2, (1, 2), True), (code, kind, len(values), values, True)]
    path = written(tmp_path / "a.tif", sections(2), metadata=None, extratags=extra)
    assert "a MetaMorph or Zeiss LSM stack" in refused(path)

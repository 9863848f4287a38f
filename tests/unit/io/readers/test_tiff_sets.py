"""OME-TIFF sets: the files beside it that the metadata name, and no others."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers import list_source_files, open_stack
from segem.io.readers.tiff import TiffReader, open_ome_set
from tests.unit.io.readers.test_tiff_axes import ome
from tests.unit.io.readers.tiffs import Voxels, read, refused, sections, written

SECTIONS = sections(5)[:, :5, :7]


def in_file(name: str, uuid: str, z: int, page: int = 0) -> str:
    return (
        f'<TiffData IFD="{page}" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{uuid}</UUID></TiffData>'
    )


def write_set(folder: Path, data: Voxels = SECTIONS, order: tuple[int, ...] = (2, 0, 4, 1, 3)) -> list[Path]:
    """Write one section a file, of which the names say nothing of their order."""
    folder.mkdir(exist_ok=True)
    names = [f"part-{place}.ome.tif" for place in order]
    elements = "".join(in_file(name, f"{z}", z) for z, name in enumerate(names))
    for z, name in enumerate(names):
        text = ome({"Z": len(data)}, data=elements, uuid=f"urn:uuid:{z}")
        written(folder / name, data[z], description=text, metadata=None)
    return [folder / name for name in names]


def test_any_file_of_a_set_is_the_whole_set(tmp_path: Path) -> None:
    for path in write_set(tmp_path / "in"):
        assert np.array_equal(read(path), SECTIONS)
    with open_stack(path) as stack:
        assert stack.label_of(1) == f"{tmp_path / 'in' / 'part-0.ome.tif'} page 1 (z=1)"
        assert stack.axes_from == "the OME metadata of 5 files"


def test_the_files_of_a_set_are_its_source(tmp_path: Path) -> None:
    paths = write_set(tmp_path / "in")
    assert sorted(list_source_files(paths[3])) == sorted(paths)


def test_a_folder_of_a_set(tmp_path: Path) -> None:
    paths = sorted(write_set(tmp_path / "in"))
    reader = open_ome_set(paths, Selection(), tmp_path / "in")
    assert reader is not None
    assert np.array_equal(reader.read((slice(0, 5), slice(0, 5), slice(0, 7))), SECTIONS)
    assert reader.source == tmp_path / "in"
    reader.close()


def test_a_folder_is_opened_as_the_set_that_it_holds(tmp_path: Path) -> None:
    write_set(tmp_path / "in")
    assert np.array_equal(read(tmp_path / "in"), SECTIONS)


def test_a_folder_of_a_set_of_several_channels(tmp_path: Path) -> None:
    """Two numbers run in the names of its files; the metadata say what they mean."""
    data = sections(6).reshape(3, 2, 64, 67)[..., :5, :7]
    elements = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" FirstC="{c}"><UUID FileName="z{z}_c{c}.ome.tif">u{z}{c}</UUID></TiffData>'
        for z in range(3)
        for c in range(2)
    )
    for z in range(3):
        for c in range(2):
            text = ome({"Z": 3, "C": 2}, data=elements, uuid=f"u{z}{c}")
            written(tmp_path / f"z{z}_c{c}.ome.tif", data[z, c], description=text, metadata=None)
    assert "name one by --channel 0 to 1" in refused(tmp_path)
    assert np.array_equal(read(tmp_path, channel=1), data[:, 1])


def test_a_folder_of_a_set_and_of_other_files(tmp_path: Path) -> None:
    paths = sorted(write_set(tmp_path / "in"))
    other = written(tmp_path / "in" / "z.tif", SECTIONS[0])
    with pytest.raises(InputError, match=r"do not belong to the set.*found z\.tif"):
        open_ome_set([*paths, other], Selection(), tmp_path / "in")


def test_a_folder_that_is_no_set(tmp_path: Path) -> None:
    files = [written(tmp_path / f"{z}.ome.tif", section, ome=True) for z, section in enumerate(SECTIONS)]
    assert open_ome_set(files, Selection(), tmp_path) is None
    assert open_ome_set([written(tmp_path / "a.tif", SECTIONS)], Selection(), tmp_path) is None


def test_a_missing_file_of_a_set(tmp_path: Path) -> None:
    paths = write_set(tmp_path / "in")
    paths[1].unlink()
    message = refused(paths[0])
    assert "1 of 5 files that belong to it are missing; expected part-0.ome.tif beside it" in message


def test_many_files_are_not_open_at_once(tmp_path: Path) -> None:
    data = np.arange(60 * 35, dtype=np.uint16).reshape(60, 5, 7)
    path = write_set(tmp_path / "in", data, tuple(range(60)))[0]
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    reader = TiffReader(path, Selection())
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) - before < 40
    for z in itertools.chain(range(60), range(59, -1, -1)):
        assert np.array_equal(reader.read((slice(z, z + 1), slice(0, 5), slice(0, 7)))[0], data[z])
    reader.close()


@pytest.mark.parametrize("name", ["../secret.ome.tif", "/etc/passwd", "sub/secret.ome.tif", "..", "..\\secret.ome.tif"])
def test_no_file_outside_of_the_folder_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "in" / "sub"):
        written(folder / "secret.ome.tif", np.full((2, 5, 7), 201, np.uint8))
    both = '<TiffData IFD="0" FirstZ="0" PlaneCount="1"/>' + in_file(name, "9", 1)
    text = ome({"Z": 2}, data=both, uuid="urn:uuid:1")
    path = written(tmp_path / "in" / "a.ome.tif", SECTIONS[:2], description=text, metadata=None)
    assert "name a file outside of its folder" in refused(path)


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    path, second, *_ = write_set(tmp_path / "in")
    second.rename(tmp_path / "moved.ome.tif")
    second.symlink_to(tmp_path / "moved.ome.tif")
    assert "name a file outside of its folder" in refused(path)


def test_a_folder_behind_a_link_is_read(tmp_path: Path) -> None:
    paths = write_set(tmp_path / "in")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert np.array_equal(read(tmp_path / "link" / paths[0].name), SECTIONS)


def test_a_file_that_was_renamed_knows_itself(tmp_path: Path) -> None:
    elements = "".join(in_file("old.ome.tif", "1", z, z) for z in range(5))
    for uuid in ("urn:uuid:1", ""):
        text = ome({"Z": 5}, data=elements, uuid=uuid)
        assert np.array_equal(
            read(written(tmp_path / "new.ome.tif", SECTIONS, description=text, metadata=None)), SECTIONS
        )


def test_metadata_that_lie_in_another_file(tmp_path: Path) -> None:
    elements = "".join(in_file(f"{z}.ome.tif", f"{z}", z) for z in range(5))
    (tmp_path / "all.companion.ome").write_text(ome({"Z": 5}, data=elements), encoding="utf-8")
    pointer = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{0}">'
        '<BinaryOnly MetadataFile="{1}" UUID="urn:uuid:all"/></OME>'
    )
    for z in range(5):
        text = pointer.format(z, "all.companion.ome")
        written(tmp_path / f"{z}.ome.tif", SECTIONS[z], description=text, metadata=None)
    assert np.array_equal(read(tmp_path / "3.ome.tif"), SECTIONS)
    assert tmp_path / "all.companion.ome" in list_source_files(tmp_path / "3.ome.tif")
    (tmp_path / "all.companion.ome").unlink()
    assert "expected all.companion.ome beside it" in refused(tmp_path / "3.ome.tif")
    written(tmp_path / "3.ome.tif", SECTIONS[3], description=pointer.format(3, "../../etc/passwd"), metadata=None)
    assert "name a file outside of its folder" in refused(tmp_path / "3.ome.tif")


def test_files_of_another_shape_in_a_set(tmp_path: Path) -> None:
    paths = write_set(tmp_path / "in")
    written(paths[4], SECTIONS[4].T)
    with pytest.raises(InputError, match=rf"{paths[4].name} page 1 \(z=4\): sections of different shape"):
        read(paths[0])


def test_metadata_of_one_file_and_of_another_beside_it(tmp_path: Path) -> None:
    """Without a UUID, a name that exists beside the file is that file, and not the one that was opened."""
    written(tmp_path / "b.ome.tif", SECTIONS[1])
    data = '<TiffData IFD="0" FirstZ="0" PlaneCount="1"/>' + in_file("b.ome.tif", "9", 1)
    path = written(tmp_path / "a.ome.tif", SECTIONS[0], description=ome({"Z": 2}, data=data), metadata=None)
    assert np.array_equal(read(path), SECTIONS[:2])
    alone = ome({"Z": 1}, data=in_file("b.ome.tif", "9", 0))
    path = written(tmp_path / "c.ome.tif", SECTIONS[2], description=alone, metadata=None)
    assert np.array_equal(read(path), SECTIONS[1:2])


def test_planes_of_a_file_that_has_no_name(tmp_path: Path) -> None:
    data = '<TiffData IFD="0" FirstZ="0"/><TiffData IFD="0" FirstZ="1"><UUID>urn:uuid:2</UUID></TiffData>'
    text = ome({"Z": 2}, data=data, uuid="urn:uuid:1")
    path = written(tmp_path / "a.ome.tif", SECTIONS[0], description=text, metadata=None)
    assert "expected urn:uuid:2 beside it" in refused(path)


def test_a_plane_that_no_file_of_a_set_holds(tmp_path: Path) -> None:
    written(tmp_path / "b.ome.tif", SECTIONS[1])
    data = '<TiffData IFD="0" FirstZ="0" PlaneCount="1"/>' + in_file("b.ome.tif", "9", 1)
    path = written(tmp_path / "a.ome.tif", SECTIONS[0], description=ome({"Z": 3}, data=data), metadata=None)
    assert "3 planes, but not where 1 of them lie" in refused(path)

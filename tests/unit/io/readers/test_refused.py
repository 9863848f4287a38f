"""Formats that are known and not read are refused with the name of what converts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segem.errors import InputError
from segem.io.readers import open_stack

FILES = {
    "a.czi": "bioformats2raw",
    "a.LIF": "bioformats2raw",
    "a.nd2": "bioformats2raw",
    "a.lsm": "bioformats2raw",
    "a.vsi": "bioformats2raw",
    "a.oib": "bioformats2raw",
    "a.ims": "bioformats2raw",
    "a.ndpi": "bioformats2raw",
    "a.wkw": "webknossos export-as-tiff",
    "knossos.conf": "knossos_utils",
    "a.ve-mif": "TrakEM2",
    "a.a5proj": "render",
    "dataset.xml": "export the fused or aligned stack",
    "project.xml.gz": "export the fused or aligned stack",
    "Merlin-6257_21-05-20_125416.dat": "fibsem-tools",
    "a.nii": "Fiji",
    "a.nii.gz": "Fiji",
    "a.nrrd": "Fiji",
    "a.am": "Fiji",
    "a.raw": "Import > Raw",
    "a.emd": "Velox",
    "a.ser": "TIA",
    "a.zip": "unpack it",
    "a.tar.gz": "unpack it",
    "a.tif.bz2": "unpack it",
}
FOLDERS = {
    "1/header.wkw": "webknossos export-as-tiff",
    "datasource-properties.json": "webknossos export-as-tiff",
    "mag1/x0000/y0000/z0000/a_x0000_y0000_z0000.raw": "knossos_utils",
    "knossos.conf": "knossos_utils",
    "x0001/y0000/z0000/a.raw": "knossos_utils",
    "s0001.ve-mif": "TrakEM2",
    "MapsProject.xml": "TrakEM2",
    "Tile_r1-c2_S_001.tif": "TrakEM2",
    "s0001.dat": "fibsem-tools",
    "s0001.czi": "bioformats2raw",
}


def refused(source: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_stack(source)
    assert str(caught.value).startswith(f"{source}: ")
    return str(caught.value)


@pytest.mark.parametrize(("name", "tool"), FILES.items())
def test_a_file_is_refused_with_what_converts_it(tmp_path: Path, name: str, tool: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    line = refused(tmp_path / name)
    assert "this format is not read" in line
    assert tool in line


@pytest.mark.parametrize(("name", "tool"), FOLDERS.items())
def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path, name: str, tool: str) -> None:
    file = tmp_path / "set" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"content")
    assert tool in refused(tmp_path / "set")

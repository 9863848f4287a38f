"""Layers as files that other programs open; one function a format, chosen by the ending of the name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from segem.errors import ConfigError
from segem.geometry import ZYX, Box, VoxelSize, grid
from segem.io.files import disk_errors, new_directory, new_file
from segem.io.shards import AXES, CHUNK
from segem.io.volume import create_volume, write_block

_CLASSIC_BYTES = 2**31
"""Above this, TIFF is written as BigTIFF, since a classic one ends at 4 GiB."""
_LARGEST_RATIO = 2**32
_PNG_BYTES = 2
_NM_PER_INCH, _NM_PER_METRE = 2.54e7, 1e9


@dataclass(frozen=True)
class Layer:
    """What is written, read as it is needed.

    Parameters
    ----------
    name : str
        What it is, as ``membrane``.
    shape : tuple of int
        Extent along (z, y, x).
    dtype : dtype
        Type of its voxels.
    voxel_size : VoxelSize
        In nanometres.
    read : callable
        Returns the voxels of a box.
    """

    name: str
    shape: ZYX
    dtype: np.dtype[Any]
    voxel_size: VoxelSize
    read: Callable[[Box], NDArray[Any]]

    def sections(self) -> Iterator[NDArray[Any]]:
        """Yield the sections, first to last."""
        depth, height, width = self.shape
        for z in range(depth):
            yield self.read(Box((z, 0, 0), (z + 1, height, width)))[0]


Write = Callable[[Path, Layer], None]


def find_writer(out: Path) -> Write:
    """Return what writes a file or folder of this name.

    Raises
    ------
    ConfigError
        When its ending stands for nothing that can be written.

    Examples
    --------
    >>> find_writer(Path("a.ome.tif")).__name__, find_writer(Path("sections")).__name__
    ('write_ome_tiff', 'write_png_series')
    """
    name = out.name.lower()
    found = next((write for ending, write in WRITERS.items() if name.endswith(ending)), None)
    if found is None and out.suffix:
        raise ConfigError(
            "no such format to write",
            where=out,
            expected=f"a name in {', '.join(WRITERS)}, or one without an ending for a folder of PNG sections",
            found=out.suffix,
            fix="give the file one of these endings",
        )
    return found or write_png_series


def write_tiff(out: Path, layer: Layer) -> None:
    """Write a multi-page TIFF that ImageJ and Fiji open with its voxel size.

    Raises
    ------
    WorkspaceError
        When the disk refuses, as for all that is written here.
    """
    # ImageJ reads the distance of sections here, and the size of pixels in the tags, in the unit that is named here.
    text = f"ImageJ=1.54f\nimages={layer.shape[0]}\nslices={layer.shape[0]}\nunit=nm\n"
    _write_pages(out, layer, f"{text}spacing={layer.voxel_size.z:.9g}\nloop=false\n")


def write_ome_tiff(out: Path, layer: Layer) -> None:
    """Write a multi-page TIFF with OME metadata, which Bio-Formats, napari and QuPath read."""
    depth, height, width = layer.shape
    sizes = zip("ZYX", layer.voxel_size.zyx, strict=True)
    physical = {f"PhysicalSize{axis}": size for axis, size in sizes} | {
        f"PhysicalSize{axis}Unit": "nm" for axis in "ZYX"
    }
    described = tifffile.OmeXml()
    described.addimage(
        layer.dtype, layer.shape, (depth, 1, 1, height, width, 1), axes="ZYX", Name=layer.name, **physical
    )
    _write_pages(out, layer, described.tostring())


def write_hdf5(out: Path, layer: Layer) -> None:
    """Write an HDF5 file with one dataset, named after the layer.

    Its voxel size is in ``resolution`` (nm, as CREMI has it) and ``element_size_um`` (as PlantSeg and Fiji have it),
    both along (z, y, x).
    """
    _, height, width = layer.shape
    with disk_errors(out), new_file(out) as partial, h5py.File(partial, "w") as file:
        chunks = (1, min(CHUNK[1], height), min(CHUNK[2], width))
        data = file.create_dataset(
            layer.name, layer.shape, layer.dtype, chunks=chunks, compression="gzip", shuffle=True
        )
        data.attrs["resolution"] = layer.voxel_size.zyx
        data.attrs["element_size_um"] = [size / 1000 for size in layer.voxel_size.zyx]
        for dimension, axis in zip(data.dims, AXES, strict=True):
            dimension.label = axis
        for z, section in enumerate(layer.sections()):
            data[z] = section


def write_ome_zarr(out: Path, layer: Layer) -> None:
    """Write an OME-Zarr 0.5 image with its pyramid and voxel size, as the volumes of a workspace are."""
    _require_free(out)
    with new_directory(out) as partial:
        volume = create_volume(
            partial, shape=layer.shape, dtype=layer.dtype, voxel_size=layer.voxel_size, labels={}, attributes={}
        )
        for _, box in grid(layer.shape, volume.write_block):
            write_block(volume.raw, box, layer.read(box))
        volume.build_pyramid()


def write_png(out: Path, layer: Layer) -> None:
    """Write the one section of a layer as a PNG.

    Raises
    ------
    ConfigError
        When there are more sections.
    """
    if layer.shape[0] > 1:
        raise ConfigError(
            "a PNG holds one section",
            where=out,
            found=f"{layer.shape[0]} sections",
            fix="give a name without an ending, as in sections, for a folder of them",
        )
    _check_png(out, layer)
    with disk_errors(out), new_file(out) as partial:
        _save_png(partial, next(layer.sections()), layer.voxel_size)


def write_png_series(out: Path, layer: Layer) -> None:
    """Write a folder with a PNG for each section, 0000.png and so on; each says how large its pixels are."""
    _check_png(out, layer)
    _require_free(out)
    digits = max(4, len(str(layer.shape[0] - 1)))
    with disk_errors(out), new_directory(out) as partial:
        for z, section in enumerate(layer.sections()):
            _save_png(partial / f"{z:0{digits}}.png", section, layer.voxel_size)


WRITERS: dict[str, Write] = {
    ".ome.tif": write_ome_tiff,
    ".ome.tiff": write_ome_tiff,
    ".tif": write_tiff,
    ".tiff": write_tiff,
    ".h5": write_hdf5,
    ".hdf5": write_hdf5,
    ".zarr": write_ome_zarr,
    ".png": write_png,
}
"""What is written, by the ending of the name; the first that fits is taken."""


def _check_png(out: Path, layer: Layer) -> None:
    """Raise where the numbers of a layer, as those of cells, are too large for a PNG."""
    if layer.dtype.itemsize > _PNG_BYTES:
        raise ConfigError(
            f"a PNG cannot hold the numbers of {layer.name}",
            where=out,
            expected="8 or 16 bits",
            found=layer.dtype,
            fix="write a TIFF (.tif), HDF5 (.h5) or OME-Zarr (.zarr)",
        )


def _save_png(path: Path, section: NDArray[Any], size: VoxelSize) -> None:
    per_inch = _NM_PER_INCH / size.x, _NM_PER_INCH / size.y
    # PNG counts pixels in a metre, in 32 bits; finer ones stay without.
    fits = min(size.x, size.y) > _NM_PER_METRE / _LARGEST_RATIO
    Image.fromarray(section).save(path, "PNG", **({"dpi": per_inch} if fits else {}))


def _require_free(out: Path) -> None:
    if out.is_symlink() or out.exists():
        raise ConfigError(
            "a folder is to be written, and a file has its name", where=out, fix="give a name that is free"
        )


def _write_pages(out: Path, layer: Layer, description: str) -> None:
    per_nm = 1 / layer.voxel_size.x, 1 / layer.voxel_size.y
    if not all(1 / _LARGEST_RATIO < ratio < _LARGEST_RATIO for ratio in per_nm):
        raise ConfigError(
            "TIFF cannot hold this voxel size",
            where=out,
            found=f"{layer.voxel_size.zyx} nm",
            fix="ingest the volume with its true --voxel-nm",
        )
    bigtiff = layer.dtype.itemsize * int(np.prod(layer.shape, dtype=object)) > _CLASSIC_BYTES
    with disk_errors(out), new_file(out) as partial, tifffile.TiffWriter(partial, bigtiff=bigtiff) as tiff:
        for z, section in enumerate(layer.sections()):
            tiff.write(
                section,
                photometric="minisblack",
                compression="zlib",
                contiguous=False,
                # In the unit of the description: TIFF itself knows inches and centimetres only.
                resolution=per_nm,
                resolutionunit="NONE",
                description=description if z == 0 else None,
                metadata=None,
            )

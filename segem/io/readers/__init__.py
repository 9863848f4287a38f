"""Readers: a path in, a lazy stack of sections out."""

from __future__ import annotations

from pathlib import Path

from segem.errors import InputError
from segem.io.readers.hdf5 import Hdf5Stack
from segem.io.readers.omezarr import MARKERS, ZarrStack
from segem.io.readers.series import FILE_READERS, SeriesStack, section_files
from segem.io.readers.stack import Stack, check_reachable

__all__ = ["READER_VERSION", "Stack", "open_stack", "source_files"]

READER_VERSION = 1
"""To be raised when a reader returns other voxels for the same file, so that volumes are ingested again."""

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


def open_stack(source: Path, dataset: str | None = None) -> Stack:
    """Open a source of sections, after checking all that can be checked without reading voxels.

    Parameters
    ----------
    source : Path
        A TIFF, PNG or HDF5 file, a folder of TIFF or PNG files, or a zarr folder.
    dataset : str, optional
        Path of the array inside an HDF5 file or a zarr folder.

    Returns
    -------
    Stack
        To be used as a context manager.

    Raises
    ------
    InputError
        When the source is missing, damaged, inconsistent or of an unknown kind.
    """
    check_reachable(source)
    if _is_zarr(source):
        return ZarrStack(source, dataset)
    if source.suffix.lower() in HDF5_SUFFIXES:
        return Hdf5Stack(source, dataset)
    if dataset is not None:
        raise InputError("only HDF5 and zarr sources hold datasets", where=source, fix="leave the dataset out")
    kind = source.suffix.lower()
    if source.is_dir() and kind not in FILE_READERS:
        return SeriesStack(source)
    if kind not in FILE_READERS:
        raise InputError(
            "unknown kind of file",
            where=source,
            expected=", ".join((*FILE_READERS, *HDF5_SUFFIXES, "a folder of sections", "a zarr folder")),
            found=kind or "no extension",
            fix="convert it to TIFF",
        )
    return FILE_READERS[kind](source)


def source_files(source: Path) -> list[Path]:
    """Return the files that a source consists of, in a fixed order.

    Raises
    ------
    InputError
        When the source is missing, or a folder without sections.
    """
    check_reachable(source)
    if _is_zarr(source):
        return sorted(path for path in source.rglob("*") if path.is_file())
    if source.is_dir() and source.suffix.lower() not in FILE_READERS:
        return section_files(source)
    return [source]


def _is_zarr(source: Path) -> bool:
    return any((source / marker).is_file() for marker in MARKERS)

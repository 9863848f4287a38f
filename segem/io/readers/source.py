"""A path in, a lazy stack of sections out."""

from __future__ import annotations

from pathlib import Path

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.refused import refuse_known
from segem.io.readers.stack import Stack, check_reachable
from segem.io.readers.table import FORMATS, find_format, find_within


def open_stack(source: Path, chosen: Selection | None = None) -> Stack:
    """Open a source of sections, after checking all that can be checked without reading voxels.

    Parameters
    ----------
    source : Path
        A TIFF, PNG, JPEG, HDF5, MRC or DM file, a folder of sections in such files, or a zarr folder.
    chosen : Selection, optional
        The array inside an HDF5 file or a zarr folder, its axes and channel.

    Returns
    -------
    Stack
        To be used as a context manager.

    Raises
    ------
    InputError
        When the source is missing, damaged, inconsistent or of an unknown kind.
    """
    chosen = chosen or Selection()
    check_reachable(source)
    refuse_known(source)
    found = find_format(source)
    if chosen.dataset is not None and (found is None or not found.has_datasets):
        having = " and ".join(sorted(row.name for row in FORMATS if row.has_datasets))
        raise InputError(f"only {having} sources hold datasets", where=source, fix="leave the dataset out")
    if found is None:
        raise InputError(
            "unknown kind of file",
            where=source,
            expected=", ".join(name for row in FORMATS for name in row.suffixes or (row.name,)),
            found=source.suffix.lower() or "no extension",
            fix="convert it to TIFF",
        )
    reader = found.open(source, chosen)
    try:
        return Stack(reader, chosen)
    except BaseException:
        reader.close()
        raise


def version_of(source: Path) -> str:
    """Return the reader of a source and its version, for the record of a volume."""
    found = find_format(source)
    rows = [] if found is None else [found, *find_within(source)]
    return ", ".join(f"{row.name} {row.version}" for row in rows)


def list_source_files(source: Path) -> list[Path]:
    """Return the files that a source consists of, in a fixed order.

    Raises
    ------
    InputError
        When the source is missing, or a folder without sections.
    """
    check_reachable(source)
    found = find_format(source)
    return [source] if found is None else found.list_files(source)

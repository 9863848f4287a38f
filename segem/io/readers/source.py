"""A path or URL in, a lazy stack of sections out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from segem.config import Selection, Url
from segem.errors import InputError
from segem.io.readers.reader import Reader
from segem.io.readers.refused import refuse_known
from segem.io.readers.remote import DownloadedReader, describe_version, read_small
from segem.io.readers.stack import Stack, check_reachable
from segem.io.readers.table import FORMATS, GZIP, Format, find_format, find_within


def open_stack(source: Path | Url, chosen: Selection | None = None) -> Stack:
    """Open a source of sections, after checking all that can be checked without reading voxels.

    Parameters
    ----------
    source : Path or Url
        A file of sections or of arrays, a folder of sections, or a folder of Zarr, N5 or Neuroglancer. Below a URL, a
        folder is read in place, and a file is downloaded for as long as it is open.
    chosen : Selection, optional
        The array inside a file or folder that may hold several, its axes and channel.

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
    if not isinstance(source, Url):
        check_reachable(source)
        refuse_known(source)
    found = _find(source)
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
    reader = _open(found, source, chosen)
    try:
        return Stack(reader, chosen)
    except BaseException:
        reader.close()
        raise


def version_of(source: Path | Url) -> str:
    """Return the reader of a source and its version, for the record of a volume."""
    found = _find(source)
    rows = [] if found is None else [found, *find_within(Path(source))]
    return ", ".join(f"{row.name} {row.version}" for row in rows)


def name_format(source: Path | Url) -> str:
    """Return the format of a source, as messages call it; empty where it is unknown."""
    found = _find(source)
    return "" if found is None else found.name


def list_source_files(source: Path) -> list[Path]:
    """Return the files that a source on this machine consists of, in a fixed order.

    Raises
    ------
    InputError
        When the source is missing, or a folder without sections.
    """
    check_reachable(source)
    found = find_format(source)
    return [source] if found is None else found.list_files(source)


def fingerprint_files(source: Path | Url, chosen: Selection | None = None) -> str:
    """Return a digest of the state of a source, without reading voxels.

    Parameters
    ----------
    source : Path or Url
        Of one on this machine, the names, sizes and modification times of all files are taken; of a file elsewhere
        what its server says of it, and of a folder there the metadata of the array.
    chosen : Selection, optional
        The array that is meant.

    Raises
    ------
    InputError
        When the source is missing.
    """
    state: list[Any]
    if isinstance(source, Url):
        found = _find(source)
        if found is not None and found.markers:
            reader = _open(found, source, chosen or Selection())
            state = [[source, reader.found.digest]]
            reader.close()
        else:
            state = [[source, describe_version(source)]]
    else:
        statuses = ((file, check_reachable(file)) for file in list_source_files(source))
        state = [[str(file), status.st_size, status.st_mtime_ns] for file, status in statuses]
    digest = hashlib.sha256()
    for entry in state:
        digest.update(json.dumps(entry, sort_keys=True).encode())
    return digest.hexdigest()


def _find(source: Path | Url) -> Format | None:
    if not isinstance(source, Url):
        return find_format(source)
    if find_within(Path(source.name)):
        return GZIP
    named = next((row for row in FORMATS if source.suffix.lower() in row.suffixes), None)
    if named is not None:
        return named
    rows = [row for row in FORMATS if row.markers]
    held = read_small(source, *(marker for row in rows for marker in row.markers))
    return next((row for row in rows if held.keys() & set(row.markers)), None)


def _open(found: Format, source: Path | Url, chosen: Selection) -> Reader:
    if not isinstance(source, Url) or found.markers:
        return found.open(source, chosen)
    return DownloadedReader(source, lambda file: found.open(file, chosen))

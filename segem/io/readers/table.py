"""Every format that segem reads, a row each. A new format is a file of its own beside this one, and a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segem.config import Selection
from segem.io.readers import n5, precomputed
from segem.io.readers.chunked import list_files_below
from segem.io.readers.dm import DmReader
from segem.io.readers.gz import GzipReader
from segem.io.readers.hdf5 import Hdf5Reader
from segem.io.readers.jpeg import JpegReader
from segem.io.readers.mrc import MrcReader
from segem.io.readers.numpy_file import NumpyReader
from segem.io.readers.omezarr import MARKERS, ZarrReader, is_zarr
from segem.io.readers.png import PngReader
from segem.io.readers.reader import Reader
from segem.io.readers.series import SeriesReader, list_section_files
from segem.io.readers.tiff import TiffReader, list_tiff_files, open_ome_set


@dataclass(frozen=True)
class Format:
    """How sources of one format are recognised and read."""

    name: str
    """As messages call it."""
    open: Callable[[Any, Selection], Reader]
    """Opens a source, of which the second argument selects an array."""
    version: int
    """To be raised when the reader returns other voxels for the same file, so that volumes are ingested again."""
    suffixes: tuple[str, ...] = ()
    """Endings of names, in lower case."""
    probe: Callable[[Path], bool] = lambda _: False
    """Recognises sources that have no ending of their own, without reading voxels."""
    list_files: Callable[[Path], list[Path]] = lambda source: [source]
    """Lists the files that a source consists of, in a fixed order."""
    has_datasets: bool = False
    markers: tuple[str, ...] = ()
    """Files that a folder of this format holds; by them it is recognised below a URL, and read in place."""

    def matches(self, source: Path) -> bool:
        """Return whether a source, which exists, is of this format."""
        return source.suffix.lower() in self.suffixes or self.probe(source)


TIFF = Format("TIFF", TiffReader, 2, (".tif", ".tiff"), list_files=list_tiff_files)
PNG = Format("PNG", PngReader, 1, (".png",))
JPEG = Format("JPEG", JpegReader, 1, (".jpg", ".jpeg"))
MRC = Format("MRC", MrcReader, 1, (".mrc", ".rec", ".map", ".st", ".ali", ".mrcs"))
DM = Format("DigitalMicrograph", DmReader, 1, (".dm3", ".dm4"))

GZIP = Format(
    "gzip",
    lambda source, chosen: GzipReader(source, chosen, find_within(source)[0].open),
    1,
    probe=lambda source: bool(find_within(source)),
)

SECTION_READERS = {suffix: row.open for row in (TIFF, PNG, JPEG, MRC, DM) for suffix in row.suffixes}
"""What reads the files of a folder that holds one section a file."""


def _open_folder(folder: Path, chosen: Selection) -> Reader:
    files = list_section_files(folder, SECTION_READERS)
    # Files that OME metadata tie together lie in the order that these say, and may hold several pages.
    tied = open_ome_set(files, chosen, folder) if files[0].suffix.lower() in TIFF.suffixes else None
    return SeriesReader(folder, chosen, SECTION_READERS) if tied is None else tied


# The first row that matches is taken. A zarr folder may have any name, so it comes first; any other folder named x.tif
# is opened as a file, and refused, rather than read as sections.
FORMATS = (
    Format("zarr", ZarrReader, 3, probe=is_zarr, list_files=list_files_below, has_datasets=True, markers=MARKERS),
    TIFF,
    PNG,
    JPEG,
    MRC,
    DM,
    GZIP,
    Format("HDF5", Hdf5Reader, 3, (".h5", ".hdf5", ".hdf", ".he5", ".mat"), has_datasets=True),
    Format("NumPy", NumpyReader, 1, (".npy",)),
    Format("npz", NumpyReader, 1, (".npz",), has_datasets=True),
    Format("N5", n5.N5Reader, 1, probe=n5.is_n5, list_files=list_files_below, has_datasets=True, markers=(n5.MARKER,)),
    Format(
        "precomputed",
        precomputed.PrecomputedReader,
        1,
        probe=precomputed.is_precomputed,
        list_files=list_files_below,
        has_datasets=True,
        markers=(precomputed.MARKER,),
    ),
    Format(
        "a folder of sections",
        _open_folder,
        2,
        probe=Path.is_dir,
        list_files=lambda source: list_section_files(source, SECTION_READERS),
    ),
)


def find_within(source: Path) -> list[Format]:
    """Return the format of what a ``.gz`` file holds, by its name; nothing where it is unknown, or another file."""
    suffix = Path(source.stem).suffix.lower()
    return [row for row in FORMATS if suffix in row.suffixes] if source.suffix.lower() == ".gz" else []


def find_format(source: Path) -> Format | None:
    """Return the format of a source, which exists, or None where it is unknown."""
    return next((row for row in FORMATS if row.matches(source)), None)

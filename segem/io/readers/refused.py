"""Formats of microscopes and programs that are known here but not read, and what converts them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segem.errors import InputError

_BIO_FORMATS = "convert it to OME-Zarr (bioformats2raw IN OUT.zarr) and give OUT.zarr/0, or to TIFF in Fiji"
_STITCH = "stitch and align its tiles (TrakEM2 in Fiji, or render), and give the aligned sections as TIFF"
_FIJI = "open it in Fiji and save it as TIFF"


@dataclass(frozen=True)
class Refused:
    """A format that is not read.

    Parameters
    ----------
    name : str
        As messages call it.
    fix : str
        What makes something of it that is read.
    endings : tuple of str
        Ends of the names of its files, in lower case.
    markers : tuple of str
        Patterns of what a folder of it holds. None looks far down: a folder below may hold a million files.
    """

    name: str
    fix: str
    endings: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()

    def matches(self, source: Path) -> bool:
        """Return whether a source, which exists, is of this format, or a folder of nothing but files of it."""
        if not source.is_dir():
            return source.name.lower().endswith(self.endings)
        if any(next(source.glob(marker), None) is not None for marker in self.markers):
            return True
        names = [path.name.lower() for path in source.glob("[!.]*")]
        return bool(names) and all(name.endswith(self.endings) for name in names)


REFUSED = (
    Refused(
        "a WEBKNOSSOS data set",
        "export a layer (webknossos export-as-tiff, of the Python package webknossos) and give the folder it makes; "
        "where a layer is stored as Zarr, give the folder of its finest level",
        (".wkw",),
        ("header.wkw", "*/header.wkw", "datasource-properties.json"),
    ),
    Refused(
        "a KNOSSOS data set",
        "export it as sections (KnossosDataset of knossos_utils), or take webknossos convert-knossos and then "
        "export-as-tiff",
        ("knossos.conf", ".k.zip"),
        ("*knossos.conf", "mag1/x[0-9]*", "x[0-9][0-9][0-9][0-9]/y[0-9][0-9][0-9][0-9]"),
    ),
    Refused(
        "a mosaic of tiles that are not stitched",
        _STITCH,
        (".ve-mif", ".ve-asf", ".a5proj", ".mapsproject"),
        ("*.ve-mif", "*.a5proj", "MapsProject.xml", "*[Tt]ile_r[0-9]*-c[0-9]*"),
    ),
    Refused(
        "a project of BigStitcher, BigDataViewer or TrakEM2",
        "export the fused or aligned stack as TIFF, HDF5 or OME-Zarr from the program that made it",
        (".xml", ".xml.gz"),
    ),
    Refused(
        "raw data of a FIB-SEM (.dat)",
        "convert them to TIFF or Zarr with fibsem-tools, and give the aligned sections",
        (".dat",),
    ),
    Refused("a Zeiss CZI file", _BIO_FORMATS, (".czi",)),
    Refused("a Zeiss LSM file", _BIO_FORMATS, (".lsm",)),
    Refused("a Leica file", _BIO_FORMATS, (".lif", ".lof", ".xlef", ".scn")),
    Refused("a Nikon ND2 file", _BIO_FORMATS, (".nd2",)),
    Refused("an Olympus or Evident file", _BIO_FORMATS, (".vsi", ".oib", ".oif", ".oir")),
    Refused("an Imaris file", _BIO_FORMATS, (".ims",)),
    Refused("a slide scanner's file", _BIO_FORMATS, (".svs", ".ndpi", ".mrxs")),
    Refused(
        "a file of FEI or Thermo Fisher software",
        "export it as TIFF or MRC from Velox or TIA, or with Fiji",
        (".emd", ".ser", ".emi"),
    ),
    Refused("a volume of medical imaging", _FIJI, (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".vtk")),
    Refused("an Amira file", f"{_FIJI}, or export it from Amira", (".am",)),
    Refused(
        "voxels without a header", "import them in Fiji (File > Import > Raw) and save them as TIFF", (".raw", ".vol")
    ),
    Refused(
        "an archive",
        "unpack it, and give what is in it",
        (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar"),
    ),
    Refused("compressed in a way that is not read", "unpack it, and give what comes out", (".bz2", ".xz", ".zst")),
)


def refuse_known(source: Path) -> None:
    """Raise if a source is of a format that is known, but not read.

    Raises
    ------
    InputError
        With the name of what converts it.
    """
    found = next((row for row in REFUSED if row.matches(source)), None)
    if found is not None:
        raise InputError("this format is not read", where=source, found=found.name, fix=found.fix)

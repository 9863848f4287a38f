"""What a TIFF file says of the size of its voxels: ImageJ, two makers of microscopes, and plain resolution tags."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from segem.io.readers.reader import StatedVoxelSize
from segem.io.readers.tiff.layout import IMAGEJ

_NM = {
    "pm": 1e-3,
    "Å": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "µm": 1e3,
    "um": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "centimetre": 1e7,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
    "inch": 2.54e7,
    "in": 2.54e7,
}
_PER_TAG_UNIT = {2: 2.54e7, 3: 1e7, 4: 1e6, 5: 1e3}
"""Nanometres in what ResolutionUnit names; 4 and 5 are not in the standard, but written."""
_COARSEST_NM = 1e4
"""Resolutions like 72 or 300 an inch say how large to print; no electron microscope has pixels of 10 micrometres."""


def to_nm(value: object, unit: str) -> float | None:
    """Return a length in nanometres, or None where it is none.

    Examples
    --------
    >>> to_nm("0.004", "µm"), to_nm(4, "pixel"), to_nm("nan", "nm")
    (4.0, None, None)
    """
    # The micro sign and the Greek letter look alike; ImageJ writes the sign as an escape.
    unit = unit.strip().replace("\\u00B5", "µ").replace("μ", "µ").replace("Å", "Å")
    factor = _NM.get(unit, _NM.get(unit.lower()))
    try:
        length = math.nan if factor is None else abs(float(str(value))) * factor
    except ValueError:
        return None
    return round(length, 9) if 0 < length < math.inf else None


def state_voxel(page: Any) -> StatedVoxelSize | None:
    """Return the voxel size that the first page of a file states, other than in OME metadata.

    Parameters
    ----------
    page : tifffile.TiffPage
        The first page.

    Returns
    -------
    StatedVoxelSize or None
        None where it says nothing, or nothing that can be the size of a voxel.
    """
    for read in (_of_imagej, _of_zeiss, _of_fei, _of_resolution):
        if (found := read(page)) is not None:
            return found
    return None


def _of_imagej(page: Any) -> StatedVoxelSize | None:
    text = next((t for t in (page.description, page.description1) if t.startswith(IMAGEJ)), "")
    fields: dict[str, str] = dict(re.findall(r"^(\w+)=(.*?)\s*$", text, re.M))
    if (unit := fields.get("unit")) is None:
        return None
    y_unit, z_unit = fields.get("yunit", unit), fields.get("zunit", unit)
    x, y = (_per_pixel(page, tag) for tag in ("XResolution", "YResolution"))
    found = (
        to_nm(fields.get("spacing"), z_unit),
        None if y is None else to_nm(y, y_unit),
        None if x is None else to_nm(x, unit),
    )
    return _stated(*found, "ImageJ's description")


def _of_zeiss(page: Any) -> StatedVoxelSize | None:
    header = _mapping(page, 34118)
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = header.get(key)
        if isinstance(entry, tuple) and len(entry) == 3:
            size = to_nm(entry[1], str(entry[2]))
            return _stated(None, size, size, "the header of the Zeiss microscope")
    return None


def _of_fei(page: Any) -> StatedVoxelSize | None:
    header = {**_mapping(page, 34680), **_mapping(page, 34682)}
    for section in ("Scan", "EScan", "IScan"):
        scan = header.get(section)
        if isinstance(scan, Mapping) and "PixelWidth" in scan:
            y, x = to_nm(scan.get("PixelHeight"), "m"), to_nm(scan["PixelWidth"], "m")
            return _stated(None, y, x, "the header of the FEI microscope")
    return None


def _of_resolution(page: Any) -> StatedVoxelSize | None:
    # The standard takes inches where no unit is given, but programs that give none mean nothing by the numbers.
    factor = _PER_TAG_UNIT.get(page.tags.valueof(296, default=1))
    x, y = (_per_pixel(page, tag) for tag in ("XResolution", "YResolution"))
    if factor is None or x is None or y is None:
        return None
    return _stated(None, round(y * factor, 9), round(x * factor, 9), "its resolution tags")


def _stated(z: float | None, y: float | None, x: float | None, origin: str) -> StatedVoxelSize | None:
    if (x is not None and x >= _COARSEST_NM) or (y is not None and y >= _COARSEST_NM):
        return None
    return None if z is y is x is None else StatedVoxelSize(z, y, x, origin)


def _per_pixel(page: Any, name: str) -> float | None:
    """Return the inverse of a resolution tag: units in a pixel."""
    value = page.tags.valueof(name)
    if not isinstance(value, tuple) or len(value) != 2 or not value[0] or not value[1]:
        return None
    return float(value[1] / value[0])


def _mapping(page: Any, code: int) -> Mapping[str, Any]:
    value = page.tags.valueof(code)
    return value if isinstance(value, Mapping) else {}

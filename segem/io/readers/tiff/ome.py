"""OME metadata: what the axes of an OME-TIFF are, and which page of which file holds which plane."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from segem.errors import InputError
from segem.io.readers.reader import StatedVoxelSize
from segem.io.readers.stack import damaged
from segem.io.readers.tiff.damage import unreadable
from segem.io.readers.tiff.layout import Layout, promise_broken
from segem.io.readers.tiff.pages import TiffPages, read_description
from segem.io.readers.tiff.voxel import to_nm

MAX_METADATA_BYTES = 64 * 2**20
_MAX_PLANES = 2**22
_ORDERS = {"XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"}
_WHOLE = "put all files of the set into one folder, and give one of them or the folder"


class _Planes(NamedTuple):
    """One TiffData element: planes that follow each other, and where they lie."""

    first: int
    page: int
    length: int | None
    uuid: str | None
    name: str | None


@dataclass(frozen=True)
class OmeImage:
    """What OME metadata say of an image.

    Parameters
    ----------
    uuid : str, optional
        Of the file in which the metadata stand.
    axes : str
        A letter of ``tcz?`` for each axis outside of the pages, the slowest first.
    shape : tuple of int
        Extent of each.
    size : (int, int)
        Rows and columns.
    planes : tuple of _Planes
        Where they lie.
    voxel : StatedVoxelSize, optional
        The voxel size.
    master : Path, optional
        The file beside it that holds the metadata, where it does not hold them itself.
    """

    uuid: str | None
    axes: str
    shape: tuple[int, ...]
    size: tuple[int, int]
    planes: tuple[_Planes, ...]
    voxel: StatedVoxelSize | None
    master: Path | None = None

    @property
    def names(self) -> frozenset[str]:
        """Names of the files that the metadata tell of."""
        return frozenset(planes.name for planes in self.planes if planes.name)


def is_ome(text: str) -> bool:
    """Return whether a description holds OME metadata.

    Examples
    --------
    >>> is_ome('<?xml version="1.0"?><OME xmlns="x">')
    True
    """
    return re.search(r"<(?:\w+:)?OME\b", text[:10_000]) is not None


def read_ome(text: str, path: Path) -> OmeImage:
    """Read OME metadata, from the file beside it where the text only names one.

    Parameters
    ----------
    text : str
        OME-XML.
    path : Path
        The file in which it stands.

    Raises
    ------
    InputError
        When it is damaged, or tells of several images or of files elsewhere.
    """
    root = _parse(text, path)
    uuid, master = root.get("UUID"), None
    if (elsewhere := next((e for e in root if _tag(e) == "BinaryOnly"), None)) is not None:
        master = find_companion(path, elsewhere.get("MetadataFile", ""))
        root = _parse(_metadata_of(master), master)
    images = [image for image in root if _tag(image) == "Image"]
    found = [pixels for image in images for pixels in image if _tag(pixels) == "Pixels"]
    if len(found) != 1:
        raise InputError(
            f"{len(found)} images in one set of OME metadata",
            where=path,
            expected="one stack",
            found=", ".join(str(image.get("Name") or image.get("ID")) for image in images[:5]) or "none",
            fix="export one of them to a file of its own",
        )
    pixels = found[0]
    order = pixels.get("DimensionOrder", "XYZCT").upper()
    if order not in _ORDERS:
        raise damaged(path, f"DimensionOrder {order!r} in its OME metadata")
    samples = {_count(channel, "SamplesPerPixel", 1, path) for channel in pixels if _tag(channel) == "Channel"} or {1}
    if len(samples) > 1:
        raise unreadable(path, f"OME channels of {' and '.join(map(str, sorted(samples)))} samples in one image")
    axes = order[:1:-1].lower()
    sizes = {axis: _count(pixels, f"Size{axis.upper()}", None, path) for axis in axes + "yx"}
    if sizes["c"] % (inside := samples.pop()):
        raise damaged(path, f"{sizes['c']} channels of {inside} samples each in its OME metadata")
    sizes["c"] //= inside
    shape = tuple(sizes[axis] for axis in axes)
    if (total := int(np.prod(shape, dtype=object))) > _MAX_PLANES:
        raise damaged(path, f"{total} planes in its OME metadata")
    # Along such an axis lie several things at once, as angles at each time; which, no letter says.
    mixed = {_tag(e)[-1].lower() for e in root.iter() if re.fullmatch(r"ModuloAlong[ZCT]", _tag(e))}
    letters = "".join("?" if axis in mixed else axis for axis in axes)
    planes = tuple(_planes(data, axes, shape, path) for data in pixels if _tag(data) == "TiffData")
    planes = planes or (_Planes(0, 0, None, None, None),)
    return OmeImage(uuid, letters, shape, (sizes["y"], sizes["x"]), planes, _voxel(pixels), master)


def lay_out_ome(image: OmeImage, file: TiffPages, open_file: Callable[[Path], TiffPages]) -> tuple[Layout, list[Path]]:
    """Find the page of every plane, in the file itself and those beside it.

    Parameters
    ----------
    image : OmeImage
        The metadata of the file.
    file : TiffPages
        The file.
    open_file : callable
        Opens a file beside it.

    Returns
    -------
    Layout
        Files are numbered as in the list.
    list of Path
        The file itself and those beside it.

    Raises
    ------
    InputError
        When a file or a plane is missing, or lies outside of the folder.
    """
    paths = find_files(image, file.path)
    files = {name: number for number, name in enumerate(dict.fromkeys(paths.values()))}
    pages = {path: file if path == file.path else open_file(path) for path in files}
    total = int(np.prod(image.shape, dtype=object))
    planes = np.full((total, 3), -1, np.int64)
    for some in image.planes:
        path = paths[some.name]
        there = len(pages[path].walked.kinds)
        count = there - some.page if some.length is None else some.length
        if count < 0 or some.page + count > there or some.first + count > total:
            told = (
                f"pages {some.page + 1} to {some.page + count} of {there}, for plane {some.first + 1} and on of {total}"
            )
            raise promise_broken(file, total) if len(files) == 1 else damaged(path, f"OME metadata that tell of {told}")
        target = planes[some.first : some.first + count]
        wanted = np.zeros_like(target)
        wanted[:, 0], wanted[:, 1] = files[path], some.page + np.arange(count)
        if np.any((target[:, 0] >= 0) & np.any(target != wanted, axis=1)):
            raise damaged(file.path, "OME metadata that give one plane two places")
        target[:] = wanted
    if absent := int(np.count_nonzero(planes[:, 0] < 0)):
        if len(files) == 1:
            raise promise_broken(file, total)
        raise damaged(file.path, f"OME metadata that tell of {total} planes, but not where {absent} of them lie")
    told = "its OME metadata" if len(files) == 1 else f"the OME metadata of {len(files)} files"
    return Layout(image.axes, planes.reshape(*image.shape, 3), told), list(files)


def find_companion(path: Path, name: str) -> Path:
    """Return the file of a name beside another one.

    Raises
    ------
    InputError
        When it is missing, or lies outside of the folder.
    """
    if (found := _beside(path, name)) is None:
        raise _absent(path, [name], 1)
    return found


def _beside(path: Path, name: str) -> Path | None:
    if name in ("", ".", "..") or Path(name).name != name or set(name) & set("\\\0"):
        raise _outside(path, name)
    beside = path.parent / name
    try:
        real = beside.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    # A link may lead anywhere, so what counts is where the file is in the end.
    if real.parent != path.parent.resolve():
        raise _outside(path, name)
    return beside


def find_files(image: OmeImage, path: Path) -> dict[str | None, Path]:
    """Return the path of each file by the name that the metadata give it, of the file itself by None.

    Raises
    ------
    InputError
        When files are missing, or lie outside of the folder.
    """
    found: dict[str | None, Path] = {None: path}
    names = sorted(image.names)
    if len(names) == 1 and _is_renamed(image, path, names[0]):
        return found | {names[0]: path}
    others = {some.uuid for some in image.planes if some.uuid and not some.name and image.uuid}
    if nameless := sorted(others - {image.uuid}):
        raise _absent(path, nameless, len(names) + len(nameless))
    beside = {name: path if name == path.name else _beside(path, name) for name in names}
    missing = [name for name, there in beside.items() if there is None]
    if missing:
        raise _absent(path, missing, len(names))
    return found | {name: there for name, there in beside.items() if there is not None}


def _is_renamed(image: OmeImage, path: Path, name: str) -> bool:
    """Return whether the only name in the metadata is one that the file itself once had."""
    if Path(name).name != name:
        return False
    if image.uuid is not None:
        return {planes.uuid for planes in image.planes if planes.name} == {image.uuid}
    return all(planes.name for planes in image.planes) and not (path.parent / name).exists()


def _absent(path: Path, names: list[str], total: int) -> InputError:
    return InputError(
        f"{len(names)} of {total} files that belong to it are missing",
        where=path,
        expected=f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''} beside it",
        fix=_WHOLE,
    )


def _outside(path: Path, name: str) -> InputError:
    return InputError(
        "its OME metadata name a file outside of its folder", where=path, found=repr(name[:100]), fix=_WHOLE
    )


def _parse(text: str, path: Path) -> ElementTree.Element:
    if len(text) > MAX_METADATA_BYTES:
        raise unreadable(path, f"OME metadata of {len(text) // 2**20} MiB")
    # OME-XML declares no entities; a few of them can unpack to any size.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise damaged(path, "OME metadata with declarations of their own")
    try:
        return ElementTree.fromstring(text.strip("\0 \r\n\t"))  # noqa: S314 - without entities nothing unpacks
    except ElementTree.ParseError as error:
        raise damaged(path, f"OME metadata: {error}") from error


def _metadata_of(master: Path) -> str:
    """Return the OME-XML of a file: of its own, or in a TIFF."""
    with master.open("rb") as file:
        is_tiff = file.read(2) in (b"II", b"MM")
        file.seek(0)
        text = "" if is_tiff else file.read(MAX_METADATA_BYTES + 1).decode(errors="replace")
    if is_tiff:
        text = read_description(master)
    if not is_ome(text) or "BinaryOnly" in text[:10_000]:
        raise damaged(master, "no OME metadata, where those of another file should be")
    return text


def _planes(data: ElementTree.Element, axes: str, shape: tuple[int, ...], path: Path) -> _Planes:
    firsts = [_count(data, f"First{axis.upper()}", 0, path) for axis in axes]
    if any(first >= n for first, n in zip(firsts, shape, strict=True)):
        raise damaged(path, f"OME metadata with a plane at {dict(zip(axes, firsts, strict=True))}, of {shape}")
    count = data.get("PlaneCount", data.get("NumPlanes", "1" if "IFD" in data.attrib else None))
    named = next((e for e in data if _tag(e) == "UUID"), None)
    return _Planes(
        int(np.ravel_multi_index(firsts, shape)),
        _count(data, "IFD", 0, path),
        None if count is None else _whole(count, "PlaneCount", path),
        None if named is None else (named.text or "").strip(),
        None if named is None else named.get("FileName") or None,
    )


def _count(element: ElementTree.Element, name: str, default: int | None, path: Path) -> int:
    value = element.get(name)
    if value is None and default is not None:
        return default
    number = _whole(value or "", name, path)
    if number < 1 and name.startswith(("Size", "Samples")):
        raise damaged(path, f"{name} {number} in its OME metadata")
    return number


def _whole(value: str, name: str, path: Path) -> int:
    if not re.fullmatch(r"\d{1,12}", value.strip()):
        raise damaged(path, f"{name} {value[:20]!r} in its OME metadata")
    return int(value)


def _voxel(pixels: ElementTree.Element) -> StatedVoxelSize | None:
    # Micrometres are what the schema says where no unit is given.
    z, y, x = (to_nm(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX")
    return None if z is y is x is None else StatedVoxelSize(z, y, x, "its OME metadata")


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]

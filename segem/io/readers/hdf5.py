"""Datasets inside HDF5 files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.chunked import check_chunk, count_chunks, guess_section, refuse_choice, settle_unwritten
from segem.io.readers.hdf5_attributes import Layout, is_full_resolution, read_layout, read_matlab_class, read_place
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import check_declared, check_file, chunk_indices, no_damage

# Chunks of an HDF5 dataset mostly span several sections; with a cache, each is unpacked once instead of once a section.
_CHUNK_CACHE_BYTES = 128 * 2**20
_CONVENTIONAL = ("raw", "main", "data", "exported_data", "image", "volumes/raw", "volume/raw")
_FILTERS = {
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32026: "Blosc2",
}


class Hdf5Reader(Reader):
    """A dataset of two axes or more in an HDF5 file.

    Parameters
    ----------
    path : Path
        The file.
    chosen : Selection
        Names the dataset, which is needed when the file holds several stacks, and says what is done about chunks that
        were never written.

    Raises
    ------
    InputError
        When the file is damaged, the dataset is missing or not a stack, its voxels lie in another file or are packed by
        a filter that is not installed, or not all of them were written.
    """

    def __init__(self, path: Path, chosen: Selection) -> None:
        size = check_file(path)
        _refuse_older_matlab(path)
        with no_damage(path):
            self._file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
        try:
            with no_damage(path):
                self._dataset = _choose(self._file, path, chosen.dataset)
                self._name = f"{path}:{self._dataset.name}"
                self._layout = read_layout(self._dataset)
                found = _describe(self._name, self._dataset, self._layout, size, chosen)
            super().__init__(path, found)
        except BaseException:
            self._file.close()
            raise

    def label_of(self, z: int) -> str:
        """Return the dataset and the index of a section."""
        return f"{self._name}[{z}]"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the dataset."""
        with no_damage(self.label_of(part[0].start)):
            stored = np.asarray(self._dataset[part])
        return self._layout.to_voxels(stored)


def _describe(name: str, dataset: Any, layout: Layout, size: int, chosen: Selection) -> Described:
    shape, dtype = dataset.shape, np.dtype(dataset.dtype)
    if not math.prod(shape):
        raise InputError("a section without voxels", where=name, found=f"shape {shape}", fix="name another dataset")
    check_declared(name, guess_section(layout.axes, shape), dtype, size)
    check_chunk(name, dataset.chunks, dtype, "its header")
    _check_filters(name, dataset)
    voxel, offset_nm = read_place(dataset, chosen.axes or layout.axes)
    return Described(
        shape,
        layout.dtype,
        layout.axes,
        layout.axes_from,
        axes_named=layout.named,
        axis_names=layout.names,
        chunk=dataset.chunks,
        voxel=voxel,
        offset_nm=offset_nm,
        warnings=_settle(name, dataset, chosen),
    )


def _choose(file: Any, path: Path, dataset: str | None) -> Any:
    stacks: dict[str, Any] = {}
    # visititems follows neither soft nor external links.
    file.visititems(lambda name, item: stacks.update({name: item}) if _is_stack(name, item) else None)
    if dataset is None:
        name = _pick(stacks)
        if name is None:
            raise refuse_choice(path, "dataset", [_word(name, item) for name, item in stacks.items()])
    else:
        name = dataset.strip("/")
    if name not in stacks:
        raise InputError(
            f"no stack named {dataset} in the file",
            where=path,
            found=f"stacks: {', '.join(list(stacks)[:10]) or 'none'}",
            fix="correct --dataset or --labels-dataset, or dataset in the manifest",
        )
    chosen = stacks[name]
    if chosen.is_virtual or chosen.external:
        raise InputError(
            "the voxels of the dataset lie in other files",
            where=f"{path}:{name}",
            fix="copy the dataset into one file (h5repack)",
        )
    return chosen


def _pick(stacks: dict[str, Any]) -> str | None:
    """Return the dataset that must be meant: the only stack, or the only one of sections under a name for the image."""
    deep = [name for name, item in stacks.items() if sum(n > 1 for n in item.shape) > 2]
    full = [name for name in deep if is_full_resolution(name)]
    if len(stacks) == 1:
        return next(iter(stacks))
    if len(full) == 1 and all(name == full[0] or _is_pyramid_of(name, full[0]) for name in deep):
        return full[0]
    return deep[0] if len(deep) == 1 and deep[0].lower() in _CONVENTIONAL else None


def _is_pyramid_of(name: str, full: str) -> bool:
    return name.rpartition("/")[0].rpartition("/")[0] == full.rpartition("/")[0].rpartition("/")[0]


def _is_stack(name: str, item: Any) -> bool:
    if not isinstance(item, h5py.Dataset) or item.shape is None or item.ndim < 2 or item.dtype.kind not in "buif":
        return False
    # What MATLAB keeps of cells and structures; text and the shapes of empty arrays, which it stores as numbers.
    if "MATLAB_empty" in item.attrs:
        return False
    return not name.startswith("#") and read_matlab_class(item) not in ("char", "cell", "struct")


def _word(name: str, item: Any) -> str:
    return f"{name} {item.shape} {item.dtype.name}"


def _refuse_older_matlab(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(10) == b"MATLAB 5.0":
            raise InputError(
                "a MATLAB file of before version 7.3, which is no HDF5",
                where=path,
                fix="save it again in MATLAB: save('FILE', 'NAME', '-v7.3')",
            )


def _check_filters(name: str, dataset: Any) -> None:
    """Refuse voxels that this HDF5 library cannot unpack, by the name of what is missing."""
    created = dataset.id.get_create_plist()
    for number in range(created.get_nfilters()):
        code, _, _, told = created.get_filter(number)
        decodes = h5py.h5z.filter_avail(code) and (
            h5py.h5z.get_filter_info(code) & h5py.h5z.FILTER_CONFIG_DECODE_ENABLED
        )
        if not decodes:
            said = told.decode(errors="replace").strip() or _FILTERS.get(code, "unknown")
            raise InputError(
                "its voxels are packed by a filter that is not installed here",
                where=name,
                found=f"{said} (filter {code} of HDF5)",
                fix="repack the file where it is installed: h5repack -f GZIP=4 IN OUT",
            )


def _settle(name: str, dataset: Any, chosen: Selection) -> tuple[str, ...]:
    if dataset.chunks is None:
        total, missing = 1, int(not dataset.id.get_storage_size())
        first = (0,) * dataset.ndim
    else:
        counts = count_chunks(dataset.shape, dataset.chunks)
        total = math.prod(counts)
        missing, first = total - dataset.id.get_num_chunks(), None
        if missing:
            corners = (
                tuple(i * edge for i, edge in zip(at, dataset.chunks, strict=True)) for at in chunk_indices(counts)
            )
            first = next(at for at in corners if dataset.id.get_chunk_info_by_coord(at).byte_offset is None)
    if not missing:
        return ()
    # HDF5 dies of a damaged fill value, so it is only read where it is needed.
    fill = dataset.fillvalue if chosen.unwritten == "fill" else None
    return settle_unwritten(name, missing=missing, total=total, first=f"at {first}", fill=fill, chosen=chosen)

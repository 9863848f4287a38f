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
from segem.geometry import ceil_div
from segem.io.readers.axes import UNKNOWN_AXIS
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import NAME_IT, check_declared, check_file, chunk_indices, damaged, incomplete

# Chunks of an HDF5 dataset mostly span several sections; with a cache, each is unpacked once instead of once a section.
_CHUNK_CACHE_BYTES = 128 * 2**20


class Hdf5Reader(Reader):
    """A dataset of two axes or more in an HDF5 file.

    Parameters
    ----------
    path : Path
        The file.
    chosen : Selection
        Names the dataset, which is needed when the file holds several stacks.

    Raises
    ------
    InputError
        When the file is damaged, the dataset is missing or not a stack, its voxels lie in another file, or not all of
        them were written.
    """

    def __init__(self, path: Path, chosen: Selection) -> None:
        size = check_file(path)
        try:
            self._file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
        except OSError as error:
            raise damaged(path, None, cause=error) from error
        try:
            self._dataset = self._choose(path, chosen.dataset)
            self._name = f"{path}:{self._dataset.name}"
            shape, dtype = self._dataset.shape, np.dtype(self._dataset.dtype)
            # Without the first axis, along which a stack is mostly read.
            check_declared(self._name, shape[1:] if len(shape) > 2 and shape[0] else shape, dtype, size)
            _check_whole(self._name, self._dataset)
            axes, axes_from = _axes_of(self._dataset)
            super().__init__(path, Described(shape, dtype, axes, axes_from, chunk=self._dataset.chunks))
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
        try:
            return np.asarray(self._dataset[part])
        except (OSError, RuntimeError, ValueError) as error:
            raise damaged(self.label_of(part[0].start), None, cause=error) from error

    def _choose(self, path: Path, dataset: str | None) -> Any:
        candidates: list[str] = []
        # visititems follows neither soft nor external links.
        self._file.visititems(lambda name, item: candidates.append(name) if _is_stack(item) else None)
        known = ", ".join(candidates[:10]) or "none"
        if dataset is None:
            if len(candidates) != 1:
                raise InputError(
                    "which dataset is meant?",
                    where=path,
                    expected="a file with one stack, or the dataset's name",
                    found=f"stacks: {known}",
                    fix=NAME_IT,
                )
            dataset = candidates[0]
        name = dataset.strip("/")
        if name not in candidates:
            raise InputError(
                f"no stack named {dataset} in the file",
                where=path,
                found=f"stacks: {known}",
                fix="correct --dataset or --labels-dataset, or dataset in the manifest",
            )
        chosen = self._file[name]
        if chosen.is_virtual or chosen.external:
            raise InputError(
                "the voxels of the dataset lie in other files",
                where=f"{path}:{name}",
                fix="copy the dataset into one file (h5repack)",
            )
        return chosen


def _check_whole(name: str, dataset: Any) -> None:
    if dataset.chunks is None:
        if not dataset.id.get_storage_size():
            raise incomplete(name, 1, 1, f"at {(0,) * dataset.ndim}")
        return
    counts = [ceil_div(n, edge) for n, edge in zip(dataset.shape, dataset.chunks, strict=True)]
    missing = math.prod(counts) - dataset.id.get_num_chunks()
    if missing:
        corners = (tuple(i * edge for i, edge in zip(at, dataset.chunks, strict=True)) for at in chunk_indices(counts))
        first = next(at for at in corners if dataset.id.get_chunk_info_by_coord(at).byte_offset is None)
        raise incomplete(name, missing, math.prod(counts), f"at {first}")


def _axes_of(dataset: Any) -> tuple[str, str]:
    """Return a letter for each axis, and who says so."""
    if "MATLAB_class" in dataset.attrs and dataset.ndim <= 3:
        # MATLAB's first axis is the last of the file; an image there is (row, column, section).
        return "yxz"[: dataset.ndim][::-1], "the order of MATLAB, which wrote the file"
    return UNKNOWN_AXIS * dataset.ndim, "convention"


def _is_stack(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "buif"

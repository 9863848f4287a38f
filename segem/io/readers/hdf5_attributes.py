"""What the programs that write HDF5 say of their arrays: axes, types, voxel size and place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.io.readers.axes import UNKNOWN_AXIS
from segem.io.readers.chunked import (
    find_foreign_names,
    name_axes,
    read_numbers,
    read_unit,
    state_offset,
    state_voxel_size,
)
from segem.io.readers.reader import StatedVoxelSize

_BIG_DATA_VIEWER = re.compile(r"t\d{5,}/s\d{2,}/(\d+)/cells")


@dataclass(frozen=True)
class Layout:
    """How a dataset is to be understood.

    Parameters
    ----------
    axes : str
        A letter for each axis.
    axes_from : str
        Who says so.
    dtype : dtype
        Type of its voxels, which need not be that of the file.
    named : bool
        False where nobody says so, but the order in which programs of this kind write.
    names : tuple of str
        The axes as the file calls them, where a name is not understood.
    """

    axes: str
    axes_from: str
    dtype: np.dtype[Any]
    named: bool = True
    names: tuple[str, ...] = ()

    def to_voxels(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return what was read, in the type of the voxels.

        Examples
        --------
        >>> Layout("yx", "MATLAB", np.dtype(bool)).to_voxels(np.array([[0, 1]], np.uint8))
        array([[False,  True]])
        """
        if stored.dtype == self.dtype:
            return stored
        return stored != 0 if self.dtype == bool else stored.view(self.dtype)


def read_layout(dataset: Any) -> Layout:
    """Read axes and type of a dataset by the conventions of ilastik, MATLAB, BigDataViewer and HDF5 itself."""
    dtype = np.dtype(dataset.dtype)
    if (tags := _read_text(dataset, "axistags")) is not None:
        keys = [axis["key"] for axis in json.loads(tags)["axes"]]
        if len(keys) == dataset.ndim and UNKNOWN_AXIS not in (axes := name_axes(keys)):
            return Layout(axes, "the axistags of ilastik", dtype)
    kind = read_matlab_class(dataset)
    if kind is not None:
        if kind == "logical":
            dtype = np.dtype(bool)
        # MATLAB's first axis is the last of the file; an image there is (row, column, section), and what comes after
        # (row, column) of more axes is not known.
        axes = "zxy" if dataset.ndim == 3 else UNKNOWN_AXIS * (dataset.ndim - 2) + "xy"
        return Layout(axes, "the order of MATLAB, which wrote the file", dtype, named=False)
    if dataset.ndim == 3 and _BIG_DATA_VIEWER.fullmatch(dataset.name.strip("/")):
        # It calls its 16 bits signed, and means unsigned ones.
        unsigned = np.dtype(f"{dtype.byteorder}u2") if dtype.kind == "i" and dtype.itemsize == 2 else dtype
        return Layout("zyx", "the order of BigDataViewer", unsigned)
    labels = [dimension.label or None for dimension in dataset.dims]
    axes = name_axes(labels)
    named = axes != UNKNOWN_AXIS * dataset.ndim
    told = "the labels of its dimensions" if named else "convention"
    return Layout(axes, told, dtype, named=named, names=find_foreign_names(labels))


def read_matlab_class(dataset: Any) -> str | None:
    """Return what MATLAB calls the type of a dataset; None where it did not write it."""
    return _read_text(dataset, "MATLAB_class")


def is_full_resolution(name: str) -> bool:
    """Return whether a dataset is the finest array of a set-up of BigDataViewer.

    Examples
    --------
    >>> is_full_resolution("t00000/s00/0/cells"), is_full_resolution("t00000/s00/1/cells")
    (True, False)
    """
    found = _BIG_DATA_VIEWER.fullmatch(name)
    return found is not None and found[1] == "0"


def read_place(dataset: Any, axes: str) -> tuple[StatedVoxelSize | None, tuple[float, float, float] | None]:
    """Read voxel size and offset of a dataset, where its attributes state them.

    Parameters
    ----------
    dataset : h5py.Dataset
        Its attributes are ``resolution`` and ``offset``, in nanometres unless ``units`` says otherwise, as in CREMI, or
        ``element_size_um``, as Fiji and ilastik have it; each with a number for z, y and x, in the order of the axes.
    axes : str
        A letter for each axis; (z, y, x) by convention where they are unknown.
    """
    spatial = "zyx" if UNKNOWN_AXIS in axes else "".join(letter for letter in axes if letter in "zyx")
    voxel = offset_nm = None
    for key, default in (("element_size_um", "um"), ("resolution", "nm")):
        if (sizes := _read_lengths(dataset, key, default, len(spatial))) is not None:
            voxel = state_voxel_size(spatial, sizes, f"its attribute {key}")
    if (offsets := _read_lengths(dataset, "offset", "nm", len(spatial))) is not None:
        offset_nm = state_offset(spatial, offsets)
    return voxel, offset_nm


def _read_lengths(dataset: Any, key: str, unit: str, count: int) -> list[float | None] | None:
    """Return an attribute in nanometres along each of so many axes; None where it is absent or something else."""
    numbers = read_numbers(dataset.attrs[key], count) if key in dataset.attrs else None
    if numbers is None:
        return None
    said = dataset.attrs["units"] if "units" in dataset.attrs and key != "element_size_um" else unit
    units = [said] * count if isinstance(said, (str, bytes)) else list(np.ravel(said))
    if len(units) != count:
        return None
    factors = [read_unit(_decode(one)) for one in units]
    return [None if factor is None else number * factor for number, factor in zip(numbers, factors, strict=True)]


def _read_text(dataset: Any, key: str) -> str | None:
    return _decode(dataset.attrs[key]) if key in dataset.attrs else None


def _decode(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

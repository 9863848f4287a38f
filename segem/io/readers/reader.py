"""The interface of all readers: an array with what its source says of it, read box by box."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Url


@dataclass(frozen=True)
class StatedVoxelSize:
    """What a source says of the size of its voxels; nobody has checked it yet.

    Parameters
    ----------
    z_nm, y_nm, x_nm : float, optional
        In nanometres; None where the source does not say.
    origin : str
        Where in the source it stands, in words, as "ImageJ's description".
    """

    z_nm: float | None
    y_nm: float | None
    x_nm: float | None
    origin: str


@dataclass(frozen=True)
class Described:
    """What a source says of the array it holds.

    Parameters
    ----------
    shape : tuple of int
        Extent of each axis, of any number of axes.
    dtype : dtype
        Type of the voxels as they are read, in any byte order.
    axes : str
        A letter of ``tczyx`` for each axis, or ``?`` where the source does not say which one it is.
    axes_from : str
        Who says so, in words, as "the names in its OME metadata".
    chunk : tuple of int, optional
        What is decoded at a time, along each axis; whole sections where absent.
    voxel : StatedVoxelSize, optional
        The voxel size, if the source states one.
    numbers : tuple of float, optional
        The number of each section along z, where sections have numbers of their own; nearly always whole.
    filled : tuple of int
        Sections along z that are missing in the source, with something that stands in for them.
    masked : tuple of int
        Those of them of which nothing is known: no score counts them, and their labels are unknown.
    offset_nm : tuple of float, optional
        Where the first voxel lies, along (z, y, x), for labels that cover a part of an image.
    digest : str, optional
        The sha256 of a file that was downloaded, or of the metadata of an array of zarr, N5 or Neuroglancer.
    warnings : tuple of str
        What the user should know about the source.
    axes_named : bool
        False where nobody names the axes, and they are those of programs that write such files.
    axis_names : tuple of str
        The axes as the source calls them, where a name is not understood.
    unitless : str
        What it states of the voxel size without a unit that is known, in words.
    palette : bytes
        Red, green and blue of each entry, where the values are indices of a palette; empty where they are intensities.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    axes_from: str
    chunk: tuple[int, ...] | None = None
    voxel: StatedVoxelSize | None = None
    numbers: tuple[float, ...] | None = None
    filled: tuple[int, ...] = ()
    masked: tuple[int, ...] = ()
    offset_nm: tuple[float, float, float] | None = None
    digest: str | None = None
    warnings: tuple[str, ...] = ()
    axes_named: bool = True
    axis_names: tuple[str, ...] = ()
    unitless: str = ""
    palette: bytes = b""


class Reader(ABC):
    """An array of one source, opened for reading; one file of code for each format.

    Parameters
    ----------
    source : Path or Url
        Where the array lies.
    found : Described
        What the source says of it.
    """

    def __init__(self, source: Path | Url, found: Described) -> None:
        self.source = source
        self.found = found

    @abstractmethod
    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array.

        Parameters
        ----------
        part : tuple of slice
            For each axis of `found.shape`, within it, with a step of 1.

        Returns
        -------
        array
            Of that shape, with every axis kept.

        Raises
        ------
        InputError
            When it is damaged or cannot be read.
        """

    @abstractmethod
    def label_of(self, z: int) -> str:
        """Return the name of a section, for messages."""

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Close open files."""

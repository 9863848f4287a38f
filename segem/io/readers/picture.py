"""What PNG and JPEG have in common: a file holds one section, which is decoded whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import check_alike, check_declared, check_file, damaged, not_grey


class PictureReader(Reader):
    """The one section of a file; only its header is read on opening, and nothing stays open.

    Parameters
    ----------
    path : Path
        The file.
    chosen : Selection
        What the section is for.

    Raises
    ------
    InputError
        When the file is damaged, or cannot be a section of grey.
    """

    source: Path

    def __init__(self, path: Path, chosen: Selection) -> None:
        self.chosen = chosen
        size = check_file(path)
        with refuse_damage(path), path.open("rb") as file:
            found = self.describe(path, file)
        check_declared(path, found.shape, found.dtype, size)
        super().__init__(path, found)

    @abstractmethod
    def describe(self, path: Path, file: IO[bytes]) -> Described:
        """Return what the header says."""

    @abstractmethod
    def decode(self, data: bytes) -> NDArray[Any]:
        """Return the pixels of a file, (y, x) or (y, x, channel); any error means damage."""

    def label_of(self, z: int) -> str:  # noqa: ARG002 - there is only one
        """Return the file."""
        return str(self.source)

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the section; all of it is decoded."""
        with refuse_damage(self.source):
            data = self.source.read_bytes()
            now = self.describe(self.source, BytesIO(data))
            # Before anything is unpacked: the file may be another one by now.
            check_alike(self.source, (now.shape, now.dtype), "its header before", (self.found.shape, self.found.dtype))
            return take_grey(self.decode(data), self.source, self.chosen)[part]


def take_grey(pixels: NDArray[Any], where: object, chosen: Selection | None = None) -> NDArray[Any]:
    """Return the grey of pixels with red, green and blue, with or without alpha.

    Parameters
    ----------
    pixels : (y, x) or (y, x, channel) array
        1 channel is grey, 2 grey and alpha, 3 colour, 4 colour and alpha.
    where : object
        The file, for messages.
    chosen : Selection, optional
        What the pixels are for.

    Returns
    -------
    (y, x) array

    Raises
    ------
    InputError
        When a pixel has a colour, or is not opaque.

    Examples
    --------
    >>> take_grey(np.array([[[7, 7, 7, 255]]], np.uint8), "a.png")
    array([[7]], dtype=uint8)
    """
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[2]
    if channels in (2, 4) and np.any(pixels[..., -1] != np.iinfo(pixels.dtype).max):
        raise not_grey(where, "an alpha channel with transparent pixels", chosen)
    grey: NDArray[Any] = pixels[..., 0]
    if channels > 2 and any(np.any(pixels[..., channel] != grey) for channel in (1, 2)):
        raise not_grey(where, "colour: red, green and blue differ", chosen)
    return grey


@contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """Raise InputError for whatever the libraries raise on a damaged file."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        # Pillow raises it for damage too, then without a number.
        if error.errno is None:
            raise damaged(path, None, cause=error) from error
        raise InputError("the file cannot be read", where=path, found=error.strerror, fix="check the disk") from error
    except Exception as error:
        raise damaged(path, None, cause=error) from error

"""TIFF files for tests, and what a reader makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import open_stack

Voxels = NDArray[Any]


def sections(count: int = 8, dtype: str = "u1", side: int = 64) -> Voxels:
    """Return noise of so many sections, no side as long as another."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, np.iinfo(dtype).max, (count, side, side + 3)) // 16 * 16).astype(dtype)


def written(path: Path, data: Voxels, **how: Any) -> Path:
    """Write a TIFF by tifffile, grey unless said otherwise."""
    tifffile.imwrite(path, data, **({"photometric": "minisblack"} | how))
    return path


def read(path: Path, **chosen: Any) -> Voxels:
    """Read all sections of a source, one by one."""
    with open_stack(path, Selection(**chosen)) as stack:
        found = np.stack([stack.section(z) for z in range(stack.shape[0])])
        assert found.shape == stack.shape
        assert found.dtype == stack.dtype
    return found


def read_box(path: Path, box: Box, **chosen: Any) -> Voxels:
    """Read a box of a source."""
    with open_stack(path, Selection(**chosen)) as stack:
        return stack.read(box)


def refused(path: Path, **chosen: Any) -> str:
    """Return the one line by which a source is refused."""
    with pytest.raises(InputError) as caught:
        read(path, **chosen)
    message = str(caught.value)
    assert message.startswith(str(path)), message
    assert "Fix: " in message
    assert "\n" not in message
    return message


def attempt(path: Path, **chosen: Any) -> Voxels | None:
    """Return what is read, or None where it is refused; anything else is a failure."""
    try:
        return read(path, **chosen)
    except InputError:
        return None


def patched(path: Path, tag: str, value: object, page: int = 0) -> Path:
    """Overwrite a tag of a page."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[page].tags[tag].overwrite(value)
    return path


def renamed_tag(path: Path, code: int, to: int = 65000, page: int = 0) -> Path:
    """Give a tag of a page a number that means nothing, as if it were not there."""
    with tifffile.TiffFile(path) as tiff:
        at, order = tiff.pages[page].tags[code].offset, tiff.byteorder
    content = bytearray(path.read_bytes())
    content[at : at + 2] = to.to_bytes(2, "little" if order == "<" else "big")
    path.write_bytes(content)
    return path

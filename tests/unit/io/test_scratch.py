"""Voxels in a file without a name are those that were put there, and none is left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from segem.errors import WorkspaceError
from segem.io.scratch import ScratchBox, SectionOf

SHAPE = (3, 5, 7)


Part = tuple[slice, slice, slice]


@st.composite
def cuts(draw: st.DrawFn, length: int) -> slice:
    start, stop = sorted(draw(st.tuples(st.integers(0, length), st.integers(0, length))))
    return draw(st.sampled_from([slice(start, stop), slice(None)]))


PARTS = st.tuples(cuts(3), cuts(5), cuts(7))


@given(st.lists(PARTS, max_size=5), PARTS, st.sampled_from([np.uint8, np.uint32]))
def test_a_box_in_a_file_holds_what_an_array_would(
    tmp_path_factory: pytest.TempPathFactory, written: list[Part], read: Part, dtype: type[np.unsignedinteger]
) -> None:
    box = ScratchBox(tmp_path_factory.getbasetemp(), SHAPE, dtype)
    array: NDArray[Any] = np.zeros(SHAPE, dtype)
    for number, part in enumerate(written):
        values: NDArray[Any] = np.random.default_rng(number).integers(0, 256, array[part].shape).astype(dtype)
        box[part], array[part] = values, values
    found = box[read]
    assert found.dtype == array.dtype
    assert np.array_equal(found, array[read])
    assert np.array_equal(SectionOf(box, 1)[read[1]], array[1][read[1]])


def test_sections_are_written_by_rows(tmp_path: Path) -> None:
    box = ScratchBox(tmp_path, SHAPE, np.uint8)
    section = SectionOf(box, 2)
    assert section.shape == SHAPE[1:]
    section[1:3] = np.full((2, 7), 9)
    assert box[:, :, :].nonzero()[0].tolist() == [2] * 14
    with pytest.raises(ValueError, match="voxels of shape"):
        section[1:3] = np.full((1, 7), 9)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    files = os.listdir("/proc/self/fd")
    box = ScratchBox(tmp_path, (1, 100, 100), np.uint32)
    box[:, :, :] = np.ones((1, 100, 100))
    assert list(tmp_path.iterdir()) == []
    del box
    assert len(os.listdir("/proc/self/fd")) == len(files)


def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkspaceError, match="no such file or folder"):
        ScratchBox(tmp_path / "gone", SHAPE, np.uint8)
    box = ScratchBox(tmp_path, SHAPE, np.uint8)

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", refuse)
    with pytest.raises(WorkspaceError, match="the disk is full"):
        box[:, :, :] = np.zeros(SHAPE)


def test_a_file_that_was_cut_is_no_zeros(tmp_path: Path) -> None:
    box = ScratchBox(tmp_path, SHAPE, np.uint8)
    os.ftruncate(box._file, 50)
    with pytest.raises(WorkspaceError, match="shorter than it was made"):
        box[:, :, :]

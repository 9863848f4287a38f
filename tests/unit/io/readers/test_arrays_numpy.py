"""Files of NumPy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers import open_stack
from tests.unit.io.readers.sources import read, refused

DATA = np.random.default_rng(0).integers(0, 65536, (5, 20, 30)).astype(np.uint16)


def save(path: Path, data: np.ndarray) -> Path:
    np.save(path, data, allow_pickle=True)
    return path


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(name) for name in ("u1", "<u2", ">u2", "i4", ">f4", "?")]),
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=5, max_side=7),
    ),
    st.booleans(),
)
def test_any_type_and_order(tmp_path_factory: pytest.TempPathFactory, data: np.ndarray, by_column: bool) -> None:
    path = save(tmp_path_factory.mktemp("npy") / "a.npy", np.asfortranarray(data) if by_column else data)
    found = read(path)
    assert np.array_equal(found, data, equal_nan=data.dtype.kind == "f")
    assert found.dtype == data.dtype.newbyteorder("=")


def test_axes_by_convention_or_as_they_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", DATA.transpose(2, 1, 0)[None])
    assert np.array_equal(read(path, axes="cxyz"), DATA)
    assert np.array_equal(read(path), DATA.transpose(2, 1, 0))
    assert "only " in refused(path, dataset="a")


def test_an_archive_of_one_array_or_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", DATA)
    assert np.array_equal(read(tmp_path / "a.npz"), DATA)
    np.savez_compressed(tmp_path / "b.npz", raw=DATA, labels=np.asfortranarray(DATA % 2))
    assert "which array is meant?; expected one array, or its name, found stacks: raw, labels" in refused(
        tmp_path / "b.npz"
    )
    assert np.array_equal(read(tmp_path / "b.npz", dataset="labels"), DATA % 2)
    assert "no array named gone in the file" in refused(tmp_path / "b.npz", dataset="gone")
    with open_stack(tmp_path / "b.npz", Selection(dataset="raw")) as stack:
        assert stack.label_of(3) == f"{tmp_path}/b.npz:raw[3]"


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return Path.touch, (ran,)

    objects = np.empty((2, 3, 4), object)
    objects[:] = Trap()
    assert "not a stack" in refused(save(tmp_path / "a.npy", objects))
    np.savez(tmp_path / "b.npz", objects, allow_pickle=True)
    assert "not a stack" in refused(tmp_path / "b.npz", dataset="arr_0")
    assert not ran.exists()


def test_what_is_no_array_of_numbers(tmp_path: Path) -> None:
    fields = np.zeros((2, 3, 4), [("a", "u1"), ("b", "u2")])
    for data in (fields, np.zeros((2, 3, 4), "U3"), np.zeros((2, 3, 4), complex), np.zeros(9)):
        assert "not a stack; expected axes z, y, x of numbers" in refused(save(tmp_path / "a.npy", data))
    assert "a section without voxels" in refused(save(tmp_path / "b.npy", np.zeros((3, 0, 4))))


def test_a_file_that_holds_more_or_less_than_it_declares(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", DATA)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:200], whole + b"x", whole + whole):
        path.write_bytes(content)
        assert f"{len(content)} bytes, while its header declares (5, 20, 30) uint16, 6128 bytes" in refused(path)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_is_cut_off_while_it_is_read_ends_no_process(tmp_path: Path, order: Literal["C", "F"]) -> None:
    # Many pages: the last one of a file that was cut off can still be read where it is mapped into memory.
    path = save(tmp_path / "a.npy", np.zeros((3, 200, 300), np.uint16, order))
    with open_stack(path) as stack:
        os.truncate(path, 20_000)
        with pytest.raises(InputError, match="fewer voxels than there were when it was opened"):
            stack.section(2)


def test_an_archive_is_deleted_when_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    np.savez_compressed(tmp_path / "a.npz", DATA)
    assert np.array_equal(read(tmp_path / "a.npz"), DATA)
    assert list((tmp_path / "tmp").iterdir()) == []

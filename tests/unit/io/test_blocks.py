"""Blocks too large to be held are read and digested part by part, as if they were held."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from segem.geometry import Box
from segem.io import blocks
from segem.io.blocks import block_digest, open_box, pieces_of, read_block, stored_digest
from segem.io.shards import Array, create_sharded, write_block

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 11))
LAYERS = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 2)))


def digest_at_once(layers: list[np.ndarray]) -> str:
    """Return the digest of layers that are held, as ledgers have kept it from the first on."""
    digest = hashlib.sha256()
    for layer in layers:
        bits = layer.max() <= 1
        digest.update(f"{layer.shape} {'bits' if bits else 'bytes'}".encode())
        digest.update((np.packbits(layer) if bits else np.ascontiguousarray(layer)).data)
    return digest.hexdigest()


@given(st.lists(st.one_of(LAYERS, LAYERS.map(lambda layer: np.minimum(layer, 1))), min_size=1, max_size=3))
def test_a_digest_does_not_depend_on_the_pieces_it_is_taken_by(layers: list[np.ndarray]) -> None:
    expected = digest_at_once(layers)
    assert block_digest(layers) == expected
    for voxels in (1, 3, 10, 25, 70):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "_PIECE_VOXELS", voxels)
            assert block_digest(layers) == expected
            for layer in layers:
                pieces = list(pieces_of(layer))
                assert b"".join(piece.tobytes() for piece in pieces) == layer.tobytes()
                assert all(piece.size <= max(voxels, layer.shape[2]) for piece in pieces)


def test_a_box_is_read_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = zarr.create_group(str(tmp_path), zarr_format=3)
    create_sharded(group, "0", (2, 600, 300), np.uint32)
    array = zarr.open_array(str(tmp_path / "0"), mode="r+", zarr_format=3)
    data = np.random.default_rng(0).integers(0, 2**32, array.shape, np.uint32)
    write_block(array, Box.of_shape(data.shape), data)
    box = Box((0, 30, 0), (2, 590, 300))
    opened = open_box(array, box, "")
    assert (opened.shape, opened.dtype) == (box.shape, data.dtype)
    whole = read_block(array, box, "")
    for part in (np.s_[:, :, :], np.s_[1:2, 10:, 5:9], np.s_[:1, :500, -7:]):
        assert np.array_equal(opened[part], whole[part])
    rows: list[int] = []

    def watched(array: Array, part: Box, fix: str) -> NDArray[Any]:
        rows.append(part.shape[1])
        return read_block(array, part, fix)

    monkeypatch.setattr(blocks, "_PIECE_VOXELS", 300 * 300)
    monkeypatch.setattr(blocks, "read_block", watched)
    assert stored_digest([array], Box.of_shape(data.shape)) == digest_at_once([data])
    # Rows of whole chunks at a time; the first ones once more, as they might have been those of a mask.
    assert rows == [256, *[256, 256, 88] * 2]

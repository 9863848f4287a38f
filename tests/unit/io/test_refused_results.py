"""Results that the disk does not let us read: they may be whole, so nothing takes their place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segem.errors import WorkspaceError
from segem.geometry import Box, VoxelSize
from segem.io.run import result_volume
from segem.io.volume import create_volume, write_block
from segem.io.workspace import Workspace

SHAPE = (2, 300, 300)
NOBODY = 65534


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """A workspace of a user for whom rights count, as they do not for root; with a volume and a result."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if before == 0:
            os.seteuid(NOBODY)
        try:
            made = Workspace(Path(folder) / "w")
            made.prepare()
            create_volume(
                made.volume("a"), shape=SHAPE, dtype="u1", voxel_size=VoxelSize(50, 4, 4), labels={}, attributes={}
            )
            write_block(result_volume(made, "r", "a").raw, Box.of_shape(SHAPE), np.full(SHAPE, 7, np.uint8))
            yield made
        finally:
            os.seteuid(before)


@pytest.mark.parametrize("part", ["", "zarr.json", "0/zarr.json", "labels/zarr.json", "labels/membrane"])
def test_a_result_that_cannot_be_read_is_not_made_again(workspace: Workspace, part: str) -> None:
    refused = workspace.result("r", "a") / part
    rights = refused.stat().st_mode
    refused.chmod(0)
    try:
        with pytest.raises(WorkspaceError, match="no permission to read or write here"):
            result_volume(workspace, "r", "a")
    finally:
        refused.chmod(rights)
    assert np.asarray(result_volume(workspace, "r", "a").raw[...]).min() == 7


@pytest.mark.parametrize("part", ["zarr.json", "0/zarr.json", "labels/membrane/0/zarr.json"])
@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_result_that_is_damaged_is_made_again(workspace: Workspace, part: str, content: str | None) -> None:
    file = workspace.result("r", "a") / part
    if content is None:
        file.unlink()
    else:
        file.write_text(content, encoding="utf-8")
    assert np.asarray(result_volume(workspace, "r", "a").raw[...]).max() == 0

"""Whether a volume fits the disk, asked before it is ingested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segem.config import IngestConfig, LabelSource
from segem.errors import InputError
from segem.io.workspace import open_workspace
from segem.stages import room
from segem.stages.volumes import inspect


@pytest.mark.parametrize("people", [0, 1, 2])
def test_a_volume_that_does_not_fit_is_refused_however_many_have_labelled_it(
    people: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 128, 128), np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    np.save(tmp_path / "labels.npy", noise % 2)
    labels = [LabelSource(source=tmp_path / "labels.npy", membrane="zero")] * people + [None, None]
    config = IngestConfig(
        name="noise", source=tmp_path / "noise.npy", voxel_nm=(50, 4, 4), labels=labels[0], second_labels=labels[1]
    )
    for module in (room, inspect):
        monkeypatch.setattr(module, "free_bytes", lambda _: noise.size)
    with pytest.raises(InputError, match="the volume does not fit the disk"):
        room.require_room(config, open_workspace(tmp_path / "workspace"))

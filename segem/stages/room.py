"""Whether a volume fits the disk, found before it is ingested: a full disk would stop every other volume too."""

from __future__ import annotations

import math

from segem.amounts import size_text
from segem.config import IngestConfig
from segem.config.inspection import InspectConfig
from segem.errors import InputError
from segem.io.readers import open_stack
from segem.io.storage import storage_of
from segem.io.workspace import Workspace
from segem.stages.volumes.inspect import free_bytes, inspect

BYTES_A_VOXEL = 3
"""Most that a voxel takes besides itself: a byte of probability, and masks, of which those of noise compress worst."""
_PYRAMID = 4 / 3


def require_room(config: IngestConfig, workspace: Workspace) -> None:
    """Raise where a volume and its results are larger than what is free on the disk of the workspace.

    Of a source that might not fit, some sections are read, to see how well it compresses.

    Parameters
    ----------
    config : IngestConfig
        What is to be ingested.
    workspace : Workspace
        Where it would go.

    Raises
    ------
    InputError
        When it does not fit, or the source is missing, damaged or of a type that is not supported.
    """
    # What is there is only kept, or made anew in its place; a storage has no room that could be asked for.
    if workspace.volume(config.name).exists() or storage_of(workspace) is not None:
        return
    with open_stack(config.source, config) as stack:
        size = math.prod(config.box_within(stack.shape).shape)
        most = size * (stack.dtype.itemsize + BYTES_A_VOXEL) * _PYRAMID
    if most <= free_bytes(workspace):
        return
    # Labels are left out: they compress well, and are looked at by ingest.
    values = config.model_dump(exclude={"labels", "second_labels"}, exclude_unset=True)
    estimate = inspect(InspectConfig(**values), workspace).estimate
    needed = estimate.volume_bytes + estimate.run_bytes
    if needed > estimate.free_bytes:
        raise InputError(
            "the volume does not fit the disk",
            where=config.source,
            expected=f"about {size_text(needed)} for the volume and its results",
            found=f"{size_text(estimate.free_bytes)} free in {workspace.root}",
            fix="free some space, choose another --workspace, or take a part of it (box)",
        )

"""A mask of elsewhere as a run of its own, so that it can be reviewed like one that segem has made."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from segem.config import IngestConfig, LabelSource, check_name
from segem.config.review import MaskConfig
from segem.errors import InputError
from segem.geometry import grid
from segem.io.blocks import put_block, read_block
from segem.io.run import result_volume, update_run, volume_lock
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.records.run import RunRecord, VolumeRecord
from segem.stages.volumes.ingest import ingest


def import_mask(config: MaskConfig, workspace: Workspace) -> str:
    """Make a run of a stack and its mask, and return its name; the same call again finds the same run.

    Parameters
    ----------
    config : MaskConfig
        Where both are.
    workspace : Workspace
        Where the run goes.

    Returns
    -------
    str
        ``review-NAME``, with the name of the volume.

    Raises
    ------
    SegemError
        When a source cannot be read, or the two do not fit together.
    """
    name = config.name or check_name(re.sub(r"[^A-Za-z0-9._-]+", "-", Path(config.raw.name).stem), "volume")
    labels = LabelSource(source=config.mask, membrane=config.membrane)
    if config.membrane == "borders":
        raise InputError(
            "cells are no mask", where=config.mask, found="--membrane borders", fix="draw their borders first"
        )
    ingest(IngestConfig(name=name, source=config.raw, voxel_nm=config.voxel_nm, labels=labels), workspace)
    run = f"review-{name}"
    source = Volume.open(workspace.volume(name))
    truth = source.label("truth")

    def enter(record: RunRecord) -> RunRecord:
        return record.model_copy(update={"volumes": {name: VolumeRecord()}})

    update_run(workspace, run, enter)
    with volume_lock(workspace, run, name):
        result = result_volume(workspace, run, name)
        mask = result.label("membrane")
        for _, box in grid(result.shape, result.write_block):
            put_block(mask, box, (read_block(truth, box, "ingest the mask again") == 1).astype(np.uint8))
        result.build_pyramid("membrane")
    return run

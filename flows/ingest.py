"""Ingest of one source: it becomes an OME-Zarr volume of the workspace."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.steps import step
from segem.config import IngestConfig
from segem.io.workspace import open_workspace
from segem.stages.room import require_room
from segem.stages.volumes.ingest import IngestResult, ingest


@step("ingest", "ingest {config.name}")
def ingest_step(config: IngestConfig, workspace: Path, replace: bool = False) -> IngestResult:
    """Ingest one source; a volume that is already there with the same content is kept."""
    opened = open_workspace(workspace)
    require_room(config, opened)
    return ingest(config, opened, replace=replace)


@flow(name="ingest-volume", flow_run_name="ingest {config.name}")
def ingest_volume(config: IngestConfig, workspace: Path = Path("workspace"), replace: bool = False) -> IngestResult:
    """Ingest one volume.

    Parameters
    ----------
    config : IngestConfig
        Name, source, voxel size and labels of the volume.
    workspace : Path
        Root of the workspace.
    replace : bool
        Overwrite a volume of this name that has another source, voxel size or labels.
    """
    return ingest_step(config, workspace, replace)

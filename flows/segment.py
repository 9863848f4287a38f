"""A model swept over one volume."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.steps import step
from segem.config import ExecutionConfig, SegmentConfig
from segem.io.workspace import open_workspace
from segem.stages.segmentation.segment import SegmentResult, segment

DEFAULT = SegmentConfig()
QUIET = ExecutionConfig()


@step("segment", "segment {volume}")
def segment_step(
    volume: str, run: str, config: SegmentConfig, execution: ExecutionConfig, workspace: Path, replace: bool = False
) -> SegmentResult:
    """Write the membrane probability and mask of one volume; finished blocks are skipped."""
    return segment(volume, run, config, execution, open_workspace(workspace), replace=replace)


@flow(name="segment-volume", flow_run_name="segment {volume} of {run}")
def segment_volume(
    volume: str,
    run: str,
    config: SegmentConfig = DEFAULT,
    execution: ExecutionConfig = QUIET,
    workspace: Path = Path("workspace"),
    replace: bool = False,
) -> SegmentResult:
    """Write the membrane probability and mask of one volume.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run; the same names resume where an earlier attempt ended.
    config : SegmentConfig
        Model and stitching.
    execution : ExecutionConfig
        Device, engine, workers.
    workspace : Path
        Root of the workspace.
    replace : bool
        Also where the run holds a result of this volume that was made in another way, which is then lost.
    """
    return segment_step(volume, run, config, execution, workspace, replace)

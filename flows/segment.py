"""Membrane probability and mask of one volume, by a model."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.steps import step
from segem.config import ExecutionConfig, SegmentConfig
from segem.io.workspace import open_workspace
from segem.stages.segmentation.segment import SegmentResult, segment

DEFAULT = SegmentConfig()
DEFAULT_EXECUTION = ExecutionConfig()


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
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    workspace: Path = Path("workspace"),
    replace: bool = False,
) -> SegmentResult:
    """Write the membrane probability and mask of one volume.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run; the same names resume an earlier attempt.
    config : SegmentConfig
        Model and stitching.
    execution : ExecutionConfig
        Device, engine, workers, memory.
    workspace : Path
        Root of the workspace.
    replace : bool
        Overwrite a result of this volume in the run that was made with other settings.
    """
    return segment_step(volume, run, config, execution, workspace, replace)

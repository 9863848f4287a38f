"""Membrane probability of one volume of a run, refined by a CRF; the result is a run of its own."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.steps import step
from segem.config import ExecutionConfig, RefineConfig
from segem.io.workspace import open_workspace
from segem.stages.segmentation import crf as refine
from segem.stages.segmentation.crf import RefineResult

DEFAULT_EXECUTION = ExecutionConfig()


@step("refine", "refine {volume}")
def refine_step(
    volume: str, run: str, config: RefineConfig, execution: ExecutionConfig, workspace: Path, replace: bool = False
) -> RefineResult:
    """Write the refined probability and mask of one volume; finished blocks are skipped."""
    return refine.refine_volume(volume, run, config, execution, open_workspace(workspace), replace=replace)


@flow(name="refine-volume", flow_run_name="refine {volume} of {run}")
def refine_volume(
    volume: str,
    run: str,
    config: RefineConfig,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    workspace: Path = Path("workspace"),
    replace: bool = False,
) -> RefineResult:
    """Write the refined probability and mask of one volume.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the new run; the same names resume an earlier attempt.
    config : RefineConfig
        The run whose probability is refined, and the CRF.
    execution : ExecutionConfig
        Engine, workers, memory.
    workspace : Path
        Root of the workspace.
    replace : bool
        Overwrite a result of this volume in the run that was made with other settings.
    """
    return refine_step(volume, run, config, execution, workspace, replace)

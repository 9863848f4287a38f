"""The baseline of one volume: membrane found without labels, which a model has to beat."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.steps import step
from segem.config import BaselineConfig, ExecutionConfig
from segem.io.workspace import open_workspace
from segem.stages.segmentation.baseline import BaselineResult, baseline

DEFAULT = BaselineConfig()
DEFAULT_EXECUTION = ExecutionConfig()


@step("baseline", "baseline {volume}")
def baseline_step(
    volume: str, run: str, config: BaselineConfig, execution: ExecutionConfig, workspace: Path, replace: bool = False
) -> BaselineResult:
    """Write the baseline's layer of one volume of a run."""
    return baseline(volume, run, config, open_workspace(workspace), execution, replace=replace)


@flow(name="baseline-volume", flow_run_name="baseline {volume} of {run}")
def baseline_volume(
    volume: str,
    run: str,
    config: BaselineConfig = DEFAULT,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    workspace: Path = Path("workspace"),
    replace: bool = False,
) -> BaselineResult:
    """Write the baseline's layer of one volume.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run.
    config : BaselineConfig
        The method and its settings.
    execution : ExecutionConfig
        Engine, workers, memory.
    workspace : Path
        Root of the workspace.
    replace : bool
        Overwrite a result of this volume in the run that was made with other settings.
    """
    return baseline_step(volume, run, config, execution, workspace, replace)

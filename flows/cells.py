"""Cells of one volume of a run, and its mask closed by their borders, beside what the run holds."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.steps import step
from segem.config import CellsConfig, ExecutionConfig
from segem.io.workspace import open_workspace
from segem.stages.segmentation.cells import CellsResult, find_cells_of_run

DEFAULT_CONFIG = CellsConfig()
DEFAULT_EXECUTION = ExecutionConfig()


@step("cells", "cells {volume}")
def cells_step(
    volume: str, run: str, config: CellsConfig, execution: ExecutionConfig, workspace: Path, replace: bool = False
) -> CellsResult:
    """Write the cells and the closed mask of one volume; finished blocks are skipped."""
    return find_cells_of_run(volume, run, config, execution, open_workspace(workspace), replace=replace)


@flow(name="cells-of-volume", flow_run_name="cells {volume} of {run}")
def cells_of_volume(
    volume: str,
    run: str,
    config: CellsConfig = DEFAULT_CONFIG,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    workspace: Path = Path("workspace"),
    replace: bool = False,
) -> CellsResult:
    """Divide the probability of one volume into cells, and close its mask by their borders.

    Parameters
    ----------
    volume, run : str
        Names of the ingested volume and of the run that holds its probability; the same names resume an earlier
        attempt.
    config : CellsConfig
        From when on two regions are two cells.
    execution : ExecutionConfig
        Engine and workers.
    workspace : Path
        Root of the workspace.
    replace : bool
        Overwrite cells of this volume that were made with other settings.
    """
    return cells_step(volume, run, config, execution, workspace, replace)

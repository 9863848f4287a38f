"""Commands about the results of a run: scored, shown, checked, taken away."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from segem.cli.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    EngineOption,
    JsonOption,
    RunArgument,
    WorkersOption,
    WorkspaceOption,
    execution_of,
    existing_workspace,
)
from segem.cli.show import complain, show, show_scores
from segem.config import ExecutionConfig

app = typer.Typer()


@app.command(epilog="Example: `segem evaluate monday > scores.json`")
def evaluate(
    run_name: RunArgument, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False
) -> None:
    """Score every labelled volume of a run; exit 1 and name the volumes that failed.

    The scores are a table on a terminal, and JSON with --json or where they go to a file or a pipe.
    """
    from segem.stages.reporting.evaluate import evaluate as stage

    scores = stage(run_name, existing_workspace(workspace))
    if as_json or not sys.stdout.isatty():
        show(scores, as_json=True)
    else:
        show_scores(scores)
    complain(scores.failed().items())


@app.command(epilog="Example: `segem report monday`")
def report(run_name: RunArgument, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Write the report of a run: a web page with pictures, CSV and JSON; exit 1 and name the volumes that failed."""
    from segem.stages.reporting.write import report as stage

    result = stage(run_name, existing_workspace(workspace))
    show(result, as_json, run=run_name)
    complain(result.failed.items())


@app.command(epilog="Example: `segem verify monday && echo whole`, `segem verify monday --repair`")
def verify(
    run_name: RunArgument,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Compute again exactly what is missing or damaged (blocks, pyramids, mask of the baseline), by the "
            "settings the run was made with, and say what; exit 0 only if the run is whole afterwards.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    engine: EngineOption = None,
    workers: WorkersOption = 1,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Read back everything of a run; exit 1 and name what is missing or damaged. With --repair, mend it.

    Device, engine and workers are for the repair.
    """
    if repair:
        _repair(run_name, existing_workspace(workspace), execution_of(device, engine, workers), as_json)
        return
    from segem.stages.segmentation.verify import verify as stage

    faults = stage(run_name, existing_workspace(workspace))
    if as_json:
        typer.echo(json.dumps([asdict(fault) for fault in faults], indent=2))
    complain((fault.volume, fault.what) for fault in faults)
    if not as_json:
        typer.echo(f"{run_name}: whole")


def _repair(run: str, workspace: Any, execution: ExecutionConfig, as_json: bool) -> None:
    from segem.stages.segmentation.repair import repair as stage

    done = stage(run, workspace, execution)
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2))
    else:
        for fault in done.repaired:
            typer.echo(f"repaired: {fault.volume}: {fault.what}")
    complain((fault.volume, fault.what) for fault in done.left)
    if not as_json:
        typer.echo(f"{run}: whole")


@app.command(epilog="Example: `segem export monday cortex membrane membrane.tif`")
def export(
    run_name: RunArgument,
    volume: Annotated[str, typer.Argument(help="Name of a volume in it.")],
    layer: Annotated[str, typer.Argument(help="raw, truth, probability, membrane or baseline.")],
    out: Annotated[Path, typer.Argument(help="The TIFF to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write one layer as a multi-page TIFF; masks come out as 0 and 255, truth that is unknown as 128."""
    from segem.stages.segmentation.export import export as stage

    path = stage(run_name, volume, layer, out, existing_workspace(workspace), force=force)
    show({"volume": volume, "layer": layer, "path": path}, as_json, run=run_name)

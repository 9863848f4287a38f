"""Commands about the machine that segem runs on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from segem.cli.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    JsonOption,
    WorkspaceOption,
    option_of,
    triple,
    workspace_at,
)
from segem.cli.show import show, show_speeds
from segem.config import BUNDLED_MODEL, BenchConfig, parse

app = typer.Typer()


@app.command(epilog="Example: `segem doctor`")
def doctor(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Say what segem finds on this machine, what is missing and how to get it."""
    from segem.stages.doctor import doctor as stage

    findings = stage(workspace_at(workspace))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.state:<5} {finding.topic:<15} {finding.text}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: `segem bench --shape 500,2048,2048`")
def bench(
    model: Annotated[str, typer.Option(help="Name of a model, or the path of its folder.")] = BUNDLED_MODEL,
    size: Annotated[int, typer.Option(help="Edge of a synthetic section, in pixels.")] = 1024,
    shape: Annotated[str, typer.Option(metavar="Z,Y,X", help="Volume whose time is wanted.")] = "100,1024,1024",
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast this machine segments with each installed runtime, from volume to result on disk."""
    values = {"model": model, "size_px": size, "shape": triple(shape, int, "--shape"), "device": device}
    config = parse(BenchConfig, values, where="segem bench", called=lambda key: option_of(key.removesuffix("_px")))
    from segem.stages.segmentation.bench import bench as stage

    result = stage(config, workspace_at(workspace))
    show(result, as_json=True) if as_json else show_speeds(result)

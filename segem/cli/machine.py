"""Commands for the machine that segem runs on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from segem.cli.command import Theme
from segem.cli.complete import complete_model
from segem.cli.options import Option, Options
from segem.cli.shared import MACHINE, CommonOptions, workspace_at
from segem.cli.show import show, show_speeds
from segem.config import BenchConfig

theme = Theme("This machine", typer.Typer())


@theme.command("doctor", "segem doctor")
def doctor(common: CommonOptions) -> None:
    """Check what segem finds on this machine, what is missing and how to get it."""
    from flows.launch.checks import check_service
    from flows.launch.service import Service
    from segem.stages.doctor import doctor as stage

    space = workspace_at(common.workspace)
    findings = [*stage(space), *check_service(Service(space.root))]
    if common.as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.state:<5} {finding.topic:<15} {finding.text}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


@theme.command("bench", "segem bench --shape 500,2048,2048")
def bench(
    config: Annotated[
        BenchConfig,
        Options(
            {"": (Option("model", complete=complete_model), Option("size_px", "--size"), "shape"), MACHINE: ("device",)}
        ),
    ],
    common: CommonOptions,
) -> None:
    """Measure how fast this machine segments with each installed runtime, from volume to result on disk."""
    from segem.stages.segmentation.bench import bench as stage

    result = stage(config, workspace_at(common.workspace))
    show(result, as_json=True) if common.as_json else show_speeds(result)

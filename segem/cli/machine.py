"""The command about the machine that segem runs on."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from segem.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, workspace_at

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

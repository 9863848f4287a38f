"""The command that lists runs."""

from __future__ import annotations

from dataclasses import asdict

import typer

from segem.cli.command import Theme
from segem.cli.results import theme as results
from segem.cli.shared import CommonOptions, existing_workspace
from segem.cli.show import show, show_runs

theme = Theme(results.panel, typer.Typer())


@theme.command("runs", "segem runs")
def runs(common: CommonOptions) -> None:
    """List the runs of the workspace, the newest first: when they started, how they stand, and which model they use."""
    from segem.io.runs import list_runs

    found = list_runs(existing_workspace(common.workspace))
    if common.as_json:
        show({"runs": [asdict(run) for run in found]}, as_json=True)
        return
    show_runs(found)

"""The commands that list runs, and what they took."""

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


@theme.command("account", "segem account > usage.csv")
def account(common: CommonOptions) -> None:
    """Print as CSV what each project took: runs, volumes, megapixels, CPU and GPU hours, and reviewers' minutes.

    A project is what manifests of one name make. Counted is what campaigns noted of their steps, those that failed too.
    """
    from segem.stages.accounts import keep_accounts, write_csv

    found = keep_accounts(existing_workspace(common.workspace))
    if common.as_json:
        show({"projects": [each.model_dump() for each in found]}, as_json=True)
        return
    typer.echo(write_csv(found), nl=False)

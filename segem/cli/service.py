"""Commands that run campaigns by the clock."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from segem.cli.command import Theme
from segem.cli.options import Options
from segem.cli.shared import CommonOptions, workspace_at
from segem.cli.show import show
from segem.config.service import ServeConfig

theme = Theme("Service", typer.Typer())


@theme.command("serve", "segem serve", "segem serve --install", "segem serve --drain")
def serve(
    config: Annotated[ServeConfig, Options({"": ("port", "at_once")})],
    common: CommonOptions,
    install: Annotated[
        bool, typer.Option("--install", help="Write a systemd unit that serves this workspace from boot on, and end.")
    ] = False,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain", help="Let the running service finish what it does, start nothing new, and end; wait for that."
        ),
    ] = False,
) -> None:
    """Run campaigns by the clock: Prefect's server, a worker and the schedules of this workspace, until Ctrl-C.

    It listens on this machine's own address only, and asks for a password. Everything is kept in the workspace and found
    again at the next start. `segem schedule` says what is run, and when.
    """
    space = workspace_at(common.workspace)
    if drain:
        from flows.launch.serve import drain as drain_service

        drain_service(space.root, typer.echo)
        return
    from flows.launch.serve import run_service

    space.prepare()
    run_service(space.root, config, lambda up: show(asdict(up), common.as_json), lambda line: typer.echo(line, err=True))

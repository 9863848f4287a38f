"""The command line: parses, and calls stages and flows.

Heavy libraries are imported by the command that needs them, so that `segem --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import segem
from segem.cli import (
    campaign,
    data,
    inspection,
    keeping,
    labelling,
    machine,
    models,
    results,
    review,
    runs,
    service,
    steps,
    storage,
    training,
)
from segem.cli.exits import exit_code_of
from segem.cli.streams import discard_unwritten, set_up_streams
from segem.learn.allocator import keep_activations
from segem.progress import shown, warnings_told

app = typer.Typer(
    name="segem",
    help="Finds neural membranes in electron-microscopy image stacks: raw stacks in, membrane masks and a report out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for module in (
    campaign,
    service,
    inspection,
    steps,
    runs,
    results,
    review,
    training,
    labelling,
    keeping,
    machine,
):
    app.add_typer(module.theme.app)
app.add_typer(service.app, name="schedule", rich_help_panel=service.theme.panel)
app.add_typer(storage.app, name="storage", rich_help_panel=keeping.theme.panel)
app.add_typer(data.app, name="data", rich_help_panel=steps.theme.panel)
app.add_typer(models.app, name="models", rich_help_panel=training.theme.panel)


def _version(show: bool) -> None:
    if show:
        typer.echo(segem.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find neural membranes in electron-microscopy image stacks."""


def main() -> None:
    """Run the command line; every failure is one line on stderr and a non-zero exit code."""
    # First of all, because it has no effect on heaps that threads already have.
    keep_activations()
    set_up_streams()
    try:
        with warnings_told(), shown():
            sys.exit(exit_code_of(lambda: app(standalone_mode=False)))
    finally:
        discard_unwritten()

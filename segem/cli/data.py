"""Commands for public data sets: list and get."""

from __future__ import annotations

from typing import Annotated

import typer

from segem.cli.command import Theme
from segem.cli.complete import complete_set
from segem.cli.options import Option, Options
from segem.cli.shared import JSON, Common
from segem.cli.show import show, show_public_sets
from segem.config import DataConfig
from segem.progress import tell

app = typer.Typer(
    help="List and download public stacks with ground truth.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
theme = Theme("", app)
JsonOption = Annotated[Common, Options({"": (JSON,)})]


@theme.command("data list", "segem data list", "segem data list --json")
def data_list(common: JsonOption) -> None:
    """List the public data sets that segem can download, with size, voxels and licence; --json says more of them."""
    from segem.stages.volumes.public_sets import PUBLIC_SETS

    show({"sets": PUBLIC_SETS}, as_json=True) if common.as_json else show_public_sets(PUBLIC_SETS)


@theme.command(
    "data get",
    "segem data get vnc --to /data/em",
    stopped="; what was downloaded is kept. Fix: repeat the command to continue",
)
def data_get(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of a set, as `segem data list` shows it.", autocompletion=complete_set
        ),
    ],
    config: Annotated[DataConfig, Options({"": (Option("to", envvar="SEGEM_DATA_ROOT"),)})],
    common: JsonOption,
) -> None:
    """Download a public data set and unpack it; its licence and what to cite are said before.

    An interrupted download resumes. A set that is there is not downloaded again. Without a network, put the published
    file into the folder and run the command: it is checked and unpacked.
    """
    from segem.stages.volumes.data import find_set, get_set

    chosen = find_set(name)
    size = "" if chosen.megabytes is None else f" ({chosen.megabytes} MB)"
    tell(f"{chosen.name}{size}: {chosen.what}")
    tell(f"licence: {chosen.licence}")
    tell(f"cite: {', '.join(chosen.cite)}")
    tell(f"labels: {chosen.labels}")
    made = get_set(chosen, config.to)
    if common.as_json:
        show(made, as_json=True)
        return
    typer.echo(f"{made.path}: {'downloaded' if made.downloaded else 'is there already'}")
    for line in made.ingest:
        typer.echo(f"next: {line}")

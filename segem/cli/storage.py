"""Commands for the object store that the arrays of a workspace lie in."""

from __future__ import annotations

from typing import Annotated

import typer

from segem.amounts import size_text
from segem.cli.command import Theme
from segem.cli.shared import CommonOptions, existing_workspace, workspace_at
from segem.cli.show import show
from segem.errors import ConfigError

app = typer.Typer(
    help="Keep the arrays of the workspace in an object store (s3://), and take a lost machine's workspace up.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
theme = Theme("", app)

UrlArgument = Annotated[
    str, typer.Argument(metavar="URL", help="s3://BUCKET/PREFIX, which no other workspace uses; without credentials.")
]


@theme.command("storage use", "segem storage use s3://lab-em/cortex --workspace cortex")
def storage_use(url: UrlArgument, common: CommonOptions) -> None:
    """Let all arrays of a new workspace lie at URL; commands that name the workspace then read and write them there.

    Credentials come from the usual places (the environment, ~/.aws), and so does the address of a store other than
    Amazon's (AWS_ENDPOINT_URL). Neither is recorded.
    """
    from segem.io.storage import use_storage

    storage = use_storage(workspace_at(common.workspace), url)
    if common.as_json:
        show({"workspace": str(storage.workspace.root), "url": storage.objects.url}, as_json=True)
    else:
        typer.echo(f"the arrays of {storage.workspace.root} lie in {storage.objects.url}")


@theme.command("storage save", "segem storage save")
def storage_save(common: CommonOptions) -> None:
    """Bring the copy in the storage up to date now: records, ledgers, reviews, reports and models.

    It is done by itself at the end of every step, and every five minutes while blocks are computed.
    """
    from segem.io.storage import storage_of
    from segem.io.storage_copy import save_copy

    workspace = existing_workspace(common.workspace)
    storage = storage_of(workspace)
    if storage is None:
        raise ConfigError(
            "the arrays of this workspace lie in it",
            where=workspace.root,
            fix="copy it with segem backup; a storage is chosen for a new workspace: segem storage use URL",
        )
    snapshot = save_copy(storage)
    size = sum(file.bytes for file in snapshot.files.values())
    if common.as_json:
        show({"url": storage.objects.url, "files": len(snapshot.files), "bytes": size}, as_json=True)
    else:
        typer.echo(f"{storage.objects.url}\n{len(snapshot.files)} files, {size_text(size)}, beside the arrays")


@theme.command("storage take-up", "segem storage take-up s3://lab-em/cortex --workspace cortex")
def storage_take_up(url: UrlArgument, common: CommonOptions) -> None:
    """Make a workspace of what another machine has left at URL, which may then write there no longer.

    What it had finished since its last copy is looked for and computed again. Nothing may lie at the place of the
    workspace yet.
    """
    from segem.io.storage_copy import take_up

    workspace = workspace_at(common.workspace)
    snapshot = take_up(url, workspace)
    if common.as_json:
        found = {"workspace": str(workspace.root), "files": len(snapshot.files), "created": snapshot.created}
        show(found, as_json=True)
    else:
        typer.echo(f"{workspace.root}\n{len(snapshot.files)} files, as they were at {snapshot.created}")
        typer.echo("Repeat the commands that were running, with --run and their names")

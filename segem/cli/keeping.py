"""Commands that keep a workspace: removing old runs, backups and the way back."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segem.amounts import size_text
from segem.cli.command import Theme
from segem.cli.options import Options
from segem.cli.shared import CommonOptions, existing_workspace, workspace_at
from segem.cli.show import show, show_old_runs
from segem.config.keeping import BackupConfig, PurgeConfig
from segem.errors import ConfigError

theme = Theme("Workspace", typer.Typer())

BackupsArgument = Annotated[
    Path, typer.Argument(metavar="BACKUPS", help="Folder of backups, on another disk than the workspace.")
]


@theme.command("purge", "segem purge --older-than 90d --dry-run")
def purge(
    config: Annotated[PurgeConfig, Options({"": ("older_than", "reviewed")})],
    common: CommonOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking, as scripts must.")] = False,
) -> None:
    """Remove the runs that nothing has changed for long: masks, probabilities, ledgers and reports.

    Volumes and models stay, and so do runs that are at work, that people have reviewed, or whose record cannot be read.
    """
    from segem.io.retention import find_old_runs, remove_run, sweep_removed

    workspace = existing_workspace(common.workspace)
    found = find_old_runs(workspace, config.older_than, reviewed=config.reviewed)
    going = [one for one in found if not one.kept]
    if common.as_json:
        show({"runs": [asdict(one) for one in found], "dry_run": dry_run}, as_json=True)
    else:
        show_old_runs(found)
    if dry_run:
        return
    if going and not yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                "nobody is there to be asked whether to remove them", where="purge", fix="add --yes, or --dry-run"
            )
        typer.confirm(f"Remove {len(going)} run{'' if len(going) == 1 else 's'} for good?", abort=True)
    for one in going:
        # It may have been asked for long, and removing those before takes long too.
        remove_run(workspace, one.run, one.used)
    sweep_removed(workspace)


@theme.command("backup", "segem backup /mnt/other-disk/segem --keep 14")
def backup(
    backups: BackupsArgument, config: Annotated[BackupConfig, Options({"": ("keep",)})], common: CommonOptions
) -> None:
    """Copy the whole workspace into a new folder under BACKUPS; what has not changed since the last one is linked.

    Runs may go on meanwhile: in the backup they are runs that were stopped, and resume. Databases are copied whole,
    with what is being written to them. A backup that is killed leaves the earlier ones as they were. It holds whatever
    passwords and tokens the workspace holds; only you can read it.
    """
    from segem.io.snapshot import take_snapshot

    place, content = take_snapshot(existing_workspace(common.workspace).root, backups, keep=config.keep)
    size = sum(file.bytes for file in content.files.values())
    if common.as_json:
        show({"backup": str(place), "files": len(content.files), "bytes": size}, as_json=True)
    else:
        typer.echo(f"{place}\n{len(content.files)} files, {size_text(size)}")


@theme.command("restore", "segem restore /mnt/other-disk/segem --workspace workspace")
def restore(
    backup_folder: Annotated[
        Path,
        typer.Argument(metavar="BACKUP", help="A backup, or a folder of backups, of which the newest is restored."),
    ],
    common: CommonOptions,
) -> None:
    """Make a workspace from a backup; nothing may lie at its place yet.

    Each file is compared with its digest. The workspace appears in one step, when all of it is there. Where schedules
    name the workspace by its path, restore it to that path.
    """
    from segem.io.snapshot import restore_snapshot

    root = workspace_at(common.workspace).root
    snapshot = restore_snapshot(backup_folder, root)
    if common.as_json:
        show({"workspace": str(root), "files": len(snapshot.files), "created": snapshot.created}, as_json=True)
    else:
        typer.echo(f"{root}\n{len(snapshot.files)} files, as they were at {snapshot.created}")
        typer.echo("Check the runs that matter: segem verify RUN")

"""Commands that run campaigns by the clock."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segem.cli.command import Theme
from segem.cli.options import Option, Options
from segem.cli.shared import RUN, CommonOptions, DataRootOption, ExecutionOptions, ManifestArgument, workspace_at
from segem.cli.show import show
from segem.config import ExecutionConfig, Manifest, check_name, load_manifest
from segem.config.service import InboxConfig, ScheduleConfig, ServeConfig
from segem.io.models import list_models
from segem.io.workspace import Workspace

if TYPE_CHECKING:
    from flows.launch.service import Service

_LOG = logging.getLogger(__name__)
theme = Theme("Service", typer.Typer())
app = typer.Typer(
    help="Say which campaigns run by the clock, in the service of a workspace (`segem serve`).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
schedules = Theme("", app)
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST|NAME", help="Name of a schedule, as `segem schedule list` has it, or its manifest."
    ),
]


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

    It listens on this machine's own address only, and asks for a password. Everything is kept in the workspace and
    found again at the next start. What is run, and when, is said with `segem schedule add`.
    """
    space = workspace_at(common.workspace)
    if drain:
        from flows.launch.serve import drain as drain_service

        drain_service(space.root, typer.echo)
        return
    if install:
        from flows.launch.systemd import install as install_unit

        show(asdict(install_unit(space.root, config)), common.as_json)
        return
    from flows.launch.serve import run_service

    space.prepare()
    run_service(
        space.root, config, lambda up: show(asdict(up), common.as_json), lambda line: typer.echo(line, err=True)
    )


@schedules.command(
    "schedule add",
    "segem schedule add nightly.yaml --cron '0 2 * * *'",
    "segem schedule add lab.yaml --cron '*/10 * * * *' --inbox /data/inbox",
)
def schedule_add(
    manifest: ManifestArgument,
    config: Annotated[
        ScheduleConfig,
        Options({"": ("cron", Option("timezone", default="that of this machine"), "name"), RUN: ("restarts",)}),
    ],
    inbox: Annotated[InboxConfig | None, Options({"New data": ("inbox", "settle_seconds")})],
    execution: ExecutionOptions,
    common: CommonOptions,
    run_name: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Name of the run, which each time resumes; when absent, each day has a run of its own.",
            rich_help_panel=RUN,
        ),
    ] = None,
    data_root: DataRootOption = None,
) -> None:
    """Run the campaign of a manifest by the clock, or whenever a new stack lies in an inbox.

    With --inbox the manifest says how new stacks are segmented: by its model and settings, and with the voxel size of
    its first volume; the times are those at which the inbox is looked at.
    """
    from flows.launch.schedules import add_schedule

    loaded = load_manifest(manifest, data_root)
    _tell_what_is_missing(loaded, workspace_at(common.workspace), sources=inbox is None)
    parameters: dict[str, Any] = {
        "manifest": str(manifest.resolve()),
        "workspace": str(workspace_at(common.workspace).root),
        "execution": _rooted(execution).model_dump(mode="json"),
        "restarts": config.restarts,
    }
    if inbox is not None:
        rooted = inbox.model_copy(update={"inbox": inbox.inbox.resolve()})
        parameters["config"] = rooted.model_dump(mode="json")
    if run_name is not None:
        parameters["run"] = check_name(run_name, "run")
    if data_root is not None:
        parameters["data_root"] = str(data_root.resolve())
    added = add_schedule(_service(common.workspace), config.name or loaded.name, parameters, config)
    show(asdict(added), common.as_json)
    if not common.as_json and _service(common.workspace).running() is None:
        typer.echo("It fires while `segem serve` runs.")


def _rooted(execution: ExecutionConfig) -> ExecutionConfig:
    """Return settings whose scheduler file is found from any folder: flows run in the workspace."""
    if execution.cluster is None or not execution.cluster.endswith(".json"):
        return execution
    return execution.model_copy(update={"cluster": str(Path(execution.cluster).resolve())})


def _tell_what_is_missing(manifest: Manifest, workspace: Workspace, *, sources: bool) -> None:
    """Warn now of what a run would fail of in the night; it may come until then."""
    # A path counts from the folder that the run is in, which is the workspace.
    model = str(workspace.root / manifest.model) if "/" in manifest.model else manifest.model
    there = Path(model).exists() if "/" in model else model in dict(list_models(workspace))
    if not there:
        _LOG.warning("%s: there is no such model yet, and runs fail until there is", model)
    missing = [one for one in manifest.volumes if isinstance(one.source, Path) and not one.source.exists()]
    if sources and missing:
        first = f"{missing[0].name}: {missing[0].source} does not exist yet, and runs fail until it does"
        _LOG.warning("%s%s", first, f"; so with {len(missing) - 1} more" if missing[1:] else "")


@schedules.command("schedule list", "segem schedule list")
def schedule_list(common: CommonOptions) -> None:
    """List what runs by the clock, and when it does so next."""
    from flows.launch.schedules import list_schedules

    found = list_schedules(_service(common.workspace))
    if common.as_json:
        show({"schedules": [asdict(one) for one in found]}, as_json=True)
        return
    for one in found:
        typer.echo(
            f"{one.name}: {one.cron} ({one.timezone}), {f'next {one.next}' if one.active else 'paused'}, "
            f"{one.deployment} {' '.join(filter(None, (one.manifest, one.inbox)))}".rstrip()
        )
    if not found:
        typer.echo("nothing runs by the clock; see `segem schedule add --help`")


@schedules.command("schedule pause", "segem schedule pause nightly")
def schedule_pause(name: NameArgument, common: CommonOptions) -> None:
    """Let a schedule start nothing until it is resumed."""
    from flows.launch.schedules import switch_schedule

    show(asdict(switch_schedule(_service(common.workspace), _name_of(name), active=False)), common.as_json)


@schedules.command("schedule resume", "segem schedule resume nightly")
def schedule_resume(name: NameArgument, common: CommonOptions) -> None:
    """Let a paused schedule start campaigns again."""
    from flows.launch.schedules import switch_schedule

    show(asdict(switch_schedule(_service(common.workspace), _name_of(name), active=True)), common.as_json)


@schedules.command("schedule remove", "segem schedule remove nightly")
def schedule_remove(name: NameArgument, common: CommonOptions) -> None:
    """Remove a schedule; what it has made stays."""
    from flows.launch.schedules import remove_schedule

    show({"removed": remove_schedule(_service(common.workspace), _name_of(name)).name}, common.as_json)


def _service(root: Path) -> Service:
    from flows.launch.service import Service

    space = workspace_at(root)
    space.prepare()
    return Service(space.root)


def _name_of(given: str) -> str:
    """Return the name of a schedule; that of a manifest is what it was called by unless --name said otherwise."""
    return load_manifest(Path(given)).name if Path(given).is_file() else given

"""Options that several commands share, and the workspace they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segem.cli.complete import complete_run, complete_volume
from segem.cli.options import Option, Options, Values
from segem.config import Config, ExecutionConfig
from segem.errors import ConfigError, InputError, WorkspaceError

if TYPE_CHECKING:
    from segem.io.workspace import Workspace

MACHINE = "Machine"
DATA = "Data"
RUN = "Run"


class Common(Config):
    """What nearly every command takes."""

    workspace: Path = Path("workspace")
    """Folder that holds volumes, runs and models."""
    as_json: bool = False
    """Print results as JSON."""


JSON = Option("as_json", "--json")
CommonOptions = Annotated[Common, Options({"": (Option("workspace", envvar="SEGEM_WORKSPACE"), JSON)})]


def settle_engine(values: Values) -> None:
    """Let several workers, or a cluster, mean dask, where no engine is named.

    Raises
    ------
    ConfigError
        When the options contradict each other.

    Examples
    --------
    >>> values = {"workers": 4}
    >>> settle_engine(values)
    >>> values["engine"]
    'dask'
    """
    workers = values.get("workers", 1)
    if values.get("engine") == "loop" and workers > 1:
        raise ConfigError(
            "the loop engine has no workers",
            where="--engine loop",
            found=f"--workers {workers}",
            fix=f"leave out --workers, or give --engine dask --workers {workers}",
        )
    if values.get("engine") == "loop" and "cluster" in values:
        raise ConfigError(
            "the loop engine computes on this machine alone",
            where="--engine loop",
            found=f"--cluster {values['cluster']}",
            fix="leave out one of them",
        )
    if workers > 1:
        values.setdefault("engine", "dask")


ENGINE = Option("engine", default="dask if there are several workers or a cluster, else loop")
CLUSTER = Option("cluster", default="this machine")
JOBS: dict[str, tuple[str | Option, ...]] = {
    "Jobs of --cluster slurm": (
        "slurm.queue",
        "slurm.account",
        "slurm.walltime",
        "slurm.cores",
        "slurm.job_memory",
        "slurm.gpus",
        "slurm.interface",
    )
}
ExecutionOptions = Annotated[
    ExecutionConfig, Options({MACHINE: ("device", ENGINE, CLUSTER, "workers", "memory"), **JOBS}, settle=settle_engine)
]
DeviceOptions = Annotated[ExecutionConfig, Options({MACHINE: ("device",)})]

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of a run, as `segem runs` lists them.", autocompletion=complete_run)
]
RunsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN [RUN2 ...]",
        help="Name of a run, as `segem runs` lists them; of several, the others are compared with the first.",
        autocompletion=complete_run,
    ),
]
VolumeArgument = Annotated[
    str, typer.Argument(metavar="VOLUME", help="Name of an ingested volume.", autocompletion=complete_volume)
]
ManifestArgument = Annotated[Path, typer.Argument(metavar="MANIFEST", help="YAML file that lists the volumes.")]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Name of the run; the same name resumes it. When absent, the name is made of what is run and the date, "
        "so to resume on another day give the name that was printed.",
        autocompletion=complete_run,
        rich_help_panel=RUN,
    ),
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace",
        help="Discard what the run holds of this volume by another model or other settings, and compute it anew; "
        "otherwise it is kept and the command is refused.",
        rich_help_panel=RUN,
    ),
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        envvar="SEGEM_DATA_ROOT",
        help="Folder that relative sources of a manifest count from; the manifest's own folder when absent.",
        rich_help_panel=DATA,
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show what Prefect logs.")]


def workspace_at(root: Path) -> Workspace:
    """Return the workspace at `root`, made or not."""
    from segem.io.workspace import Workspace

    return Workspace(root.resolve())


def existing_workspace(root: Path) -> Workspace:
    """Return the workspace at `root`, which a command reads.

    Raises
    ------
    WorkspaceError
        When there is none.
    """
    space = workspace_at(root)
    if not space.root.is_dir():
        raise WorkspaceError(
            "there is no workspace here",
            where=space.root,
            fix="check --workspace and SEGEM_WORKSPACE; `segem ingest` and `segem run` make one",
        )
    return space


def workspace_with(root: Path, volume: str) -> Workspace:
    """Return the workspace at `root`, which holds a volume.

    It is called before the libraries are loaded that compute anything, so that a wrong name is refused at once.

    Raises
    ------
    WorkspaceError, InputError
        When there is no such workspace, or no such volume in it.
    """
    space = existing_workspace(root)
    if not space.volume(volume).exists():
        raise InputError(
            "no such volume",
            where=volume,
            found=f"volumes in {space.root}: {', '.join(space.volumes()) or 'none'}",
            fix="choose one of these, check --workspace, or make it with `segem ingest`",
        )
    return space

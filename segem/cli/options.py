"""Options that several commands share, and what their values mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segem.config import Device, EngineName, ExecutionConfig, RuntimeName, parse
from segem.config.retrain import REMEMBER, SHARE, nothing_to_rehearse
from segem.errors import ConfigError, InputError, WorkspaceError

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", envvar="SEGEM_WORKSPACE", help="Folder that holds volumes, runs and models.")
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Name of the run; the same name resumes. Made from the name of what is run and the date if absent: "
        "to resume on another day, give the name that was printed.",
    ),
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace",
        help="Lose what the run holds of this volume by another model or other settings, and make it anew; without "
        "this, it is kept and the command refused.",
    ),
]
TrainReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace",
        help="Lose volumes of these names that have another source, voxel size or labels, and make them anew; without "
        "this, they are kept and the command refused.",
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
VolumeArgument = Annotated[str, typer.Argument(help="Name of an ingested volume.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show what Prefect logs.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU when there is one.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes; more than one take the dask engine.")]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(help="Plain loop, or dask processes; both give the same bytes. Chosen by --workers if absent."),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="BYTES",
        help="Peak memory of one process, such as 2GB; it decides how large tiles are and how many are computed at "
        "once. Tiles as for 3GB if absent, and as many at once as half of the machine's memory holds. Another amount "
        "than in an earlier attempt may mean other tiles, and then every block is computed again.",
    ),
]
RuntimeOption = Annotated[
    RuntimeName,
    typer.Option(
        help="What evaluates the net: torch, openvino (faster on a CPU, same results) or openvino-int8 (8 bits: much "
        "faster, guarded by a comparison with float32). auto takes openvino on a CPU where it is installed."
    ),
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(envvar="SEGEM_DATA_ROOT", help="Folder that relative sources count from; else the manifest's own."),
]
RehearseOption = Annotated[
    Path | None,
    typer.Option(
        help="Manifest of what the model of --from learned from: learned again beside the new, so as not to forget."
    ),
]
ShareOption = Annotated[
    float | None, typer.Option(help=f"Share of the crops that --rehearse is given; {SHARE} if absent.")
]
RememberOption = Annotated[
    float | None,
    typer.Option(
        help="How much it counts on what --rehearse names, beside the labels, that the net gives what it gave before; "
        f"{REMEMBER:g} if absent, 0 for the labels alone."
    ),
]
FreezeOption = Annotated[
    Literal["encoder"] | None,
    typer.Option(help="Part that is not trained: with few sections, only the decoder then fits itself to them."),
]
DeepSupervisionOption = Annotated[
    bool,
    typer.Option(
        "--deep-supervision",
        help="Coarser levels of the decoder have to show the membranes too; only in training, and for a unet.",
    ),
]
DefectsOption = Annotated[
    float,
    typer.Option(
        help="Share of the crops in which a defect of sections is made, for a net that bears them; 0 for none."
    ),
]
StepsOption = Annotated[int | None, typer.Option(help="Number of steps, for a run that can be repeated exactly.")]
ArchitectureOption = Annotated[
    str | None, typer.Option("--model", help="Architecture, one of the zoo; that of --from, or unet, if absent.")
]
LearningRateOption = Annotated[
    float | None, typer.Option(help="Highest learning rate of the schedule; as suits the architecture if absent.")
]
BatchOption = Annotated[int | None, typer.Option(help="Crops to a step; as suits the architecture if absent.")]
SeedOption = Annotated[int, typer.Option(help="Seed of all random choices.")]
LicenceOption = Annotated[
    str, typer.Option(help="Licence of the weights, noted on the card; if absent, that of the model gone on from.")
]
CitationOption = Annotated[str, typer.Option(help="What to cite with the weights, noted on the model's card.")]
StartOption = Annotated[str | None, typer.Option("--from", help="Model to go on from, by name or folder.")]
DEFAULT_WORKSPACE = Path("workspace")


def workspace_at(root: Path) -> Any:
    """Return the workspace at `root`, made or not."""
    from segem.io.workspace import Workspace

    return Workspace(root.resolve())


def existing_workspace(root: Path) -> Any:
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


def workspace_with(root: Path, volume: str) -> Any:
    """Return the workspace at `root`, which holds a volume.

    Told before the libraries are loaded that compute anything.

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


def execution_of(device: Device, engine: EngineName | None, workers: int, memory: str | None = None) -> ExecutionConfig:
    """Return how to execute a plan; several workers mean dask.

    Raises
    ------
    ConfigError
        When the options contradict each other.

    Examples
    --------
    >>> execution_of("cpu", None, 1).engine, execution_of("cpu", None, 4).engine
    ('loop', 'dask')
    """
    if engine == "loop" and workers > 1:
        raise ConfigError(
            "the loop engine has no workers",
            where="--engine loop",
            found=f"--workers {workers}",
            fix=f"leave out --workers, or give --engine dask --workers {workers}",
        )
    values = {
        "device": device,
        "engine": engine or ("dask" if workers > 1 else "loop"),
        "workers": workers,
        "memory": memory,
    }
    return parse(ExecutionConfig, values, where="command line", called=option_of)


def rehearsal_of(
    rehearse: Path | None, start: str | None, share: float | None, remember: float | None
) -> tuple[float, float]:
    """Return the share of --rehearse, and how much it counts there what the net gave before.

    Raises
    ------
    ConfigError
        When one is given, but nothing that it could be of, or something that no model can have learned.

    Examples
    --------
    >>> rehearsal_of(None, None, None, None), rehearsal_of(Path("old.yaml"), "mine", 0.5, 0.0)
    ((0.3, 2.0), (0.5, 0.0))
    """
    for option, value in (("--share", share), ("--remember", remember)):
        if value is not None and rehearse is None:
            raise ConfigError(
                f"{option} needs --rehearse",
                fix="name the manifest of what the model of --from learned from by --rehearse",
            )
    if rehearse is not None and start is None:
        raise nothing_to_rehearse()
    return SHARE if share is None else share, REMEMBER if remember is None else remember


def option_of(key: str) -> str:
    """Return the option that sets a key of a configuration.

    Examples
    --------
    >>> option_of("tile_px"), option_of("crf.sa_px"), option_of("shape.0")
    ('--tile-px', '--sa-px', '--shape')
    """
    name = [part for part in key.split(".") if not part.isdigit()][-1]
    return f"--{name.replace('_', '-')}"


def assignment(text: str, option: str) -> tuple[str, str]:
    """Return name and value of an option such as ``--option depth=3``.

    Raises
    ------
    ConfigError
        When there is no name, or no sign between it and the value.

    Examples
    --------
    >>> assignment("upsampling=bilinear", "--option")
    ('upsampling', 'bilinear')
    """
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise ConfigError(
            f"{option} needs a name and a value",
            expected="NAME=VALUE",
            found=repr(text),
            fix=f"for example {option} depth=3",
        )
    return name.strip(), value.strip()


def triple(text: str, kind: type[int] | type[float], option: str) -> tuple[Any, Any, Any]:
    """Return the three numbers of an option such as ``--voxel-nm 50,4,4``.

    Raises
    ------
    ConfigError
        When there are not three of them.

    Examples
    --------
    >>> triple("8,512,512", int, "--shape")
    (8, 512, 512)
    """
    try:
        z, y, x = (kind(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{option} needs three numbers", expected="Z,Y,X", found=repr(text), fix=f"for example {option} 50,4,4"
        ) from None
    return z, y, x

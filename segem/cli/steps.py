"""Commands that do one step for one volume."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segem.cli.command import RESUMES, Theme
from segem.cli.complete import complete_model, complete_run
from segem.cli.options import Option, Options, Values
from segem.cli.shared import (
    CLUSTER,
    DATA,
    ENGINE,
    JOBS,
    JSON,
    MACHINE,
    RUN,
    Common,
    CommonOptions,
    ExecutionOptions,
    ReplaceOption,
    RunArgument,
    RunOption,
    VolumeArgument,
    existing_workspace,
    settle_engine,
    workspace_at,
    workspace_with,
)
from segem.cli.show import show
from segem.config import (
    BaselineConfig,
    CellsConfig,
    ExecutionConfig,
    IngestConfig,
    RefineConfig,
    SegmentConfig,
    SynthConfig,
    check_name,
    place_source,
    read_source,
)
from segem.config.shard import Shard
from segem.errors import ConfigError, IncompleteError

if TYPE_CHECKING:
    from segem.io.workspace import Workspace

theme = Theme("Single steps", typer.Typer())
TILES = "Tiles"


def _settle_sources(values: Values) -> None:
    """Make sources absolute, since a record must be readable from any folder."""
    for holder in (values, values.get("labels", {})):
        if "source" in holder:
            # What is neither a path nor a URL is refused where the configuration is made.
            with suppress(ValueError):
                holder["source"] = place_source(read_source(holder["source"]), Path.cwd())


IngestOptions = Annotated[
    IngestConfig,
    Options(
        {
            "": ("name",),
            DATA: (
                "voxel_nm",
                "trust_voxel",
                "dataset",
                "axes",
                "channel",
                "box",
                "window",
                "unwritten",
                "missing",
            ),
            "Ground truth": (
                Option("labels.source", "--labels"),
                "labels.membrane",
                "labels.border_nm",
                "labels.zero_means",
                "labels.ignore",
                "labels.unpainted",
                Option("labels.dataset", "--labels-dataset"),
                Option("labels.unwritten", "--labels-unwritten"),
            ),
        },
        arguments=("source",),
        settle=_settle_sources,
    ),
]
SegmentOptions = Annotated[
    SegmentConfig,
    Options(
        {
            "Model": (Option("model", complete=complete_model), "threshold", "views", "resample", "runtime"),
            TILES: ("stitch", "tile_px", "halo_px", "overlap"),
        }
    ),
]
CrfOptions = Annotated[
    RefineConfig,
    Options(
        {
            "": (Option("of", complete=complete_run),),
            "CRF": ("crf.w1", "crf.sa_px", "crf.sb_grey", "crf.w2", "crf.sg_px", "crf.iterations", "operating_point"),
            "Mask": ("threshold",),
            TILES: ("tile_px", "halo_px"),
        }
    ),
]


@theme.command("ingest", "segem ingest stack.tif --name cortex --voxel-nm 50,4,4 --labels truth.tif --membrane zero")
def ingest(
    config: IngestOptions,
    common: CommonOptions,
    again: Annotated[
        bool, typer.Option("--again", help="Read everything again, even if nothing has changed.", rich_help_panel=DATA)
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Discard a volume of this name that has another source, voxel size or labels; otherwise it is kept "
            "and the command is refused.",
            rich_help_panel=DATA,
        ),
    ] = False,
) -> None:
    """Turn a raw stack into an OME-Zarr volume with pyramid, statistics and, where given, its ground truth."""
    from segem.stages.volumes.ingest import ingest as stage

    show(stage(config, workspace_at(common.workspace), again=again, replace=replace), common.as_json)


@theme.command("baseline", "segem baseline cortex --method watershed --run monday", stopped=RESUMES)
def baseline(
    volume: VolumeArgument,
    config: Annotated[BaselineConfig, Options({"Method": ("method", "sigma_px", "seed")})],
    common: CommonOptions,
    run_name: RunOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Find the membrane of a volume without labels, by K-means on intensity or another method: the run's baseline.

    A manifest can set more (baseline: {method: watershed, watershed: {depth: 1}}).
    """
    run, space = _run_and_space(volume, run_name, common.workspace)
    from segem.stages.segmentation.baseline import baseline as stage

    show(stage(volume, run, config, space, replace=replace), common.as_json, run=run)


@theme.command("segment", "segem segment cortex --model unet-em --run monday", stopped=RESUMES)
def segment(
    volume: VolumeArgument,
    config: SegmentOptions,
    execution: ExecutionOptions,
    common: CommonOptions,
    run_name: RunOption = None,
    replace: ReplaceOption = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Compute only every N-th block, from the I-th on (from 0): one task of an array job. `segem collect` "
            "finishes the run.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
) -> None:
    """Sweep a model over a volume; finished blocks are skipped, so the same command resumes a stopped run."""
    part = Shard.parse(shard) if shard is not None else None
    if part is not None:
        _require_task(run_name, execution, replace=replace)
    run, space = _run_and_space(volume, run_name, common.workspace)
    if part is not None:
        from segem.stages.segmentation.array import segment_shard

        show(segment_shard(volume, run, config, execution, space, part), common.as_json, run=run)
        return
    from segem.stages.segmentation.segment import segment as stage

    show(stage(volume, run, config, execution, space, replace=replace), common.as_json, run=run)


@theme.command(
    "collect", "segem collect monday && segem report monday", "sbatch --array=$(segem collect monday --missing)"
)
def collect(
    run_name: RunArgument,
    common: CommonOptions,
    missing: Annotated[
        bool,
        typer.Option(
            "--missing",
            help="Print the numbers of the tasks whose blocks are missing, as sbatch --array takes them, and exit 0.",
        ),
    ] = False,
) -> None:
    """Finish a run that tasks of an array job have computed; exit 1 and name the tasks whose blocks are missing.

    Every block is compared with the digest that its task has handed in. It may be repeated at any time.
    """
    run, space = check_name(run_name, "run"), existing_workspace(common.workspace)
    from segem.stages.segmentation.array import collect as stage

    collected = stage(run, space)
    tasks = ",".join(map(str, sorted({number for each in collected for number in each.missing})))
    if missing:
        typer.echo(tasks)
        return
    if common.as_json:
        show({"run": run, "volumes": [asdict(each) for each in collected]}, as_json=True)
    else:
        show(
            {"run": run} | {each.volume: f"{each.finished} of {each.blocks} blocks" for each in collected},
            as_json=False,
        )
    if tasks:
        absent = sum(each.blocks - each.finished for each in collected)
        raise IncompleteError(
            "a block is missing" if absent == 1 else f"{absent} blocks are missing",
            where=run,
            found=f"tasks {tasks} of {collected[0].shards} have not handed in all of theirs",
            fix=f"start these again (sbatch --array={tasks}), then repeat this command",
        )


@theme.command("crf", "segem crf cortex --of monday --run monday-crf", stopped=RESUMES)
def crf(
    volume: VolumeArgument,
    config: CrfOptions,
    execution: Annotated[
        ExecutionConfig,
        Options({MACHINE: (ENGINE, CLUSTER, "workers", "memory"), **JOBS}, settle=settle_engine),
    ],
    common: CommonOptions,
    run_name: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Name of the run that is made; the same name resumes it. That of --of with -crf when absent.",
            autocompletion=complete_run,
            rich_help_panel=RUN,
        ),
    ] = None,
    replace: ReplaceOption = False,
) -> None:
    """Refine the probability of a run by a fully connected CRF into a run of its own; the same command resumes it."""
    run = check_name(run_name or f"{config.of}-crf", "run")
    space = workspace_with(common.workspace, volume)
    from segem.stages.segmentation.crf import refine_volume as stage

    show(stage(volume, run, config, execution, space, replace=replace), common.as_json, run=run)


@theme.command("cells", "segem cells cortex --of monday", stopped=RESUMES)
def cells(
    volume: VolumeArgument,
    run_name: Annotated[
        str,
        typer.Option(
            "--of",
            help="Run whose probability is divided, and which the cells are written into.",
            autocompletion=complete_run,
            rich_help_panel=RUN,
        ),
    ],
    config: Annotated[CellsConfig, Options({"Cells": ("merge_below", "sigma_px")})],
    execution: Annotated[
        ExecutionConfig, Options({MACHINE: (ENGINE, CLUSTER, "workers"), **JOBS}, settle=settle_engine)
    ],
    common: CommonOptions,
    replace: ReplaceOption = False,
) -> None:
    """Divide the probability of a run into cells, and close the gaps of its mask by their borders.

    Every section is divided by itself. The cells (labels/cells) and the closed mask (labels/membrane-closed) lie beside
    the mask of the run, which stays as it is; `segem report` scores both. The same command resumes a stopped one.
    """
    run = check_name(run_name, "run")
    space = workspace_with(common.workspace, volume)
    from segem.stages.segmentation.cells import find_cells_of_run as stage

    show(stage(volume, run, config, execution, space, replace=replace), common.as_json, run=run)


@theme.command("synth", "segem synth synthetic-1 --shape 8,512,512 --seed 1")
def synth(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make.")],
    config: Annotated[SynthConfig, Options({"": ("shape", "seed")})],
    common: Annotated[Common, Options({"": (JSON,)})],
) -> None:
    """Make a synthetic EM stack with its ground truth and a manifest, to try segem without data."""
    from segem.stages.volumes.synth import synth as stage

    show(stage(out, config), common.as_json)


def _require_task(run: str | None, execution: ExecutionConfig, *, replace: bool) -> None:
    """Raise where a task of an array is given what only one process can decide for all."""
    wrong = {
        "no --run": run is None,
        "--replace": replace,
        "--engine dask or --cluster": execution.engine != "loop",
    }
    for what, given in wrong.items():
        if given:
            raise ConfigError(
                "a task of an array computes its part by itself, into a run that all tasks share",
                where="--shard",
                found=what,
                fix="give --run with the same name to every task, and neither --replace nor an engine",
            )


def _run_and_space(volume: str, run: str | None, root: Path) -> tuple[str, Workspace]:
    """Return the run, named by the volume and the date unless it has a name, and the workspace of the volume."""
    from segem.io.workspace import default_run

    return run or default_run(check_name(volume, "volume")), workspace_with(root, volume)

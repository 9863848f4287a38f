"""Commands that do one step for one volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segem.cli.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    EngineOption,
    JsonOption,
    MemoryOption,
    ReplaceOption,
    RunOption,
    RuntimeOption,
    SeedOption,
    VolumeArgument,
    WorkersOption,
    WorkspaceOption,
    execution_of,
    option_of,
    triple,
    workspace_at,
    workspace_with,
)
from segem.cli.show import show
from segem.config import (
    BUNDLED_MODEL,
    BaselineConfig,
    CrfConfig,
    IngestConfig,
    RefineConfig,
    SegmentConfig,
    SynthConfig,
    check_name,
    parse,
)
from segem.config.baseline import BaselineMethod
from segem.errors import ConfigError
from segem.io.workspace import default_run

app = typer.Typer()


@app.command(
    epilog="Example: `segem ingest stack.tif --name cortex --voxel-nm 50,4,4 --labels truth.tif --membrane zero`"
)
def ingest(
    source: Annotated[Path, typer.Argument(help="TIFF, folder of TIFF or PNG sections, HDF5 file or OME-Zarr.")],
    name: Annotated[str, typer.Option(help="Name of the volume.")],
    voxel_nm: Annotated[str, typer.Option(help="Voxel size Z,Y,X in nanometres.")],
    labels: Annotated[Path | None, typer.Option(help="Ground truth, as a stack of the same shape.")] = None,
    membrane: Annotated[
        str | None, typer.Option(help="Which label values are membrane: zero, nonzero or one value.")
    ] = None,
    ignore: Annotated[
        int | None, typer.Option(help="Label value of what nobody has painted; it counts for nothing.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Path of the array inside an HDF5 file or Zarr store.")] = None,
    labels_dataset: Annotated[str | None, typer.Option(help="The same for the ground truth.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Read everything anew, even if nothing has changed.")] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Lose a volume of this name that has another source, voxel size or labels; without this, it is kept "
            "and the command refused.",
        ),
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Turn a raw stack into an OME-Zarr volume with pyramid, statistics and, where given, its truth."""
    if (labels is None) != (membrane is None):
        raise ConfigError(
            "--labels and --membrane go together", fix="say which label values are membrane: zero, nonzero or one value"
        )
    if labels is None and labels_dataset is not None:
        raise ConfigError("--labels-dataset needs --labels", fix="name the file that holds the dataset by --labels")
    if labels is None and ignore is not None:
        raise ConfigError("--ignore needs --labels", fix="name the labels of which this value says nothing by --labels")
    values: dict[str, Any] = {
        "source": source.absolute(),
        "name": name,
        "voxel_nm": triple(voxel_nm, float, "--voxel-nm"),
        "dataset": dataset,
    }
    if labels is not None and membrane is not None:
        value = int(membrane) if membrane.isdigit() else membrane
        values["labels"] = {
            "source": labels.absolute(),
            "membrane": value,
            "dataset": labels_dataset,
            "ignore": ignore,
        }
    config = parse(IngestConfig, values, where="segem ingest", called=option_of)
    from segem.stages.volumes.ingest import ingest as stage

    show(stage(config, workspace_at(workspace), again=again, replace=replace), as_json)


@app.command(epilog="Example: `segem baseline cortex --method watershed --run monday`")
def baseline(
    volume: VolumeArgument,
    run_name: RunOption = None,
    method: Annotated[
        BaselineMethod,
        typer.Option(
            help="kmeans: the darker of two clusters of intensity. kmeans-features: the darkest cluster of filter "
            "responses. watershed: the lines between basins. ncut: the borders between normalised cuts."
        ),
    ] = "kmeans",
    sigma_px: Annotated[float, typer.Option(help="Smooth each section by a Gaussian first; kmeans only.")] = 0.0,
    seed: SeedOption = 0,
    replace: ReplaceOption = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Find the membrane of a volume without labels, by K-means on intensity or another method: the run's baseline.

    A manifest can set more (baseline: {method: watershed, watershed: {depth: 1}}).
    """
    config = parse(
        BaselineConfig, {"method": method, "sigma_px": sigma_px, "seed": seed}, where="segem baseline", called=option_of
    )
    run = run_name or default_run(check_name(volume, "volume"))
    space = workspace_with(workspace, volume)
    from segem.stages.segmentation.baseline import baseline as stage

    show(stage(volume, run, config, space, replace=replace), as_json, run=run)


@app.command(epilog="Example: `segem segment cortex --model unet-em --run monday`")
def segment(
    volume: VolumeArgument,
    model: Annotated[str, typer.Option(help="Name of a model, or the path of its folder.")] = BUNDLED_MODEL,
    run_name: RunOption = None,
    stitch: Annotated[str, typer.Option(help="auto, crop (exact), gaussian or hann (blended).")] = "auto",
    tile_px: Annotated[int | None, typer.Option(help="Edge of a tile; chosen by the planner if absent.")] = None,
    halo_px: Annotated[int | None, typer.Option(help="Context around a tile; the model's own if absent.")] = None,
    overlap: Annotated[float, typer.Option(help="Share of a tile its neighbour sees too (blended).")] = 0.5,
    threshold: Annotated[
        float | None, typer.Option(help="Probability that makes membrane; the model's own if absent.")
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            help="Average so many flips (2, 4) and quarter turns (8) of each tile, for so many times the work."
        ),
    ] = 1,
    runtime: RuntimeOption = "auto",
    replace: ReplaceOption = False,
    device: DeviceOption = "auto",
    engine: EngineOption = None,
    workers: WorkersOption = 1,
    memory: MemoryOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Sweep a model over a volume; finished blocks are skipped, so the same command resumes a stopped run."""
    values = {
        "model": model,
        "stitch": stitch,
        "tile_px": tile_px,
        "halo_px": halo_px,
        "overlap": overlap,
        "threshold": threshold,
        "views": views,
        "runtime": runtime,
    }
    config = parse(SegmentConfig, values, where="segem segment", called=option_of)
    execution = execution_of(device, engine, workers, memory)
    run = run_name or default_run(check_name(volume, "volume"))
    space = workspace_with(workspace, volume)
    from segem.stages.segmentation.segment import segment as stage

    show(stage(volume, run, config, execution, space, replace=replace), as_json, run=run)


CRF = CrfConfig()


@app.command(epilog="Example: `segem crf cortex --of monday --run monday-crf`")
def crf(
    volume: VolumeArgument,
    of: Annotated[str, typer.Option(help="Run whose probability is refined; it is left as it is.")],
    run_name: Annotated[
        str | None,
        typer.Option(
            "--run", help="Name of the run that is made; the same name resumes. That of --of with -crf if absent."
        ),
    ] = None,
    w1: Annotated[float, typer.Option(help="Weight of pixels that are near and look alike.")] = CRF.w1,
    sa_px: Annotated[float, typer.Option(help="How far they are near, in pixels.")] = CRF.sa_px,
    sb_grey: Annotated[float, typer.Option(help="How far they look alike, in grey levels of 255.")] = CRF.sb_grey,
    w2: Annotated[float, typer.Option(help="Weight of pixels that are near.")] = CRF.w2,
    sg_px: Annotated[float, typer.Option(help="How far they are near, in pixels.")] = CRF.sg_px,
    iterations: Annotated[int, typer.Option(help="Updates of mean field.")] = CRF.iterations,
    threshold: Annotated[float, typer.Option(help="Refined probability that makes membrane.")] = 0.5,
    tile_px: Annotated[int | None, typer.Option(help="Edge of a tile; chosen by the planner if absent.")] = None,
    halo_px: Annotated[int | None, typer.Option(help="Context around a tile; by the sigmas if absent.")] = None,
    replace: ReplaceOption = False,
    engine: EngineOption = None,
    workers: WorkersOption = 1,
    memory: MemoryOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Refine the probability of a run by a fully connected CRF into a run of its own; the same command resumes it."""
    weights = {"w1": w1, "sa_px": sa_px, "sb_grey": sb_grey, "w2": w2, "sg_px": sg_px, "iterations": iterations}
    values = {"of": of, "crf": weights, "threshold": threshold, "tile_px": tile_px, "halo_px": halo_px}
    config = parse(RefineConfig, values, where="segem crf", called=option_of)
    execution = execution_of("auto", engine, workers, memory)
    run = check_name(run_name or f"{config.of}-crf", "run")
    space = workspace_with(workspace, volume)
    from segem.stages.segmentation.crf import refine_volume as stage

    show(stage(volume, run, config, execution, space, replace=replace), as_json, run=run)


@app.command(epilog="Example: `segem synth synthetic-1 --shape 8,512,512 --seed 1`")
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    shape: Annotated[str, typer.Option(help="Shape Z,Y,X in voxels.")] = "8,512,512",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a synthetic EM stack with its truth and a manifest, to try segem without data."""
    config = parse(
        SynthConfig, {"shape": triple(shape, int, "--shape"), "seed": seed}, where="segem synth", called=option_of
    )
    from segem.stages.volumes.synth import synth as stage

    show(stage(out, config), as_json)

"""The command line: parses, and calls stages and flows."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

import segem
from segem.config import (
    BUNDLED_MODEL,
    BaselineConfig,
    Device,
    EngineName,
    ExecutionConfig,
    IngestConfig,
    Manifest,
    SegmentConfig,
    SynthConfig,
    TrainConfig,
    load_manifest,
    parse,
)
from segem.errors import ConfigError, SegemError
from segem.terminal import exit_code_of, show, show_scores

# Heavy libraries are imported by the command that needs them, so that `segem --help` answers at once.

app = typer.Typer(
    name="segem",
    help="Finds neural membranes in electron-microscopy image stacks: raw stacks in, reviewed masks out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
models_app = typer.Typer(help="Shows the models at hand.", no_args_is_help=True)
app.add_typer(models_app, name="models")


WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", envvar="SEGEM_WORKSPACE", help="Folder that holds volumes, runs and models.")
]
RunOption = Annotated[
    str | None,
    typer.Option("--run", help="Name of the run; the same name resumes. Made from date and settings if absent."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU when there is one.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes of the dask engine.")]
EngineOption = Annotated[EngineName, typer.Option(help="Plain loop, or dask processes; both give the same bytes.")]
DataRootOption = Annotated[
    Path | None,
    typer.Option(envvar="SEGEM_DATA_ROOT", help="Folder that relative sources count from; else the manifest's own."),
]
DEFAULT_WORKSPACE = Path("workspace")


def _workspace(root: Path) -> Any:
    from segem.io.workspace import Workspace

    return Workspace(root.resolve())


def _triple(text: str, kind: type[int] | type[float], option: str) -> tuple[Any, Any, Any]:
    try:
        z, y, x = (kind(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{option} needs three numbers", expected="Z,Y,X", found=repr(text), fix=f"for example {option} 50,4,4"
        ) from None
    return z, y, x


def _default_run(name: str, config_hash: str) -> str:
    return f"{name}-{datetime.now(UTC):%Y%m%d}-{config_hash[:8]}"


@app.command(epilog="Example: `segem demo --workspace /tmp/segem-demo`")
def demo(workspace: WorkspaceOption = DEFAULT_WORKSPACE, verbose: bool = False) -> None:
    """Run the main job on two generated stacks with the bundled model; nothing is downloaded."""
    from segem.stages.synth import synth

    space = _workspace(workspace)
    space.prepare()
    folder = space.root / "demo"
    volumes = []
    for seed in (1, 2):
        made = synth(folder / f"synthetic-{seed}", SynthConfig(shape=(6, 512, 512), seed=seed))
        volumes += [entry.model_dump(mode="json") for entry in load_manifest(made.manifest).volumes]
    manifest = folder / "demo.yaml"
    from segem.io.files import write_text

    write_text(manifest, json.dumps({"name": "demo", "model": BUNDLED_MODEL, "volumes": volumes}, indent=2))
    _campaign(manifest, None, space.root, None, ExecutionConfig(), verbose, as_json=False)


@app.command(epilog="Example: `segem run data/manifests/isbi-vnc.yaml --data-root /data/em --run monday`")
def run(
    manifest: Annotated[Path, typer.Argument(help="YAML file that lists the volumes.")],
    run_name: RunOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    data_root: DataRootOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "loop",
    workers: WorkersOption = 1,
    verbose: Annotated[bool, typer.Option(help="Show what Prefect logs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Do the main job on a dataset: ingest, K-means, inference, stitching, report. Safe to repeat after any failure."""
    execution = ExecutionConfig(device=device, engine=engine, workers=workers)
    _campaign(manifest, run_name, workspace, data_root, execution, verbose, as_json)


def _campaign(
    manifest: Path,
    run_name: str | None,
    workspace: Path,
    data_root: Path | None,
    execution: ExecutionConfig,
    verbose: bool,
    as_json: bool,
) -> None:
    from flows.local import run_campaign
    from segem.stages.campaign import open_campaign

    job = open_campaign(manifest, run_name, workspace, data_root)
    failure: SegemError | None = None
    try:
        run_campaign(
            manifest,
            run=job.run,
            workspace=job.workspace.root,
            data_root=data_root,
            execution=execution,
            verbose=verbose,
        )
    except SegemError as error:
        failure = error
    folder = job.workspace.report(job.run)
    if (folder / "report.json").is_file():
        values = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        if as_json:
            typer.echo(json.dumps(values, indent=2))
        else:
            show_scores(values)
            typer.echo(f"report: {folder / 'index.html'}")
    if failure is not None:
        raise failure


@app.command(
    epilog="Example: `segem ingest stack.tif --name cortex --voxel-nm 50,4,4 --labels truth.tif --membrane zero`"
)
def ingest(
    source: Annotated[Path, typer.Argument(help="TIFF, folder of TIFF or PNG sections, or HDF5 file.")],
    name: Annotated[str, typer.Option(help="Name of the volume.")],
    voxel_nm: Annotated[str, typer.Option(help="Voxel size Z,Y,X in nanometres.")],
    labels: Annotated[Path | None, typer.Option(help="Ground truth, as a stack of the same shape.")] = None,
    membrane: Annotated[
        str | None, typer.Option(help="Which label values are membrane: zero, nonzero or one value.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Path of the array inside an HDF5 file.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Turn a raw stack into an OME-Zarr volume with pyramid, statistics and, where given, its truth."""
    if (labels is None) != (membrane is None):
        raise ConfigError(
            "--labels and --membrane go together", fix="say which label values are membrane: zero, nonzero or one value"
        )
    values: dict[str, Any] = {
        "source": source.absolute(),
        "name": name,
        "voxel_nm": _triple(voxel_nm, float, "--voxel-nm"),
        "dataset": dataset,
    }
    if labels is not None and membrane is not None:
        value = int(membrane) if membrane.isdigit() else membrane
        values["labels"] = {"source": labels.absolute(), "membrane": value}
    config = parse(IngestConfig, values, where="segem ingest")
    from segem.stages.ingest import ingest as stage

    show(stage(config, _workspace(workspace)), as_json)


@app.command(epilog="Example: `segem baseline cortex --run monday`")
def baseline(
    volume: Annotated[str, typer.Argument(help="Name of an ingested volume.")],
    run_name: RunOption = None,
    sigma_px: Annotated[float, typer.Option(help="Smooth each section by a Gaussian first.")] = 0.0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Cluster the intensities of a volume in two by K-means; the darker cluster is the baseline's membrane."""
    config = parse(BaselineConfig, {"sigma_px": sigma_px}, where="segem baseline")
    from segem.stages.baseline import baseline as stage

    show(stage(volume, run_name or _default_run(volume, config.config_hash()), config, _workspace(workspace)), as_json)


@app.command(epilog="Example: `segem segment cortex --model unet-em --run monday`")
def segment(
    volume: Annotated[str, typer.Argument(help="Name of an ingested volume.")],
    model: Annotated[str, typer.Option(help="Name of a model, or the path of its folder.")] = BUNDLED_MODEL,
    run_name: RunOption = None,
    stitch: Annotated[str, typer.Option(help="auto, crop (exact) or gaussian (blended).")] = "auto",
    tile_px: Annotated[int | None, typer.Option(help="Edge of a tile; chosen by the planner if absent.")] = None,
    halo_px: Annotated[int | None, typer.Option(help="Context around a tile; the model's own if absent.")] = None,
    overlap: Annotated[float, typer.Option(help="Share of a tile its neighbour sees too (gaussian).")] = 0.5,
    threshold: Annotated[
        float | None, typer.Option(help="Probability that makes membrane; the model's own if absent.")
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "loop",
    workers: WorkersOption = 1,
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
    }
    config = parse(SegmentConfig, values, where="segem segment")
    execution = ExecutionConfig(device=device, engine=engine, workers=workers)
    from segem.stages.segment import segment as stage

    name = run_name or _default_run(volume, config.config_hash())
    show(stage(volume, name, config, execution, _workspace(workspace)), as_json)


@app.command(epilog="Example: `segem evaluate monday > scores.json`")
def evaluate(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Score every labelled volume of a run and print the scores as JSON."""
    from segem.stages.evaluate import evaluate as stage
    from segem.stages.report import report_values

    show(report_values(stage(run_name, _workspace(workspace))), as_json=True)


@app.command(epilog="Example: `segem report monday`")
def report(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run: a web page with pictures, and its numbers as CSV and JSON."""
    from segem.stages.report import report as stage

    show(stage(run_name, _workspace(workspace)), as_json)


@app.command(epilog="Example: `segem verify monday && echo whole`")
def verify(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Read back every block of a run; exit 1 and name what is missing or damaged."""
    from segem.stages.verify import verify as stage

    faults = stage(run_name, _workspace(workspace))
    if as_json:
        typer.echo(json.dumps([asdict(fault) for fault in faults], indent=2))
    for fault in faults:
        typer.echo(f"error: {fault.volume}: {fault.what}", err=True)
    if faults:
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"{run_name}: whole")


@app.command(epilog="Example: `segem export monday cortex membrane membrane.tif`")
def export(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    volume: Annotated[str, typer.Argument(help="Name of a volume in it.")],
    layer: Annotated[str, typer.Argument(help="raw, truth, probability, membrane or kmeans.")],
    out: Annotated[Path, typer.Argument(help="The TIFF to write.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Write one layer as a multi-page TIFF; masks come out as 0 and 255."""
    from segem.stages.export import export as stage

    typer.echo(stage(run_name, volume, layer, out, _workspace(workspace)))


@app.command(
    epilog="Example: `segem train data/manifests/unet-em-train.yaml --data-root /data/em --out my-unet --minutes 60`"
)
def train(
    manifest: Annotated[Path, typer.Argument(help="YAML file; labelled volumes may give a split.")],
    out: Annotated[str, typer.Option(help="Name of the new model.")],
    model: Annotated[str, typer.Option(help="Architecture, one of the zoo.")] = "unet",
    minutes: Annotated[
        float | None, typer.Option(help="Time budget; the schedule fits it. 30 if neither is given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps, for a run that can be repeated exactly.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    licence: Annotated[str, typer.Option(help="Licence of the weights, noted on the model's card.")] = "",
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Train a model on labelled sections and score it on test sections it never saw."""
    if minutes is None and steps is None:
        minutes = 30.0
    values = {"model": model, "minutes": minutes, "steps": steps, "seed": seed}
    config = parse(TrainConfig, values, where="segem train")
    loaded: Manifest = load_manifest(manifest, data_root)
    from segem.stages.train import train as stage

    show(stage(loaded, out, config, _workspace(workspace), device=device, licence=licence), as_json)


@models_app.command("list", epilog="Example: `segem models list`")
def models_list(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List the models of the workspace and the bundled ones."""
    from segem.learn.artefact import list_models

    found = [{"name": name, "path": str(path)} for name, path in list_models(_workspace(workspace))]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        typer.echo(f"{entry['name']:<24} {entry['path']}")


@models_app.command("show", epilog="Example: `segem models show unet-em`")
def models_show(
    name: Annotated[str, typer.Argument(help="Name of a model, or the path of its folder.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Print the card of a model: what it is, what it was trained on, what it reached, its licence."""
    from segem.learn.artefact import find_model

    artefact = find_model(name, _workspace(workspace))
    show({"path": str(artefact.path), "digest": artefact.digest} | artefact.card.model_dump(mode="json"), as_json=True)


@app.command(epilog="Example: `segem synth synthetic-1 --shape 8,512,512 --seed 1`")
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    shape: Annotated[str, typer.Option(help="Shape Z,Y,X in voxels.")] = "8,512,512",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Make a synthetic EM stack with its truth and a manifest, to try segem without data."""
    config = parse(SynthConfig, {"shape": _triple(shape, int, "--shape"), "seed": seed}, where="segem synth")
    from segem.stages.synth import synth as stage

    show(stage(out, config), as_json=False)


@app.command(epilog="Example: `segem doctor`")
def doctor(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Say what segem finds on this machine, what is missing and how to get it."""
    from segem.stages.doctor import doctor as stage

    findings = stage(_workspace(workspace))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.state:<5} {finding.topic:<15} {finding.text}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


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
    sys.exit(exit_code_of(lambda: app(standalone_mode=False)))

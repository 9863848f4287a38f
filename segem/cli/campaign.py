"""Commands that do the main job: every step for every volume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segem.cli.options import (
    DEFAULT_WORKSPACE,
    DataRootOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    MemoryOption,
    RunOption,
    VerboseOption,
    WorkersOption,
    WorkspaceOption,
    execution_of,
    workspace_at,
)
from segem.cli.show import show, show_scores
from segem.config import BUNDLED_MODEL, ExecutionConfig, SynthConfig, load_manifest
from segem.errors import SegemError

app = typer.Typer()


@app.command(epilog="Example: `segem demo --workspace /tmp/segem-demo`")
def demo(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE, verbose: VerboseOption = False, as_json: JsonOption = False
) -> None:
    """Run the main job on two generated stacks with the bundled model; nothing is downloaded."""
    from segem.io.files import write_text
    from segem.stages.volumes.synth import synth

    space = workspace_at(workspace)
    space.prepare()
    folder = space.root / "demo"
    volumes = []
    for seed in (1, 2):
        made = synth(folder / f"synthetic-{seed}", SynthConfig(shape=(6, 512, 512), seed=seed))
        volumes += [entry.model_dump(mode="json") for entry in load_manifest(made.manifest).volumes]
    manifest = folder / "demo.yaml"
    write_text(manifest, json.dumps({"name": "demo", "model": BUNDLED_MODEL, "volumes": volumes}, indent=2))
    _campaign(manifest, None, space.root, None, ExecutionConfig(), verbose, as_json)


@app.command(epilog="Example: `segem run data/manifests/isbi-vnc.yaml --data-root /data/em --run monday`")
def run(
    manifest: Annotated[Path, typer.Argument(help="YAML file that lists the volumes.")],
    run_name: RunOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    data_root: DataRootOption = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Lose what the run holds by another model or other settings, and volumes of these names that have "
            "another source, voxel size or labels, and make them anew; without this, they are kept and the command "
            "refused.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    engine: EngineOption = None,
    workers: WorkersOption = 1,
    memory: MemoryOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Do the main job on a dataset: ingest, baseline, inference, stitching, report. Safe to repeat when it failed."""
    execution = execution_of(device, engine, workers, memory)
    _campaign(manifest, run_name, workspace, data_root, execution, verbose, as_json, replace)


def _campaign(
    manifest: Path,
    run_name: str | None,
    workspace: Path,
    data_root: Path | None,
    execution: ExecutionConfig,
    verbose: bool,
    as_json: bool,
    replace: bool = False,
) -> None:
    from flows.launch.local import run_campaign
    from segem.stages.campaign import open_campaign
    from segem.stages.reporting.write import read_report

    job = open_campaign(manifest, run_name, workspace, data_root, replace=replace)
    folder = job.workspace.report(job.run)
    before = _version(folder / "report.json")
    failure: SegemError | None = None
    try:
        run_campaign(job, execution=execution, verbose=verbose)
    except SegemError as error:
        failure = error
    # A run that failed before its report leaves that of an earlier attempt, which says nothing of this one.
    if _version(folder / "report.json") not in (None, before):
        scores = read_report(folder)
        if as_json:
            show(scores, as_json=True)
        else:
            show_scores(scores)
            typer.echo(f"run: {job.run}")
            typer.echo(f"report: {folder / 'index.html'}")
    if failure is not None:
        raise failure


def _version(file: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced; None where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns

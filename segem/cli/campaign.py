"""Commands that run every step for every volume."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from segem.cli.command import RESUMES, Theme
from segem.cli.shared import (
    RUN,
    Common,
    CommonOptions,
    DataRootOption,
    ExecutionOptions,
    ManifestArgument,
    RunOption,
    VerboseOption,
    workspace_at,
)
from segem.cli.show import show, show_forecast, show_scores, show_verdict
from segem.config import BUNDLED_MODEL, ExecutionConfig, SynthConfig, load_manifest
from segem.errors import InputError, SegemError

if TYPE_CHECKING:
    from segem.stages.campaign import Campaign

theme = Theme("Main job", typer.Typer())


@theme.command("demo", "segem demo --workspace /tmp/segem-demo", stopped=RESUMES)
def demo(common: CommonOptions, verbose: VerboseOption = False) -> None:
    """Run the main job on two generated stacks with the bundled model; nothing is downloaded."""
    from segem.io.files import write_text
    from segem.stages.volumes.synth import synth

    space = workspace_at(common.workspace)
    space.prepare()
    folder = space.root / "demo"
    volumes = []
    for seed in (1, 2):
        made = synth(folder / f"synthetic-{seed}", SynthConfig(shape=(6, 512, 512), seed=seed))
        volumes += [entry.model_dump(mode="json") for entry in load_manifest(made.manifest).volumes]
    manifest = folder / "demo.yaml"
    write_text(manifest, json.dumps({"name": "demo", "model": BUNDLED_MODEL, "volumes": volumes}, indent=2))
    run(manifest, ExecutionConfig(), common.model_copy(update={"workspace": space.root}), verbose=verbose)


@theme.command(
    "run",
    "segem run data/manifests/isbi-vnc.yaml --data-root /data/em --run monday",
    "segem run mine.yaml --plan",
    stopped=RESUMES,
)
def run(
    manifest: ManifestArgument,
    execution: ExecutionOptions,
    common: CommonOptions,
    run_name: RunOption = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Discard what the run holds by another model or other settings, and volumes of these names that have "
            "another source, voxel size or labels, and make them anew; otherwise they are kept and the command is "
            "refused.",
            rich_help_panel=RUN,
        ),
    ] = False,
    data_root: DataRootOption = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Start nothing, and print what it will take: time, disk and peak memory of each volume, from a trial "
            "of a few of its sections. Volumes that cannot be read or do not fit are named, with exit code 1.",
            rich_help_panel=RUN,
        ),
    ] = False,
    verbose: VerboseOption = False,
) -> None:
    """Do the main job on a dataset: ingest, baseline, inference, stitching, report.

    It is safe to repeat when it failed: what is finished is kept.
    """
    from flows.launch.local import run_campaign
    from segem.stages.campaign import open_campaign
    from segem.stages.reporting.read import read_report, version_of_report

    job = open_campaign(manifest, run_name, common.workspace, data_root, replace=replace)
    if plan:
        _plan(job, execution, common)
        return
    folder = job.workspace.report(job.run)
    before = version_of_report(folder)
    failure: SegemError | None = None
    try:
        run_campaign(job, execution=execution, verbose=verbose)
    except SegemError as error:
        failure = error
    # A run that failed before its report leaves the report of an earlier attempt, which says nothing about this one.
    if version_of_report(folder) not in (None, before):
        scores = read_report(folder)
        if common.as_json:
            show(scores, as_json=True)
        else:
            show_scores(scores)
            show_verdict(scores)
            typer.echo(f"run: {job.run}")
            typer.echo(f"report: {folder / 'index.html'}")
    if failure is not None:
        raise failure


def _plan(job: Campaign, execution: ExecutionConfig, common: Common) -> None:
    from flows.launch.trial import take_trials
    from segem.stages.forecast import forecast_campaign

    found = forecast_campaign(job, execution, take_trials)
    if common.as_json:
        show(found, as_json=True)
    else:
        show_forecast(found)
    refused = found.refused()
    if refused:
        raise InputError(
            f"{len(refused)} of {len(found.volumes)} volumes cannot be taken",
            where=job.source,
            found="; ".join(f"{name} ({reason})" for name, reason in refused.items()),
            fix="mend what is named, or leave these volumes out",
        )

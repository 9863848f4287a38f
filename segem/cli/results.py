"""Commands for the results of a run: score, report, verify and export."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segem.cli.command import Theme
from segem.cli.complete import complete_volume
from segem.cli.exits import complain
from segem.cli.options import Options
from segem.cli.shared import (
    ENGINE,
    MACHINE,
    CommonOptions,
    RunArgument,
    RunsArgument,
    existing_workspace,
    settle_engine,
)
from segem.cli.show import show, show_scores, show_verdict
from segem.config import ExecutionConfig, parse_rules
from segem.config.accept import CRITERIA
from segem.errors import ConfigError

if TYPE_CHECKING:
    from segem.io.workspace import Workspace

theme = Theme("Results", typer.Typer())
RULES = "Verdict"
OUT_HELP = (
    "What to write, by its ending: .tif (as ImageJ has it), .ome.tif, .h5, .zarr (OME-Zarr), or a name without one for "
    "a folder of PNG sections."
)


FullOption = Annotated[
    bool,
    typer.Option("--full", help="Take also the warping error, which takes as long as all other scores together."),
]


@theme.command("evaluate", "segem evaluate monday > scores.json")
def evaluate(run_name: RunArgument, common: CommonOptions, full: FullOption = False) -> None:
    """Score every labelled volume of a run; exit 1 and name the volumes that failed.

    The scores are a table on a terminal, and JSON with --json or where they go to a file or a pipe.
    """
    from segem.stages.reporting.evaluate import evaluate as stage

    scores = stage(run_name, existing_workspace(common.workspace), full=full)
    if common.as_json or not sys.stdout.isatty():
        show(scores, as_json=True)
    else:
        show_scores(scores)
    complain(scores.failed().items())


@theme.command(
    "report",
    "segem report monday --check --accept 'iou >= .65'",
    "segem report monday tuesday",
    "segem report monday --import marks.json",
)
def report(
    runs: RunsArgument,
    common: CommonOptions,
    full: FullOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 and say why unless every volume is accepted.", rich_help_panel=RULES)
    ] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept",
            metavar="RULE",
            help="Rule that each volume must meet, such as 'iou >= .65', in place of those of the manifest; may be "
            f"given several times. Scores: {', '.join(CRITERIA)}.",
            rich_help_panel=RULES,
        ),
    ] = None,
    marks: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="marks.json",
            help="Take in what a reader has marked on the page of the report, and show it there from now on.",
        ),
    ] = None,
) -> None:
    """Write the report of a run: a web page with pictures, CSV and JSON; exit 1 and name the volumes that failed.

    Of several runs, write a page that shows them and their methods side by side.
    """
    rules = parse_rules(accept, where="--accept") if accept else None
    space = existing_workspace(common.workspace)
    if len(runs) > 1:
        _refuse_of_several(runs, {"--check": check, "--accept": rules, "--import": marks, "--full": full})
        from segem.stages.reporting.comparison_page import write_comparison

        show(write_comparison(tuple(runs), space), common.as_json)
        return
    from segem.stages.reporting.marks import import_marks
    from segem.stages.reporting.read import read_report
    from segem.stages.reporting.write import report as stage

    (run_name,) = runs
    if marks is not None:
        taken = import_marks(marks, run_name, space)
        if not common.as_json:
            typer.echo(f"marks: {len(taken.marks)}")
    result = stage(run_name, space, rules, full=full)
    scores = read_report(result.index.parent)
    if common.as_json:
        show({**asdict(result), "verdict": scores.verdict}, as_json=True, run=run_name)
    else:
        show(result, as_json=False, run=run_name)
        show_verdict(scores)
    complain(scores.not_accepted().items() if check else result.failed.items())


def _refuse_of_several(runs: list[str], given: dict[str, object]) -> None:
    """Refuse options that are about a single run."""
    for option, value in given.items():
        if value:
            raise ConfigError(
                "this option is about one run",
                where=option,
                found=", ".join(runs),
                fix=f"name one: segem report {runs[0]} {option}",
            )


@theme.command("verify", "segem verify monday && echo whole", "segem verify monday --repair")
def verify(
    run_name: RunArgument,
    execution: Annotated[
        ExecutionConfig,
        Options({f"{MACHINE}, for --repair and --recompute": ("device", ENGINE, "workers")}, settle=settle_engine),
    ],
    common: CommonOptions,
    recompute: Annotated[
        int,
        typer.Option(
            "--recompute",
            min=0,
            metavar="PLACES",
            help="Also compute so many places of each volume anew, where tiles or blocks meet, and compare them with "
            "what is stored, as each segmentation does at its end.",
        ),
    ] = 0,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Compute again exactly what is missing or damaged, with the settings the run was made with, and say "
            "what; exit 0 only if the run is whole afterwards.",
        ),
    ] = False,
) -> None:
    """Read back all data of a run; exit 1 and name what is missing or damaged, or repair it with --repair."""
    space = existing_workspace(common.workspace)
    if repair:
        _repair(run_name, space, execution, common.as_json)
        return
    from segem.stages.segmentation.verify import verify as stage

    faults = stage(run_name, space)
    if recompute and not faults:
        from segem.stages.segmentation.recompute import recompute as sample

        faults = sample(run_name, space, recompute, execution.device)
    if common.as_json:
        typer.echo(json.dumps([asdict(fault) for fault in faults], indent=2))
    complain((fault.volume, fault.what) for fault in faults)
    if not common.as_json:
        typer.echo(f"{run_name}: whole")


def _repair(run: str, workspace: Workspace, execution: ExecutionConfig, as_json: bool) -> None:
    from segem.stages.segmentation.repair import repair as stage

    done = stage(run, workspace, execution)
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2))
    else:
        for fault in done.repaired:
            typer.echo(f"repaired: {fault.volume}: {fault.what}")
    complain((fault.volume, fault.what) for fault in done.left)
    if not as_json:
        typer.echo(f"{run}: whole")


@theme.command("export", "segem export monday cortex membrane membrane.tif")
def export(
    run_name: RunArgument,
    volume: Annotated[
        str,
        typer.Argument(metavar="VOLUME", help="Name of a volume of the run.", autocompletion=complete_volume),
    ],
    layer: Annotated[
        str,
        typer.Argument(
            metavar="LAYER",
            help="raw, truth, probability, membrane, membrane-closed, cells, baseline, reviewed, or reviewed-regions.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help=OUT_HELP)],
    common: CommonOptions,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write one layer for other programs; masks come out as 0 and 255, and unlabelled voxels of the truth as 128."""
    from segem.stages.segmentation.export import export as stage

    path = stage(run_name, volume, layer, out, existing_workspace(common.workspace), force=force)
    show({"volume": volume, "layer": layer, "path": path}, common.as_json, run=run_name)

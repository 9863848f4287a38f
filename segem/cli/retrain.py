"""The command that makes a better model and puts it in use only if it does no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segem.cli.options import (
    DEFAULT_WORKSPACE,
    ArchitectureOption,
    BatchOption,
    CitationOption,
    DataRootOption,
    DeepSupervisionOption,
    DefectsOption,
    DeviceOption,
    FreezeOption,
    JsonOption,
    LearningRateOption,
    LicenceOption,
    RehearseOption,
    RememberOption,
    SeedOption,
    ShareOption,
    StartOption,
    StepsOption,
    TrainReplaceOption,
    VerboseOption,
    WorkspaceOption,
    option_of,
    rehearsal_of,
)
from segem.cli.show import show_promotion
from segem.config import GateConfig, TrainConfig, parse

app = typer.Typer()


@app.command(epilog="Example: `segem retrain mine-train.yaml --out mine --from unet-em --minutes 60`")
def retrain(
    manifest: Annotated[Path, typer.Argument(help="YAML file; labelled volumes, some of them with test sections.")],
    out: Annotated[str, typer.Option(help="Name of the model, of which a new version is made.")],
    start: StartOption = None,
    model: ArchitectureOption = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget of the training. 30 if neither is given.")] = None,
    steps: StepsOption = None,
    rehearse: RehearseOption = None,
    share: ShareOption = None,
    remember: RememberOption = None,
    freeze: FreezeOption = None,
    deep_supervision: DeepSupervisionOption = False,
    defects: DefectsOption = 0.05,
    against: Annotated[
        str | None,
        typer.Option(
            help="Model to beat, by name or folder. If absent, what the name --out means now; else the model of "
            "--from; else K-means."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Put it in use whatever is found; the record says that it was forced.")
    ] = False,
    harm: Annotated[float, typer.Option(help="Loss of IoU that no volume may suffer.")] = 0.005,
    learning_rate: LearningRateOption = None,
    batch: BatchOption = None,
    seed: SeedOption = 0,
    licence: LicenceOption = "",
    citation: CitationOption = "",
    replace: TrainReplaceOption = False,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a better model of labelled sections: train, judge, and put it in use if it does no harm; else exit 1.

    What would be refused in the end is refused before the training. Then a candidate is trained, and judged as `segem
    models promote` judges, on the test sections of every volume, those of --rehearse too: a model that has forgotten
    what it knew is kept aside. Nothing uses a candidate before it is judged. The same command goes on where it was
    killed.
    """
    from segem.config.retrain import RetrainConfig

    if minutes is None and steps is None:
        minutes = 30.0
    where = "segem retrain"
    rehearsed, remembered = rehearsal_of(rehearse, start, share, remember)
    learned: dict[str, object] = {
        "remember": remembered,
        "freeze": freeze,
        "deep_supervision": deep_supervision,
        "defects": defects,
        "minutes": minutes,
        "steps": steps,
        "learning_rate": learning_rate,
        "batch": batch,
        "seed": seed,
    }
    if model is not None:
        learned["model"] = model
    values = {
        "out": out,
        "train": parse(TrainConfig, learned, where=where, called=option_of),
        "start": start,
        "rehearse": rehearse,
        "share": rehearsed,
        "against": against,
        "replace": replace,
        "force": force,
        "gate": parse(GateConfig, {"harm": harm}, where=where, called=option_of),
        "device": device,
        "licence": licence,
        "citation": citation,
    }
    config = parse(RetrainConfig, values, where=where, called=option_of)
    from flows.launch.local import run_retraining
    from segem.stages.training.retrain import open_retraining

    job = open_retraining(manifest, config, workspace, data_root)
    show_promotion(run_retraining(job, verbose=verbose), as_json)

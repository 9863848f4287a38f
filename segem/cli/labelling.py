"""Commands for people who label: whether more is worth it, and which sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segem.cli.options import (
    DEFAULT_WORKSPACE,
    DataRootOption,
    DeviceOption,
    JsonOption,
    WorkspaceOption,
    assignment,
    option_of,
    workspace_at,
)
from segem.cli.show import show, show_label_next, show_learning_curve
from segem.config import LearningCurveConfig, TrainConfig, load_manifest, parse

app = typer.Typer()


@app.command(
    "learning-curve",
    epilog="Example: `segem learning-curve data/manifests/isbi-zoo.yaml --data-root /data/em --out mine --minutes 10`",
)
def learning_curve(
    manifest: Annotated[Path, typer.Argument(help="YAML file; a labelled volume must name test sections.")],
    out: Annotated[str, typer.Option(help="Name of the curve; it is kept among the models, but is none.")],
    starts: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="Where trainings start: scratch, or a model by name or folder; repeatable. If absent, from scratch "
            "and from the bundled model, unless that knows the sections.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each number of sections.")] = 3,
    more: Annotated[int, typer.Option(help="Sections that might be labelled next, no more than `train` has.")] = 5,
    worthwhile: Annotated[float, typer.Option(help="Gain of IoU that is worth labelling so many.")] = 0.01,
    minutes: Annotated[float | None, typer.Option(help="Time budget of each training. 10 if neither is given.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of each training, for a curve that can be repeated exactly.")
    ] = None,
    model: Annotated[str, typer.Option(help="Architecture of trainings from scratch, one of the zoo.")] = "unet",
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the architecture, as `segem models show ARCHITECTURE` lists; repeatable."),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Crops to a step; as suits the architecture if absent.")] = None,
    seed: Annotated[int, typer.Option(help="First seed of the trainings.")] = 0,
    checkpoint_seconds: Annotated[
        float, typer.Option(help="How often to put aside what a training has learned.")
    ] = 60.0,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Find out whether labelling more sections is worth it.

    Models learn from 1, 2, 4, 8, ... and all sections that the manifest gives to training, several times each, and are
    judged on the same test sections. A curve through their scores says what more sections would bring, with an
    interval, or that the scores do not allow to say. A command that was killed goes on when it is given again.
    """
    training = parse(
        TrainConfig,
        {
            "model": model,
            "architecture": dict(assignment(text, "--option") for text in option or ()),
            "minutes": 10.0 if minutes is None and steps is None else minutes,
            "steps": steps,
            "batch": batch,
            "seed": seed,
            "checkpoint_seconds": checkpoint_seconds,
        },
        where="segem learning-curve",
        called=option_of,
    )
    values = {"seeds": seeds, "more": more, "worthwhile": worthwhile}
    config = parse(LearningCurveConfig, values, where="segem learning-curve", called=option_of)
    loaded = load_manifest(manifest, data_root)
    from segem.stages.training.learning_curve import learning_curve as stage
    from segem.stages.training.learning_record import CHART, home_of

    space = workspace_at(workspace)
    found = stage(loaded, out, config, training, space, starts=starts or (), device=device)
    if as_json:
        show(found, as_json=True)
    else:
        show_learning_curve(found, str(home_of(out, space) / CHART))


@app.command("label-next", epilog="Example: `segem label-next mine.yaml --of mine`")
def label_next(
    manifest: Annotated[Path, typer.Argument(help="YAML file; volumes without labels are what is chosen from.")],
    of: Annotated[str, typer.Option(help="Name of the learning curve whose models are asked.")],
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Rank sections by how much the models of a learning curve disagree about them: those are worth labelling first.

    The models that learned from all sections are asked about every section of the volumes without labels, and about
    the sections of labelled ones that are in no part of the split.
    """
    loaded = load_manifest(manifest, data_root)
    from segem.stages.training.label_next import label_next as stage
    from segem.stages.training.learning_record import RANKING, home_of

    space = workspace_at(workspace)
    found = stage(loaded, of, space, device=device)
    if as_json:
        show(found, as_json=True)
    else:
        show_label_next(found, str(home_of(of, space) / RANKING))

"""Commands about models: trained, listed, shown."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segem.cli.options import (
    DEFAULT_WORKSPACE,
    DataRootOption,
    DeviceOption,
    JsonOption,
    WorkspaceOption,
    workspace_at,
)
from segem.config import TrainConfig, load_manifest, parse
from segem.terminal import show, show_architecture, show_architectures, show_models

app = typer.Typer()
models_app = typer.Typer(help="Shows architectures, and the models at hand.", no_args_is_help=True)
app.add_typer(models_app, name="models")


@app.command(
    epilog="Example: `segem train data/manifests/unet-em-train.yaml --data-root /data/em --out my-unet --minutes 60`"
)
def train(
    manifest: Annotated[Path, typer.Argument(help="YAML file; labelled volumes may give a split.")],
    out: Annotated[str, typer.Option(help="Name of the new model.")],
    model: Annotated[str, typer.Option(help="Architecture, one of the zoo.")] = "unet",
    start: Annotated[str | None, typer.Option("--from", help="Model to go on from, by name or folder.")] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="Weights of a classifier to start from: imagenet downloads them, or a .pth or .safetensors."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time budget; the schedule fits it. 30 if neither is given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps, for a run that can be repeated exactly.")] = None,
    context_sections: Annotated[
        int | None,
        typer.Option(help="Adjacent sections the net sees at once, an odd number; as --from has it, or 1, if absent."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate of the schedule; as suits the architecture if absent.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Crops to a step; as suits the architecture if absent.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    checkpoint_seconds: Annotated[
        float,
        typer.Option(help="How often to put aside what is learned; the same command goes on from there."),
    ] = 60.0,
    licence: Annotated[str, typer.Option(help="Licence of the weights, noted on the model's card.")] = "",
    citation: Annotated[str, typer.Option(help="What to cite with the weights, noted on the model's card.")] = "",
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Train a model on labelled sections and score it on test sections it never saw."""
    if minutes is None and steps is None:
        minutes = 30.0
    architecture = {} if context_sections is None else {"context_sections": context_sections}
    values = {
        "model": model,
        "architecture": architecture,
        "pretrained": pretrained,
        "minutes": minutes,
        "steps": steps,
        "seed": seed,
        "learning_rate": learning_rate,
        "batch": batch,
        "checkpoint_seconds": checkpoint_seconds,
    }
    config = parse(TrainConfig, values, where="segem train")
    loaded = load_manifest(manifest, data_root)
    from segem.stages.train import train as stage

    space = workspace_at(workspace)
    made = stage(loaded, out, config, space, start=start, device=device, licence=licence, citation=citation)
    show(made, as_json)


@models_app.command("list", epilog="Example: `segem models list --measure`")
def models_list(
    measure: Annotated[
        bool, typer.Option("--measure", help="Evaluate a section with each architecture and show how fast it is here.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """List the architectures of the zoo with what they cost, and the trained models at hand with what they reach."""
    from segem.stages.zoo import architectures, trained

    space = workspace_at(workspace)
    nets = [asdict(net) for net in architectures(measure=measure)]
    models = [asdict(model) for model in trained(space)]
    if as_json:
        show({"architectures": nets, "models": models}, as_json=True)
        return
    show_architectures(nets)
    show_models(models)


@models_app.command("show", epilog="Example: `segem models show unet-em`, `segem models show unet`")
def models_show(
    name: Annotated[str, typer.Argument(help="Name of a model or an architecture, or the path of a model's folder.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Print the card of a trained model as JSON, or explain an architecture: its options, costs and geometry."""
    from segem.learn.artefact import find_model
    from segem.stages.zoo import explain, is_architecture

    space = workspace_at(workspace)
    if is_architecture(name, space):
        found = asdict(explain(name))
        show(found, as_json=True) if as_json else show_architecture(found)
        return
    artefact = find_model(name, space)
    # A card is nothing but JSON.
    show({"path": str(artefact.path), "digest": artefact.digest} | artefact.card.model_dump(mode="json"), as_json=True)

"""Commands about models: trained, listed, shown."""

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
    WorkspaceOption,
    assignment,
    option_of,
    rehearsal_of,
    workspace_at,
)
from segem.cli.show import (
    show,
    show_architecture,
    show_architectures,
    show_models,
    show_promotion,
)
from segem.config import GateConfig, TrainConfig, load_manifest, parse
from segem.config.retrain import with_rehearsal
from segem.errors import ConfigError, ModelError

app = typer.Typer()
models_app = typer.Typer(
    help="Shows architectures and the models at hand, decides which version is in use, and exchanges them with others.",
    no_args_is_help=True,
)
app.add_typer(models_app, name="models")


@app.command(
    epilog="Example: `segem train data/manifests/unet-em-train.yaml --data-root /data/em --out my-unet --minutes 60`"
)
def train(
    manifest: Annotated[Path, typer.Argument(help="YAML file; labelled volumes may give a split.")],
    out: Annotated[str, typer.Option(help="Name of the new model.")],
    model: ArchitectureOption = None,
    start: StartOption = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="Weights of a classifier to start from: imagenet downloads them, or a .pth or .safetensors."),
    ] = None,
    rehearse: RehearseOption = None,
    share: ShareOption = None,
    remember: RememberOption = None,
    freeze: FreezeOption = None,
    deep_supervision: DeepSupervisionOption = False,
    defects: DefectsOption = 0.05,
    minutes: Annotated[
        float | None, typer.Option(help="Time budget; the schedule fits it. 30 if neither is given.")
    ] = None,
    steps: StepsOption = None,
    context_sections: Annotated[
        int | None,
        typer.Option(
            help="Adjacent sections the net sees at once, an odd number; 1 or as --from has it if absent, and no fewer."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the architecture, as `segem models show ARCHITECTURE` lists; repeatable."),
    ] = None,
    learning_rate: LearningRateOption = None,
    batch: BatchOption = None,
    seed: SeedOption = 0,
    checkpoint_seconds: Annotated[
        float,
        typer.Option(help="How often to put aside what is learned; the same command goes on from there."),
    ] = 60.0,
    licence: LicenceOption = "",
    citation: CitationOption = "",
    replace: TrainReplaceOption = False,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Train a model on labelled sections and score it on test sections it never saw.

    To put it in use only if it does no harm, take `segem retrain`; to learn whether more sections are worth labelling,
    `segem learning-curve`.
    """
    if minutes is None and steps is None:
        minutes = 30.0
    rehearsed, remembered = rehearsal_of(rehearse, start, share, remember)
    architecture = dict(assignment(text, "--option") for text in option or ())
    if context_sections is not None:
        architecture["context_sections"] = str(context_sections)
    values = {
        "architecture": architecture,
        "pretrained": pretrained,
        "remember": remembered,
        "freeze": freeze,
        "deep_supervision": deep_supervision,
        "defects": defects,
        "minutes": minutes,
        "steps": steps,
        "seed": seed,
        "learning_rate": learning_rate,
        "batch": batch,
        "checkpoint_seconds": checkpoint_seconds,
    }
    if model is not None:
        values["model"] = model
    config = parse(TrainConfig, values, where="segem train", called=option_of)
    loaded = load_manifest(manifest, data_root)
    if rehearse is not None:
        loaded = with_rehearsal(loaded, load_manifest(rehearse, data_root), rehearsed)
    from segem.stages.training.train import train as stage

    space = workspace_at(workspace)
    made = stage(
        loaded,
        out,
        config,
        space,
        start=start,
        device=device,
        licence=licence,
        citation=citation,
        replace=replace,
    )
    show(made, as_json)


@models_app.command("list", epilog="Example: `segem models list unet`, `segem models list --measure fcn8`")
def models_list(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="What the names begin with; all if absent.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Evaluate a section with each architecture and show how fast it is here.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """List the architectures of the zoo with what they cost, and the trained models at hand with what they reach."""
    from segem.stages.models.catalogue import architectures, trained

    nets, models = architectures(names or ()), trained(workspace_at(workspace), names or ())
    if not nets and (measure or not models):
        what = "no such architecture" if measure else "no such architecture or trained model"
        raise ModelError(what, where=" ".join(names or ()), fix="choose from `segem models list`")
    if measure:
        from segem.stages.models.zoo import measured

        nets = measured(nets)
    if as_json:
        show({"architectures": nets, "models": models}, as_json=True)
        return
    if nets:
        show_architectures(nets)
    if models:
        show_models(models)


@models_app.command("show", epilog="Example: `segem models show unet-em`, `segem models show unet`")
def models_show(
    name: Annotated[str, typer.Argument(help="Name of a model or an architecture, or the path of a model's folder.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Print the card of a trained model as JSON, or explain an architecture: its options, costs and geometry."""
    from segem.stages.models.zoo import explain, is_architecture, shown_model

    space = workspace_at(workspace)
    if is_architecture(name, space):
        found = explain(name)
        show(found, as_json=True) if as_json else show_architecture(found)
        return
    artefact = shown_model(name, space)
    # A card is nothing but JSON.
    show({"path": str(artefact.path), "digest": artefact.digest} | artefact.card.model_dump(mode="json"), as_json=True)


@models_app.command(
    "calibrate",
    epilog="Example: `segem models calibrate mine data/manifests/mine.yaml --out mine --data-root /data/em`",
)
def models_calibrate(
    name: Annotated[str, typer.Argument(help="Name of a trained model, or a version's folder.")],
    manifest: Annotated[
        Path, typer.Argument(help="YAML file; its validation sections calibrate, test sections score.")
    ],
    out: Annotated[str, typer.Option(help="Name of the calibrated model.")],
    choose: Annotated[
        bool,
        typer.Option("--choose-threshold", help="Choose the threshold anew, by the IoU of the validation sections."),
    ] = False,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Make a model's probabilities frequencies, without training: of voxels of probability 0.8, 80 % are membrane.

    Trained models are calibrated already; this is for older ones, or for tissue of another kind. Weights and masks stay
    as they are, and the threshold moves with the probabilities. ECE, the expected calibration error, is how far
    probabilities are from frequencies on average.

    A model that learned several tissues has one threshold for all of them. With --choose-threshold and a manifest of
    your tissue alone, a section or two of it are enough for a threshold of its own: other masks, the same weights.
    """
    loaded = load_manifest(manifest, data_root)
    from segem.stages.training.calibrate import calibrate_model

    show(calibrate_model(name, loaded, out, workspace_at(workspace), choose=choose, device=device), as_json)


@models_app.command(
    "promote",
    epilog="Example: `segem models promote mine --against unet-em data/manifests/mine.yaml --data-root /data/em`",
)
def models_promote(
    candidate: Annotated[
        str, typer.Argument(help="Name of a trained model (its newest version), or a version's folder.")
    ],
    manifest: Annotated[Path, typer.Argument(help="YAML file; labelled volumes with test sections neither model saw.")],
    against: Annotated[
        str | None,
        typer.Option(
            help="Model in use, by name or folder; the candidate's own name means the version it would replace. If "
            "absent, the version promoted before; if there is none, K-means has to be beaten."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Put it in use whatever is found; the record says that it was forced.")
    ] = False,
    harm: Annotated[float, typer.Option(help="Loss of IoU that no volume may suffer.")] = 0.005,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Put a model in use if it does no harm; exit 1 and say why if it is kept aside.

    A new model that is better on average may be worse on your data, and a difference of two scores may be chance. So
    both models segment the same test sections, which neither has learned from. Blocks of tissue are then drawn at
    random, over and over, the same for both: that shows how far chance moves the difference of their IoU. The
    candidate passes a volume if the 95 % interval of the difference lies above a loss of --harm, and it is promoted if
    it passes every volume: its name then means this version. Otherwise it is kept aside, with the reason, and its name
    means the version promoted before, or the newest that was not kept aside, or none. `segem models list` shows them;
    the whole decision is in promotion.json beside the weights.
    """
    config = parse(GateConfig, {"harm": harm}, where="segem models promote", called=option_of)
    loaded = load_manifest(manifest, data_root)
    from segem.stages.training.gate.promote import promote

    decided = promote(candidate, loaded, config, workspace_at(workspace), against=against, force=force, device=device)
    show_promotion(decided, as_json)


@models_app.command(
    "export", epilog="Example: `segem models export mine mine.zip --licence CC-BY-4.0 --author 'Ada Lovelace'`"
)
def models_export(
    name: Annotated[str, typer.Argument(help="Name of a model, or a version's folder.")],
    out: Annotated[Path, typer.Argument(help="The package to write, a zip file.")],
    licence: Annotated[str, typer.Option(help="SPDX identifier of the licence, if the card has none.")] = "",
    author: Annotated[list[str] | None, typer.Option(help="Whom users of the model may ask; repeatable.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Pack a model as bioimage.io has it, for others to run without segem and for `segem models import`."""
    from segem.stages.models.export_model import export_model

    space = workspace_at(workspace)
    show(export_model(name, out, space, licence=licence, authors=tuple(author or ()), force=force), as_json)


@models_app.command(
    "import", epilog="Example: `segem models import mine.zip --out mine`, `... weights.pth --model unet --out theirs`"
)
def models_import(
    package: Annotated[Path, typer.Argument(help="A package of bioimage.io, or weights: .safetensors, .pt or .pth.")],
    out: Annotated[str, typer.Option(help="Name of the new model.")],
    model: Annotated[
        str | None, typer.Option(help="Architecture of the weights, one of the zoo, where segem has not trained them.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of the architecture; repeatable.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability that makes membrane, where segem has not trained them; 0.5.")
    ] = None,
    licence: LicenceOption = "",
    citation: CitationOption = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Take in a model that others send; nothing that a package brings is run.

    A package made by `segem models export` comes back as the model it was. Of weights that segem has not trained you
    name the architecture, and their output must be the logit of membrane. A foreign package is taken only if the net
    gives the test output that the package holds.
    """
    from segem.stages.models.import_model import Foreign, import_model

    foreign = None
    if model is not None or option or threshold is not None or licence or citation:
        if model is None:
            raise ConfigError("these options describe weights that segem has not trained", fix="name their --model too")
        options = dict(assignment(text, "--option") for text in option or ())
        foreign = Foreign(model, options, 0.5 if threshold is None else threshold, licence, citation)
    show(import_model(package, out, workspace_at(workspace), foreign), as_json)

"""Commands for models: list, show, calibrate, promote, export and import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segem.cli.command import Theme
from segem.cli.complete import complete_architecture_or_model, complete_model
from segem.cli.options import Option, Options
from segem.cli.shared import (
    CommonOptions,
    DataRootOption,
    DeviceOptions,
    ManifestArgument,
    workspace_at,
)
from segem.cli.show import (
    show,
    show_architecture,
    show_architectures,
    show_models,
    show_promotion,
)
from segem.config import GateConfig, load_manifest
from segem.config.foreign import ForeignConfig
from segem.errors import ModelError

app = typer.Typer(
    help="List and show architectures and trained models, decide which version is in use, exchange models with others.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
theme = Theme("", app)
NameArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Name of a model, or the folder of a version.", autocompletion=complete_model),
]
OutOption = Annotated[str, typer.Option("--out", help="Name of the new model.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]


@theme.command("models list", "segem models list", "segem models list unet", "segem models list --measure fcn8")
def models_list(
    common: CommonOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="What the names begin with; all when absent.",
            autocompletion=complete_architecture_or_model,
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Evaluate a tile with each architecture and show how fast it is here.")
    ] = False,
) -> None:
    """List the architectures of the zoo with what they cost, and the trained models at hand with what they reach."""
    from segem.stages.models.catalogue import list_architectures, list_trained

    nets, models = list_architectures(names or ()), list_trained(workspace_at(common.workspace), names or ())
    if not nets and (measure or not models):
        what = "no such architecture" if measure else "no such architecture or trained model"
        raise ModelError(what, where=" ".join(names or ()), fix="choose from `segem models list`")
    if measure:
        from segem.stages.models.zoo import measure_architectures

        nets = measure_architectures(nets)
    if common.as_json:
        show({"architectures": nets, "models": models}, as_json=True)
        return
    if nets:
        show_architectures(nets)
    if models:
        show_models(models)


@theme.command("models show", "segem models show unet-em", "segem models show unet")
def models_show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of a model or an architecture, or the path of a model's folder.",
            autocompletion=complete_architecture_or_model,
        ),
    ],
    common: CommonOptions,
) -> None:
    """Print the card of a trained model as JSON, or explain an architecture: its options, costs and geometry."""
    from segem.stages.models.zoo import explain, find_shown_model, is_architecture

    space = workspace_at(common.workspace)
    if is_architecture(name, space):
        found = explain(name)
        show(found, as_json=True) if common.as_json else show_architecture(found)
        return
    artefact = find_shown_model(name, space)
    # A card is nothing but JSON.
    show({"path": str(artefact.path), "digest": artefact.digest} | artefact.card.model_dump(mode="json"), as_json=True)


@theme.command(
    "models calibrate", "segem models calibrate mine data/manifests/mine.yaml --out mine --data-root /data/em"
)
def models_calibrate(
    name: NameArgument,
    manifest: ManifestArgument,
    out: OutOption,
    device: DeviceOptions,
    common: CommonOptions,
    choose: Annotated[
        bool,
        typer.Option(
            "--choose-threshold", help="Also choose a new threshold, the best for IoU on the validation sections."
        ),
    ] = False,
    data_root: DataRootOption = None,
) -> None:
    """Calibrate a model without training it: of the voxels with probability 0.8, 80 % shall be membrane.

    Trained models are calibrated already; this is for older ones, or for tissue of another kind. The calibration is
    fitted on the validation sections of the manifest and scored on its test sections. Weights and masks do not change;
    the threshold moves with the probabilities. ECE, the expected calibration error, is the mean difference between
    probability and frequency.

    A model that was trained on several tissues has one threshold for all of them. With --choose-threshold and a
    manifest of your tissue alone, a section or two of it are enough for a threshold of its own: other masks, the same
    weights.
    """
    loaded = load_manifest(manifest, data_root)
    from segem.stages.training.calibrate import calibrate_model

    space = workspace_at(common.workspace)
    show(calibrate_model(name, loaded, out, space, choose=choose, device=device.device), common.as_json)


@theme.command(
    "models promote", "segem models promote mine --against unet-em data/manifests/mine.yaml --data-root /data/em"
)
def models_promote(
    candidate: NameArgument,
    manifest: ManifestArgument,
    gate: Annotated[GateConfig, Options({"Gate": ("harm",)})],
    device: DeviceOptions,
    common: CommonOptions,
    against: Annotated[
        str | None,
        typer.Option(
            help="Incumbent, by name or folder; the candidate's own name means the version it would replace. When "
            "absent, the version promoted before; if there is none, K-means has to be beaten.",
            autocompletion=complete_model,
            rich_help_panel="Gate",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Promote it even if the gate refuses it; the record says that it was forced.",
            rich_help_panel="Gate",
        ),
    ] = False,
    data_root: DataRootOption = None,
) -> None:
    """Put a model in use if it does no harm; exit 1 and say why if it is kept aside.

    A new model that is better on average may be worse on your data, and a difference of two scores may be chance. So
    candidate and incumbent segment the same test sections. Blocks of tissue are then resampled, the same for both,
    which shows how far chance moves the difference of their IoU. The candidate passes a volume if the 95 % interval of
    the difference lies above a loss of --harm and V_rand is not clearly lower. If it passes every volume, its name
    refers to this version. Otherwise it is kept aside, with the reason, and its name refers to the version promoted
    before, or the newest that was not kept aside, or none. `segem models list` shows them; the whole decision is in
    promotion.json beside the weights.
    """
    loaded = load_manifest(manifest, data_root)
    from segem.stages.training.gate.promote import promote

    space = workspace_at(common.workspace)
    decided = promote(candidate, loaded, gate, space, against=against, force=force, device=device.device)
    show_promotion(decided, common.as_json)


@theme.command("models export", "segem models export mine mine.zip --licence CC-BY-4.0 --author 'Ada Lovelace'")
def models_export(
    name: NameArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The package to write, a zip file.")],
    common: CommonOptions,
    licence: Annotated[str, typer.Option(help="SPDX identifier of the licence, where the card has none.")] = "",
    author: Annotated[list[str] | None, typer.Option(help="Contact for users of the model; repeatable.")] = None,
    force: ForceOption = False,
) -> None:
    """Write a model as a bioimage.io package, for others to run without segem and for `segem models import`."""
    from segem.stages.models.export_model import export_model

    space = workspace_at(common.workspace)
    show(export_model(name, out, space, licence=licence, authors=tuple(author or ()), force=force), common.as_json)


@theme.command(
    "models import",
    "segem models import mine.zip --out mine",
    "segem models import weights.pth --model unet --out theirs",
)
def models_import(
    package: Annotated[
        Path,
        typer.Argument(metavar="PACKAGE", help="A bioimage.io package, or weights: .safetensors, .pt or .pth."),
    ],
    out: OutOption,
    foreign: Annotated[
        ForeignConfig | None,
        Options(
            {
                "Weights that segem has not trained": (
                    "model",
                    Option("architecture", "--option"),
                    "threshold",
                    "licence",
                    "citation",
                )
            }
        ),
    ],
    common: CommonOptions,
) -> None:
    """Import a model from others; no code in a package is run.

    A package made by `segem models export` becomes the model it was. For weights that segem has not trained, name the
    architecture; their output must be the logit of membrane. A foreign package is accepted only if the net gives the
    test output in the package.
    """
    from segem.stages.models.import_model import Foreign, import_model

    told = None
    if foreign is not None:
        told = Foreign(foreign.model, foreign.architecture, foreign.threshold, foreign.licence, foreign.citation)
    show(import_model(package, out, workspace_at(common.workspace), told), common.as_json)

"""Commands for people who label: whether labelling more is worth it, and which sections to label first."""

from __future__ import annotations

from typing import Annotated

import typer

from segem.cli.command import RESUMES_TRAINING, Theme
from segem.cli.complete import complete_model
from segem.cli.options import Option, Options, Values
from segem.cli.shared import CommonOptions, DataRootOption, DeviceOptions, ManifestArgument, workspace_at
from segem.cli.show import show, show_label_next, show_learning_curve
from segem.config import LearningCurveConfig, TrainConfig, load_manifest
from segem.config.learning_curve import CURVE_MINUTES

theme = Theme("Labelling", typer.Typer())


def _settle_budget(values: Values) -> None:
    if not values.keys() & {"minutes", "steps"}:
        values["minutes"] = CURVE_MINUTES


@theme.command(
    "learning-curve",
    "segem learning-curve data/manifests/isbi-zoo.yaml --data-root /data/em --out mine --minutes 10",
    stopped=RESUMES_TRAINING,
)
def learning_curve(
    manifest: ManifestArgument,
    out: Annotated[str, typer.Option(help="Name of the curve, which is kept in the workspace beside the models.")],
    config: Annotated[LearningCurveConfig, Options({"Curve": ("seeds", "more", "worthwhile")})],
    training: Annotated[
        TrainConfig,
        Options(
            {
                "Each training": (
                    "model",
                    Option("architecture", "--option"),
                    Option("minutes", default=f"{CURVE_MINUTES:g}, unless --steps is given"),
                    "steps",
                    "batch",
                    "seed",
                    "checkpoint_seconds",
                )
            },
            settle=_settle_budget,
        ),
    ],
    device: DeviceOptions,
    common: CommonOptions,
    starts: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="Where trainings start: scratch, or a base model by name or folder; repeatable. When absent, from "
            "scratch and from the bundled model, unless that was trained on the sections.",
            autocompletion=complete_model,
            rich_help_panel="Curve",
        ),
    ] = None,
    data_root: DataRootOption = None,
) -> None:
    """Find out whether labelling more sections is worth it.

    Models are trained on 1, 2, 4, 8, ... and all training sections of the manifest, several times each, and scored on
    the same test sections. A curve fitted to the scores estimates what more sections would bring, with an interval, or
    shows that the scores are not enough to tell. The same command resumes a curve that was killed.
    """
    loaded = load_manifest(manifest, data_root)
    from segem.io.learning_curve import CHART, locate_learning_curve
    from segem.stages.training.learning_curve import learning_curve as stage

    space = workspace_at(common.workspace)
    found = stage(loaded, out, config, training, space, starts=starts or (), device=device.device)
    if common.as_json:
        show(found, as_json=True)
    else:
        show_learning_curve(found, str(locate_learning_curve(out, space) / CHART))


@theme.command("label-next", "segem label-next mine.yaml --of mine")
def label_next(
    manifest: ManifestArgument,
    of: Annotated[str, typer.Option(help="Name of the learning curve whose models are asked.")],
    device: DeviceOptions,
    common: CommonOptions,
    data_root: DataRootOption = None,
) -> None:
    """Rank sections by how much the models of a learning curve disagree about them: those are worth labelling first.

    The models that were trained on all sections are asked about every section of the volumes without labels, and about
    the sections of labelled volumes that are in no part of the split.
    """
    loaded = load_manifest(manifest, data_root)
    from segem.io.learning_curve import RANKING, locate_learning_curve
    from segem.stages.training.label_next import label_next as stage

    space = workspace_at(common.workspace)
    found = stage(loaded, of, space, device=device.device)
    if common.as_json:
        show(found, as_json=True)
    else:
        show_label_next(found, str(locate_learning_curve(of, space) / RANKING))

"""Commands that train models on labelled volumes, and put them in use only if they do no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segem.cli.command import RESUMES_TRAINING, Theme
from segem.cli.complete import complete_model, complete_run
from segem.cli.options import Option, Options, Values
from segem.cli.shared import (
    DATA,
    MACHINE,
    CommonOptions,
    DataRootOption,
    ManifestArgument,
    VerboseOption,
    workspace_at,
)
from segem.cli.show import show, show_promotion
from segem.config import load_manifest
from segem.config.retrain import RetrainConfig, nothing_to_rehearse, with_rehearsal
from segem.config.train import TRAIN_MINUTES, TrainJobConfig
from segem.errors import ConfigError

theme = Theme("Models", typer.Typer())
NETWORK = "Network"
REVIEW = "Review"


def _settle_job(values: Values) -> None:
    """Fill in the default time budget, and refuse options of a rehearsal or of a teacher where there is none."""
    train = values.setdefault("train", {})
    if not train.keys() & {"minutes", "steps"}:
        train["minutes"] = TRAIN_MINUTES
    if "teach" in train and "teacher" not in train:
        raise ConfigError("--teach needs --teacher", fix="name with --teacher the model to learn from")
    if "rehearse" in values:
        # With reviews it is the model of the run.
        if not values.keys() & {"start", "from_reviews"}:
            raise nothing_to_rehearse()
        return
    for option, given in (("--share", values), ("--remember", train)):
        if option.removeprefix("--") in given:
            raise ConfigError(
                f"{option} needs --rehearse",
                fix="name with --rehearse the manifest of what the base model was trained on",
            )


MODEL, START = "train.model", Option("start", "--from", complete=complete_model)
BUDGET = (Option("train.minutes", default=f"{TRAIN_MINUTES:g}, unless --steps is given"), "train.steps")
OPTIMISATION = (
    "train.learning_rate",
    "train.batch",
    "train.defects",
    "train.appearance",
    "train.pixel_nm",
    "train.seed",
)
SHARED = {
    "Rehearsal": ("rehearse", "share", "train.remember"),
    "Model card": ("licence", "citation"),
    DATA: ("replace",),
    MACHINE: ("device",),
}
TrainOptions = Annotated[
    TrainJobConfig,
    Options(
        {
            "": ("out",),
            NETWORK: (
                MODEL,
                Option("train.architecture", "--option"),
                START,
                "train.pretrained",
                "train.freeze",
                "train.deep_supervision",
            ),
            "Teacher": (Option("train.teacher", complete=complete_model), "train.teach"),
            "Training": (*BUDGET, "train.checkpoint_seconds", *OPTIMISATION),
            **SHARED,
        },
        settle=_settle_job,
    ),
]
RetrainOptions = Annotated[
    RetrainConfig,
    Options(
        {
            "": ("out",),
            REVIEW: (Option("from_reviews", complete=complete_run), "only_train"),
            NETWORK: (MODEL, START, "train.freeze", "train.deep_supervision"),
            "Training": (*BUDGET, *OPTIMISATION),
            "Gate": (Option("against", complete=complete_model), "gate.harm", "force"),
            **SHARED,
        },
        settle=_settle_job,
    ),
]


@theme.command(
    "train",
    "segem train data/manifests/unet-em-train.yaml --data-root /data/em --out my-unet --minutes 60",
    stopped=RESUMES_TRAINING,
)
def train(
    manifest: ManifestArgument,
    job: TrainOptions,
    common: CommonOptions,
    context_sections: Annotated[
        int | None,
        typer.Option(
            help="Adjacent sections that the net sees at once, an odd number. When absent, 1 or as many as the base "
            "model sees; never fewer than that.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    data_root: DataRootOption = None,
) -> None:
    """Train a model on labelled volumes and score it on held-out test sections.

    To put it in use only if it does no harm, use `segem retrain`; to find out whether labelling more sections is worth
    it, `segem learning-curve`.
    """
    config, loaded = job.train, load_manifest(manifest, data_root)
    if context_sections is not None:
        architecture = config.architecture | {"context_sections": str(context_sections)}
        config = config.model_copy(update={"architecture": architecture})
    if job.rehearse is not None:
        loaded = with_rehearsal(loaded, load_manifest(job.rehearse, data_root), job.share)
    from segem.stages.training.job import Terms
    from segem.stages.training.train import train as stage

    made = stage(
        loaded,
        job.out,
        config,
        workspace_at(common.workspace),
        base=job.start,
        device=job.device,
        terms=Terms(job.licence, job.citation),
        replace=job.replace,
    )
    show(made, common.as_json)


@theme.command(
    "retrain",
    "segem retrain mine-train.yaml --out mine --from unet-em --minutes 60",
    "segem retrain --from-reviews monday --out mine --rehearse mine-train.yaml",
    stopped=RESUMES_TRAINING,
)
def retrain(
    config: RetrainOptions,
    common: CommonOptions,
    manifest: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MANIFEST]", help="YAML file that lists the labelled volumes; may be absent with --from-reviews."
        ),
    ] = None,
    data_root: DataRootOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Train a better model on labelled volumes, and put it in use if it does no harm; otherwise exit 1.

    Everything that can be checked is checked before the training. Then a candidate is trained and judged, as `segem
    models promote` does, on the test sections of every volume, those of --rehearse included: a model that has
    forgotten what the base model knew is kept aside. Nothing uses a candidate before it is judged. The same command
    resumes a training that was killed.

    With --from-reviews the labels are the regions of a run that people have accepted or fixed. A model that passes then
    segments the volumes of that run again, as a run of its own, whose report says what the review has gained.
    """
    from flows.launch.local import run_retraining
    from segem.stages.training.retrain import open_retraining

    job = open_retraining(manifest, config, common.workspace, data_root)
    show_promotion(run_retraining(job, verbose=verbose), common.as_json)

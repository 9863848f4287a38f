"""Trains a candidate on labelled sections and puts it in use, or keeps it aside and says why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segem.config import Manifest, TrainConfig, load_manifest
from segem.config.retrain import RetrainConfig, nothing_to_rehearse, with_rehearsal
from segem.errors import ConfigError
from segem.io.reviewed_labels import ReviewedVolume, open_reviewed
from segem.io.run import load_run
from segem.io.versions import find_version_in_use
from segem.io.workspace import Workspace, open_workspace
from segem.learn.artefact import Artefact, find_model, list_models, load_artefact
from segem.progress import tell
from segem.records.promotion import Promotion as Promotion
from segem.stages.models.zoo import check_new_name
from segem.stages.training.gate.judge import JudgedSections, check_all_unseen, choose_judged_sections
from segem.stages.training.gate.polarity import check_polarity
from segem.stages.training.gate.predictions import predict_with
from segem.stages.training.gate.promote import decide_promotion
from segem.stages.training.job import Terms, TrainingJob, find_base, open_training, resolve_config
from segem.stages.training.provenance import record_trained_on
from segem.stages.training.reviewed import NO_REVIEWS, Reviews
from segem.stages.training.train import TrainResult, run_training, summarise_training


@dataclass(frozen=True)
class Retraining:
    """A retraining that can start: manifests are valid, models exist, and the workspace can be written."""

    source: Path | None
    """The YAML file that the manifest was read from."""
    config: RetrainConfig
    data_root: Path | None
    manifest: Manifest | None
    """All volumes to train on, rehearsed ones included; None where that is what people have reviewed alone."""
    workspace: Workspace
    training: TrainConfig
    """Settings with every default filled in."""
    base: Artefact | None
    """The model that is fine-tuned."""
    against: str | None
    """Name of the incumbent; None means K-means. The gate looks it up again, as another may be promoted by then."""
    incumbent: Artefact | None
    """The model of that name at the start."""
    reviews: Reviews = NO_REVIEWS

    @property
    def name(self) -> str:
        """What the model is trained on, for the record of the decision."""
        run = self.config.from_reviews
        named = [] if self.manifest is None else [self.manifest.name]
        return " and ".join(named + ([] if run is None else [f"reviews of {run}"]))


@dataclass(frozen=True)
class PreparedRetraining:
    """A retraining whose volumes are ingested: from here on no source file is read."""

    opened: Retraining
    job: TrainingJob
    judged: tuple[JudgedSections, ...]
    """The sections that decide whether the new model is put in use."""


def retrain(manifest: Path | None, config: RetrainConfig, workspace: Path, data_root: Path | None = None) -> Promotion:
    """Train a better model on labelled volumes, and put it in use if it does no harm; otherwise keep it aside.

    The whole of `segem retrain` in one call, for Python; the flow calls the same four steps as tasks.

    Parameters
    ----------
    manifest : Path or None
        The YAML file; its labelled volumes are learned, and their test sections judged. None where what people have
        reviewed is all there is.
    config : RetrainConfig
        Name of the model, budget, base model, incumbent.
    workspace : Path
        Root of the workspace; made when missing.
    data_root : Path, optional
        Folder that relative sources count from; the manifest's own when absent.

    Returns
    -------
    Promotion
        What was decided, and on what grounds.

    Raises
    ------
    SegemError
        When nothing could start, the training failed, or nothing could be judged.
    """
    ready = prepare_retraining(open_retraining(manifest, config, workspace, data_root))
    return judge_candidate(ready, train_candidate(ready).path)


def open_retraining(
    manifest: Path | None, config: RetrainConfig, workspace: Path, data_root: Path | None = None
) -> Retraining:
    """Check all that can be checked before a volume is read.

    Parameters
    ----------
    manifest : Path or None
        The YAML file; its labelled volumes are trained on, and at least one of them has test sections. It may be absent
        with `config.from_reviews`.
    config : RetrainConfig
        Settings of training, rehearsal and gate.
    workspace : Path
        Root of the workspace; made when missing.
    data_root : Path, optional
        Folder that relative sources count from; the manifests' own when absent.

    Returns
    -------
    Retraining

    Raises
    ------
    ConfigError
        When the name is taken, a manifest is wrong, names no section to judge by, or the settings of the training
        contradict each other.
    ModelError
        When the base model or the incumbent is missing or damaged.
    WorkspaceError
        When the workspace cannot be written.
    """
    check_new_name(config.out)
    volumes: tuple[ReviewedVolume, ...] = ()
    if config.from_reviews is not None:
        volumes = tuple(open_reviewed(Workspace(workspace.resolve()), config.from_reviews))
        config = _with_base(config, Workspace(workspace.resolve()))
    loaded = _load_manifests(manifest, config, data_root, len(volumes))
    opened = open_workspace(workspace)
    base = find_base(config.start, config.train, opened)
    training = resolve_config(config.train, base, opened, config.device)
    against = _name_incumbent(config, opened)
    incumbent = None if against is None else find_model(against, opened)
    known = tuple(one for model in (base, incumbent) if model is not None for one in model.card.trained_on)
    reviews = Reviews(volumes, known, config.gate) if volumes else NO_REVIEWS
    return Retraining(manifest, config, data_root, loaded, opened, training, base, against, incumbent, reviews)


def _load_manifests(
    manifest: Path | None, config: RetrainConfig, data_root: Path | None, reviewed: int
) -> Manifest | None:
    """Return what the model is trained on besides reviewed regions, if there is any."""
    if config.rehearse is not None and config.start is None:
        raise nothing_to_rehearse()
    if manifest is None and not reviewed:
        raise ConfigError(
            "what is the model to be trained on?", fix="give a manifest of labelled volumes, or --from-reviews RUN"
        )
    loaded = None if manifest is None else load_manifest(manifest, data_root)
    if config.rehearse is not None:
        loaded = with_rehearsal(loaded, load_manifest(config.rehearse, data_root), config.share, reviewed)
    tested = loaded is not None and any(one.labels and one.split and one.split.test for one in loaded.volumes)
    if not tested and not reviewed:
        raise ConfigError(
            "no labelled volume has test sections, so a new model cannot be judged",
            where=manifest,
            fix="keep some sections away from training, such as "
            "split: {train: [0, 3], validation: [3, 4], test: [4, 5]}",
        )
    return loaded


def _with_base(config: RetrainConfig, workspace: Workspace) -> RetrainConfig:
    """Return the settings with the model of the reviewed run as the base model, where none is named."""
    if config.start is not None or config.train.pretrained is not None or config.from_reviews is None:
        return config
    model = load_run(workspace, config.from_reviews).model
    # Where the mask of a baseline was reviewed, there is no model yet.
    return config if model is None else config.model_copy(update={"start": model.name})


def prepare_retraining(opened: Retraining) -> PreparedRetraining:
    """Ingest every volume, and refuse before the training whatever the gate would refuse after it.

    Raises
    ------
    ConfigError
        When a model would be judged on sections it learned from.
    InputError
        When sources or labels are bad, or there is too little to judge by.
    """
    config = opened.config
    job = open_training(
        opened.manifest,
        opened.training,
        opened.workspace,
        base=opened.base,
        device=config.device,
        terms=Terms(config.licence, config.citation),
        replace=config.replace,
        reviews=opened.reviews,
    )
    judged = choose_judged_sections([one for one in job.volumes if one.test is not None], config.gate)
    # All of this before hours of training, which would be lost: a model that has seen the test sections cannot be
    # judged.
    check_all_unseen(record_trained_on(job.volumes), "the new model", judged)
    for model in filter(None, (*job.learned_from, opened.incumbent)):
        check_all_unseen(model.card.trained_on, model.path, judged)
    # Inverted labels would be learned and then confirmed by inverted test labels.
    if not config.force:
        check_polarity(predict_with(opened.incumbent, config.device), judged)
    for one in job.volumes:
        if one.test is None and not isinstance(one.volume, ReviewedVolume):
            tell(f"{one.name}: has no test sections, so nothing is said of how the new model does there")
    return PreparedRetraining(opened, job, judged)


def train_candidate(ready: PreparedRetraining) -> TrainResult:
    """Train the candidate, or resume it; a finished candidate that was not judged yet is not trained again.

    Raises
    ------
    SegemError
        As `segem.stages.training.train.train` does.
    """
    name = ready.opened.config.out
    return summarise_training(run_training(ready.job, name, ready.opened.workspace.models / name, candidate=True))


def judge_candidate(ready: PreparedRetraining, version: Path) -> Promotion:
    """Put the candidate in use if no volume speaks against it; otherwise keep it aside and say why.

    Raises
    ------
    SegemError
        As `segem.stages.training.gate.promote.promote` does.
    """
    opened, config = ready.opened, ready.opened.config
    return decide_promotion(
        load_artefact(version),
        ready.judged,
        opened.name,
        config.gate,
        opened.workspace,
        against=opened.against,
        force=config.force,
        device=config.device,
    )


def _name_incumbent(config: RetrainConfig, workspace: Workspace) -> str | None:
    """Return the incumbent: the one asked for, else what the name refers to now, else the base model."""
    if config.against is not None:
        return config.against
    versions = [folder for _, folder in list_models(workspace) if folder.parent == workspace.models / config.out]
    return config.out if find_version_in_use(versions) else config.start

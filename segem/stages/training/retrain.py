"""From labelled sections to a better model that is in use, or kept aside with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segem.config import Manifest, load_manifest
from segem.config.retrain import RetrainConfig, nothing_to_rehearse, with_rehearsal
from segem.errors import ConfigError
from segem.io.versions import version_in_use
from segem.io.workspace import Workspace, open_workspace
from segem.learn.artefact import Artefact, find_model, list_models
from segem.progress import tell
from segem.records.promotion import Promotion as Promotion
from segem.stages.models.zoo import check_new_name
from segem.stages.training.gate.polarity import check_polarity
from segem.stages.training.gate.promote import check_all_unseen, masks_of_rival, promote, sections_to_judge
from segem.stages.training.labelled import lessons, trained_on
from segem.stages.training.train import TrainResult, train


@dataclass(frozen=True)
class Retraining:
    """A retraining that can start: its manifests are sound, its models are there, its workspace can be written."""

    source: Path
    """The YAML file that the manifest was read from."""
    config: RetrainConfig
    data_root: Path | None
    manifest: Manifest
    """All that is learned, what is rehearsed included."""
    workspace: Workspace
    against: str | None
    """The model to beat; None means K-means."""

    @property
    def judged(self) -> Manifest:
        """The volumes that have test sections."""
        tested = tuple(entry for entry in self.manifest.volumes if entry.labels and entry.split and entry.split.test)
        return self.manifest.model_copy(update={"volumes": tested})


def open_retraining(
    manifest: Path, config: RetrainConfig, workspace: Path, data_root: Path | None = None
) -> Retraining:
    """Check all that can be checked before a volume is read.

    Parameters
    ----------
    manifest : Path
        The YAML file; its labelled volumes are learned, and at least one of them has test sections.
    config : RetrainConfig
        What is learned, rehearsed and passed.
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
        When the name is taken, a manifest is wrong, or names no section to judge by.
    ModelError
        When a model to go on from or to beat is missing or damaged.
    WorkspaceError
        When the workspace cannot be written.
    """
    check_new_name(config.out)
    if config.rehearse is not None and config.start is None:
        raise nothing_to_rehearse()
    loaded = load_manifest(manifest, data_root)
    if config.rehearse is not None:
        loaded = with_rehearsal(loaded, load_manifest(config.rehearse, data_root), config.share)
    opened = open_workspace(workspace)
    if config.start is not None:
        find_model(config.start, opened)
    job = Retraining(manifest, config, data_root, loaded, opened, _against(config, opened))
    judged = [entry.name for entry in job.manifest.volumes if entry in job.judged.volumes]
    if not judged:
        raise ConfigError(
            "no labelled volume has test sections, so a new model cannot be judged",
            where=manifest,
            fix="keep some sections away from training, such as "
            "split: {train: [0, 3], validation: [3, 4], test: [4, 5]}",
        )
    return job


def prepare(job: Retraining) -> None:
    """Ingest every volume, and refuse before the training what would be refused after it.

    Raises
    ------
    ConfigError
        When a model would be judged on sections it learned from.
    InputError
        When sources or labels are bad, or there is too little to judge by.
    """
    volumes, splits = lessons(job.manifest, job.workspace, job.config.replace)
    chosen = sections_to_judge(job.judged, job.config.gate, job.workspace)
    before = _known(job.config.start, job.workspace)
    check_all_unseen(trained_on(volumes, splits), "the new model", chosen)
    if before is not None:
        check_all_unseen(before.card.trained_on, before.path, chosen)
    rival = _known(job.against, job.workspace)
    if rival is not None:
        check_all_unseen(rival.card.trained_on, rival.path, chosen)
    if not job.config.force:
        check_polarity(masks_of_rival(rival, job.config.device), chosen)
    for name in sorted(set(splits) - {volume.name for volume, _ in chosen}):
        tell(f"{name}: has no test sections, so nothing is said of how the new model does there")


def learn(job: Retraining) -> TrainResult:
    """Train the candidate; one that was killed goes on, and one that was trained but not judged is not trained again.

    Raises
    ------
    SegemError
        As `segem.stages.training.train.train` does.
    """
    config = job.config
    return train(
        job.manifest,
        config.out,
        config.train,
        job.workspace,
        start=config.start,
        device=config.device,
        licence=config.licence,
        citation=config.citation,
        candidate=True,
    )


def judge(job: Retraining, version: Path) -> Promotion:
    """Put the candidate in use if no volume speaks against it; else keep it aside and say why.

    Raises
    ------
    SegemError
        As `segem.stages.training.gate.promote.promote` does.
    """
    config = job.config
    return promote(
        str(version),
        job.judged,
        config.gate,
        job.workspace,
        against=job.against,
        force=config.force,
        device=config.device,
    )


def _against(config: RetrainConfig, workspace: Workspace) -> str | None:
    """Return the model to beat: the one asked for, or what the name means now, or the one that is gone on from."""
    if config.against is not None:
        find_model(config.against, workspace)
        return config.against
    versions = [folder for _, folder in list_models(workspace) if folder.parent == workspace.models / config.out]
    return config.out if version_in_use(versions) else config.start


def _known(name: str | None, workspace: Workspace) -> Artefact | None:
    return None if name is None else find_model(name, workspace)

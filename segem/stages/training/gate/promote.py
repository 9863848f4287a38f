"""Decides whether a model replaces the one in use; both are judged on the same sections, which neither has seen."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import segem
from segem.config import Device, GateConfig, Manifest
from segem.errors import ConfigError
from segem.io.files import locked
from segem.io.run import now
from segem.io.versions import find_promoted, find_version_in_use, record_decision
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact, find_model, list_models, load_artefact
from segem.progress import tell
from segem.records.promotion import Incumbent, Promotion
from segem.stages.training.gate.judge import (
    Contender,
    JudgedSections,
    check_all_unseen,
    choose_judged_sections,
    judge_volume,
)
from segem.stages.training.gate.polarity import check_polarity
from segem.stages.training.labelled import open_labelled_volumes
from segem.stages.training.provenance import warn_of_unknown_origin


def promote(
    candidate: str,
    manifest: Manifest,
    config: GateConfig,
    workspace: Workspace,
    *,
    against: str | None = None,
    force: bool = False,
    device: Device = "auto",
) -> Promotion:
    """Put a model in use if no volume speaks against it; otherwise keep it aside and say why.

    A volume speaks against it unless the interval of the difference in membrane IoU excludes a loss of more than
    `config.harm`. It also does where V_rand, the mean over its sections, falls by more than `config.harm_v_rand`, where
    the interval of the difference in V_rand lies wholly below 0, and where there are too few cells to tell. All volumes
    must pass, so more volumes do not make it likelier that harm goes unnoticed. Where there is no model yet, K-means is
    the incumbent, and the interval of the candidate's gain in IoU must lie above 0. The decision is written into the
    folder of the candidate.

    Parameters
    ----------
    candidate : str
        Name of a model of the workspace, whose newest version is meant, or the folder of a version.
    manifest : Manifest
        Labelled volumes; their ``test`` sections are judged, or the ``validation`` sections of a volume without any.
    config : GateConfig
        What counts as harm, and at which confidence.
    workspace : Workspace
        Where models and volumes are.
    against : str, optional
        Name or folder of the incumbent; the candidate's own name stands for the version it would replace. If absent,
        the version that was promoted before, if there is one.
    force : bool
        Put it in use whatever the comparison shows; the record says so.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Returns
    -------
    Promotion
        What was decided, as it is on disk.

    Raises
    ------
    ConfigError
        When either model has learned from sections that would be judged, both are the same, the candidate is not of
        this workspace, or no volume has labels.
    InputError
        When sources are bad, or there is too little to judge by.
    ModelError
        When a model is missing or damaged, or gives NaN or infinity.
    WorkspaceError
        When a volume is damaged, the disk refuses, or another promotion of the same model is under way.
    """
    found = _find_candidate(candidate, workspace)
    judged = choose_judged_sections(open_labelled_volumes(manifest, workspace), config)
    return decide_promotion(
        found, judged, manifest.name, config, workspace, against=against, force=force, device=device
    )


def decide_promotion(
    candidate: Artefact,
    judged: Sequence[JudgedSections],
    manifest: str,
    config: GateConfig,
    workspace: Workspace,
    *,
    against: str | None,
    force: bool,
    device: Device,
) -> Promotion:
    """Judge a candidate on sections already chosen, and record the decision; see `promote`.

    Parameters
    ----------
    candidate : Artefact
        A version of a model of the workspace.
    judged : sequence of JudgedSections
        What `segem.stages.training.gate.judge.choose_judged_sections` returned.
    manifest : str
        Name of their manifest, for the record.
    config, workspace, against, force, device
        See `promote`.
    """
    home = candidate.path.parent
    with locked(home / ".promotion.lock"):
        # Looked up here and not before a training of hours: another version may have been promoted in the meantime.
        incumbent = _find_incumbent(against, candidate, workspace)
        for model in filter(None, (candidate, incumbent)):
            warn_of_unknown_origin(model)
            # Both of them: an incumbent that knows the sections would seem better than it is, and block every
            # candidate.
            check_all_unseen(model.card.trained_on, model.path, judged)
        sides: dict[Literal["candidate", "incumbent"], Artefact | None]
        sides = {"candidate": candidate, "incumbent": incumbent}
        contenders = Contender.open(candidate, device), Contender.open(incumbent, device)
        if not force:
            # With the incumbent's masks: the candidate may have been trained on the inverted labels itself.
            check_polarity(contenders[1].predict, judged)
        judgements = tuple(judge_volume(*contenders, sections, config) for sections in judged)
        reason = "; ".join(f"{one.volume}: {one.harm}" for one in judgements if one.harm)
        promotion = Promotion(
            name=home.name,
            version=candidate.path.name,
            digest=candidate.digest,
            incumbent=_record(incumbent) if incumbent is not None else None,
            promoted=force or not reason,
            forced=force and bool(reason),
            reason=reason,
            judged=judgements,
            unknown_origin=tuple(side for side, model in sides.items() if model and not model.card.trained_on),
            gate=config,
            manifest=manifest,
            who=_find_user(),
            when=now(),
            segem_version=segem.__version__,
        )
        record_decision(candidate.path, promotion)
        if not promotion.promoted:
            # Said at once: whoever trained the candidate may think that its name now refers to it.
            in_use = find_version_in_use(_list_versions(home.name, workspace))
            tell(
                f"{home.name} still refers to version {in_use.name}"
                if in_use is not None
                else f"{home.name} refers to no version: all were kept aside"
            )
    return promotion


def _record(incumbent: Artefact) -> Incumbent:
    return Incumbent(name=incumbent.card.name, path=str(incumbent.path), digest=incumbent.digest)


def _find_candidate(name: str, workspace: Workspace) -> Artefact:
    if "/" not in name:
        versions = _list_versions(name, workspace)
        if versions:
            return load_artefact(versions[0])
        path = find_model(name, workspace).path
    else:
        path = load_artefact(Path(name)).path.resolve()
    if path.parent.parent != workspace.models.resolve():
        raise ConfigError(
            "only a model of the workspace can be promoted",
            where=path,
            expected=f"a folder {workspace.models}/NAME/VERSION",
            fix="train it into this workspace, or give the --workspace it is in",
        )
    return load_artefact(workspace.models / path.parent.name / path.name)


def _list_versions(name: str, workspace: Workspace) -> list[Path]:
    """Return the versions of a model of the workspace, newest first."""
    return [folder for _, folder in list_models(workspace) if folder.parent == workspace.models / name]


def _find_incumbent(against: str | None, candidate: Artefact, workspace: Workspace) -> Artefact | None:
    home = candidate.path.parent
    in_use = find_promoted(home)
    if in_use == candidate.path:
        raise ConfigError(
            "this version is in use already", where=candidate.path, fix="give the folder of another version"
        )
    if against is None:
        return load_artefact(in_use) if in_use else None
    others = [version for version in _list_versions(home.name, workspace) if version != candidate.path]
    replaced = find_version_in_use(others) if against == home.name else None
    incumbent = load_artefact(replaced) if replaced else find_model(against, workspace)
    if incumbent.path.resolve() == candidate.path.resolve():
        raise ConfigError(
            "a model cannot be compared with itself",
            where=candidate.path,
            fix="give --against another model or version, or leave it out if there was none before",
        )
    return incumbent


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container a user may have no name
        return f"user {os.getuid()}"

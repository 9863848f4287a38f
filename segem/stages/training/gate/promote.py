"""Decides whether a model replaces the one in use: both are judged on the same sections, which neither has seen."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import segem
from segem.config import Device, GateConfig, Manifest
from segem.errors import ConfigError, InputError
from segem.io.files import locked
from segem.io.run import now
from segem.io.versions import decide, promoted_version, version_in_use
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.bootstrap import Difference, compare_iou, count_tiles
from segem.kernels.threshold import membrane_mask, stored_probability
from segem.kernels.tiles import pool_depth
from segem.learn.artefact import Artefact, find_model, geometry_of, list_models, load_artefact, load_net
from segem.learn.checks import check_predicted
from segem.learn.pieces import in_pieces
from segem.learn.runtimes.choice import choose_device
from segem.learn.train import predict_section
from segem.progress import tell, track
from segem.records.card import TrainedOn
from segem.records.promotion import Judgement, Promotion, Rival
from segem.stages.training.gate.polarity import Mask, Masks, check_polarity, kmeans_masks, truth_of
from segem.stages.training.labelled import check_unseen, labelled_sections, lessons, warn_of_unknown_origin

Chosen = list[tuple[Volume, range]]
"""The sections of each volume that a model is judged on."""


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
    `config.harm`. All volumes must pass, so several of them make it no likelier that harm slips through. Where there is
    no model yet, the candidate must surely be better than K-means. The decision is written into the folder of the
    candidate.

    Parameters
    ----------
    candidate : str
        Name of a model of the workspace, whose newest version is meant, or the folder of a version.
    manifest : Manifest
        Labelled volumes; their ``test`` sections are judged, or the ``validation`` sections of a volume without any.
    config : GateConfig
        What counts as harm, and how sure one must be.
    workspace : Workspace
        Where models and volumes are.
    against : str, optional
        Name or folder of the model in use; the candidate's own name means the version it would replace. If absent, the
        version that was promoted before, if there is one.
    force : bool
        Put it in use whatever was found; the record says so.
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
    challenger = _candidate(candidate, workspace)
    home = challenger.path.parent
    with locked(home / ".promotion.lock"):
        rival = _rival(against, challenger, workspace)
        chosen = sections_to_judge(manifest, config, workspace)
        for artefact in filter(None, (challenger, rival)):
            warn_of_unknown_origin(artefact)
            check_all_unseen(artefact.card.trained_on, artefact.path, chosen)
        sides: dict[Literal["candidate", "incumbent"], Artefact | None]
        sides = {"candidate": challenger, "incumbent": rival}
        first, second = _masks_of(challenger, device), masks_of_rival(rival, device)
        if not force:
            check_polarity(second, chosen)
        judged = tuple(judge(first, second, volume, sections, config, rival is not None) for volume, sections in chosen)
        reason = "; ".join(f"{one.volume}: {one.harm}" for one in judged if one.harm)
        promotion = Promotion(
            name=home.name,
            version=challenger.path.name,
            digest=challenger.digest,
            against=Rival(name=rival.card.name, path=str(rival.path), digest=rival.digest) if rival else None,
            promoted=force or not reason,
            forced=force and bool(reason),
            reason=reason,
            judged=judged,
            unknown_origin=tuple(side for side, model in sides.items() if model and not model.card.trained_on),
            gate=config,
            manifest=manifest.name,
            who=_user(),
            when=now(),
            segem_version=segem.__version__,
        )
        decide(challenger.path, promotion)
        if not promotion.promoted:
            means = version_in_use(_versions(home.name, workspace))
            tell(f"{home.name} means {means.name if means else 'no version now: all were kept aside'}")
    return promotion


def _candidate(name: str, workspace: Workspace) -> Artefact:
    if "/" not in name:
        versions = _versions(name, workspace)
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


def _versions(name: str, workspace: Workspace) -> list[Path]:
    """Return the versions of a model of the workspace, newest first."""
    return [folder for _, folder in list_models(workspace) if folder.parent == workspace.models / name]


def _rival(against: str | None, challenger: Artefact, workspace: Workspace) -> Artefact | None:
    home = challenger.path.parent
    in_use = promoted_version(home)
    if in_use == challenger.path:
        raise ConfigError(
            "this version is in use already", where=challenger.path, fix="give the folder of another version"
        )
    if against is None:
        return load_artefact(in_use) if in_use else None
    others = [version for version in _versions(home.name, workspace) if version != challenger.path]
    replaced = version_in_use(others) if against == home.name else None
    rival = load_artefact(replaced) if replaced else find_model(against, workspace)
    if rival.path.resolve() == challenger.path.resolve():
        raise ConfigError(
            "a model cannot be compared with itself",
            where=challenger.path,
            fix="give --against another model or version, or leave it out if there was none before",
        )
    return rival


def sections_to_judge(manifest: Manifest, config: GateConfig, workspace: Workspace) -> Chosen:
    """Ingest the labelled volumes of a manifest; return the sections to judge a model on, enough of them.

    Raises
    ------
    ConfigError
        When no volume has labels, or a split does not fit its volume.
    InputError
        When sources are bad, or there is too little to judge by.
    """
    volumes, splits = lessons(manifest, workspace)
    parts = {name: split.test or split.validation for name, split in splits.items()}
    chosen = [(volumes[name], range(part.start, part.stop)) for name, part in parts.items()]
    for volume, sections in chosen:
        counts = [_composition(truth_of(volume, z), config) for z in sections]
        blocks = _cubes(counts, volume, config)
        _check_enough(volume, sections, blocks[blocks.any(axis=1)], config)
    return chosen


def check_all_unseen(trained_on: Iterable[TrainedOn], whose: object, chosen: Chosen) -> None:
    """Raise unless a model has seen none of the sections it is to be judged on.

    Raises
    ------
    ConfigError
        When it has; the message names the first volume.
    """
    for volume, sections in chosen:
        check_unseen(trained_on, whose, volume, (sections.start, sections.stop), "judged")


def judge(
    first: Masks,
    second: Masks,
    volume: Volume,
    sections: range,
    config: GateConfig,
    replaces: bool,
) -> Judgement:
    """Compare what two models find in the same sections of a volume; `replaces` says that the second is in use."""
    counts: list[list[NDArray[np.int64]]] = [[], []]
    held = []
    with track(f"judge {volume.name}", len(sections), "section") as advance:
        for z, *pair in zip(sections, first(volume, sections), second(volume, sections), strict=True):
            truth = truth_of(volume, z)
            for mine, mask in zip(counts, pair, strict=True):
                mine.append(count_tiles(truth, mask, config.block_px))
            held.append(_composition(truth, config))
            advance(1)
    # Blocks of which nothing is known are no observations.
    known = _cubes(held, volume, config).any(axis=1)
    blocks = [_cubes(mine, volume, config)[known] for mine in counts]
    found = compare_iou(*blocks, resamples=config.resamples, confidence=config.confidence, seed=config.seed)
    return Judgement(
        volume=volume.name,
        source_digest=volume.attributes["source_digest"],
        sections=(sections.start, sections.stop),
        blocks=found.blocks,
        iou_candidate=found.first,
        iou_against=found.second,
        difference=found.value,
        low=found.low,
        high=found.high,
        lower_bound=found.lower_bound,
        harm=_harm(found, config, replaces),
    )


def _composition(truth: Mask, config: GateConfig) -> NDArray[np.int64]:
    """Return membrane and other voxels of each tile of a truth, as far as it is known."""
    # Beside a mask of membrane alone, what is found is the membrane of the truth, and what is invented the rest.
    return count_tiles(truth, np.ones_like(truth), config.block_px)


def _cubes(counts: list[NDArray[np.int64]], volume: Volume, config: GateConfig) -> NDArray[np.int64]:
    """Add up tiles to cubes of tissue: an error runs on through thin sections just as it runs on along a membrane."""
    return pool_depth(np.stack(counts), max(1, round(config.block_px * volume.voxel_size.y / volume.voxel_size.z)))


def _check_enough(volume: Volume, sections: range, blocks: NDArray[np.int64], config: GateConfig) -> None:
    where = f"{volume.name}, sections {sections.start} to {sections.stop - 1}"
    if len(blocks) < config.fewest_blocks:
        raise InputError(
            "too little to judge a model by",
            where=where,
            expected=f"{config.fewest_blocks} or more blocks of {config.block_px} px",
            found=f"{len(blocks)} with labels",
            fix="judge on larger sections, or leave this volume out",
        )
    membrane, other = blocks[:, 0].sum(), blocks[:, 1].sum()
    if not (membrane and other):
        raise InputError(
            "the truth of these sections holds one class only",
            where=where,
            expected="membrane and background",
            found=f"{membrane / (membrane + other):.0%} membrane",
            fix="check the labels and their polarity, or name other sections as test",
        )


def _harm(found: Difference, config: GateConfig, replaces: bool) -> str:
    """Return why a difference speaks against the candidate, or nothing."""
    measured = f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    if not replaces:
        return "" if found.low > 0 else f"not surely better than K-means: IoU {measured}"
    if found.low > -config.harm:
        return ""
    if found.high < -config.harm:
        return f"worse than the model in use: IoU {measured}"
    return f"a loss of more than {config.harm:g} cannot be excluded: IoU {measured}"


def masks_of_rival(rival: Artefact | None, device: Device) -> Masks:
    """Return what finds the membrane that a candidate is compared with: the model in use, or K-means without one."""
    return kmeans_masks if rival is None else _masks_of(rival, device)


def _masks_of(artefact: Artefact, device: Device) -> Masks:
    net, where = load_net(artefact), choose_device(device)
    shape = geometry_of(artefact.card)
    net, context = in_pieces(net.to(where), shape), shape.context_sections

    def masks(volume: Volume, sections: Iterable[int]) -> Iterator[Mask]:
        for z in sections:
            (section,) = labelled_sections(volume, (z, z + 1), context, seen=(0, volume.shape[0]))
            probability = predict_section(net, section.image, where)
            check_predicted(probability, f"{artefact.path}, section {z} of {volume.name}")
            # The same 8 bits that a run stores, so that this is the mask a run would write.
            yield membrane_mask(stored_probability(probability), artefact.card.threshold)

    return masks


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in containers a user may have no name
        return f"user {os.getuid()}"

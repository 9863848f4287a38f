"""Ranks unused sections by how much models of different seeds disagree about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from segem.config import Device, Manifest
from segem.errors import ConfigError
from segem.geometry import VoxelSize
from segem.io.files import write_text
from segem.io.learning_curve import RANKING, load_learning_curve, locate_learning_curve
from segem.io.seen import compute_digests
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.disagreement import disagreement, find_hottest_tile
from segem.learn.artefact import Artefact, geometry_of, load_artefact
from segem.learn.checks import check_predicted
from segem.learn.predict import predict_section
from segem.learn.runtimes.choice import choose_device
from segem.learn.sized import nets_by_pixel_size
from segem.progress import track
from segem.records.label_next import LabelNext, RankedSection, Spot
from segem.records.learning_curve import Arm
from segem.stages.training.labelled import NO_SECTIONS, read_section_images, read_section_tissue, resolve_split
from segem.stages.training.provenance import match_known, record_sections
from segem.stages.volumes.ingest import ingest

TILE_PX = 256


def label_next(
    manifest: Manifest,
    name: str,
    workspace: Workspace,
    *,
    device: Device = "auto",
    tile_px: int = TILE_PX,
) -> LabelNext:
    """Rank unused sections of a manifest by how much the models of a learning curve disagree about them.

    The models are those that were trained on all sections, of the start that scored best; see
    `segem.kernels.disagreement`. They predict every section of volumes without labels, and the sections of labelled
    ones that belong to no part of the split, except for sections that they have seen, or that are labelled, under
    another name.

    Parameters
    ----------
    manifest : Manifest
        Volumes to choose from.
    name : str
        Of the learning curve.
    workspace : Workspace
        Where the learning curve is; the ranking is written to the same folder.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    tile_px : int
        Edge of the tile that is marked in each section.

    Returns
    -------
    LabelNext

    Raises
    ------
    ConfigError
        When there is no such learning curve, or no section to choose from.
    InputError
        When sources are bad.
    ModelError
        When a model is missing or damaged, or gives NaN or infinity.
    WorkspaceError
        When a volume is damaged or the disk refuses.
    """
    curve = load_learning_curve(name, workspace)
    home, best = locate_learning_curve(name, workspace), max(curve.arms, key=_mean_with_all)
    members = [load_artefact(home / member) for member in best.members]
    offered = list(_offered(manifest, members, workspace))
    if not offered:
        raise ConfigError(
            "no section to choose from",
            where=manifest.name,
            expected="a volume without labels, or sections outside train, validation and test",
            fix="add the volume that is to be labelled to the manifest, without labels",
        )
    ask = [_probability_of(member, device) for member in members]
    context = geometry_of(members[0].card).context_sections
    found = []
    with track("disagreement", len(offered), "section") as advance:
        for volume, z in offered:
            (image,) = read_section_images(volume, (z, z + 1), context, seen=(0, volume.shape[0]))
            probabilities = np.stack([member(image, volume.voxel_size) for member in ask])
            outside = read_section_tissue(volume, z).outside
            if outside is not None:
                probabilities[:, outside[0] != 0] = 0
            bits = disagreement(probabilities)
            (top, bottom), (left, right), most = find_hottest_tile(bits, tile_px)
            spot = Spot(start=(z, top, left), stop=(z + 1, bottom, right), disagreement=round(most, 6))
            found.append(
                RankedSection(
                    volume=volume.name,
                    section=z,
                    disagreement=round(float(bits.mean()), 6),
                    membrane=round(float(probabilities.mean()), 4),
                    hottest=spot,
                )
            )
            advance(1)
    result = LabelNext(
        name=name,
        manifest=manifest.name,
        start=best.start,
        digests=tuple(member.digest for member in members),
        # Ties by name and number, so that the ranking does not depend on the order of the manifest.
        sections=tuple(sorted(found, key=lambda one: (-one.disagreement, one.volume, one.section))),
    )
    write_text(home / RANKING, result.model_dump_json(indent=2) + "\n")
    return result


def _mean_with_all(arm: Arm) -> float:
    most = max(point.sections for point in arm.points)
    return float(np.mean([point.iou for point in arm.points if point.sections == most]))


def _offered(manifest: Manifest, members: Sequence[Artefact], workspace: Workspace) -> Iterator[tuple[Volume, int]]:
    used, volumes = [part for member in members for part in member.card.trained_on], []
    for entry in manifest.volumes:
        ingest(entry.ingest_config(), workspace)
        volume = Volume.open(workspace.volume(entry.name))
        volumes.append(volume)
        if entry.labels is not None:
            split = resolve_split(entry, volume)
            parts = (part for part in (split.train, split.validation, split.test) if part is not None)
            used += [record_sections(volume, (part.start, part.stop), NO_SECTIONS, 0.0) for part in parts]
    for volume in volumes:
        depth, attributes = volume.shape[0], volume.attributes
        if "section_digests" not in attributes:
            # The stack that labelled sections were cut from, as a rule, of which their digests alone are known.
            attributes = attributes | {"section_digests": compute_digests(volume, range(depth))}
        known = match_known(used, attributes, (0, depth))
        taken = {z for _, (first, stop) in known for z in range(first, stop)}
        yield from ((volume, z) for z in range(depth) if z not in taken)


def _probability_of(
    artefact: Artefact, device: Device
) -> Callable[[NDArray[np.float32], VoxelSize], NDArray[np.float32]]:
    where = choose_device(device)
    net_for = nets_by_pixel_size(artefact, where)

    def probability(image: NDArray[np.float32], voxel: VoxelSize) -> NDArray[np.float32]:
        found = predict_section(net_for(voxel), image, where)
        check_predicted(found, artefact.path, "make the learning curve")
        return found

    return probability

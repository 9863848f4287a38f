"""Ground truth from nothing: a mask to paint from, and the patches of a volume in the order in which to paint them.

What is labelled is a run of its own, ``label-VOLUME``, whose mask is a copy of what was proposed: labels stay when the
run that proposed them is computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from segem.config import BaselineConfig
from segem.config.review import LabelConfig
from segem.errors import ConfigError, InputError, WorkspaceError
from segem.geometry import ZYX, grid
from segem.io.blocks import put_block, read_block
from segem.io.files import disk_errors
from segem.io.learning_curve import RANKING, locate_learning_curve
from segem.io.reviewed import open_mask
from segem.io.reviews import REGION_PX
from segem.io.run import load_run, result_volume, update_run, volume_lock
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.errors import Regions
from segem.progress import tell
from segem.records.label_next import LabelNext, RankedSection
from segem.records.review_queue import Region
from segem.records.run import RunRecord, VolumeRecord
from segem.stages.segmentation.baseline import baseline

FIRST_SECTIONS = 5
"""What `segem review --label` offers when no sections are named: enough for a first model and to judge it."""
WATERSHED, KMEANS, EMPTY = "watershed", "kmeans", "empty"


@dataclass(frozen=True)
class Labelling:
    """What is labelled: the run that keeps it, and the patches in their order."""

    run: str
    volume: str
    patches: tuple[Region, ...]


def open_labelling(config: LabelConfig, workspace: Workspace) -> Labelling:
    """Begin to label a volume, or go on with it.

    Parameters
    ----------
    config : LabelConfig
        Volume, sections and what is painted from.
    workspace : Workspace
        Where the volume is.

    Returns
    -------
    Labelling

    Raises
    ------
    ConfigError
        When there is no such section, learning curve or run, or the labelling has begun from another mask.
    InputError
        When the run that is to be painted from has no finished mask of the volume.
    WorkspaceError
        When the volume is missing or damaged, or the disk refuses.
    """
    name, run = config.label, f"label-{config.label}"
    volume = Volume.open(workspace.volume(name))
    ranked = {} if config.following is None else _read_ranking(config.following, name, workspace)
    sections = config.chosen or tuple(_choose_apart(ranked)) or _spread(volume.shape[0])
    wrong = [z for z in sections if z >= volume.shape[0]]
    if wrong:
        raise ConfigError(
            "no such section", where=name, expected=f"0 to {volume.shape[0] - 1}", found=wrong, fix="correct --sections"
        )
    if run not in workspace.runs() or name not in load_run(workspace, run).volumes:
        _propose(name, run, config.proposal or _newest_mask(workspace, name) or WATERSHED, workspace)
    elif config.proposal is not None:
        raise ConfigError(
            "the labelling of this volume has begun, and what is painted from cannot change any more",
            where=run,
            fix="leave --proposal out to go on",
        )
    return Labelling(run, name, tuple(list_patches(name, volume.shape, sections, ranked)))


def list_patches(
    volume: str, shape: ZYX, sections: Sequence[int], ranked: dict[int, RankedSection] | None = None
) -> list[Region]:
    """Return the patches of some sections in the order in which to paint them.

    In each section they grow from one place, so that what is labelled hangs together and cells lie within it whole: the
    place where models disagree most, or else the middle. The sections take turns, so that each of them has labels soon,
    since a model needs some to learn from and others to be judged by.

    Parameters
    ----------
    volume : str
        Its name.
    shape : tuple of int
        Its extent along (z, y, x).
    sections : sequence of int
        In their order.
    ranked : dict, optional
        Where models disagree in sections, as `segem label-next` found.

    Returns
    -------
    list of Region

    Examples
    --------
    >>> [(one.z, one.y, one.x) for one in list_patches("cortex", (9, 512, 512), [7, 2])][:3]
    [(7, 0, 0), (2, 0, 0), (7, 0, 256)]
    """
    cut, ranked = Regions.cut(shape[1:], REGION_PX), ranked or {}
    cells = [(y, y1, x, x1) for y, y1 in pairwise(cut.rows) for x, x1 in pairwise(cut.columns)]

    def order(z: int) -> list[tuple[int, int, int, int]]:
        from_y, from_x = shape[1] / 2, shape[2] / 2
        if z in ranked:
            (_, top, left), (_, bottom, right) = ranked[z].hottest.start, ranked[z].hottest.stop
            from_y, from_x = (top + bottom) / 2, (left + right) / 2
        return sorted(cells, key=lambda c: ((c[0] + c[1]) / 2 - from_y) ** 2 + ((c[2] + c[3]) / 2 - from_x) ** 2)

    ordered = {z: order(z) for z in sections}
    found = []
    for turn in range(len(cells)):
        for z in sections:
            y, y1, x, x1 = ordered[z][turn]
            where = f"patch {turn + 1} of {len(cells)} of this section"
            hot = f"; the models disagree most here, {ranked[z].hottest.disagreement:.2f} bits" if z in ranked else ""
            found.append(
                Region(
                    volume=volume,
                    z=z,
                    y=y,
                    x=x,
                    height_px=y1 - y,
                    width_px=x1 - x,
                    priority=1 - turn / len(cells),
                    reason=where + (hot if turn == 0 else ""),
                )
            )
    return found


def _spread(depth: int) -> tuple[int, ...]:
    """Return sections spread evenly over a volume, none at its ends where it has others."""
    count = min(FIRST_SECTIONS, depth)
    return tuple(int((k + 0.5) * depth / count) for k in range(count))


def _read_ranking(curve: str, volume: str, workspace: Workspace) -> dict[int, RankedSection]:
    """Return what `segem label-next` found of the sections of a volume, the one to label first on top."""
    path = locate_learning_curve(curve, workspace) / RANKING
    if not path.is_file():
        raise ConfigError("no such list", where=path, fix=f"make it first: `segem label-next MANIFEST --of {curve}`")
    with disk_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        found = LabelNext.model_validate_json(text).sections
    except ValueError as error:
        raise WorkspaceError(
            "the list of sections cannot be read", where=path, found=error, fix="make it again: `segem label-next`"
        ) from None
    ranked = {one.section: one for one in found if one.volume == volume}
    if not ranked:
        known = ", ".join(sorted({one.volume for one in found}))
        raise ConfigError("the list has no section of this volume", where=volume, found=known, fix="label one of these")
    return ranked


def _choose_apart(ranked: dict[int, RankedSection]) -> list[int]:
    """Return the first sections of a list, one alone of those that lie side by side, as they look alike."""
    chosen: list[int] = []
    for z in ranked:
        if len(chosen) < FIRST_SECTIONS and all(abs(z - other) > 1 for other in chosen):
            chosen.append(z)
    return chosen


def _newest_mask(workspace: Workspace, volume: str) -> str | None:
    """Return the newest run with a finished mask of a model for a volume."""
    found = []
    for run in workspace.runs():
        try:
            record = load_run(workspace, run)
            if volume in record.volumes and record.volumes[volume].membrane is not None:
                open_mask(workspace, run, volume)
                found.append((record.created, run))
        except (InputError, WorkspaceError):
            # One that is damaged or unfinished proposes nothing.
            continue
    return max(found)[1] if found else None


def _propose(name: str, run: str, proposal: str, workspace: Workspace) -> None:
    """Make the run and its mask; its record is last, so that what was killed begins anew."""
    if proposal == WATERSHED:
        tell(f"{name}: you paint from a watershed of the image")
        baseline(name, run, BaselineConfig(method="watershed"), workspace)
        return
    if proposal == KMEANS:
        tell(f"{name}: you paint from K-means")
        # Smoothed, since whoever paints must take away each speck.
        baseline(name, run, BaselineConfig(sigma_px=2.0), workspace)
        return
    mask = None
    if proposal != EMPTY:
        if proposal not in workspace.runs() or name not in load_run(workspace, proposal).volumes:
            raise ConfigError(
                "no such mask to paint from",
                where=proposal,
                found=f"runs: {', '.join(workspace.runs()) or 'none'}",
                fix=f"--proposal takes a run that holds {name}, {WATERSHED}, {KMEANS} or {EMPTY}",
            )
        mask = open_mask(workspace, proposal, name)
        tell(f"{name}: you paint from the mask of {proposal}")
    with volume_lock(workspace, run, name):
        result = result_volume(workspace, run, name)
        for _, box in grid(result.shape, result.write_block):
            given = np.zeros(box.shape, np.uint8) if mask is None else read_block(mask, box, "see `segem verify`")
            put_block(result.label("membrane"), box, (given == 1).astype(np.uint8))
        result.build_pyramid("membrane")

    def enter(record: RunRecord) -> RunRecord:
        return record.model_copy(update={"volumes": {name: VolumeRecord()}})

    update_run(workspace, run, enter)

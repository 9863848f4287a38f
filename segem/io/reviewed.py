"""The mask that is reviewed, and the layer ``reviewed``: the same with all corrections, replayed from the log."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError, WorkspaceError
from segem.geometry import ZYX, Box, grid
from segem.io.blocks import put_block, read_block
from segem.io.files import disk_errors
from segem.io.layers import require_whole
from segem.io.review_rows import DECIDED_OF, require_mask
from segem.io.reviews import LOG, ReadMask, ReviewLog
from segem.io.run import fault_of, load_run, source_digest, volume_lock
from segem.io.shards import Array
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.records.review import Head, Place

REVIEWED = "reviewed"
_CELL_PX = 64


def open_log(workspace: Workspace, run: str) -> ReviewLog:
    """Open the log of a run's review, made when missing."""
    return ReviewLog(workspace.run(run) / LOG)


def has_log(workspace: Workspace, run: str) -> bool:
    """Return whether anybody has begun to review a run."""
    return (workspace.run(run) / LOG).is_file()


def verify_review(workspace: Workspace, run: str) -> Head | None:
    """Check the log of a run's review, also against the head that its report keeps, and return its head.

    Returns
    -------
    Head or None
        None where nobody has begun to review the run.

    Raises
    ------
    WorkspaceError
        When an entry was changed, the log was written anew since the report, or it is gone.
    """
    kept = _kept_head(workspace, run)
    if not has_log(workspace, run):
        if kept is not None and kept.entries:
            raise WorkspaceError(
                "the log of the review is gone",
                where=workspace.run(run) / LOG,
                expected=f"{kept.entries} entries, as the report of the run says",
                fix="restore it from a copy",
            )
        return None
    with open_log(workspace, run) as log:
        return log.verify(kept)


def _kept_head(workspace: Workspace, run: str) -> Head | None:
    """Return the head that the report of a run keeps; None without a report, or one of a run that nobody reviewed."""
    path = workspace.report(run) / "report.json"
    if not path.is_file():
        return None
    with disk_errors(path):
        text = path.read_text(encoding="utf-8")
    # A report that cannot be read keeps nothing; who reads it as a report says so.
    with suppress(ValueError, TypeError, AttributeError):
        noted = json.loads(text).get("review")
        return None if noted is None else Head.model_validate(noted)
    return None


def mask_layer(workspace: Workspace, run: str, volume: str) -> str:
    """Return the layer that is reviewed: the mask of the model, or that of the baseline in a run without one."""
    noted = load_run(workspace, run).volumes[volume]
    # A mask that was brought from elsewhere has no step of segem's own.
    return "baseline" if noted.membrane is None and noted.baseline is not None else "membrane"


def open_mask(workspace: Workspace, run: str, volume: str) -> Array:
    """Return the mask of a volume of a run as it is before any review, see `mask_layer`.

    Raises
    ------
    InputError
        When the run holds no finished mask of this volume.
    WorkspaceError
        When files of it are missing.
    """
    result = Volume.open(workspace.result(run, volume))
    layer = mask_layer(workspace, run, volume)
    step = load_run(workspace, run).volumes[volume].writer_of(layer)
    if step is not None:
        fault = fault_of(step, step.result, source_digest(workspace, volume))
        if fault is not None:
            raise InputError(
                "the mask of this volume is not finished",
                where=f"{run}/{volume}",
                found=fault,
                fix=f"run `segem {step.step} {volume} --run {run}` to the end first",
            )
    mask = result.label(layer)
    require_whole(mask, f"see `segem verify {run}`, then run again")
    return mask


def reviewable(workspace: Workspace, run: str) -> list[str]:
    """Return the volumes of a run whose mask is finished, in the order of the run's record."""

    def is_finished(volume: str) -> bool:
        try:
            open_mask(workspace, run, volume)
        except (InputError, WorkspaceError):
            return False
        return True

    return [volume for volume in load_run(workspace, run).volumes if is_finished(volume)]


def reader_of(mask: Array) -> ReadMask:
    """Return what reads rectangles of a mask, and raises `InputError` where one leaves the volume."""
    whole = Box.of_shape((mask.shape[0], mask.shape[1], mask.shape[2]))

    def read(place: Place) -> NDArray[np.bool_]:
        box = Box((place.z, place.y, place.x), (place.z + 1, place.y + place.height, place.x + place.width))
        if not whole.contains(box):
            raise InputError("outside the volume", expected=f"within {whole}", found=box, fix="reload the page")
        found: NDArray[np.bool_] = read_block(mask, box, "see `segem verify`")[0] == 1
        return found

    return read


def require_reviewed_mask(log: ReviewLog, volume: str, read: ReadMask) -> None:
    """Raise where the mask of a volume is not the one that people have changed.

    Each change of a part of a section that nobody had changed before is held against the log, and each region that was
    decided on.

    Parameters
    ----------
    log : ReviewLog
        Of the run.
    volume : str
        Name of the volume.
    read : callable
        Reads its mask as it is before any review.

    Raises
    ------
    WorkspaceError
        When it was computed anew since, and is another one.
    """
    # Cells of a grid instead of the rectangles themselves: there may be tens of thousands of strokes in a section.
    met: set[ZYX] = set()
    decided: set[Place] = set()
    for entry in log.entries(volume=volume):
        place = entry.place
        if place is None:
            continue
        if DECIDED_OF in entry.detail and place not in decided:
            require_mask(read(place), entry)
            decided.add(place)
        if entry.before is None:
            continue
        rows, columns = (
            range(start // _CELL_PX, (start + edge - 1) // _CELL_PX + 1)
            for start, edge in ((place.y, place.height), (place.x, place.width))
        )
        cells = {(place.z, row, column) for row in rows for column in columns}
        if met.isdisjoint(cells):
            require_mask(read(place), entry)
        met |= cells


def trusted_places(log: ReviewLog, volume: str, upto: int | None = None) -> list[Place]:
    """Return the regions of a volume whose last decision says that the mask is right: accepted, or fixed.

    With `upto`, as they were after that entry of the log.
    """
    decided = {
        one.place: str(one.detail["decision"])
        for one in log.entries(("decision",), volume)
        if upto is None or one.number <= upto
    }
    return [place for place, decision in decided.items() if place is not None and decision in {"accept", "fix"}]


def replay(workspace: Workspace, run: str, volume: str, log: ReviewLog) -> Array:
    """Write the layer ``reviewed`` of a volume from its mask and the log, and return it; what is there is replaced.

    Raises
    ------
    WorkspaceError
        When the log was changed, or the mask is no longer the one that was corrected.
    """
    log.verify()
    mask = open_mask(workspace, run, volume)
    read = reader_of(mask)
    with volume_lock(workspace, run, volume):
        result = Volume.open(workspace.result(run, volume))
        if not result.has_label(REVIEWED):
            result.add_label(REVIEWED, np.uint8)
        reviewed = result.label(REVIEWED)
        for sections, boxes in groupby((box for _, box in grid(result.shape, result.write_block)), _sections_of):
            corrected = {z: found for z in range(*sections) if (found := log.replay_section(volume, z, read))}
            for box in boxes:
                block = read_block(mask, box, f"see `segem verify {run}`").copy()
                for z, (corner, pixels) in corrected.items():
                    start = (z, *corner)
                    own = Box(start, (z + 1, start[1] + pixels.shape[0], start[2] + pixels.shape[1]))
                    part = own.intersect(box)
                    block[part.relative_to(box.start).slices] = pixels[None][part.relative_to(start).slices]
                put_block(reviewed, box, block)
        result.build_pyramid(REVIEWED)
    return reviewed


def _sections_of(box: Box) -> tuple[int, int]:
    return box.start[0], box.stop[0]

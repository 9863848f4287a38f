"""A mask that was corrected in another program, entered in the log as corrections of a person."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config.source import Url
from segem.errors import InputError
from segem.geometry import Box, grid
from segem.io.readers.source import open_stack
from segem.io.reviewed import open_log, open_mask, reader_of, require_reviewed_mask, reviewable, verify_review
from segem.io.reviews import Appended
from segem.io.shards import shape_of
from segem.io.workspace import Workspace
from segem.kernels.runs import encode_runs
from segem.progress import track
from segem.records.review import Draft, Place

PIECE_PX = 256
"""Edge of what one entry is about: it holds fewer runs than an entry may, whatever the mask is."""
_VALUES = {0, 1, 255}
_UNTOUCHED = 128


def import_edited(source: Path | Url, volume: str, workspace: Workspace, run: str, person: str) -> int:
    """Enter all that differs between the corrected mask of a volume and a file, and return the number of pixels.

    Parameters
    ----------
    source : Path or Url
        The mask as `segem export` writes it: 0, 255 or 1 for membrane; 128, where it has any, stays as it is.
    volume : str
        Name of the volume.
    workspace : Workspace
        Where the run lies.
    run : str
        Name of the run.
    person : str
        Whose corrections they are.

    Returns
    -------
    int
        How many pixels were changed.

    Raises
    ------
    InputError
        When the run has no such mask, or the file has another shape or other values.
    WorkspaceError
        When the mask is not the one that was reviewed before.
    """
    if volume not in reviewable(workspace, run):
        known = ", ".join(reviewable(workspace, run)) or "none"
        raise InputError(
            "no such volume in this review", where=volume, expected=f"one of {known}", fix="choose one with --volume"
        )
    mask = open_mask(workspace, run, volume)
    read, shape, changed = reader_of(mask), shape_of(mask), 0
    verify_review(workspace, run)
    with (
        open_stack(source) as stack,
        open_log(workspace, run) as log,
        track(f"import {volume}", shape[0], "section") as advance,
    ):
        if stack.shape != shape:
            raise InputError(
                "not a mask of this volume",
                where=source,
                expected=shape,
                found=stack.shape,
                fix="import one of every section, as `segem export` writes it",
            )
        require_reviewed_mask(log, volume, read)
        # All of it before anything is entered, since nothing is ever taken out of the log.
        for z in range(shape[0]):
            _require_values(stack.read(Box((z, 0, 0), (z + 1, *shape[1:]))), source)
        for z in range(shape[0]):
            edited = stack.read(Box((z, 0, 0), (z + 1, *shape[1:])))[0]
            for _, box in grid((1, *shape[1:]), (1, PIECE_PX, PIECE_PX)):
                _, y, x = box.start
                piece = edited[box.slices[1:]]
                place = Place(volume=volume, z=z, y=y, x=x, height=piece.shape[0], width=piece.shape[1])
                while True:
                    seen = log.head().entries
                    flips = (piece != _UNTOUCHED) & (log.mask(place, read, seen) != (piece > 0))
                    if not flips.any():
                        break
                    draft = Draft(
                        id=secrets.token_hex(16),
                        kind="correction",
                        place=place,
                        runs=encode_runs(flips),
                        detail={"tool": "import"},
                    )
                    # Somebody may be painting there just now: then once more, from what they have left.
                    if isinstance(log.append(draft, person, seen, read), Appended):
                        changed += int(flips.sum())
                        break
            advance(1)
    return changed


def _require_values(edited: NDArray[Any], source: Path | Url) -> None:
    others = sorted(set(np.unique(edited).tolist()) - {*_VALUES, _UNTOUCHED})
    if others:
        values = "0, 255 or 1, and 128 for what is to stay"
        raise InputError("not a mask", where=source, expected=values, found=others[:5], fix="save it as 0 and 255")

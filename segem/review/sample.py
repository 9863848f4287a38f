"""Regions of a volume drawn at random: from what is wrong in them follows what is wrong in all of it."""

from __future__ import annotations

import json
import secrets

import numpy as np

from segem.records.review import Draft
from segem.records.review_queue import Region
from segem.review.apart import Apart
from segem.review.volumes import Reviewed, place_of

DRAWN = 60
"""Regions, where nobody says how many: what a person decides in an hour or two."""
_REASON = "drawn at random"


def draw_sample(apart: Apart, held: Reviewed) -> list[Region]:
    """Draw regions of a volume, each as likely as any other, and note in the log which they are.

    The same ones are drawn again, and more of them where more are asked for: the seed of the review gives their order.
    Where nobody says how many, there are as many as the time before.

    Parameters
    ----------
    apart : Apart
        Knows how many, and the seed.
    held : Reviewed
        The volume.

    Returns
    -------
    list of Region
        In the order in which they are to be looked at.
    """
    rows, columns = held.lattice.rows, held.lattice.columns
    shape = held.shape[0], len(rows) - 1, len(columns) - 1
    order = np.random.default_rng(apart.draw("sample", held.name)).permutation(int(np.prod(shape)))
    noted = apart.log.entries(("sample",), held.name)
    before = len(json.loads(str(noted[-1].detail["regions"]))) if noted else DRAWN
    regions = []
    for z, row, column in np.stack(np.unravel_index(order[: apart.checks.sample or before], shape), axis=1).tolist():
        (y, y1), (x, x1) = rows[row : row + 2], columns[column : column + 2]
        regions.append(
            Region(volume=held.name, z=z, y=y, x=x, height_px=y1 - y, width_px=x1 - x, priority=0.0, reason=_REASON)
        )
    places = [place_of(one) for one in regions]
    detail: dict[str, str | int] = {"among": len(order), "regions": json.dumps([one.model_dump() for one in places])}
    if not noted or noted[-1].detail != detail:
        draft = Draft(id=secrets.token_hex(16), kind="sample", place=places[0], detail=detail)
        apart.log.append_all((draft,), "segem", 0, held.read, lambda: ())
    return regions

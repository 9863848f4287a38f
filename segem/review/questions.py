"""Reads a section of a run and lists the questions about its mask, those first that are worth most."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from segem.config import CellsConfig
from segem.errors import InputError
from segem.geometry import Box
from segem.io.blocks import read_block
from segem.io.layers import read_section
from segem.io.shards import Array
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.divided_section import DividedSection
from segem.kernels.errors import Regions, expect_errors_in
from segem.kernels.questions import ERRING, Doubt, find_doubts
from segem.records.review_queue import Question
from segem.records.run import SegmentFacts
from segem.review.queue import find_facts

# A piece holds some 80 bytes a pixel and takes a second, and a reviewer waits for all of them.
_PIECE_PX = 1536
_MOST_PIECES = 9


def list_questions(workspace: Workspace, run: str, volume: str, z: int, count: int = 50) -> list[Question]:
    """Return the questions about a section that are worth most, the best first.

    A large section is cut into pieces of about 1536 x 1536 pixels, where its cells end too, and asked about in the nine
    of them in which most pixels are expected to be wrong.

    Parameters
    ----------
    workspace : Workspace
        Where the run lies.
    run, volume : str
        Names of the run and of a volume that it has segmented.
    z : int
        Number of the section.
    count : int
        At most so many.

    Returns
    -------
    list of Question
        Empty where nothing is worth asking.

    Raises
    ------
    InputError
        When the run has no probability of this volume, or the volume no such section.
    WorkspaceError
        When the run is missing, or a layer cannot be read.
    """
    facts = find_facts(workspace, run, volume)
    source, result = Volume.open(workspace.volume(volume)), Volume.open(workspace.result(run, volume))
    if not 0 <= z < result.shape[0]:
        raise InputError(
            "no such section", where=volume, expected=f"0 to {result.shape[0] - 1}", found=z, fix="ask for one of these"
        )
    limit = (facts.merge_below if isinstance(facts, SegmentFacts) else None) or facts.threshold
    regions = Regions.cut(result.shape[1:], _PIECE_PX)
    pieces = [
        Box((z, y0, x0), (z + 1, y1, x1)) for y0, y1 in pairwise(regions.rows) for x0, x1 in pairwise(regions.columns)
    ]
    if len(pieces) > _MOST_PIECES:
        wrong = _expect_wrong(source, result, z, facts.threshold, regions)
        pieces = [pieces[k] for k in np.argsort(-wrong, kind="stable")[:_MOST_PIECES]]
    found = []
    for piece in pieces:
        outside = None if source.outside is None else _read(source.outside, piece)
        section = DividedSection.divide(
            _read(result.raw, piece), _read(result.label("membrane"), piece), CellsConfig().sigma_px, outside
        )
        # Pairs of pixels of the section, not of the piece.
        share = section.parts.size / (result.shape[1] * result.shape[2])
        found += [_ask(doubt, piece, volume, share**2) for doubt in find_doubts(section, limit, count)]
    return sorted(found, key=lambda one: -(one.closeness - ERRING) * one.consequence)[:count]


def _expect_wrong(source: Volume, result: Volume, z: int, threshold: float, pieces: Regions) -> NDArray[np.float64]:
    """Return how many pixels of each piece of a section are expected to be wrong.

    Of this section alone: to map the errors of the volume takes minutes, where no report holds them.
    """
    outside = None if source.outside is None else read_section(source.outside, z)
    inside = None if outside is None else outside == 0
    shares = expect_errors_in(read_section(result.raw, z), threshold, pieces, inside)
    return np.nan_to_num(shares * pieces.count(inside)).ravel()


def _read(array: Array, piece: Box) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = read_block(array, piece, "run `segem verify` to see the extent")[0]
    return found


def _ask(doubt: Doubt, piece: Box, volume: str, share: float) -> Question:
    z, *corner = piece.start
    ridge = doubt.ridge + corner
    y, x = ridge[np.argmin(((ridge - ridge.mean(axis=0)) ** 2).sum(axis=1))].tolist()
    return Question(
        volume=volume,
        z=z,
        y=y,
        x=x,
        ridge=tuple((row, column) for row, column in ridge.tolist()),
        width_px=doubt.width_px,
        closeness=doubt.closeness,
        consequence=doubt.consequence * share,
        has_membrane=doubt.has_membrane,
    )

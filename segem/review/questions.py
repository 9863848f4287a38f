"""Reads a section of a run and lists the questions about its mask, those first that are worth most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segem.config import CellsConfig
from segem.errors import InputError
from segem.io.layers import read_section
from segem.io.run import load_run
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.divided_section import DividedSection
from segem.kernels.errors import Regions, expect_errors_in
from segem.kernels.questions import ERRING, Doubt, find_doubts
from segem.records.review_queue import Question
from segem.records.run import CrfFacts, SegmentFacts

# What is held of a piece is some 150 bytes a pixel, and a reviewer waits for it.
_PIECE_PX = 2048
_MOST_PIECES = 4


@dataclass(frozen=True)
class _Piece:
    """A part of a section that is asked about by itself."""

    y: slice
    x: slice


def list_questions(workspace: Workspace, run: str, volume: str, z: int, count: int = 50) -> list[Question]:
    """Return the questions about a section that are worth most, the best first.

    A section of more than about 2048 x 2048 pixels is cut into pieces of that size, and the four of them are asked about
    in which the most pixels are expected to be wrong; cells end where their piece does.

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
        raise InputError("no such section", where=volume, expected=f"0 to {result.shape[0] - 1}", found=z)
    probability, mask = read_section(result.raw, z), read_section(result.label("membrane"), z)
    outside = np.zeros(mask.shape, np.uint8) if source.outside is None else read_section(source.outside, z)
    limit = (facts.merge_below if isinstance(facts, SegmentFacts) else None) or facts.threshold
    found = [
        _ask(doubt, piece, volume, z, mask.shape)
        for piece in _find_pieces(probability, facts.threshold, outside == 0)
        for doubt in find_doubts(
            DividedSection.divide(
                probability[piece.y, piece.x],
                mask[piece.y, piece.x],
                CellsConfig().sigma_px,
                outside[piece.y, piece.x],
            ),
            limit,
            count,
        )
    ]
    return sorted(found, key=lambda one: -(one.closeness - ERRING) * one.consequence)[:count]


def find_facts(workspace: Workspace, run: str, volume: str) -> SegmentFacts | CrfFacts:
    """Return how a run has segmented a volume.

    Raises
    ------
    InputError
        When it has not.
    WorkspaceError
        When the run is missing.
    """
    noted = load_run(workspace, run).volumes.get(volume)
    if noted is None or noted.membrane_facts is None:
        raise InputError(
            "the run has no probability of this volume", where=f"{volume} of {run}", fix="see `segem report`"
        )
    return noted.membrane_facts


def _find_pieces(probability: NDArray[np.uint8], threshold: float, inside: NDArray[np.bool_]) -> list[_Piece]:
    regions = Regions.cut((probability.shape[0], probability.shape[1]), _PIECE_PX)
    pieces = [
        _Piece(band, slice(*columns))
        for band in regions.bands
        for columns in zip(regions.columns[:-1], regions.columns[1:], strict=True)
    ]
    if len(pieces) <= _MOST_PIECES:
        return pieces
    wrong = np.nan_to_num(expect_errors_in(probability, threshold, regions, inside)) * regions.count(inside)
    return [pieces[k] for k in np.argsort(-wrong.ravel(), kind="stable")[:_MOST_PIECES]]


def _ask(doubt: Doubt, piece: _Piece, volume: str, z: int, shape: tuple[int, ...]) -> Question:
    ridge = doubt.ridge + (piece.y.start, piece.x.start)
    y, x = ridge[np.argmin(((ridge - ridge.mean(axis=0)) ** 2).sum(axis=1))].tolist()
    share = (piece.y.stop - piece.y.start) * (piece.x.stop - piece.x.start) / (shape[0] * shape[1])
    return Question(
        volume=volume,
        z=z,
        y=y,
        x=x,
        ridge=tuple((int(row), int(column)) for row, column in ridge.tolist()),
        width_px=doubt.width_px,
        closeness=doubt.closeness,
        # Pairs of pixels of the section, not of the piece.
        consequence=doubt.consequence * share**2,
        has_membrane=doubt.has_membrane,
    )
